"""Where training clips come from, and the views of them that the trainers see.

A source gives a clip by index: any number of frames of it, at any size, with a caption. There are two: the sprite
world, and a folder of videos (`show1.data.folder`). A view says which frames and sizes a stage learns from.
"""

import random
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from show1.errors import InputError


def frame_times(num_frames: int) -> NDArray[np.float64]:
    """Gives the times of a clip's frames, spread evenly from 0 to 1.

    The 8 keyframes are exactly frames 0, 4, ... 28 of 29.

    Returns:
        (F,) float64.

    Raises:
        InputError: There are no frames.
    """
    if num_frames < 1:
        raise InputError(f"num_frames must be at least 1, got {num_frames}")
    return np.arange(num_frames) / max(num_frames - 1, 1)


class ClipSource(Protocol):
    """Clips by index. The same index gives the same clip in any process; any index from 0 up is valid."""

    def clip(
        self, index: int, *, num_frames: int, height: int, width: int, frames: slice = slice(None)
    ) -> torch.Tensor:
        """A clip, or some of its frames.

        Args:
            index: From 0 up.
            num_frames: Frames over the whole clip, from its first moment to its last; 8 frames are every fourth of 29.
            height: Rows of pixels.
            width: Columns of pixels.
            frames: Which of the `num_frames` to give.

        Returns:
            (3, F, height, width) float32 in [-1, 1].
        """
        ...

    def caption(self, index: int, kind: Literal["clip", "image"] = "clip") -> str:
        """What the clip shows; "image" asks for a caption of a single frame."""
        ...


@dataclass(frozen=True, kw_only=True)
class ClipView:
    """Which part of a clip a stage learns from, and at what size."""

    num_frames: int
    """Frames over the whole clip."""

    height: int
    """Rows of pixels."""

    width: int
    """Columns of pixels."""

    window: int | None = None
    """Neighbouring frames to give, at a random place in the clip; None gives all."""

    window_stride: int = 1
    """Windows start at multiples of this."""

    low: tuple[int, int] | None = None
    """Height and width of a second, smaller rendering of the same frames, for super-resolution."""

    def __post_init__(self) -> None:
        if self.window is not None and not 1 <= self.window <= self.num_frames:
            raise InputError(f"window must be from 1 to num_frames ({self.num_frames}), got {self.window}")
        if self.window_stride < 1:
            raise InputError(f"window_stride must be at least 1, got {self.window_stride}")

    def pick_frames(self, rng: random.Random) -> slice:
        """Draws the window."""
        if self.window is None:
            return slice(0, self.num_frames)
        start = self.window_stride * rng.randint(0, (self.num_frames - self.window) // self.window_stride)
        return slice(start, start + self.window)


MINI_VIEWS: dict[str, ClipView] = {
    "text": ClipView(num_frames=2, height=8, width=8),
    "keyframe_images": ClipView(num_frames=29, height=20, width=32, window=1),
    "keyframes": ClipView(num_frames=8, height=20, width=32),
    "interpolation": ClipView(num_frames=29, height=20, width=32, window=5, window_stride=4),
    "super_resolution_images": ClipView(num_frames=29, height=80, width=128, window=1, low=(20, 32)),
    "super_resolution": ClipView(num_frames=29, height=80, width=128, window=8, low=(20, 32)),
    "translation_images": ClipView(num_frames=29, height=160, width=256, window=1),
    "translation": ClipView(num_frames=29, height=160, width=256),
}
"""What each stage of the embedded cascade learns from."""


class ClipDataset(Dataset[dict[str, Any]]):
    """A source seen through a view, as a map-style dataset.

    An item holds "video" (3, F, H, W) float32 in [-1, 1], "caption", "start" (the window's first frame), and "low"
    (3, F, h, w) where the view asks for it. Single frames get a caption without motion.

    Args:
        source: Where the clips come from.
        view: What to see of each.
        length: Number of items.
        seed: Picks the windows.
    """

    def __init__(self, source: ClipSource, view: ClipView, *, length: int, seed: int = 0) -> None:
        self.source = source
        self.view = view
        self.length = length
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} is outside the dataset of {self.length} clips")
        view = self.view
        frames = view.pick_frames(random.Random(f"window {self.seed} {index}"))
        item: dict[str, Any] = {
            "video": self.source.clip(
                index, num_frames=view.num_frames, height=view.height, width=view.width, frames=frames
            ),
            "caption": self.source.caption(index, "image" if frames.stop - frames.start == 1 else "clip"),
            "start": frames.start,
        }
        if view.low is not None:
            height, width = view.low
            item["low"] = self.source.clip(index, num_frames=view.num_frames, height=height, width=width, frames=frames)
        return item
