"""The sprite world as a source of training clips."""

import random
from dataclasses import dataclass
from typing import Literal

import torch

from show1.data.clips import ClipSource, Vocabulary, frame_times
from show1.sprites.captions import caption, plural, vocabulary
from show1.sprites.groups import GroupWorld
from show1.sprites.options import SpriteOptions
from show1.sprites.scenes import Scene, SpriteWorld, render_tensor
from show1.sprites.two_motions import TwoMotionsWorld
from show1.sprites.world import SUBJECTS


@dataclass(frozen=True, kw_only=True)
class SpriteClips(ClipSource):
    """The sprite world as a `show1.data.clips.ClipSource`."""

    world: SpriteWorld = SpriteWorld()
    """Where the scenes come from."""

    paraphrase: bool = True
    """Whether half of the captions are paraphrases; False gives the canonical caption always."""

    motions_per_scene: int = 1
    """Number of consecutive clips that are `SpriteWorld.sibling`s, which differ only in their motion."""

    groups: float = 0.0
    """Share of the clips that show scenes of `GroupWorld` instead, 0 to 1."""

    two_motions: float = 0.0
    """Share of the other clips that show scenes of `TwoMotionsWorld` instead, 0 to 1."""

    @classmethod
    def from_spec(cls, spec: str, seed: int = 0) -> "SpriteClips":
        """Makes the clips that training data such as `sprites:spins=0.3` name.

        Raises:
            InputError: An option is unknown or out of its range.
        """
        options = SpriteOptions.from_spec(spec)
        shares = options.subject_shares
        world = SpriteWorld(seed=seed, spins=options.spins, tilts=options.tilts, subject_shares=shares)
        return cls(
            world=world,
            motions_per_scene=options.motions_per_scene,
            groups=options.groups,
            two_motions=options.two_motions,
        )

    @property
    def spec(self) -> str:
        """See `ClipSource.spec`: the options, in the form that `SpriteOptions.from_spec` reads."""
        options = SpriteOptions(
            spins=self.world.spins,
            tilts=self.world.tilts,
            groups=self.groups,
            two_motions=self.two_motions,
            motions_per_scene=self.motions_per_scene,
            subject_share=tuple(f"{name}:{share!r}" for name, share in self.world.subject_shares),
        )
        return options.spec

    @property
    def num_clips(self) -> None:
        """See `ClipSource.num_clips`: endless."""
        return None

    @property
    def clips_per_scene(self) -> int:
        """See `ClipSource.clips_per_scene`."""
        return self.motions_per_scene

    def scene(self, index: int) -> Scene:
        """Gives the scene that the clip at an index shows."""
        if self.groups and random.Random(f"groups {self.world.seed} {index}").random() < self.groups:
            return GroupWorld(seed=self.world.seed, split=self.world.split).scene(index)
        if self.two_motions and random.Random(f"two motions {self.world.seed} {index}").random() < self.two_motions:
            return TwoMotionsWorld(seed=self.world.seed, split=self.world.split).scene(index)
        if self.motions_per_scene == 1:
            return self.world.scene(index)
        return self.world.sibling(*divmod(index, self.motions_per_scene))

    def clip(
        self, index: int, *, num_frames: int, height: int, width: int, frames: slice = slice(None)
    ) -> torch.Tensor:
        """See `ClipSource.clip`: (3, F, height, width)."""
        return render_tensor(self.scene(index), frame_times(num_frames)[frames], height, width)

    def caption(self, index: int, kind: Literal["clip", "image"] = "clip") -> str:
        """See `ClipSource.caption`."""
        rng = random.Random(f"caption {self.world.seed} {index}") if self.paraphrase else None
        return caption(self.scene(index), rng, kind=kind)

    def vocabulary(self) -> Vocabulary:
        """See `ClipSource.vocabulary`: plurals are forms of their singulars."""
        plurals = {plural(name).split()[-1]: name.split()[-1] for name in SUBJECTS}
        words = vocabulary(groups=self.groups > 0, two_motions=self.two_motions > 0)
        return Vocabulary(words=tuple(words), forms=plurals)
