"""Reading videos whole, and their metadata."""

import logging
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from show1.errors import InputError, MediaError
from show1.limits import MAX_DECODED_BYTES, MAX_DECODED_FRAMES
from show1.media.containers import SMOOTH, ContainerVideo
from show1.media.frames import OpenVideo, Pixels
from show1.media.stream import existing, open_video

logger = logging.getLogger(__name__)

Recording = tuple[NDArray[np.uint8], float, dict[str, Any]]
"""Frames of (F, H, W, 3), RGB; frames per second; metadata."""

_MOST_FPS = 60.0
"""Highest even rate at which frames of uneven durations are read."""


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """What is known of a video without decoding it all."""

    num_frames: int
    """Number of stored frames."""

    height: int
    """Height as shown, in pixels."""

    width: int
    """Width as shown, in pixels."""

    fps: float
    """Frames per second as the header says; on average, if it does not say."""

    seconds: float | None
    """Duration; None if it is unknown."""

    metadata: dict[str, Any]
    """What show1 wrote into the file; empty if the file is of another origin."""


def read_video(path: str | Path, *, max_frames: int | None = None) -> Recording:
    """Reads a video file, an animated image, or a folder of images in the order of their names.

    Frames are as a player shows them: upright, mirrored if the file says so, with square pixels, 8 bits per colour, and
    white where they are transparent. Colours follow the file's tags; without tags they are BT.709 for sizes above
    standard definition. Frames of another size than the first are scaled. Numbers in the names of images sort as
    numbers, and hidden files are passed over. If frames last differently, those that last longer are repeated.

    Args:
        path: A video that FFmpeg decodes (MP4, WebM, Matroska, MOV, AVI, GIF, ...), WebP, or a folder of PNG or JPEG.
        max_frames: Read only this number of frames from the start.

    Returns:
        The frames, (F, H, W, 3), RGB; the frames per second; the metadata that show1 put into the file, if any.

    Raises:
        InputError: `max_frames` is less than one.
        MediaError: The file is missing, damaged, no video, or too long to be read whole.
    """
    if max_frames is not None and max_frames < 1:
        raise InputError(f"max_frames must be at least 1, got {max_frames}")
    path = existing(path)
    with open_video(path) as video:
        frames: list[Pixels] = []
        times: list[float] = []
        end = 0.0
        for frame in islice(video.frames(), max_frames):
            if not frames:
                size = frame.height, frame.width
                if max_frames is None and not video.jumps:
                    _check_length(path, video.announced(), *size)
            elif size != (frame.height, frame.width) and path.is_dir():
                raise MediaError(f"the images of {path} differ in size; make them equal")
            _check_length(path, len(frames) + 1, *size)
            frames.append(frame.draw(*size, SMOOTH))
            times.append(frame.time)
            end = frame.time + frame.duration
        if not frames:
            raise MediaError(f"{path} holds no frame that can be decoded: it is empty or damaged; get a fresh copy")
        if max_frames is None and isinstance(video, ContainerVideo):
            _check_complete(video, times)
        order, fps = _even_rate(video, times, end)
        _check_length(path, len(order), *size)
        return np.stack([frames[i] for i in order[:max_frames]]), fps, video.metadata


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Reads the metadata that show1 put into a file, without decoding frames.

    Returns:
        The metadata; an empty dict if the file is a video or image of another origin.

    Raises:
        MediaError: The file is missing, damaged or no video.
    """
    with open_video(path) as video:
        return video.metadata


def read_facts(path: str | Path) -> VideoFacts:
    """Reads the size, length and metadata of a video; only its first frame is decoded.

    Raises:
        MediaError: The file is missing, damaged or no video.
    """
    with open_video(path) as video:
        first = next(video.frames(), None)
        if first is None:
            raise MediaError(f"{path} holds no frame that can be decoded: it is empty or damaged; get a fresh copy")
        return VideoFacts(
            num_frames=video.count(),
            height=first.height,
            width=first.width,
            fps=video.rate,
            seconds=video.seconds(),
            metadata=video.metadata,
        )


def _check_length(path: Path, frames: int, height: int, width: int) -> None:
    if frames > MAX_DECODED_FRAMES or frames * height * width * 3 > MAX_DECODED_BYTES:
        raise MediaError(
            f"{path} is too long to be read whole: {frames:,} frames of {height}x{width} (height x width) need "
            f"{frames * height * width * 3 / 1e9:.1f} GB; cut a part out of it, or make it smaller"
        )


def _check_complete(video: ContainerVideo, times: list[float]) -> None:
    """Refuses a file of ours that is cut off, which reads without an error; other programs may announce too much."""
    missing_at_begin = round(times[0] * video.rate)  # such as pictures that depend on others before a cut
    announced = video.announced() - video.discarded - missing_at_begin
    if len(times) >= announced:
        return
    shown = round((times[-1] - times[0]) * video.rate) + 1
    if not video.metadata and max(shown, len(times)) >= announced - 2:
        return  # headers count a frame that is held as many, and round
    message = f"{video.path} is incomplete: {len(times)} of {announced} frames could be read"
    if video.metadata:
        raise MediaError(f"{message}; get a fresh copy, or write it again")
    logger.warning(message)


def _even_rate(video: OpenVideo, times: list[float], end: float) -> tuple[list[int], float]:
    """Finds a frame rate for frames that begin at these times, and what to show at it.

    Returns:
        The numbers of the frames, one that lasts longer repeated, and the frames per second.
    """
    count, span = len(times), times[-1] - times[0]
    gaps = [later - sooner for sooner, later in pairwise([*times, max(end, times[-1])])]
    mean = span / max(count - 1, 1)
    in_step = all(abs(time - times[0] - i * mean) <= mean / 2 for i, time in enumerate(times))
    if count == 1 or video.jumps or min(gaps[:-1]) <= 0 or (in_step and gaps[-1] < 1.5 * mean):
        return list(range(count)), video.rate if video.tick is None else _steady_rate(times, video.tick) or video.rate
    fps = min(round(1 / min(gap for gap in gaps if gap > 0), 3), _MOST_FPS)
    wanted = max(round((times[-1] + max(gaps[-1], 1 / fps) - times[0]) * fps), 1)
    if wanted > MAX_DECODED_FRAMES:
        raise MediaError(f"{video.path} shows a frame for too long to be read whole; cut a part out of it")
    middles = times[0] + (np.arange(wanted) + 0.5) / fps
    return (np.searchsorted(times, middles, side="right") - 1).tolist(), fps


def _steady_rate(times: list[float], tick: float) -> float | None:
    """Returns the frame rate behind times rounded to multiples of `tick` seconds: a whole one if one explains them."""
    if len(times) < 2 or times[-1] <= times[0]:
        return None
    rate = (len(times) - 1) / (times[-1] - times[0])
    whole = max(1, round(rate))
    steady = all(abs((later - sooner) - 1 / whole) <= tick for sooner, later in pairwise(times))
    drift = abs((len(times) - 1) / whole - (times[-1] - times[0]))
    return float(whole) if steady and drift <= tick else rate
