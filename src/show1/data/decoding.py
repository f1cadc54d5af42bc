"""Pictures of a video at given moments, and how they are fitted to a size."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from show1.errors import MediaError
from show1.media.frames import Frame, OpenVideo, Pixels
from show1.media.stream import open_video

Times = NDArray[np.float64]
"""Moments in seconds from the start of a video, ascending: (F,)."""


def pictures_at(file: Path, where: str, choose: Callable[[float, float], Times]) -> list[Pixels]:
    """Decodes the pictures that a video shows at some moments.

    Args:
        file: The video.
        where: Place that names the video, such as "captions.jsonl, line 3", for messages.
        choose: Gives the moments, for the seconds that the video lasts and those that one of its frames lasts.

    Returns:
        One (H, W, 3) uint8 RGB array per moment.

    Raises:
        MediaError: The video cannot be decoded.
    """
    with _opened(file, where) as video:
        return _shown_at(video, choose(video.seconds() or 0.0, 1 / video.rate))


@dataclass(frozen=True)
class Probe:
    """What a video says about itself."""

    seconds: float
    """Seconds that it lasts; 0 for a still picture."""

    fps: float
    """Frames per second; 0 for a still picture."""

    height: int
    """Height of its frames in pixels."""

    width: int
    """Width of its frames in pixels."""


def probe(file: Path, where: str) -> Probe:
    """Reads the header of a video and decodes its first frame.

    Args:
        file: The video.
        where: Place that names the video, for messages.

    Raises:
        MediaError: It cannot be decoded.
    """
    with _opened(file, where) as video:
        first = next(video.frames(), None)
        if first is None:
            raise MediaError("it holds no frames")
        return Probe(seconds=video.seconds() or 0.0, fps=video.rate, height=first.height, width=first.width)


def decode_all(file: Path, where: str) -> None:
    """Decodes every frame of a video.

    Args:
        file: The video.
        where: Place that names the video, for messages.

    Raises:
        MediaError: A frame cannot be decoded, or frames are missing at the end.
    """
    with _opened(file, where) as video:
        end = 0.0
        for frame in video.frames():
            end = frame.time + max(1.5 / video.rate, frame.duration)
        if end < (video.seconds() or 0.0):
            raise MediaError(f"its frames end at {end:.2f} s, before its header says; the file is damaged")


def fitted(picture: Pixels, height: int, width: int) -> torch.Tensor:
    """Resizes a picture to cover a size and crops its centre: (3, height, width) float32 in [-1, 1]."""
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    scale = max(height / image.shape[2], width / image.shape[3])
    size = (max(round(image.shape[2] * scale), height), max(round(image.shape[3] * scale), width))
    image = F.interpolate(image, size, mode="bilinear", antialias=True)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return image[:, top : top + height, left : left + width].clamp(-1, 1)


@contextmanager
def _opened(file: Path, where: str) -> Iterator[OpenVideo]:
    """Opens a video for training; messages name the place where it is listed, and say what to do."""
    try:
        with open_video(file) as video:
            yield video
    except MediaError as error:
        cause = error.__cause__ or error
        reason = getattr(cause, "strerror", None) or cause  # FFmpeg's errors name the file again
        raise MediaError(
            f"{file} ({where}) cannot be decoded: {reason}; replace the file, re-encode it, or leave it out"
        ) from error


def _shown_at(video: OpenVideo, times: Times) -> list[Pixels]:
    """Decodes the pictures that are on show at times in ascending order, in seconds from the start of the video."""
    usual = 1 / video.rate
    wanted = times + usual / 4  # a quarter of a frame absorbs rounded timestamps
    shown: Frame | None = None
    pictures: list[Pixels] = []
    for frame in video.frames(float(times[0])):
        while shown is not None and frame.time > wanted[len(pictures)]:
            pictures.append(_draw(shown))
            if len(pictures) == len(wanted):
                return pictures
        shown = frame
    end = 0.0 if shown is None else shown.time + max(1.5 * usual, shown.duration + usual / 2)
    if shown is None or end < wanted[-1]:
        raise MediaError(f"its frames end at {end:.2f} s, before its header says; the file is damaged")
    return pictures + [_draw(shown)] * (len(wanted) - len(pictures))


def _draw(frame: Frame) -> Pixels:
    return frame.draw(frame.height, frame.width, Interpolation.BILINEAR)
