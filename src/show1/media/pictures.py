"""Images, animated ones too, and folders of frames: upright, opaque, with 8 bits per colour."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from av.video.reformatter import Interpolation
from PIL import Image, ImageOps

from show1.errors import MediaError
from show1.files import check_regular
from show1.media.frames import DEFAULT_FPS, Frame, Pixels, check_size
from show1.media.metadata import image_record

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Suffixes of the images that a folder of frames may hold."""

_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_DEPTH = "store its colours with 8 or 16 bits"


class ImageVideo:
    """A still or animated image."""

    jumps = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata, self._fps = image_record(path)
        self.tick = None if self._fps else 0.001
        self.rate = self._fps or self.count() / self.seconds()

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """See `OpenVideo.frames`. Where show1 wrote the file, a frame that merges equal ones is repeated."""
        with _opened(self.path) as image:
            time = 0.0
            for index in range(getattr(image, "n_frames", 1) if image.format != "MPO" else 1):
                image.seek(index)
                shown = Image.fromarray(flat(image))
                seconds = _seconds(image.info.get("duration", 0))  # known now that the frame is loaded
                for _ in range(self._repeats(seconds)):
                    lasts = 1 / self._fps if self._fps else seconds
                    yield _frame(shown, time, lasts)
                    time += lasts

    def announced(self) -> int:
        """See `OpenVideo.announced`."""
        return self.count()

    def count(self) -> int:
        """See `OpenVideo.count`."""
        return sum(self._repeats(seconds) for seconds in self._durations())

    def seconds(self) -> float:
        """See `OpenVideo.seconds`."""
        return sum(self._repeats(s) / self._fps if self._fps else s for s in self._durations())

    def _repeats(self, seconds: float) -> int:
        return max(1, round(seconds * self._fps)) if self._fps else 1

    def _durations(self) -> list[float]:
        """Seconds of each frame, from the headers of the chunks of a WebP and of an animated PNG."""
        found: list[float] = []
        with self.path.open("rb") as file:
            webp = file.read(12)[:4] == b"RIFF"
            file.seek(12 if webp else 8)
            while len(head := file.read(8)) == 8:
                name, size = (head[:4], int.from_bytes(head[4:], "little")) if webp else (head[4:], _big(head[:4]))
                body = file.read(min(size, 24))
                if name == b"ANMF":
                    found.append(_seconds(int.from_bytes(body[12:15], "little")))
                elif name == b"fcTL":
                    found.append(_seconds(1000 * _big(body[20:22]) / (_big(body[22:24]) or 100)))
                file.seek(size - len(body) + (size % 2 if webp else 4), 1)
        return found or [_seconds(0)]


class FolderVideo:
    """A folder of frames."""

    jumps = False
    tick: float | None = None

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.files = frame_files(folder)
        self.metadata, fps = image_record(self.files[0])
        self.rate = fps or DEFAULT_FPS

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """See `OpenVideo.frames`."""
        for number in range(min(int(start * self.rate + 1e-6), len(self.files) - 1), len(self.files)):
            yield _frame(open_picture(self.files[number]), number / self.rate, 1 / self.rate)

    def announced(self) -> int:
        """See `OpenVideo.announced`."""
        return len(self.files)

    def count(self) -> int:
        """See `OpenVideo.count`."""
        return len(self.files)

    def seconds(self) -> float:
        """See `OpenVideo.seconds`."""
        return len(self.files) / self.rate


def is_image(path: Path) -> bool:
    """Tells by its first bytes whether a file is a WebP, a PNG or a JPEG."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    return head.startswith(_IMAGES) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


def open_picture(path: Path) -> Image.Image:
    """Reads an image file, turned upright and in RGB.

    Raises:
        MediaError: The file is not an image, too large, or damaged.
    """
    with _opened(path) as image:
        return Image.fromarray(flat(image))


def frame_files(folder: Path) -> list[Path]:
    """Lists the images of a folder in the order of their names, with numbers in them in the order of numbers.

    Raises:
        MediaError: There is none.
    """
    files = sorted(picture_files(folder, FRAME_SUFFIXES), key=lambda file: _natural(file.name))
    if not files:
        raise MediaError(f"the folder {folder} holds no PNG or JPEG images: give a video file or a folder of frames")
    return files


def picture_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Lists the files of a folder that have one of these suffixes and are not hidden, sorted by name."""
    return sorted(
        file for file in folder.iterdir() if file.suffix.lower() in suffixes and not is_hidden(file) and file.is_file()
    )


def is_hidden(path: Path) -> bool:
    """Tells by its name whether a file is hidden, such as the ``._1.png`` that macOS puts beside ``1.png``."""
    return path.name.startswith(".")


def flat(image: Image.Image) -> Pixels:
    """Returns an image upright and opaque as (H, W, 3), RGB; transparent parts become white.

    Raises:
        ValueError: Its pixels are numbers without a known range.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"its pixels have 32 bits; {_DEPTH}")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError(f"its pixels are floating-point numbers; {_DEPTH}")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Opens an image of bearable size; errors of Pillow become MediaError, also those within the block."""
    try:
        check_regular(path)
        with Image.open(path) as image:
            check_size(path, image.height, image.width)
            yield image
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise MediaError(
            f"cannot read {path}: it is no image, or damaged or incomplete ({error}); get a fresh copy"
        ) from error


def _frame(image: Image.Image, time: float, duration: float) -> Frame:
    def draw(height: int, width: int, interpolation: Interpolation | None = None) -> Pixels:
        if (width, height) == image.size:
            return np.array(image)
        return np.array(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0))

    return Frame(time=time, duration=duration, height=image.height, width=image.width, draw=draw)


def _natural(name: str) -> tuple[list[Any], str]:
    """Key by which ``2.png`` comes before ``10.png``."""
    parts: list[Any] = re.split(r"(\d+)", name)
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def _seconds(milliseconds: float) -> float:
    return (milliseconds or 100) / 1000


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")
