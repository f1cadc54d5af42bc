"""Options of how training clips are taken from the data. Loads without torch."""

from dataclasses import dataclass
from typing import ClassVar

from show1.options import Options

CLIP_FRAMES = 29
"""Frames of a clip of the published cascade: 8 keyframes, each with 3 frames to the next."""


@dataclass(frozen=True, kw_only=True)
class DataOptions(Options):
    """Options of a source of videos."""

    options_of: ClassVar[str] = "data"

    frames: int = CLIP_FRAMES
    """Number of frames of a training clip. For keyframes and interpolation it is a multiple of 4, plus 1."""

    fps: float = 8.0
    """Frame rate of a training clip, per second. Videos of any rate are resampled to it."""

    skip_bad: bool = False
    """Leaves out the videos that cannot be used, which otherwise stop the run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("frames", least=1)
        self.check_positive("fps")

    @property
    def duration(self) -> float:
        """Seconds from the first frame of a clip to its last."""
        return (self.frames - 1) / self.fps
