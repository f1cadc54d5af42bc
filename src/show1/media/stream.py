"""Videos read frame by frame, each at the size that is asked for, so that long and large ones need little memory."""

import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray
from PIL import Image, ImageOps

from show1.errors import MediaError
from show1.media.metadata import image_record
from show1.media.read import DEFAULT_FPS, check_exists, frame_files, is_webp, opaque, opened

logger = logging.getLogger(__name__)

MAX_PIXELS = 2**26
"""Most pixels of a frame that is decoded: twice 8K."""

SEEK_FROM = 5.0
"""Start in seconds from which on it is sought, rather than decoding everything before it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One frame of a stream."""

    time: float
    """Seconds from the start of the video."""

    height: int
    """Number of rows, with the frame upright."""

    width: int
    """Columns, upright and of square pixels."""

    draw: Callable[[int, int], NDArray[np.uint8]]
    """Function of a height and a width that returns the frame: (H, W, 3), RGB."""


def stream_video(path: str | Path, *, start: float = 0.0) -> Iterator[Frame]:
    """Reads what `show1.media.read_video` reads, one frame at a time.

    From the file's header only the frame rate is read, and only if frames have no times, so that files that do not
    state their length can be read too.

    Args:
        path: A video, an animated image, or a folder of PNG or JPEG.
        start: Time in seconds; frames before it are left out.

    Yields:
        The frames, their times ascending.

    Raises:
        MediaError: The file is missing, too large, not a video, or damaged. If it is damaged further on, the frames
            before come first.
    """
    path = Path(path)
    check_exists(path)
    frames = _images(path) if path.is_dir() else _webp(path) if is_webp(path) else _container(path, start)
    latest = -1.0
    for frame in frames:
        if frame.time > latest and frame.time >= start - 1e-6:
            yield frame
        latest = max(latest, frame.time)


def picture(image: Image.Image) -> NDArray[np.uint8]:
    """Returns an image turned upright: (H, W, 3), RGB."""
    return opaque(ImageOps.exif_transpose(image))


def open_picture(path: Path) -> Image.Image:
    """Reads an image file, turned upright and in RGB.

    Raises:
        MediaError: The file is not an image, too large, or damaged.
    """
    try:
        with Image.open(path) as image:
            _check_size(path, image.height, image.width)
            return Image.fromarray(picture(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(
            f"cannot read {path}: it is not an image, or it is damaged ({error}); get a fresh copy"
        ) from error


def _check_size(path: Path, height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise MediaError(
            f"{path} is {width} pixels wide and {height} high, more than {MAX_PIXELS:,} pixels; make it smaller first"
        )


def _container(path: Path, start: float) -> Iterator[Frame]:
    with opened(path) as container:
        stream = container.streams.video[0]
        _check_size(path, stream.codec_context.height, stream.codec_context.width)
        rate = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
        if start >= SEEK_FROM and stream.duration and stream.time_base:
            target = int(start / stream.time_base) + (stream.start_time or 0)
            try:
                container.seek(target, stream=stream)
            except av.error.FFmpegError as error:
                logger.debug("cannot seek in %s, decoding from its beginning: %s", path, error)
        begins = float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0
        aspect = float(stream.sample_aspect_ratio or 1) or 1.0
        for number, frame in enumerate(container.decode(stream)):
            time = number / rate if frame.time is None else max(frame.time - begins, 0.0)
            yield _frame(frame, time, aspect)


def _frame(frame: av.VideoFrame, time: float, aspect: float) -> Frame:
    quarters = round(frame.rotation / 90) % 4
    height, width = frame.height, max(round(frame.width * aspect), 1)
    if quarters % 2:
        height, width = width, height
    return Frame(time=time, height=height, width=width, draw=functools.partial(_draw, frame, quarters))


def _draw(frame: av.VideoFrame, quarters: int, height: int, width: int) -> NDArray[np.uint8]:
    """Scales while converting, so that no full-size copy is made."""
    if quarters % 2:
        height, width = width, height
    shrinks = height <= frame.height and width <= frame.width
    kind = Interpolation.AREA if shrinks else Interpolation.BICUBIC
    interpolation = kind | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation=interpolation)
    pixels: NDArray[np.uint8] = np.rot90(small.to_ndarray(), k=quarters)
    return np.ascontiguousarray(pixels)


def _image_frame(image: Image.Image, time: float) -> Frame:
    def draw(height: int, width: int) -> NDArray[np.uint8]:
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0))

    return Frame(time=time, height=image.height, width=image.width, draw=draw)


def _images(folder: Path) -> Iterator[Frame]:
    files = frame_files(folder)
    fps = image_record(files[0])[1] or DEFAULT_FPS
    for number, file in enumerate(files):
        yield _image_frame(open_picture(file), number / fps)


def _webp(path: Path) -> Iterator[Frame]:
    """Reads the frames of a WebP; one that lasts longer (its encoder merges equal ones) is repeated."""
    fps = image_record(path)[1]
    try:
        with Image.open(path) as image:
            _check_size(path, image.height, image.width)
            time = 0.0
            for index in range(getattr(image, "n_frames", 1)):
                image.seek(index)
                image.load()
                shown: Any = Image.fromarray(opaque(image))
                seconds = (int(image.info.get("duration", 0)) or 100) / 1000
                times = [time + i / fps for i in range(max(1, round(seconds * fps)))] if fps else [time]
                for moment in times:
                    yield _image_frame(shown, moment)
                time = times[-1] + 1 / fps if fps else time + seconds
    except (OSError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise MediaError(f"cannot read {path}: it is damaged or incomplete ({error}); get a fresh copy") from error
