"""A folder of videos with captions as a source of training clips.

The folder holds videos of any common format and one list of captions: `captions.jsonl`, a line such as
``{"file": "a.mp4", "caption": "a dog runs"}`` for each clip, or `captions.csv` with the columns file and caption.
"""

import random
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from show1.data.captions import ClipEntry, read_captions
from show1.data.clips import Vocabulary, frame_times
from show1.data.decoding import fitted, pictures_at
from show1.errors import InputError
from show1.text.words import split_words


class ClipFolder:
    """A folder of videos as a `show1.data.clips.ClipSource`.

    A random part is taken from a video that is longer than a clip. Indices beyond the number of videos start over, with
    other parts. Frames are resized to cover the size that is asked for, and cropped at the centre.

    Args:
        folder: Holds the videos and `captions.jsonl` or `captions.csv`.
        num_frames: Number of frames of a clip at full frame rate.
        fps: Frame rate of a clip, per second.
        seed: Picks the parts of long videos.

    Raises:
        InputError: The list of captions is missing or faulty, or names a video that is not there.
    """

    clips_per_scene = 1

    def __init__(self, folder: str | Path, *, num_frames: int = 29, fps: float = 8.0, seed: int = 0) -> None:
        if num_frames < 1 or fps <= 0:
            raise InputError(f"num_frames and fps must be positive, got {num_frames} and {fps}")
        self.spec = str(folder)
        self.folder = Path(folder)
        self.entries = read_captions(self.folder)
        self.num_frames = num_frames
        self.fps = fps
        self.seed = seed

    @property
    def num_clips(self) -> int:
        """See `show1.data.clips.ClipSource.num_clips`: the number of videos."""
        return len(self.entries)

    @property
    def duration(self) -> float:
        """Time from the first frame of a clip to its last, in seconds."""
        return (self.num_frames - 1) / self.fps

    def caption(self, index: int, kind: Literal["clip", "image"] = "clip") -> str:
        """See `show1.data.clips.ClipSource.caption`; both kinds are the same here."""
        return self.entries[index % len(self.entries)].caption

    def vocabulary(self) -> Vocabulary:
        """See `show1.data.clips.ClipSource.vocabulary`: the words of the list of captions, sorted."""
        return Vocabulary(words=tuple(sorted({word for entry in self.entries for word in split_words(entry.caption)})))

    def clip(
        self, index: int, *, num_frames: int, height: int, width: int, frames: slice = slice(None)
    ) -> torch.Tensor:
        """See `show1.data.clips.ClipSource.clip`: (3, F, height, width).

        Raises:
            MediaError: The video cannot be decoded.
            InputError: The video is too short.
        """
        entry = self.entries[index % len(self.entries)]
        place = random.Random(f"clip {self.seed} {index}").random()
        times = self.duration * frame_times(num_frames)[frames]

        def choose(length: float, frame: float) -> NDArray[np.float64]:
            start: NDArray[np.float64] = place * self._spare_seconds(length, frame, entry) + times
            return start

        pictures = pictures_at(entry.file, entry.where, choose)
        return torch.stack([fitted(picture, height, width) for picture in pictures], dim=1)

    def _spare_seconds(self, length: float, frame: float, entry: ClipEntry) -> float:
        """Seconds by which a video is longer than a clip."""
        if length < self.duration:
            raise InputError(
                f"{entry.file} ({entry.where}) lasts {length:.2f} s, but {self.num_frames} frames at {self.fps:g} "
                f"frames per second need {self.duration:.2f} s; use a longer video, fewer frames or a higher fps"
            )
        return max(length - self.duration - frame, 0.0)
