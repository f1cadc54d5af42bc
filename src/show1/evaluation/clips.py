"""Clips, cut out of videos by one rule.

A clip that cannot be read is never skipped silently: `ClipSet.clips` gives a `Rejected` in its place.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from show1.errors import InputError, MediaError
from show1.evaluation.benchmark_protocol import BenchmarkProtocol, Resize, Start, draw
from show1.options import counted
from show1.video import Video

Frames = NDArray[np.uint8]
"""Frames (F, H, W, 3), uint8 RGB."""

_USUAL_MOST_FPS = 60
_WORKERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A video of a data set."""

    key: str
    """Name within the set."""

    file: Path
    """File or folder of frames, which may be missing."""

    label: str = ""
    """Class, where there are classes."""

    captions: tuple[str, ...] = ()
    """Captions, in the order of the set."""


@dataclass(frozen=True, kw_only=True)
class ClipRule:
    """How a clip is cut out of a video."""

    frames: int | None = 16
    """Frames per clip; None: as many as there are."""

    stride: int = 1
    """Frame stride at `fps`."""

    fps: float | None = None
    """Frames per second at which the video is read, nearest frames; None: its own."""

    start: Start = "first"
    """`first`: at the first frame; `hash`: anywhere, drawn by hash of the key."""

    seed: int = 0
    """Seed of that draw."""

    height: int | None = None
    """Height in pixels; None: unchanged."""

    width: int | None = None
    """Width in pixels; None: unchanged."""

    resize: Resize = "squash"
    """`squash` ignores proportions; `crop` keeps them and cuts off the excess around the centre. Pillow's bicubic."""

    def __post_init__(self) -> None:
        given = [value for value in (self.frames, self.stride, self.fps) if value is not None]
        if min(given) <= 0:
            raise InputError(f"frames, stride and fps must be positive, got {self.frames}, {self.stride}, {self.fps}")
        if (self.height is None) != (self.width is None):
            raise InputError("height and width must be given together, or neither")

    @classmethod
    def of_real(cls, protocol: BenchmarkProtocol) -> "ClipRule":
        """Returns how a protocol reads real videos."""
        return cls(
            frames=protocol.frames,
            stride=protocol.stride,
            fps=protocol.fps,
            start=protocol.start,
            seed=protocol.reference_seed,
            height=protocol.height,
            width=protocol.width,
            resize=protocol.resize,
        )

    @classmethod
    def of_generated(cls, protocol: BenchmarkProtocol) -> "ClipRule":
        """Returns how a protocol reads generated videos: from their first frame."""
        return dataclasses.replace(cls.of_real(protocol), start="first", seed=0)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip that could be read."""

    index: int
    """Position in the set."""

    key: str
    """Name of the video."""

    prompt: str
    """Prompt; empty where there is none."""

    frames: Frames
    """(F, H, W, 3), RGB."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A clip that could not be read, and why."""

    index: int
    """Position in the set."""

    key: str
    """Name of the video."""

    reason: str
    """Why it could not be read."""


@dataclass(frozen=True, kw_only=True)
class ClipSet:
    """Clips to be read one by one."""

    keys: tuple[str, ...]
    """Names of the clips, unique."""

    read: Callable[[int], Frames]
    """Reads a clip by its position; raises MediaError or InputError."""

    fingerprint: str
    """Changes with what is read."""

    prompts: tuple[str, ...] = field(default=())
    """One per clip, or none at all."""

    def __len__(self) -> int:
        return len(self.keys)

    def clips(self, places: range) -> Iterator[Clip | Rejected]:
        """Reads the clips at some positions, in order; threads read ahead while the caller computes."""
        pool, ahead = ThreadPoolExecutor(_WORKERS), deque[Future[Clip | Rejected]]()
        try:
            for i in places:
                ahead.append(pool.submit(self._clip, i))
                if len(ahead) > 2 * _WORKERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _clip(self, i: int) -> Clip | Rejected:
        try:
            frames = self.read(i)
        except (MediaError, InputError) as error:
            return Rejected(index=i, key=self.keys[i], reason=str(error))
        return Clip(index=i, key=self.keys[i], prompt=self.prompts[i] if self.prompts else "", frames=frames)


def cut_clip(video: Video, rule: ClipRule, key: str = "") -> Frames:
    """Cuts a clip (F, H, W, 3) out of a video and resizes it.

    Raises:
        InputError: The video is too short, or has fewer frames per second than the rule reads.
    """
    rate = video.fps if rule.fps is None else rule.fps
    if video.fps < rate * 0.999:
        raise InputError(
            f"it has {video.fps:g} frames per second and is to be read at {rate:g}: frames would be repeated"
        )
    step = rule.stride * video.fps / rate
    count = rule.frames or math.floor((len(video) - 1) / step + 1e-6) + 1
    offsets = [math.floor(i * step + 0.5) for i in range(count)]
    spare = len(video) - 1 - offsets[-1]
    if spare < 0:
        raise InputError(
            f"it has {counted(len(video), 'frame')}, but {count} with stride {rule.stride} at {rate:g} frames per "
            f"second need {offsets[-1] + 1}"
        )
    first = draw("start", rule.seed, key) % (spare + 1) if rule.start == "hash" else 0
    return resize_frames(video.frames[[first + offset for offset in offsets]], rule)


def resize_frames(frames: Frames, rule: ClipRule) -> Frames:
    """Resizes frames (F, H, W, 3) to the rule's size: (F, height, width, 3)."""
    if rule.height is None or rule.width is None or frames.shape[1:3] == (rule.height, rule.width):
        return frames
    height, width = frames.shape[1:3]
    box = (0.0, 0.0, float(width), float(height))
    if rule.resize == "crop":
        scale = min(height / rule.height, width / rule.width)
        left, top = (width - rule.width * scale) / 2, (height - rule.height * scale) / 2
        box = (max(left, 0.0), max(top, 0.0), min(width - left, width), min(height - top, height))
    size = (rule.width, rule.height)
    resized = [np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BICUBIC, box=box)) for f in frames]
    return np.stack(resized)


def read_clip(entry: Entry, rule: ClipRule) -> Frames:
    """Reads the clip of a video, and no more of the video than needed: (F, H, W, 3).

    Raises:
        MediaError: The file is missing or damaged.
        InputError: It is too short.
    """
    most = None
    if rule.start == "first" and rule.frames is not None:
        last = (rule.frames - 1) * rule.stride
        most = last + 1 if rule.fps is None else math.ceil(last * _USUAL_MOST_FPS / rule.fps) + 1
    try:
        video = Video.load(entry.file, max_frames=most)
        if most is not None and rule.fps is not None and len(video) == most and video.fps > _USUAL_MOST_FPS:
            video = Video.load(entry.file)
        return cut_clip(video, rule, entry.key)
    except MediaError as error:
        raise MediaError(
            str(error).replace(str(entry.file.absolute()), entry.key).replace(str(entry.file), entry.key)
        ) from error


def file_clips(
    entries: Sequence[Entry], rule: ClipRule, *, prompts: Sequence[str] = (), with_times: bool = False
) -> ClipSet:
    """Makes a set of the clips of video files.

    Args:
        entries: The files.
        rule: How clips are cut.
        prompts: One per file, or none.
        with_times: Whether modification times are part of the fingerprint, beside names and sizes.

    Raises:
        InputError: Two have the same key.
    """
    keys = tuple(entry.key for entry in entries)
    if len(set(keys)) < len(keys):
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise InputError(f"two videos are called {twice}; every name must be unique")
    return ClipSet(
        keys=keys,
        read=lambda i: read_clip(entries[i], rule),
        fingerprint=_fingerprint(entries, with_times),
        prompts=tuple(prompts),
    )


def choose_entries(entries: Sequence[Entry], count: int, seed: int) -> list[Entry]:
    """Draws some videos by hash, in the order of the set; 0: all.

    Raises:
        InputError: There are fewer.
    """
    if count == 0 or count == len(entries):
        return list(entries)
    if count > len(entries):
        raise InputError(f"references: {count} real videos are asked for, but the split has {len(entries)}")
    kept = {entry.key for entry in sorted(entries, key=lambda entry: draw("reference", seed, entry.key))[:count]}
    return [entry for entry in entries if entry.key in kept]


def _fingerprint(entries: Sequence[Entry], with_times: bool) -> str:
    """A hash of names and sizes, so that a large set is recognised without reading it."""
    listed: list[list[Any]] = []
    for entry in entries:
        parts = sorted(entry.file.iterdir()) if entry.file.is_dir() else [entry.file]
        for part in parts:
            state = part.stat() if part.exists() else None
            size, time = (-1, 0) if state is None else (state.st_size, state.st_mtime_ns)
            listed.append([entry.key, part.name, size, *([time] if with_times else [])])
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()
