"""A video that is read: its frames, one at a time, as a player shows them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from show1.errors import MediaError
from show1.limits import MAX_IMAGE_PIXELS

DEFAULT_FPS = 8.0
"""Frame rate of files that do not state theirs: the published one."""

Pixels = NDArray[np.uint8]
"""(H, W, 3), RGB."""


class Draw(Protocol):
    """Renders a frame."""

    def __call__(self, height: int, width: int, interpolation: Interpolation | None = None) -> Pixels:
        """Gives the frame at a size: (height, width, 3), RGB.

        Args:
            height: Rows of pixels.
            width: Columns of pixels.
            interpolation: How FFmpeg scales and converts colours; None: the best for this size.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One frame of a video."""

    time: float
    """Seconds from the start of the video."""

    duration: float
    """Seconds that the frame is shown; 0 if the file does not say."""

    height: int
    """Number of rows, with the frame upright."""

    width: int
    """Columns, upright and of square pixels."""

    draw: Draw
    """Renders the frame upright, with transparent parts white, at the size that is asked for."""


class OpenVideo(Protocol):
    """A video, an animated image or a folder of frames that is being read."""

    path: Path
    """The file or folder."""

    rate: float
    """Frames per second: as the file states it, or else the usual rate of such a file."""

    tick: float | None
    """Seconds to which the times of frames are rounded if no rate is stated; None if one is."""

    jumps: bool
    """Whether gaps between the times of frames may mean nothing."""

    metadata: dict[str, Any]
    """What show1 wrote into the file; empty if the file is of another origin."""

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """Gives the frames in the order in which they are shown.

        Args:
            start: Seconds from the start of the video. Frames may be left out that are not on show any more then.

        Yields:
            The frames; the first is on show at `start` or was before, unless the video begins later.
        """
        ...

    def announced(self) -> int:
        """Number of frames by the file's header; 0 if it does not say."""
        ...

    def count(self) -> int:
        """Counts the frames without decoding them."""
        ...

    def seconds(self) -> float | None:
        """Says how long the video lasts, without decoding it; None if that is unknown."""
        ...


def check_size(path: Path, height: int, width: int) -> None:
    """Raises MediaError if a picture is too large to be decoded."""
    if height * width > MAX_IMAGE_PIXELS:
        raise MediaError(
            f"{path} is {width} pixels wide and {height} high, more than {MAX_IMAGE_PIXELS:,} pixels; make it smaller "
            "first"
        )
