"""A folder of videos with captions as a source of training clips.

The folder holds videos of any common format and one list of captions: `captions.jsonl`, a line such as
``{"file": "a.mp4", "caption": "a dog runs"}`` for each clip, or `captions.csv` with the columns file and caption.
"""

import csv
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from show1.data.clips import Vocabulary, frame_times
from show1.errors import InputError, MediaError
from show1.text.words import split_words


@dataclass(frozen=True, kw_only=True)
class ClipEntry:
    """A line of the list of captions."""

    file: Path
    """The video that the line names."""

    caption: str
    """Caption of the video."""

    where: str
    """Place of the line for messages, such as "captions.jsonl, line 3"."""


class ClipFolder:
    """A folder of videos as a `show1.data.clips.ClipSource`.

    A random part is taken from a video that is longer than a clip. Indices beyond the number of videos start over, with
    other parts. Frames are resized to cover the size that is asked for, and cropped at the centre.

    Args:
        folder: Holds the videos and `captions.jsonl` or `captions.csv`.
        num_frames: Number of frames of a clip at full frame rate.
        fps: Frame rate of a clip, per second.
        seed: Picks the parts of long videos.

    Raises:
        InputError: The list of captions is missing or faulty, or names a video that is not there.
    """

    clips_per_scene = 1

    def __init__(self, folder: str | Path, *, num_frames: int = 29, fps: float = 8.0, seed: int = 0) -> None:
        if num_frames < 1 or fps <= 0:
            raise InputError(f"num_frames and fps must be positive, got {num_frames} and {fps}")
        self.spec = str(folder)
        self.folder = Path(folder)
        self.entries = read_captions(self.folder)
        self.num_frames = num_frames
        self.fps = fps
        self.seed = seed

    @property
    def num_clips(self) -> int:
        """See `show1.data.clips.ClipSource.num_clips`: the number of videos."""
        return len(self.entries)

    @property
    def duration(self) -> float:
        """Time from the first frame of a clip to its last, in seconds."""
        return (self.num_frames - 1) / self.fps

    def caption(self, index: int, kind: Literal["clip", "image"] = "clip") -> str:
        """See `show1.data.clips.ClipSource.caption`; both kinds are the same here."""
        return self.entries[index % len(self.entries)].caption

    def vocabulary(self) -> Vocabulary:
        """See `show1.data.clips.ClipSource.vocabulary`: the words of the list of captions, sorted."""
        return Vocabulary(words=tuple(sorted({word for entry in self.entries for word in split_words(entry.caption)})))

    def clip(
        self, index: int, *, num_frames: int, height: int, width: int, frames: slice = slice(None)
    ) -> torch.Tensor:
        """See `show1.data.clips.ClipSource.clip`: (3, F, height, width).

        Raises:
            MediaError: The video cannot be decoded.
            InputError: The video is too short.
        """
        entry = self.entries[index % len(self.entries)]
        place = random.Random(f"clip {self.seed} {index}").random()
        times = self.duration * frame_times(num_frames)[frames]
        try:
            with av.open(str(entry.file)) as container:
                start = place * self._spare_seconds(container, entry)
                pictures = _decode_at(container, start + times, entry)
        except av.FFmpegError as error:
            raise _unreadable(entry, str(error)) from error
        return torch.stack([_fit(picture, height, width) for picture in pictures], dim=1)

    def _spare_seconds(self, container: Any, entry: ClipEntry) -> float:
        """Seconds by which a video is longer than a clip."""
        length = _length(container, entry)
        if length < self.duration:
            raise InputError(
                f"{entry.file} ({entry.where}) lasts {length:.2f} s, but {self.num_frames} frames at {self.fps:g} "
                f"frames per second need {self.duration:.2f} s; use a longer video, fewer frames or a higher fps"
            )
        return max(length - self.duration - 1 / _frame_rate(container.streams.video[0]), 0.0)


def read_captions(folder: Path, *, frame_folders: bool = False) -> list[ClipEntry]:
    """Reads a folder's list of captions and checks that every video is there.

    Args:
        folder: Holds the videos and the list.
        frame_folders: Whether a video may also be a folder of frames.

    Raises:
        InputError: The folder, the list, a field or a video is missing, or the list cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds the videos and captions.jsonl")
    lists = [folder / name for name in ("captions.jsonl", "captions.csv") if (folder / name).exists()]
    if len(lists) != 1:
        found = "both captions.jsonl and captions.csv" if lists else "neither captions.jsonl nor captions.csv"
        raise InputError(
            f"{folder} holds {found}; keep one list, with a file and a caption for each video, "
            'such as the line {"file": "a.mp4", "caption": "a dog runs"} of captions.jsonl'
        )
    rows = _jsonl_rows(lists[0]) if lists[0].suffix == ".jsonl" else _csv_rows(lists[0])
    try:
        entries = [_check_row(folder, row, f"{lists[0].name}, line {line}", frame_folders) for line, row in rows]
    except UnicodeDecodeError as error:
        raise InputError(f"{lists[0]} is not UTF-8 text ({error}); save it as UTF-8") from error
    if not entries:
        raise InputError(f"{lists[0]} lists no videos; write one line for each video")
    return entries


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                raise InputError(
                    f"{path}, line {line} is not JSON ({error}); write one object per line, such as "
                    '{"file": "a.mp4", "caption": "a dog runs"}'
                ) from error
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {line} must be a JSON object with file and caption, got {text.strip()}")
            yield line, row


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        for name in ("file", "caption"):
            if name not in columns:
                raise InputError(
                    f"{path} has no column {name!r}, only {', '.join(columns) or 'an empty first line'}; "
                    "the first line must be: file,caption"
                )
        for row in reader:
            yield reader.line_num, dict(row)


def _check_row(folder: Path, row: dict[str, Any], where: str, frame_folders: bool) -> ClipEntry:
    for name in ("file", "caption"):
        value = row.get(name)
        if not isinstance(value, str) or not value.strip():
            raise InputError(
                f"{folder / where} has no text for {name!r}: got {value!r}; each line needs a file and a caption"
            )
    file = folder / row["file"].strip()
    if not file.is_file() and not (frame_folders and file.is_dir()):
        raise InputError(f"{folder / where} names {row['file']!r}, but {file} does not exist; add it or drop the line")
    return ClipEntry(file=file, caption=row["caption"].strip(), where=where)


def _unreadable(entry: ClipEntry, reason: str) -> MediaError:
    return MediaError(
        f"{entry.file} ({entry.where}) cannot be decoded: {reason}; replace the file, re-encode it, or drop the line"
    )


def _frame_rate(stream: Any) -> float:
    return float(stream.average_rate or stream.guessed_rate or 25)


def _length(container: Any, entry: ClipEntry) -> float:
    """Seconds that a video lasts: by its header, or by its packets where the header gives only the file's duration."""
    if not container.streams.video:
        raise _unreadable(entry, "it holds no video stream")
    stream = container.streams.video[0]
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    state = entry.file.stat()
    found = _length_of_packets(entry.file, state.st_size, state.st_mtime_ns)
    if found is None:
        raise _unreadable(entry, "it holds no frames with a time")
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


def _decode_at(container: Any, times: NDArray[np.float64], entry: ClipEntry) -> list[NDArray[np.uint8]]:
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
            entry, f"its frames end at {max(end - origin, 0):.2f} s, before its header says; the file is damaged"
        )
    return pictures + [_picture(shown)] * (len(wanted) - len(pictures))


def _picture(frame: Any) -> NDArray[np.uint8]:
    """A decoded frame as (H, W, 3) uint8 RGB, turned upright."""
    picture: NDArray[np.uint8] = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4)
    return picture


def _fit(picture: NDArray[np.uint8], height: int, width: int) -> torch.Tensor:
    """Resizes a picture to cover a size and crops its centre: (3, height, width) float32 in [-1, 1]."""
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    scale = max(height / image.shape[2], width / image.shape[3])
    size = (max(round(image.shape[2] * scale), height), max(round(image.shape[3] * scale), width))
    image = F.interpolate(image, size, mode="bilinear", antialias=True)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return image[:, top : top + height, left : left + width].clamp(-1, 1)
