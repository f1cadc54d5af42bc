"""Clips of the standard data sets, cut out of videos by one rule, and of folders of videos.

What cannot be read is never skipped in silence: `ClipSet.clips` gives a `Rejected` in its place.
"""

import dataclasses
import hashlib
import json
import math
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
from show1.evaluation.benchmark_protocol import Protocol, Resize, Start, draw
from show1.files import read_json_object
from show1.media import read_video
from show1.media.read import IMAGE_SUFFIXES
from show1.video import Video

Frames = NDArray[np.uint8]
"""(F, H, W, 3), RGB."""

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".webp", ".m4v", ".mpg", ".mpeg")
_USUAL_MOST_FPS = 60
_UCF101_LAYOUT = (
    "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi and so on, and ucfTrainTestlist/trainlist01.txt and so on, as "
    "the archives of www.crcv.ucf.edu/data/UCF101.php unpack"
)
_MSRVTT_LAYOUT = (
    'test_videodatainfo.json or MSRVTT_data.json, with "videos" and "sentences", and below it, in any folder, '
    "video7010.mp4 and so on"
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A video of a data set."""

    key: str
    """Its name within the set."""

    file: Path
    """Where it should lie."""

    label: str = ""
    """Its class, where there are classes."""

    captions: tuple[str, ...] = ()
    """What it shows, in the order of the set."""


@dataclass(frozen=True, kw_only=True)
class ClipRule:
    """How a clip is cut out of a video."""

    frames: int | None = 16
    """Of the clip; None: as many as there are."""

    stride: int = 1
    """Every so many-th frame, counted at `fps`."""

    fps: float | None = None
    """Frames per second at which the video is read, nearest frames; None: its own."""

    start: Start = "first"
    """At the first frame, or anywhere, drawn by hash of the key."""

    seed: int = 0
    """Of that draw."""

    height: int | None = None
    """In pixels; None: as it is."""

    width: int | None = None
    """In pixels; None: as it is."""

    resize: Resize = "squash"
    """`squash` ignores proportions; `crop` keeps them and cuts what is over, at the centre. Pillow's bicubic."""

    def __post_init__(self) -> None:
        given = [value for value in (self.frames, self.stride, self.fps) if value is not None]
        if min(given) <= 0:
            raise InputError(f"frames, stride and fps must be positive, got {self.frames}, {self.stride}, {self.fps}")
        if (self.height is None) != (self.width is None):
            raise InputError("height and width must be given together, or neither")

    @classmethod
    def of_real(cls, protocol: Protocol) -> "ClipRule":
        """How a protocol reads real videos."""
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
    def of_generated(cls, protocol: Protocol) -> "ClipRule":
        """How a protocol reads generated videos: from their first frame."""
        return dataclasses.replace(cls.of_real(protocol), start="first", seed=0)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip that could be read."""

    index: int
    """Place in the set."""

    key: str
    """Its name."""

    prompt: str
    """What it shows; empty where nothing is told."""

    frames: Frames
    """(F, H, W, 3), RGB."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A clip that could not be read, and why."""

    index: int
    """Place in the set."""

    key: str
    """Its name."""

    reason: str
    """What is wrong."""


@dataclass(frozen=True, kw_only=True)
class ClipSet:
    """Clips to be read one by one."""

    keys: tuple[str, ...]
    """Their names, unique."""

    read: Callable[[int], Frames]
    """Reads one by its place; raises MediaError or InputError."""

    fingerprint: str
    """Changes with what is read."""

    prompts: tuple[str, ...] = field(default=())
    """One for each, or none at all."""

    def __len__(self) -> int:
        return len(self.keys)

    def clips(self, places: range | None = None, *, workers: int = 0) -> Iterator[Clip | Rejected]:
        """Reads clips in order.

        Args:
            places: Which; None: all.
            workers: Threads that read ahead, while the caller computes.
        """
        chosen = range(len(self)) if places is None else places
        if workers < 1:
            yield from map(self._clip, chosen)
            return
        pool, ahead = ThreadPoolExecutor(workers), deque[Future[Clip | Rejected]]()
        try:
            for i in chosen:
                ahead.append(pool.submit(self._clip, i))
                if len(ahead) > 2 * workers:
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
    """Cuts a clip out of a video and resizes it.

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
            f"it has {len(video)} frames, and {count} with stride {rule.stride} at {rate:g} frames per second "
            f"need {offsets[-1] + 1}"
        )
    first = draw("start", rule.seed, key) % (spare + 1) if rule.start == "hash" else 0
    return resize_frames(video.frames[[first + offset for offset in offsets]], rule)


def resize_frames(frames: Frames, rule: ClipRule) -> Frames:
    """Brings frames (F, H, W, 3) to the rule's size."""
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
    """Reads the clip of a video, and no more of it than it takes.

    Raises:
        MediaError: The file is missing or damaged.
        InputError: It is too short.
    """
    most = None
    if rule.start == "first" and rule.frames is not None:
        last = (rule.frames - 1) * rule.stride
        most = last + 1 if rule.fps is None else math.ceil(last * _USUAL_MOST_FPS / rule.fps) + 1
    try:
        video = read_video(entry.file, max_frames=most)
        if most is not None and rule.fps is not None and len(video) == most and video.fps > _USUAL_MOST_FPS:
            video = read_video(entry.file)
        return cut_clip(video, rule, entry.key)
    except MediaError as error:
        raise MediaError(
            str(error).replace(str(entry.file.absolute()), entry.key).replace(str(entry.file), entry.key)
        ) from error


def file_clips(
    entries: Sequence[Entry], rule: ClipRule, *, prompts: Sequence[str] = (), with_times: bool = False
) -> ClipSet:
    """The clips of video files.

    Args:
        entries: The files.
        rule: How clips are cut.
        prompts: One for each, or none.
        with_times: The times of change count in the fingerprint, beside names and sizes.

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


def read_ucf101(folder: Path, split: str) -> list[Entry]:
    """The videos of UCF-101 (arXiv:1212.0402) in its official layout.

    Args:
        folder: Holds `UCF-101/` and `ucfTrainTestlist/`.
        split: `train01` to `train03`, `test01` to `test03`, or `all`.

    Returns:
        Videos by name; those that a list names and that are not there are rejected when they are read.

    Raises:
        InputError: Another layout, or no such split.
    """
    videos, lists = folder / "UCF-101", folder / "ucfTrainTestlist"
    if not videos.is_dir() or (split != "all" and not lists.is_dir()):
        raise _wrong_layout(folder, "UCF-101", _UCF101_LAYOUT)
    if split == "all":
        paths = sorted(str(f.relative_to(videos).as_posix()) for f in videos.glob("*/*.avi"))
    else:
        listed = lists / f"{split[:-2]}list{split[-2:]}.txt"
        if not listed.is_file():
            raise InputError(
                f"split: UCF-101 has no {split!r} here ({listed} is missing); splits are train01, test01, all"
            )
        paths = sorted(line.split()[0] for line in listed.read_text(encoding="utf-8").splitlines() if line.strip())
    if not paths:
        raise _wrong_layout(folder, "UCF-101", _UCF101_LAYOUT)
    return [Entry(key=path, file=videos / path, label=path.split("/")[0]) for path in paths]


def read_msrvtt(folder: Path, split: str) -> list[Entry]:
    """The videos of MSR-VTT (Xu et al., CVPR 2016) with their captions.

    Args:
        folder: Holds a JSON file with "videos" and "sentences", and the videos in any folder.
        split: `train`, `validate`, `test` or `all`.

    Returns:
        Videos by name; those that are listed and not there are rejected when they are read.

    Raises:
        InputError: Another layout, no such split, or a video without caption.
    """
    tables = _msrvtt_tables(folder)
    if not tables:
        raise _wrong_layout(folder, "MSR-VTT", _MSRVTT_LAYOUT)
    found = {f.stem: f for f in sorted(folder.rglob("*")) if f.suffix.lower() in VIDEO_SUFFIXES}
    captions: dict[str, list[tuple[int, str]]] = {}
    chosen: set[str] = set()
    for table in tables:
        names = {str(v["video_id"]) for v in table["videos"] if split in ("all", v.get("split"))} - chosen
        for sentence in table["sentences"]:
            if (name := str(sentence["video_id"])) in names:
                captions.setdefault(name, []).append((int(sentence.get("sen_id", 0)), str(sentence["caption"])))
        chosen |= names
    if not chosen:
        raise InputError(f"split: the MSR-VTT in {folder} has no videos of {split!r}; splits are train, validate, test")
    if bare := sorted(chosen - set(captions)):
        raise InputError(f"{bare[0]} of the MSR-VTT in {folder} has no sentence; get the JSON file again")
    return [
        Entry(
            key=name,
            file=found.get(name, folder / f"{name}.mp4"),
            captions=tuple(text for _, text in sorted(captions[name], key=lambda pair: pair[0])),
        )
        for name in sorted(chosen, key=lambda name: (len(name), name))
    ]


def read_video_folder(folder: Path) -> list[Entry]:
    """All videos below a folder: files of any common format, and folders of PNG or JPEG frames.

    Raises:
        InputError: There is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds the videos")
    everything = sorted(folder.rglob("*"))
    files = [path for path in everything if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES]
    frames = {path.parent for path in everything if path.suffix.lower() in IMAGE_SUFFIXES} - {folder}
    entries = [Entry(key=path.relative_to(folder).as_posix(), file=path) for path in sorted([*files, *frames])]
    if not entries:
        raise InputError(f"{folder} holds no videos: neither files such as .mp4 nor folders of PNG frames")
    return entries


def choose_entries(entries: Sequence[Entry], count: int, seed: int) -> list[Entry]:
    """Draws some videos by hash, in the order of the set; 0: all.

    Raises:
        InputError: There are fewer.
    """
    if count == 0 or count == len(entries):
        return list(entries)
    if count > len(entries):
        raise InputError(f"references: {count} real videos are asked for, the split has {len(entries)}")
    kept = {entry.key for entry in sorted(entries, key=lambda entry: draw("reference", seed, entry.key))[:count]}
    return [entry for entry in entries if entry.key in kept]


def _fingerprint(entries: Sequence[Entry], with_times: bool) -> str:
    """Of names and sizes, so that a large set is recognised without reading it."""
    listed: list[list[Any]] = []
    for entry in entries:
        parts = sorted(entry.file.iterdir()) if entry.file.is_dir() else [entry.file]
        for part in parts:
            state = part.stat() if part.exists() else None
            size, time = (-1, 0) if state is None else (state.st_size, state.st_mtime_ns)
            listed.append([entry.key, part.name, size, *([time] if with_times else [])])
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _msrvtt_tables(folder: Path) -> list[dict[str, Any]]:
    """The JSON files of MSR-VTT, by name; other JSON files beside them are none of ours."""
    tables = []
    for file in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        if "videodatainfo" not in file.name and not file.name.startswith("MSRVTT"):
            continue
        try:
            table = read_json_object(file)
        except (OSError, ValueError) as error:
            raise InputError(f"{file} is no JSON file of MSR-VTT ({error}); get it again") from error
        if isinstance(table.get("videos"), list) and isinstance(table.get("sentences"), list):
            tables.append(table)
    return tables


def _wrong_layout(folder: Path, name: str, layout: str) -> InputError:
    if not folder.is_dir():
        return InputError(f"{folder} is not a folder; give the one of {name} with --data: {layout}")
    held = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    return InputError(f"{folder} is not the layout of {name}: expected {layout}; it holds {held}")
