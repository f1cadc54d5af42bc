"""The sprite world as a source of training clips."""

import random
from dataclasses import dataclass
from typing import Literal

import torch

from show1.data.clips import frame_times
from show1.sprites.captions import caption
from show1.sprites.groups import GroupWorld
from show1.sprites.scenes import Scene, SpriteWorld, render_tensor


@dataclass(frozen=True, kw_only=True)
class SpriteClips:
    """The sprite world as a source of clips."""

    world: SpriteWorld = SpriteWorld()
    """Where the scenes come from."""

    paraphrase: bool = True
    """Half of the captions are paraphrases; False gives the canonical caption always."""

    motions_per_scene: int = 1
    """So many clips in a row are `SpriteWorld.sibling`s: they differ in their motion alone."""

    groups: float = 0.0
    """Share of the clips that show scenes of `GroupWorld` instead, 0 to 1."""

    def scene(self, index: int) -> Scene:
        """What the clip at an index shows."""
        if self.groups and random.Random(f"groups {self.world.seed} {index}").random() < self.groups:
            return GroupWorld(seed=self.world.seed, split=self.world.split).scene(index)
        if self.motions_per_scene == 1:
            return self.world.scene(index)
        return self.world.sibling(*divmod(index, self.motions_per_scene))

    def clip(
        self, index: int, *, num_frames: int, height: int, width: int, frames: slice = slice(None)
    ) -> torch.Tensor:
        """See `ClipSource.clip`."""
        return render_tensor(self.scene(index), frame_times(num_frames)[frames], height, width)

    def caption(self, index: int, kind: Literal["clip", "image"] = "clip") -> str:
        """See `ClipSource.caption`."""
        rng = random.Random(f"caption {self.world.seed} {index}") if self.paraphrase else None
        return caption(self.scene(index), rng, kind=kind)
