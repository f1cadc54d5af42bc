"""Where training clips come from, and the views of them that the trainers see.

A source gives a clip by index: any number of frames of it, at any size, with a caption. `show1.data.open_clips` opens
folders, shards and data sets of Hugging Face; a source of your own derives from `ClipSource`. A view says which frames
and sizes a task learns from.
"""

import dataclasses
import logging
import random
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from show1.data.options import CLIP_FRAMES, DataOptions
from show1.errors import InputError, MediaError
from show1.text.words import split_words

logger = logging.getLogger(__name__)


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


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The words of a source's captions, for tokenizers that know whole words."""

    words: tuple[str, ...]
    """All words, in lower case and in the order of their token ids."""

    forms: Mapping[str, str] = field(default_factory=dict)
    """Words that are forms of other words, such as plurals, and those words: their embeddings start alike."""


class ClipSource(Protocol):
    """Clips by index. The same index gives the same clip in any process; any index from 0 up is valid.

    A class that derives from this one has to give `spec`, `clip` and `caption`; the other members have defaults.
    """

    @property
    @abstractmethod
    def spec(self) -> str:
        """Names the clips in a run's config.json."""

    @property
    def fingerprint(self) -> str:
        """Hash of the clips' content and captions: a run resumes only with the same. By default the name."""
        return self.spec

    @property
    def options(self) -> DataOptions:
        """How clips are taken from the data, for the run's config.json."""
        return DataOptions()

    @property
    def num_clips(self) -> int | None:
        """Number of clips after which the indices start over, perhaps with other parts of them; None: endless."""
        return None

    @property
    def clips_per_scene(self) -> int:
        """Number of consecutive clips, counted from index 0, that show one scene in different motions; usually 1."""
        return 1

    @abstractmethod
    def clip(
        self, index: int, *, num_frames: int, height: int, width: int, frames: slice = slice(None)
    ) -> torch.Tensor:
        """Gives a clip, or some of its frames.

        Args:
            index: From 0 up.
            num_frames: Frames over the whole clip, from its first moment to its last; 8 frames are every fourth of 29.
            height: Rows of pixels.
            width: Columns of pixels.
            frames: Which of the `num_frames` to give.

        Returns:
            (3, F, height, width) float32 in [-1, 1].

        Raises:
            MediaError: The clip cannot be read; another stands in for it where `options.skip_bad` is set.
        """

    @abstractmethod
    def caption(self, index: int, kind: Literal["clip", "image"] = "clip") -> str:
        """Says what the clip shows, or nothing (""); "image" asks for a caption of a single frame."""

    def vocabulary(self) -> Vocabulary:
        """Lists the words of all captions, for a text encoder that is trained from scratch.

        Raises:
            InputError: The source is endless and does not list them.
        """
        if self.num_clips is None:
            raise InputError(f"{self.spec} does not list the words of its captions; name a text encoder (--text)")
        captions = (self.caption(index) for index in range(self.num_clips))
        return Vocabulary(words=tuple(sorted({word for caption in captions for word in split_words(caption)})))

    def prepare(self, view: "ClipView", *, captions: bool) -> None:
        """Checks all clips before a training begins; by default nothing is checked.

        Args:
            view: What the task sees of a clip.
            captions: Whether the task learns from captions.

        Raises:
            InputError: Clips or captions cannot be used.
        """


@dataclass(frozen=True, kw_only=True)
class ClipView:
    """The part of a clip that a task learns from, and its size."""

    num_frames: int
    """Number of frames over the whole clip."""

    height: int
    """Height of the frames in pixels."""

    width: int
    """Width of the frames in pixels."""

    window: int | None = None
    """Number of neighbouring frames to give, at a random place in the clip; None gives all."""

    window_stride: int = 1
    """Windows start at multiples of this many frames."""

    low: tuple[int, int] | None = None
    """Height and width of a second, smaller rendering of the same frames, for super-resolution."""

    def __post_init__(self) -> None:
        if self.window is not None and not 1 <= self.window <= self.num_frames:
            raise InputError(f"window must be from 1 to num_frames ({self.num_frames}), got {self.window}")
        if self.window_stride < 1:
            raise InputError(f"window_stride must be at least 1, got {self.window_stride}")

    def of_frames(self, frames: int) -> "ClipView":
        """Gives the same view of clips with another number of frames than the published 29.

        Raises:
            InputError: The view takes every so many frames of a clip, and this number does not allow it.
        """
        every, rest = divmod(CLIP_FRAMES - 1, max(self.num_frames - 1, 1))
        if frames == CLIP_FRAMES or rest:
            return self
        if (frames - 1) % every or 1 < every >= frames:
            below = max((frames - 1) // every, 1) * every + 1
            raise InputError(
                f"frames must be a multiple of {every}, plus 1, for this task, such as {below} or {below + every}, "
                f"got {frames}"
            )
        if self.window is not None and self.window > frames:
            raise InputError(f"frames must be at least {self.window} for this task, got {frames}")
        return dataclasses.replace(self, num_frames=(frames - 1) // every + 1)

    @property
    def span(self) -> float:
        """Share of a clip's duration from the first frame that is given to the last, 0 to 1."""
        return ((self.window or self.num_frames) - 1) / max(self.num_frames - 1, 1)

    def pick_frames(self, rng: random.Random) -> slice:
        """Draws the window."""
        if self.window is None:
            return slice(0, self.num_frames)
        start = self.window_stride * rng.randint(0, (self.num_frames - self.window) // self.window_stride)
        return slice(start, start + self.window)


ATTEMPTS = 20
"""Number of clips that are tried in a row where bad ones are skipped."""


class ClipDataset(Dataset[dict[str, Any]]):
    """A source seen through a view, as a map-style dataset.

    An item holds "video" (3, F, H, W) float32 in [-1, 1], "caption", "start" (the window's first frame), and "low"
    (3, F, h, w) where the view asks for it. Single frames get a caption without motion. Where the source skips bad
    clips, another clip, always the same one, stands in for one that cannot be read.

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
        self.replaced = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} is outside the dataset of {self.length} clips")
        frames = self.view.pick_frames(random.Random(f"window {self.seed} {index}"))
        for attempt in range(ATTEMPTS):
            try:
                item = self._item(index, frames)
            except (InputError, MediaError) as error:
                if not self.source.options.skip_bad:
                    error.add_note("To resume from the last checkpoint without such clips, add --skip-bad.")
                    raise
                self.replaced += 1
                text = "another clip stands in for one that cannot be read (%d so far): %s"
                logger.warning(text, self.replaced, error)
            else:
                return self._checked(item, frames)
            index = random.Random(f"instead {self.seed} {index} {attempt}").randrange(self.length)
        raise MediaError(f"{ATTEMPTS} clips in a row cannot be read; check the data with `show1 data check`")

    def _item(self, index: int, frames: slice) -> dict[str, Any]:
        view, source = self.view, self.source
        item: dict[str, Any] = {
            "video": source.clip(
                index, num_frames=view.num_frames, height=view.height, width=view.width, frames=frames
            ),
            "caption": source.caption(index, "image" if frames.stop - frames.start == 1 else "clip"),
            "start": frames.start,
        }
        if view.low is not None:
            height, width = view.low
            item["low"] = source.clip(index, num_frames=view.num_frames, height=height, width=width, frames=frames)
        return item

    def _checked(self, item: dict[str, Any], frames: slice) -> dict[str, Any]:
        """An item whose clips have the shape that was asked for: anyone may write a source."""
        view = self.view
        for name, size in (("video", (view.height, view.width)), ("low", view.low)):
            if size is None:
                continue
            video, wanted = item[name], (3, len(range(*frames.indices(view.num_frames))), *size)
            if tuple(video.shape) != wanted or video.dtype != torch.float32:
                raise InputError(
                    f"{type(self.source).__name__}.clip gave {tuple(video.shape)} {video.dtype} where {wanted} float32 "
                    "(colours, frames, height, width) was asked for"
                )
        return item
