"""Lists of captions: which videos a folder holds, and what they show."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from show1.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ClipEntry:
    """A line of the list of captions."""

    file: Path
    """The video that the line names."""

    caption: str
    """Caption of the video."""

    where: str
    """Place of the line for messages, such as "captions.jsonl, line 3"."""


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
