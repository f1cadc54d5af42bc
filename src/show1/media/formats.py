"""The file formats that can be written: containers, their codecs, and what each codec needs.

The suffix of the output path picks the container. A path that ends in ``/``, that is an existing folder, or that has no
suffix means a folder of numbered PNG frames.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from show1.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A video encoder of FFmpeg with the settings used here."""

    name: str
    """Name of the encoder in FFmpeg."""

    crf: int | None = None
    """Constant rate factor if no quality is asked for (lower is better); None for a lossless encoder."""

    best_crf: int = 0
    """The constant rate factor of quality 100."""

    worst_crf: int = 51
    """The constant rate factor of quality 0."""

    options: dict[str, str] = field(default_factory=dict)
    """Further options of the encoder."""

    pix_fmt: str = "yuv420p"
    """Pixel format of the stream."""

    odd_pix_fmt: str = "yuv420p"
    """Pixel format when the height or the width is odd: some encoders halve the chroma planes of even sizes only."""

    chroma_location: str = "left"
    """Position of the samples in halved chroma planes that decoders assume if the stream does not state it."""

    min_side: int = 2
    """Least height and width in pixels. Below 64, x265 and SVT-AV1 corrupt memory and crash the process."""


@dataclass(frozen=True, kw_only=True)
class Container:
    """A kind of output file."""

    label: str
    """Name of the format in messages."""

    muxer: str | None = None
    """Name of the muxer in FFmpeg; None for formats that have a writer of their own."""

    codecs: tuple[str, ...] = ()
    """Codecs that the container holds, the default one first; empty if there is nothing to choose."""

    options: dict[str, str] = field(default_factory=dict)
    """Options of the muxer."""


ENCODERS = {
    # crf 0 is lossless, in a profile that many players lack
    "h264": Encoder(name="libx264", crf=16, best_crf=1, options={"preset": "medium"}, odd_pix_fmt="yuv444p"),
    "h265": Encoder(
        name="libx265",
        crf=18,
        options={"preset": "medium", "x265-params": "log-level=error"},
        odd_pix_fmt="yuv444p",
        min_side=64,
    ),
    "av1": Encoder(
        name="libsvtav1",
        crf=20,
        worst_crf=63,
        options={"preset": "6"},
        chroma_location="center",
        min_side=64,
    ),
    "vp9": Encoder(
        name="libvpx-vp9",
        crf=20,
        worst_crf=63,
        options={"b": "0", "deadline": "good", "cpu-used": "2"},
        chroma_location="center",
    ),
    "ffv1": Encoder(name="ffv1", pix_fmt="bgr0", odd_pix_fmt="bgr0"),
}

CONTAINERS = {
    ".mp4": Container(
        label="MP4",
        muxer="mp4",
        codecs=("h264", "h265", "av1"),
        options={"movflags": "use_metadata_tags+faststart"},
    ),
    ".webm": Container(label="WebM", muxer="webm", codecs=("vp9", "av1")),
    ".mkv": Container(label="Matroska", muxer="matroska", codecs=("ffv1", "h264", "h265", "vp9", "av1")),
    ".gif": Container(label="GIF"),
    ".webp": Container(label="WebP"),
    "": Container(label="PNG frames"),
}

MAX_GIF_FPS = 50.0
"""Viewers play GIF delays below two hundredths of a second at a tenth of a second."""


@dataclass(frozen=True, kw_only=True)
class OutputFormat:
    """Format, codec and quality of an output, as `choose_format` picks them."""

    suffix: str
    """Key of `CONTAINERS`; empty for a folder of PNG frames."""

    codec: str | None = None
    """Key of `ENCODERS`, or None if the container has a writer of its own."""

    quality: int | None = None
    """0 (worst) to 100 (best), or None for the default of the codec."""

    @property
    def container(self) -> Container:
        """The container of this suffix."""
        return CONTAINERS[self.suffix]

    @property
    def encoder(self) -> Encoder:
        """The encoder of the codec."""
        assert self.codec is not None, "this container has a writer of its own"
        return ENCODERS[self.codec]

    def check_video(self, height: int, width: int, fps: float) -> None:
        """Raises InputError if a video of this size and frame rate cannot be written in this format."""
        if self.codec and min(height, width) < self.encoder.min_side:
            least = self.encoder.min_side
            raise InputError(
                f"{self.codec} needs at least {least} pixels per side, but the video has {height}x{width} (height x "
                "width): choose codec h264, or a larger size"
            )
        if self.suffix == ".gif" and fps > MAX_GIF_FPS:
            raise InputError(f"GIF holds at most {MAX_GIF_FPS:g} frames per second, the video has {fps:g}: write .mp4")


def choose_format(path: str | Path, *, codec: str | None = None, quality: int | None = None) -> OutputFormat:
    """Returns the format that the path, the codec and the quality ask for.

    Raises:
        InputError: The suffix is unknown, the codec does not fit the container, or the quality is out of range.
    """
    suffix = _container_suffix(os.path.expanduser(path))
    container = CONTAINERS[suffix]
    if codec is not None and codec not in container.codecs:
        choice = (
            f"choose one of {', '.join(container.codecs)}" if container.codecs else "it has no codecs to choose from"
        )
        wrong = f"does not fit in {container.label}" if codec in ENCODERS else "is not known"
        raise InputError(f"codec {codec!r} {wrong} ({path}): {choice}")
    if codec is None and container.codecs:
        codec = container.codecs[0]
    if quality is not None:
        _check_quality(quality, suffix, codec)
    return OutputFormat(suffix=suffix, codec=codec, quality=quality)


def _container_suffix(path: str | Path) -> str:
    text, path = str(path), Path(path)
    if not text.strip():
        raise InputError("the output path is empty: give a file name such as panda.mp4")
    if text.endswith(("/", "\\")) or path.is_dir() or not path.suffix:
        return ""
    suffix = path.suffix.lower()
    if suffix not in CONTAINERS:
        known = ", ".join(name for name in CONTAINERS if name)
        raise InputError(
            f"cannot write {path.name}: the suffix {path.suffix!r} is not one of {known}; "
            "for a folder of PNG frames give a name that ends in '/'"
        )
    return suffix


def _check_quality(quality: int, suffix: str, codec: str | None) -> None:
    lossy = suffix == ".webp" or (codec is not None and ENCODERS[codec].crf is not None)
    if not lossy:
        raise InputError(f"quality does not apply to {codec or CONTAINERS[suffix].label}: leave it out")
    if not 0 <= quality <= 100:
        raise InputError(f"quality must be 0 (worst) to 100 (best), got {quality}")
