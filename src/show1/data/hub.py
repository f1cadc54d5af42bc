"""Data sets of Hugging Face's `datasets` as a source of training clips: on this disk, or on the Hub."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from show1.data.captions import CAPTION_KEYS, FILE_KEYS, ClipEntry, checked_caption, sampled, temporary
from show1.data.media_clips import MediaClips
from show1.data.options import DataOptions
from show1.errors import InputError, MissingDependencyError
from show1.tables import read_rows

PREFIX = "hf:"
"""What begins the name of such data."""

_KEYS = ("split", "config", "video", "caption")


@dataclass(frozen=True, kw_only=True)
class HubEntry(ClipEntry):
    """A row of a data set."""

    rows: Any
    """The column of videos, a `datasets.Dataset` that gives Arrow tables."""

    row: int
    """Number of the row, from 0."""

    picture: bool
    """Whether the column holds pictures."""

    @property
    def title(self) -> str:
        """See `ClipEntry.title`: with the path that the row has, if any."""
        path = self._cell()[1]
        return f"{self.file} ({self.where}{f', {path}' if path else ''})"

    @property
    def is_picture(self) -> bool:
        """See `ClipEntry.is_picture`: as the data set says."""
        return self.picture

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """See `ClipEntry.opened`: the file that the row names, or a temporary one."""
        content, path = self._cell()
        if content is None:
            yield Path(path or "")
            return
        with temporary(content, Path(path or "").suffix) as file:
            yield file

    def sample(self) -> tuple[int, bytes]:
        """See `ClipEntry.sample`."""
        content, path = self._cell()
        if content is None:
            return ClipEntry(file=Path(path or ""), caption=None, where=self.where).sample()
        return len(content), sampled(io.BytesIO(content), len(content))

    def _cell(self) -> tuple[memoryview | None, str | None]:
        """The bytes of the row, which are not copied, and its path; either may be missing."""
        cell = self.rows[self.row : self.row + 1].column(0)[0]
        if not hasattr(cell, "as_buffer"):  # a video or an image: bytes and path
            content = cell["bytes"].as_buffer()
            return None if content is None else memoryview(content), cell["path"].as_py()
        value = cell.as_py() if cell.type in ("string", "large_string") else None
        return (None, value) if isinstance(value, str) else (memoryview(cell.as_buffer() or b""), None)


class HubClips(MediaClips):
    """A data set of Hugging Face's `datasets` as a `show1.data.clips.ClipSource`.

    Args:
        name: A folder (of `save_to_disk`, of Parquet files, or of videos), or an id of the Hub; then perhaps a colon
            and `split=...`, `config=...`, `video=...` or `caption=...`, separated by commas, for the split, the
            configuration and the columns.
        options: Frames and frame rate of a clip, and what to do with bad ones.
        seed: Picks the parts of long videos.

    Raises:
        InputError: There is no such data set, split or column.
        MissingDependencyError: The package `datasets` is not installed.
    """

    def __init__(self, name: str, *, options: DataOptions | None = None, seed: int = 0) -> None:
        name, chosen = _parsed(name)
        folder = Path(name).expanduser()
        name = str(folder.absolute()) if folder.is_dir() else name
        choices = ",".join(f"{key}={chosen[key]}" for key in _KEYS if key in chosen)
        spec = f"{PREFIX}{name}:{choices}" if choices else f"{PREFIX}{name}"
        if folder.is_dir():
            _check_lists(folder)
        rows = _load(name, chosen, spec)
        video = _column(rows.column_names, chosen.get("video"), _media_columns(rows), "videos or pictures", spec)
        assert video is not None
        caption = _column(rows.column_names, chosen.get("caption"), [*CAPTION_KEYS, "prompt"], None, spec)
        picture = type(rows.features[video]).__name__ == "Image"
        tables = rows.with_format("arrow")
        media = tables.select_columns([video])
        texts = [None] * len(rows) if caption is None else tables.select_columns([caption])[:].column(0).to_pylist()
        entries = [
            HubEntry(
                file=Path(spec),
                caption=checked_caption(text, f"{spec}, row {row}"),
                where=f"row {row}",
                rows=media,
                row=row,
                picture=picture,
            )
            for row, text in enumerate(texts)
        ]
        super().__init__(entries, spec=spec, options=options or DataOptions(), seed=seed)
        ignored = next((each for each in ("captions.jsonl", "captions.csv") if (folder / each).is_file()), None)
        if caption is None and ignored is not None:
            self.captions_hint = (
                f"; {PREFIX} reads captions only from metadata.csv or metadata.jsonl: to have those of {ignored}, name "
                f"the folder without {PREFIX}"
            )


def _parsed(name: str) -> tuple[str, dict[str, str]]:
    """The name of a data set, and what is chosen of it."""
    before, _, after = name.rpartition(":")
    if not before or "=" not in after:
        return name, {}
    chosen = {key: value for key, _, value in (text.partition("=") for text in after.split(","))}
    if wrong := next((key for key, value in chosen.items() if key not in _KEYS or not value), None):
        raise InputError(f"data: {wrong!r} of {PREFIX}{name} is not one of {', '.join(f'{key}=...' for key in _KEYS)}")
    return before, chosen


def _check_lists(folder: Path) -> None:
    """Reads the CSV lists of a folder strictly, since pandas, which reads them next, lets open quotes swallow rows."""
    for path in sorted(folder.rglob("metadata.csv")):
        for _ in read_rows(path):
            pass


def _load(name: str, chosen: dict[str, str], spec: str) -> Any:
    """The rows of a split."""
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(f"{error}; install the data extra: pip install 'show1[data]'") from error
    try:
        saved = any((Path(name) / file).is_file() for file in ("state.json", "dataset_dict.json"))
        found = datasets.load_from_disk(name) if saved else datasets.load_dataset(name, chosen.get("config"))
    except Exception as error:  # of the Hub, of files, of Arrow: any kind
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"{spec} cannot be opened ({type(error).__name__}: {reason}); name a folder or a data set of the Hub"
        ) from error
    if not isinstance(found, datasets.DatasetDict):
        return found
    split = chosen.get("split") or ("train" if "train" in found or len(found) > 1 else next(iter(found)))
    if split not in found:
        raise InputError(f"{spec} has no split {split!r}; its splits are {', '.join(found)} (add :split=NAME)")
    return found[split]


def _media_columns(rows: Any) -> list[str]:
    """The columns that hold videos or pictures, the likely ones first."""
    kinds = {name: type(feature).__name__ for name, feature in rows.features.items()}
    typed = [name for kind in ("Video", "Image") for name, its in kinds.items() if its == kind]
    return [*typed, *(name for name in ("video", "image", *FILE_KEYS) if kinds.get(name) == "Value")]


def _column(
    names: Sequence[str], asked: str | None, likely: Sequence[str], needed: str | None, spec: str
) -> str | None:
    """Chooses a column: the one asked for, or the first likely one."""
    found = next((name for name in ([asked] if asked else likely) if name in names), None)
    if found is None and (asked or needed):
        what = f"no column {asked!r}" if asked else f"no column of {needed}"
        raise InputError(f"{spec} has {what}, only {', '.join(names)}; name one with :video=NAME or :caption=NAME")
    return found
