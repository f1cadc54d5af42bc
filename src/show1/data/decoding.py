"""Pictures of a video at given moments, and how they are fitted to a size."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from show1.errors import MediaError

Times = NDArray[np.float64]
"""Moments in seconds from the start of a video, ascending: (F,)."""


def pictures_at(file: Path, where: str, choose: Callable[[float, float], Times]) -> list[NDArray[np.uint8]]:
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
    try:
        with av.open(str(file)) as container:
            length = _length(container, file, where)
            times = choose(length, 1 / _frame_rate(container.streams.video[0]))
            return _decode_at(container, times, file, where)
    except av.FFmpegError as error:
        raise _unreadable(file, where, str(error)) from error


@dataclass(frozen=True, kw_only=True)
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
    try:
        with av.open(str(file)) as container:
            length = _length(container, file, where)
            stream = container.streams.video[0]
            frame = next(container.decode(stream), None)
            if frame is None:
                raise _unreadable(file, where, "it holds no frames")
            return Probe(seconds=length, fps=_frame_rate(stream), height=frame.height, width=frame.width)
    except av.FFmpegError as error:
        raise _unreadable(file, where, str(error)) from error


def fitted(picture: NDArray[np.uint8], height: int, width: int) -> torch.Tensor:
    """Resizes a picture to cover a size and crops its centre: (3, height, width) float32 in [-1, 1]."""
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    scale = max(height / image.shape[2], width / image.shape[3])
    size = (max(round(image.shape[2] * scale), height), max(round(image.shape[3] * scale), width))
    image = F.interpolate(image, size, mode="bilinear", antialias=True)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return image[:, top : top + height, left : left + width].clamp(-1, 1)


def _unreadable(file: Path, where: str, reason: str) -> MediaError:
    return MediaError(f"{file} ({where}) cannot be decoded: {reason}; replace the file, re-encode it, or drop the line")


def _frame_rate(stream: Any) -> float:
    return float(stream.average_rate or stream.guessed_rate or 25)


def _length(container: Any, file: Path, where: str) -> float:
    """Seconds that a video lasts: by its header, or by its packets where the header gives only the file's duration."""
    if not container.streams.video:
        raise _unreadable(file, where, "it holds no video stream")
    stream = container.streams.video[0]
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    state = file.stat()
    found = _length_of_packets(file, state.st_size, state.st_mtime_ns)
    if found is None:
        raise _unreadable(file, where, "it holds no frames with a time")
    return found


@cache
def _length_of_packets(file: Path, _size: int, _changed: int) -> float | None:
    """Seconds from the first frame to the end of the last."""
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        usual = 1 / _frame_rate(stream) / float(stream.time_base)
        times = [(p.pts, p.pts + (p.duration or usual)) for p in container.demux(stream) if p.pts is not None]
        if not times:
            return None
        return float((max(end for _, end in times) - min(start for start, _ in times)) * stream.time_base)


def _decode_at(container: Any, times: Times, file: Path, where: str) -> list[NDArray[np.uint8]]:
    """Decodes the pictures that are on show at times in ascending order, in seconds from the start of the video.

    Returns:
        One (H, W, 3) uint8 RGB array per time.
    """
    stream = container.streams.video[0]
    origin = float((stream.start_time or 0) * stream.time_base)
    wanted = times + origin + 0.25 / _frame_rate(stream)  # a quarter of a frame absorbs rounded timestamps
    container.seek(int(max(float(times[0]) + origin, 0.0) / stream.time_base), stream=stream)
    shown: Any = None
    pictures: list[NDArray[np.uint8]] = []
    for frame in container.decode(stream):
        while shown is not None and frame.time > wanted[len(pictures)]:
            pictures.append(_picture(shown))
            if len(pictures) == len(wanted):
                return pictures
        shown = frame
    end = 0.0
    if shown is not None:
        lasts = float((shown.duration or 0) * shown.time_base)
        end = shown.time + max(1.5 / _frame_rate(stream), lasts + 0.5 / _frame_rate(stream))
    if end < wanted[-1]:
        raise _unreadable(
            file, where, f"its frames end at {max(end - origin, 0):.2f} s, before its header says; the file is damaged"
        )
    return pictures + [_picture(shown)] * (len(wanted) - len(pictures))


def _picture(frame: Any) -> NDArray[np.uint8]:
    """A decoded frame as (H, W, 3) uint8 RGB, turned upright."""
    picture: NDArray[np.uint8] = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4)
    return picture
