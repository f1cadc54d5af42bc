"""Reading videos and their metadata."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray
from PIL import Image

from show1.errors import InputError, MediaError
from show1.media.metadata import KEY, image_record, parse_metadata

logger = logging.getLogger(__name__)

DEFAULT_FPS = 8.0
"""Frame rate of images in a folder that do not state theirs: the published one."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Suffixes of the images that a folder of frames may hold."""

Recording = tuple[NDArray[np.uint8], float, dict[str, Any]]
"""Frames of (F, H, W, 3), RGB; frames per second; metadata."""

# Playlists, which open other files and addresses, and text, which FFmpeg draws as a video, are left out.
_DEMUXERS = (
    "mov,matroska,avi,gif,mpeg,mpegts,flv,ogg,asf,mxf,nut,ivf,dv,yuv4mpegpipe,mpegvideo,h264,hevc,obu,apng,"
    "png_pipe,jpeg_pipe"
)


def read_video(path: str | Path, *, max_frames: int | None = None) -> Recording:
    """Reads a video file, an animated image, or a folder of images in the order of their names.

    Colours follow the file's tags; a stored rotation (phones) is applied.

    Args:
        path: A video that FFmpeg decodes (MP4, WebM, Matroska, MOV, AVI, GIF, ...), WebP, or a folder of PNG or JPEG.
        max_frames: Read only this number of frames from the start.

    Returns:
        The frames, (F, H, W, 3), RGB; the frames per second; the metadata that show1 put into the file, if any.

    Raises:
        InputError: `max_frames` is less than one.
        MediaError: The file is missing, damaged or no video.
    """
    path = Path(path)
    if max_frames is not None and max_frames < 1:
        raise InputError(f"max_frames must be at least 1, got {max_frames}")
    check_exists(path)
    if path.is_dir():
        return _read_folder(path, max_frames)
    if is_webp(path):
        return _read_webp(path, max_frames)
    return _read_container(path, max_frames)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Reads the metadata that show1 put into a file, without decoding frames.

    Returns:
        The metadata; an empty dict if the file is a video or image of another origin.

    Raises:
        MediaError: The file is missing, damaged or no video.
    """
    path = Path(path)
    check_exists(path)
    if path.is_dir():
        return image_record(frame_files(path)[0])[0]
    if path.suffix.lower() in (".gif", *IMAGE_SUFFIXES) or is_webp(path):
        return image_record(path)[0]
    with opened(path) as container:
        return _container_metadata(container)


def _read_container(path: Path, max_frames: int | None) -> Recording:
    with opened(path) as container:
        stream = container.streams.video[0]
        frames, times = [], []
        for frame in islice(container.decode(stream), max_frames):
            frames.append(_pixels(frame))
            times.append(frame.time)
        rate = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
        metadata, is_gif = _container_metadata(container), container.format.name == "gif"
        announced = stream.frames or round((container.duration or 0) / 1e6 * rate)
    if not frames:
        raise MediaError(f"{path} holds no frame that can be decoded: the file is empty or damaged; get a fresh copy")
    if max_frames is None and not is_gif:
        _check_complete(path, len(frames), announced, ours=bool(metadata))
    if is_gif:
        metadata, stated_rate = image_record(path)
        rate = stated_rate or _steady_rate(times, tick=0.01) or rate
    frames = [frame for frame in frames if frame.shape == frames[0].shape]
    return np.stack(frames), rate, metadata


def _check_complete(path: Path, frames: int, announced: int, *, ours: bool) -> None:
    """Refuses a file of ours that is cut off, which reads without an error; other programs may announce too much."""
    if frames >= announced:
        return
    message = f"{path} is incomplete: {frames} of {announced} frames could be read"
    if ours:
        raise MediaError(f"{message}; get a fresh copy, or write it again")
    logger.warning(message)


@contextmanager
def opened(path: Path) -> Iterator[av.container.InputContainer]:
    """Opens a file that has a video stream; errors of FFmpeg become MediaError, also those within the block."""
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}
    try:
        with av.open(str(path.absolute()), options=options, metadata_errors="replace") as container:
            if not container.streams.video:
                raise MediaError(f"{path} holds no video: give a video file")
            yield container
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"cannot read {path}: it is no video, or damaged ({error}); get a fresh copy, or convert it to MP4"
        ) from error


def _container_metadata(container: "av.container.InputContainer") -> dict[str, Any]:
    tags = {name.lower(): text for name, text in container.metadata.items()}
    return parse_metadata(tags.get(KEY))


def _pixels(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Returns (H, W, 3) RGB with chroma interpolated rather than repeated, upright."""
    interpolation = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    pixels: NDArray[np.uint8] = frame.reformat(format="rgb24", interpolation=interpolation).to_ndarray()
    return np.rot90(pixels, k=round(frame.rotation / 90) % 4)


def _read_webp(path: Path, max_frames: int | None) -> Recording:
    """Reads a WebP; its encoder merges equal frames into one that lasts longer, which is repeated here."""
    metadata, fps = image_record(path)
    images: list[NDArray[np.uint8]] = []
    durations: list[int] = []
    try:
        with Image.open(path) as image:
            for index in range(getattr(image, "n_frames", 1)):
                image.seek(index)
                image.load()
                images.append(opaque(image))
                durations.append(int(image.info.get("duration", 0)) or 100)
    except (OSError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise MediaError(f"cannot read {path}: it is damaged or incomplete ({error}); get a fresh copy") from error
    fps = fps or 1000 / min(durations)
    repeats = [max(1, round(duration * fps / 1000)) for duration in durations]
    frames = [image for image, count in zip(images, repeats, strict=True) for _ in range(count)]
    return np.stack(frames[:max_frames]), fps, metadata


def _read_folder(folder: Path, max_frames: int | None) -> Recording:
    files = frame_files(folder)
    metadata, fps = image_record(files[0])
    frames: list[NDArray[np.uint8]] = []
    for file in files[:max_frames]:
        try:
            with Image.open(file) as image:
                frames.append(opaque(image))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise MediaError(f"cannot read the frame {file}: no image, or damaged ({error})") from error
        if frames[-1].shape != frames[0].shape:
            raise MediaError(f"the images of {folder} differ in size: {files[0].name} and {file.name}; make them equal")
    return np.stack(frames), fps or DEFAULT_FPS, metadata


def frame_files(folder: Path) -> list[Path]:
    """Returns the images of a folder in the order of their names; raises MediaError if it holds none."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise MediaError(f"the folder {folder} holds no PNG or JPEG images: give a video file or a folder of frames")
    return files


def opaque(image: Image.Image) -> NDArray[np.uint8]:
    """Returns an image as (H, W, 3) RGB; transparent parts become white."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def check_exists(path: Path) -> None:
    """Raises MediaError if there is no such file."""
    if not path.exists():
        raise MediaError(f"no such file: {path}; check the name")


def is_webp(path: Path) -> bool:
    """Tells whether the file is a WebP, by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


def _steady_rate(times: list[float], *, tick: float) -> float | None:
    """Returns the frame rate behind times rounded to multiples of `tick` seconds: a whole one if one explains them."""
    if len(times) < 2 or times[-1] <= times[0]:
        return None
    rate = (len(times) - 1) / (times[-1] - times[0])
    whole = max(1, round(rate))
    steady = all(abs((later - sooner) - 1 / whole) <= tick for sooner, later in pairwise(times))
    drift = abs((len(times) - 1) / whole - (times[-1] - times[0]))
    return float(whole) if steady and drift <= tick else rate
