"""The sprite world as a source of training clips."""

import hashlib
import random
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch

from show1.data.clips import ClipSource, Vocabulary, frame_times
from show1.sprites.captions import caption, plural, vocabulary
from show1.sprites.groups import GroupWorld
from show1.sprites.options import SpriteOptions
from show1.sprites.scenes import Scene, SpriteWorld, render_tensor
from show1.sprites.two_motions import TwoMotionsWorld
from show1.sprites.world import ASSETS, SUBJECTS


@dataclass(frozen=True, kw_only=True)
class SpriteClips(ClipSource):
    """The sprite world as a `show1.data.clips.ClipSource`."""

    shown: SpriteOptions = SpriteOptions()
    """Which scenes are shown."""

    seed: int = 0
    """Seed of the scenes and of the captions."""

    paraphrase: bool = True
    """Whether half of the captions are paraphrases; False gives the canonical caption always."""

    @classmethod
    def from_spec(cls, spec: str, seed: int = 0) -> "SpriteClips":
        """Makes the clips that training data such as `sprites:spins=0.3` name.

        Raises:
            InputError: An option is unknown or out of its range.
        """
        return cls(shown=SpriteOptions.from_spec(spec), seed=seed)

    @property
    def spec(self) -> str:
        """See `ClipSource.spec`: the options, in the form that `SpriteOptions.from_spec` reads."""
        return self.shown.spec

    @cached_property
    def world(self) -> SpriteWorld:
        """Where the scenes of one subject with one motion come from."""
        shown = self.shown
        shares = shown.subject_shares
        return SpriteWorld(seed=self.seed, spins=shown.spins, tilts=shown.tilts, subject_shares=shares)

    @cached_property
    def fingerprint(self) -> str:
        """See `ClipSource.fingerprint`: of the options, the subjects' pictures and the world's words."""
        digest = hashlib.sha256(self.spec.encode())
        if self.shown.tilts and self.shown.groups:
            digest.update(b"small and big ones as well")  # they stood upright before
        for name in ("sprites.png", "sprite_world.json"):
            digest.update((ASSETS / name).read_bytes())
        return digest.hexdigest()

    @property
    def clips_per_scene(self) -> int:
        """See `ClipSource.clips_per_scene`."""
        return self.shown.motions_per_scene

    def scene(self, index: int) -> Scene:
        """Gives the scene that the clip at an index shows."""
        shown, shares = self.shown, self.shown.subject_shares
        if self._drawn("groups", index, shown.groups):
            world = GroupWorld(seed=self.seed, relations=shown.relations, tilts=shown.tilts, subject_shares=shares)
            return world.scene(index)
        if self._drawn("two motions", index, shown.two_motions):
            return TwoMotionsWorld(seed=self.seed, pairs=shown.pairs, subject_shares=shares).scene(index)
        if self.clips_per_scene == 1:
            return self.world.scene(index)
        return self.world.sibling(*divmod(index, self.clips_per_scene))

    def _drawn(self, kind: str, index: int, share: float) -> bool:
        return share > 0 and random.Random(f"{kind} {self.seed} {index}").random() < share

    def clip(
        self, index: int, *, num_frames: int, height: int, width: int, frames: slice = slice(None)
    ) -> torch.Tensor:
        """See `ClipSource.clip`: (3, F, height, width)."""
        return render_tensor(self.scene(index), frame_times(num_frames)[frames], height, width)

    def caption(self, index: int, kind: Literal["clip", "image"] = "clip") -> str:
        """See `ClipSource.caption`."""
        rng = random.Random(f"caption {self.seed} {index}") if self.paraphrase else None
        return caption(self.scene(index), rng, kind=kind)

    def vocabulary(self) -> Vocabulary:
        """See `ClipSource.vocabulary`: plurals are forms of their singulars."""
        plurals = {plural(name).split()[-1]: name.split()[-1] for name in SUBJECTS}
        words = vocabulary(groups=self.shown.groups > 0, two_motions=self.shown.two_motions > 0)
        return Vocabulary(words=tuple(words), forms=plurals)
