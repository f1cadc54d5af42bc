"""Reference clips of customizations: a few frames of any video file for a motion, folders of images for a style.

A file is decoded twice, frame by frame, so that long or large ones need little memory: first to find its shots (from
colour histograms), then to draw the chosen frames at the size that is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from show1.data.captions import VIDEO_SUFFIXES
from show1.errors import InputError, MediaError
from show1.files import user_path
from show1.media import contact_sheet
from show1.media.frames import Frame
from show1.media.pictures import open_picture, picture_files
from show1.media.stream import stream_video
from show1.options import Options
from show1.video import Video

Fit = Literal["crop", "pad"]
"""How a frame of another shape is fitted: cropped at the centre, or shown whole between black bars."""

MAX_SECONDS = 60.0
"""Seconds of a file that are used when no duration is given."""

BINS = 16
"""Number of bins in the histogram of each colour."""

CUT = 0.17
"""Neighbouring frames belong to different shots if their histograms differ by more than this share ..."""

CUT_RATIO = 5.0
"""... and by more than this many times the usual difference between frames around them."""

MAX_STRETCH = 32
"""Largest ratio of a frame's longer side to that of the part that is cut out of it."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class ReferenceOptions(Options):
    """Selects frames of a file, and how they are fitted to a size."""

    options_of: ClassVar[str] = "reference"

    num_frames: int
    """Number of frames to take."""

    height: int
    """Height of the frames in pixels."""

    width: int
    """Width of the frames in pixels."""

    fps: float | None = None
    """Frames per second of the file's time; None spreads the frames evenly over the whole shot."""

    fit: Fit = "crop"
    """"crop" cuts frames of another shape at the centre, "pad" shows them whole between black bars."""

    start: float = 0.0
    """Seconds of the file to leave out at the beginning."""

    duration: float | None = None
    """Seconds of the file to use, from `start` on; None: all, but at most a minute."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("num_frames", "height", "width", least=1)
        self.check_range("start", least=0)
        self.check_positive("fps", "duration")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The frames taken from a file."""

    video: Video
    """The frames, fitted to the size, and their rate in the file's time."""

    source: str
    """The file that they come from."""

    times: tuple[float, ...]
    """Time of each frame in seconds from the start of the file."""

    warnings: tuple[str, ...]
    """Messages for the user about cuts, damage, and frames that are shown twice."""


def load_reference(path: str | Path, options: ReferenceOptions) -> Reference:
    """Takes frames from a video file.

    If the file has cuts, the longest shot is used, with a warning that names the cuts.

    Args:
        path: Anything that `show1.media.read_video` reads: a video, an animated image, a folder of frames.
        options: Which frames to take, and their size.

    Returns:
        The frames.

    Raises:
        InputError: The file, or its longest shot, is too short.
        MediaError: The file is missing, no video, or damaged from the beginning.
    """
    path = user_path(path)
    times, histograms, warnings = _scan(path, options)
    if not times:
        raise InputError(f"start is {options.start:g} s, but {path} has no frame after that; give an earlier start")
    shots = _shots(histograms)
    if len(shots) > 1:
        first, last = max(shots, key=lambda shot: times[shot[1]] - times[shot[0]])
        warnings.append(_cut_warning([times[a] for a, _ in shots[1:]], times[first], times[last]))
        times = times[first : last + 1]
    picked = _pick(path, times, options, warnings)
    frames = _draw(path, picked, options)
    rate = options.fps
    if rate is None:
        rate = (len(picked) - 1) / (picked[-1] - picked[0]) if picked[-1] > picked[0] else 1.0
    return Reference(
        video=Video(frames=frames, fps=rate), source=str(path), times=tuple(picked), warnings=tuple(warnings)
    )


def load_images(folder: str | Path, height: int, width: int) -> torch.Tensor:
    """Reads the images of a folder in the order of their names, cropped to a size at their centre.

    Args:
        folder: Holds images; other files and folders in it are ignored.
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        (N, 3, height, width) float32 in [-1, 1].

    Raises:
        MediaError: No such folder, no images in it, or one that is damaged.
    """
    pictures = [np.asarray(_covering(open_picture(file), height, width)) for file in image_files(folder)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def image_files(folder: str | Path) -> list[Path]:
    """Lists the images of a folder, sorted by name.

    Raises:
        MediaError: No such folder, or no images in it.
    """
    folder = user_path(folder)
    if not folder.is_dir():
        raise MediaError(f"no such folder: {folder}; give a folder that holds images")
    files = picture_files(folder, IMAGE_SUFFIXES)
    if not files and picture_files(folder, VIDEO_SUFFIXES):
        raise MediaError(f"the folder {folder} holds videos, but no images; give each video by --video FILE")
    if not files:
        raise MediaError(f"the folder {folder} holds no images ({', '.join(IMAGE_SUFFIXES)}); put some in")
    return files


def reference_sheet(references: Sequence[Reference]) -> Image.Image:
    """Draws a contact sheet of the frames of each file, with their times and warnings below.

    Raises:
        InputError: No references.
    """
    labels = [
        f"{Path(reference.source).name}, {reference.times[0]:.2f} to {reference.times[-1]:.2f} s. "
        + " ".join(f"Warning: {warning}." for warning in reference.warnings)
        for reference in references
    ]
    return contact_sheet([reference.video.frames for reference in references], labels=labels)


def _scan(path: Path, options: ReferenceOptions) -> tuple[list[float], NDArray[np.float64], list[str]]:
    """Times (F,) of the frames in the part that is used, their histograms (F, 3 * BINS), and warnings."""
    end = options.start + (options.duration or MAX_SECONDS)
    times: list[float] = []
    histograms: list[NDArray[np.float64]] = []
    warnings: list[str] = []
    try:
        for frame in stream_video(path, start=options.start):
            if frame.time >= end - 1e-6:
                if options.duration is None:
                    warnings.append(f"only {MAX_SECONDS:g} s were used, beginning at {options.start:g} s")
                break
            times.append(frame.time)
            histograms.append(_histogram(frame.draw(24, 32)))
    except MediaError as error:
        if not times:
            raise
        warnings.append(f"the file is damaged after {times[-1]:.2f} s; only the frames before that are used ({error})")
    return times, np.array(histograms), warnings


def _histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Shares of the levels of each colour, each pixel shared by its two nearest bins: (H, W, 3) -> (3 * BINS,)."""
    place = pixels.reshape(-1, 3).astype(np.float64) / 255 * (BINS - 1)
    low = np.minimum(place.astype(np.int64), BINS - 2)
    part = place - low
    counts = [
        np.bincount(low[:, c], 1 - part[:, c], minlength=BINS) + np.bincount(low[:, c] + 1, part[:, c], minlength=BINS)
        for c in range(3)
    ]
    return np.concatenate(counts) / len(place)


def _difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the pixels that changed their bin, 0 to 1: (..., 3 * BINS) twice -> (...)."""
    change: NDArray[np.float64] = np.abs(a - b).sum(-1) / 6
    return change


def _shots(histograms: NDArray[np.float64]) -> list[tuple[int, int]]:
    """First and last frame of each shot; a flash of one or two frames is no cut."""
    changes = _difference(histograms[1:], histograms[:-1])
    starts = [0]
    for cut in map(int, np.flatnonzero(changes > CUT)):
        around = np.concatenate([changes[max(cut - 12, 0) : cut], changes[cut + 1 : cut + 13]])
        usual = float(np.median(around)) if len(around) else 0.0
        after = min(cut + 3, len(histograms) - 1)
        lasts = _difference(histograms[after], histograms[cut]) > CUT
        from_flash = cut >= 2 and _difference(histograms[cut + 1], histograms[cut - 2]) <= CUT
        if changes[cut] > CUT_RATIO * usual and lasts and not from_flash:
            starts.append(cut + 1)
    ends = [start - 1 for start in starts[1:]] + [len(histograms) - 1]
    return list(zip(starts, ends, strict=True))


def _cut_warning(cuts: list[float], first: float, last: float) -> str:
    places = ", ".join(f"{time:.2f}" for time in cuts[:8]) + (", ..." if len(cuts) > 8 else "")
    return f"cut at {places} s, only the longest shot is used, {first:.2f} to {last:.2f} s"


def _pick(path: Path, times: list[float], options: ReferenceOptions, warnings: list[str]) -> list[float]:
    """The times of the frames to take; adds a warning where some are taken twice."""
    count, span = options.num_frames, times[-1] - times[0]
    if count > 1 and len(times) < 2:
        raise InputError(
            f"{path} has a single frame in this part, but {count} frames are needed: give a video, or a longer part"
        )
    if options.fps is None:
        wanted = np.linspace(times[0], times[-1], count)
    else:
        wanted = times[0] + np.arange(count) / options.fps
        step = span / max(len(times) - 1, 1)
        if wanted[-1] > times[-1] + step:  # the last frame shows for a step
            raise InputError(
                f"{path} lasts {span + step:.2f} s in this part, but {count} frames at {options.fps:g} frames per "
                f"second need {(count - 1) / options.fps:.2f} s; use a higher fps, a longer video, or no fps, which "
                "spreads the frames over the part"
            )
    known = np.array(times)
    nearest = np.abs(known[None] - wanted[:, None]).argmin(1)
    used = len(set(nearest.tolist()))
    if used < count:
        warnings.append(f"there are only {used} different frames for {count}; some are used more than once")
    return [times[i] for i in nearest]


def _draw(path: Path, picked: list[float], options: ReferenceOptions) -> NDArray[np.uint8]:
    """Draws the frames at the picked times, which ascend: (F, height, width, 3) uint8."""
    drawn: list[NDArray[np.uint8]] = []
    for frame in stream_video(path, start=picked[0]):
        due = sum(1 for time in picked[len(drawn) :] if time <= frame.time)
        if due:
            drawn += [_fitted(frame, options)] * due
        if len(drawn) == len(picked):
            return np.stack(drawn)
    raise MediaError(f"{path} gave {len(drawn)} of {len(picked)} frames on a second reading: it changed, or is damaged")


def _fitted(frame: Frame, options: ReferenceOptions) -> NDArray[np.uint8]:
    """Draws a frame so that it covers the asked size, or fits into it."""
    height, width = options.height, options.width
    pick = max if options.fit == "crop" else min
    scale = pick(height / frame.height, width / frame.width)
    rows, columns = max(round(frame.height * scale), 1), max(round(frame.width * scale), 1)
    if max(rows, columns) > MAX_STRETCH * max(height, width):
        raise InputError(
            f"a frame is {frame.width} pixels wide and {frame.height} high, too narrow to be cropped; pad it"
        )
    if options.fit == "crop":
        rows, columns = max(rows, height), max(columns, width)
        top, left = (rows - height) // 2, (columns - width) // 2
        drawn = np.ascontiguousarray(frame.draw(rows, columns)[top : top + height, left : left + width])
    else:
        rows, columns = min(rows, height), min(columns, width)
        drawn = np.zeros((height, width, 3), dtype=np.uint8)
        top, left = (height - rows) // 2, (width - columns) // 2
        drawn[top : top + rows, left : left + columns] = frame.draw(rows, columns)
    return drawn


def _covering(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resizes an image to cover a size, and crops its centre."""
    scale = max(height / image.height, width / image.width)
    across, down = width / scale, height / scale
    left, top = (image.width - across) / 2, (image.height - down) / 2
    box = (left, top, left + across, top + down)
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
