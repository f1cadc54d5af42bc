"""Lists of captions: which videos and pictures a folder holds, and what they show.

A folder has one list, `captions.jsonl` or `captions.csv` with a file and a caption in each row, or `metadata.jsonl` or
`metadata.csv` with `file_name` and `text`, as Hugging Face has it. Otherwise each of its subfolders may have one.
Without any list, every video and picture in the folder and below is taken, with the text file beside it as its caption.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from show1.errors import InputError
from show1.files import check_regular
from show1.limits import MAX_PROMPT
from show1.media.pictures import frame_files
from show1.tables import opened_text, read_rows

LISTS = ("captions.jsonl", "captions.csv", "metadata.jsonl", "metadata.csv")
"""Names of lists; those of captions come before those of Hugging Face's metadata, which may be there as well."""

FILE_KEYS = ("file", "file_name")
"""Columns that may name the file."""

CAPTION_KEYS = ("caption", "text")
"""Columns that may hold the caption."""

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""Suffixes of files that are still pictures."""

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv"),
    *(".wmv", ".ogv", ".3gp", ".mxf", ".y4m", ".webp"),
)
"""Suffixes of files that are videos, or may be."""

_EXAMPLE = 'such as the line {"file": "a.mp4", "caption": "a dog runs"} of captions.jsonl'


@dataclass(frozen=True, kw_only=True)
class ClipEntry:
    """A video or picture with its caption."""

    file: Path
    """The file that holds it, or the folder of its frames."""

    caption: str | None
    """What it shows; None where nothing says so."""

    where: str
    """What names it, for messages, such as "captions.jsonl, line 3"."""

    @property
    def title(self) -> str:
        """The file and what names it, for messages."""
        return f"{self.file} ({self.where})"

    @property
    def suffix(self) -> str:
        """Suffix of the file, in lower case."""
        return self.file.suffix.lower()

    @property
    def is_picture(self) -> bool:
        """Whether it is a still picture."""
        return self.suffix in PICTURE_SUFFIXES

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Gives a file with the content, for as long as the block lasts."""
        yield self.file

    def sample(self) -> tuple[int, bytes]:
        """Gives the number of bytes of the content, and what `sampled` reads of it.

        Raises:
            ValueError: It is no ordinary file.
        """
        if not self.file.is_dir():
            total = check_regular(self.file)
            with self.file.open("rb") as file:
                return total, sampled(file, total)
        frames = []
        for frame in frame_files(self.file):
            total = frame.stat().st_size
            with frame.open("rb") as file:
                frames.append(f"{frame.name} {total} ".encode() + sampled(file, total))
        return len(frames), b"".join(frames)


def sampled(file: BinaryIO, total: int, start: int = 0) -> bytes:
    """Reads all of a content of up to 256 KiB, and of a larger one 16 evenly spaced pieces of 16 KiB, ends included.

    Args:
        file: The open file.
        total: Bytes of the content.
        start: Where it begins in the file.
    """
    pieces, size = (16, 1 << 14) if total > 1 << 18 else (1, total)
    content = []
    for piece in range(pieces):
        file.seek(start + piece * (total - size) // max(pieces - 1, 1))
        content.append(file.read(size))
    return b"".join(content)


def checked_caption(value: object, place: str) -> str | None:
    """Gives a caption without the blanks around it.

    Args:
        value: What a list or a file has for it; None where there is none.
        place: Where, for messages.

    Raises:
        InputError: It is not a text, too long, or cannot be written in UTF-8.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(f"{place} has no text for a caption: got {str(value)[:80]!r}; write the caption as text")
    if len(value) > MAX_PROMPT:
        raise InputError(f"{place} has a caption of more than {MAX_PROMPT:,} letters; shorten it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{place} holds half of a surrogate pair ({error}); write the character itself") from error
    return value.strip()


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """What a list may name, as for `read_captions`."""

    frame_folders: bool
    missing: bool


@contextmanager
def temporary(content: bytes | memoryview, suffix: str) -> Iterator[Path]:
    """Keeps content in a temporary file, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="show1-") as folder:
        file = Path(folder) / f"clip{suffix}"
        file.write_bytes(content)
        yield file


def find_list(folder: Path) -> Path | None:
    """Finds the list of captions of a folder; None if it has none.

    Raises:
        InputError: It has two.
    """
    for names in (LISTS[:2], LISTS[2:]):
        found = [folder / name for name in names if os.path.lexists(folder / name)]
        if len(found) > 1:
            raise InputError(f"{folder} holds both {names[0]} and {names[1]}; keep one list")
        if found:
            return found[0]
    return None


def read_captions(folder: Path, *, frame_folders: bool = False, missing: bool = False) -> list[ClipEntry]:
    """Reads what a folder holds.

    Args:
        folder: The folder.
        frame_folders: Whether a video may also be a folder of frames.
        missing: Whether a list may name files that are not there.

    Returns:
        The rows of its list or lists in their order; without a list, its videos and pictures by name.

    Raises:
        InputError: No such folder, nothing in it, or a list that is faulty or names a file that is not there.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds the videos and captions.jsonl")
    own = find_list(folder)
    lists = [own] if own else [found for below, _ in _walk(folder) if (found := find_list(below))]
    if not lists:
        return _without_list(folder)
    rules = _Rules(frame_folders=frame_folders, missing=missing)
    entries = [entry for path in lists for entry in _read_list(path, folder, rules)]
    if not entries:
        raise InputError(f"{lists[0]} lists no videos; write one line for each video")
    return entries


def _walk(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    """The folder and those below it, also behind links, with their files; hidden ones are left out."""
    seen = set[str]()
    for name, folders, files in os.walk(folder, followlinks=True):
        here = os.path.realpath(name)
        folders[:] = sorted(each for each in folders if not each.startswith(".") and here not in seen)
        if here not in seen:
            yield Path(name), [Path(name) / each for each in files if not each.startswith(".")]
        seen.add(here)


def _without_list(folder: Path) -> list[ClipEntry]:
    files = sorted(
        path
        for _, found in _walk(folder)
        for path in found
        if path.suffix.lower() in (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES) and (path.is_file() or path.is_symlink())
    )
    if not files:
        raise InputError(
            f"{folder} holds neither a list of captions nor videos or pictures; give a folder of them, with a text "
            f"file beside each, or with one list, {_EXAMPLE}"
        )
    return [_beside(file) for file in files]


def _beside(file: Path) -> ClipEntry:
    text = file.with_suffix(".txt")
    if not os.path.lexists(text):
        return ClipEntry(file=file, caption=None, where=f"no {text.name}")
    with opened_text(text) as opened:
        caption = opened.read(MAX_PROMPT + 1)
    return ClipEntry(file=file, caption=checked_caption(caption, str(text)), where=text.name)


def _read_list(path: Path, folder: Path, rules: _Rules) -> Iterator[ClipEntry]:
    keys: tuple[str, str] | None = None
    for line, row in read_rows(path):
        keys = keys or _keys(path, line, row)
        yield _entry(row, keys, path, f"{path.relative_to(folder)}, line {line}", f"{path}, line {line}", rules)


def _keys(path: Path, line: int, row: dict[str, Any]) -> tuple[str, str]:
    """The keys of the file and of the caption, by the first row of a list."""
    file, caption = (next((key for key in keys if key in row), keys[0]) for keys in (FILE_KEYS, CAPTION_KEYS))
    for key in (file, caption) if path.suffix == ".csv" else (file,):
        if key not in row:
            raise InputError(
                f"{path}, line {line} has no {key!r}, only {', '.join(map(repr, row)) or 'nothing'}; each row needs a "
                f"file and a caption, {_EXAMPLE}"
            )
    return file, caption


def _entry(row: dict[str, Any], keys: tuple[str, str], path: Path, where: str, place: str, rules: _Rules) -> ClipEntry:
    name, caption = (row.get(key) for key in keys)
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{place} has no text for {keys[0]!r}: got {name!r}; each line needs a file and a caption")
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in name):
        raise InputError(f"{place} names {name!r}, which no file can be called; write its name")
    caption = checked_caption(caption, place)
    file = path.parent / name.strip()
    there = rules.missing or os.path.isfile(file) or (rules.frame_folders and os.path.isdir(file))
    if not there:
        raise InputError(f"{place} names {name!r}, but {file} does not exist; add it or drop the line")
    return ClipEntry(file=file, caption=caption, where=where)
