"""WebDataset shards as a source of training clips: tar files that hold videos or pictures and their captions.

The files of a sample follow one another and have one name with several suffixes, such as `000017.mp4` and `000017.txt`;
a caption is in `.txt`, or in `.json` under `caption` or `text`. Nothing is unpacked: an index of each shard, made from
its headers, tells where a sample's bytes are. So any clip can be read at any time, and a run has the same clips in the
same order on any number of processes and after it resumes.
"""

import glob
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from show1.data.captions import (
    CAPTION_KEYS,
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    ClipEntry,
    checked_caption,
    find_list,
    sampled,
    temporary,
)
from show1.data.media_clips import MediaClips
from show1.data.options import DataOptions
from show1.errors import InputError
from show1.files import check_regular, parse_json
from show1.limits import MAX_JSON_BYTES

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_SHARDS = 100_000


@dataclass(frozen=True, kw_only=True)
class ShardEntry(ClipEntry):
    """A video or picture inside a shard."""

    shard: Path
    """The shard; `file` adds its name inside the shard, for messages."""

    start: int
    """Number of bytes of the shard before it."""

    size: int
    """Number of its bytes."""

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """See `ClipEntry.opened`: a temporary file."""
        with self.shard.open("rb") as shard:
            shard.seek(self.start)
            content = shard.read(self.size)
        with temporary(content, self.suffix) as file:
            yield file

    def sample(self) -> tuple[int, bytes]:
        """See `ClipEntry.sample`."""
        with self.shard.open("rb") as shard:
            return self.size, sampled(shard, self.size, self.start)


class ShardClips(MediaClips):
    """WebDataset shards as a `show1.data.clips.ClipSource`.

    Args:
        shards: A pattern with ranges, such as `shards/{000..010}.tar`, or with `*`; or a folder of tar files.
        options: Frames and frame rate of a clip, and what to do with bad ones.
        seed: Picks the parts of long videos.

    Raises:
        InputError: There are no such shards, or one cannot be read.
    """

    def __init__(self, shards: str | Path, *, options: DataOptions | None = None, seed: int = 0) -> None:
        pattern = str(Path(shards).expanduser().absolute())
        files = list_shards(pattern)
        with ThreadPoolExecutor() as pool:
            entries = [entry for found in pool.map(_index, files) for entry in found]
        if not entries:
            raise InputError(f"{pattern} holds no videos or pictures; a sample is, for example, 0001.mp4 and 0001.txt")
        super().__init__(entries, spec=pattern, options=options or DataOptions(), seed=seed)


def names_shards(data: str) -> bool:
    """Whether data are shards: tar files, a pattern of them, or a folder that holds them and no list of captions."""
    if data.lower().endswith(".tar"):
        return True
    folder = Path(data).expanduser()
    return folder.is_dir() and any(folder.glob("*.tar")) and find_list(folder) is None


def list_shards(pattern: str) -> list[Path]:
    """Lists the shards of a pattern or a folder in the order of their names.

    Raises:
        InputError: There are none, or one of a range is missing.
    """
    if Path(pattern).is_dir():
        return sorted(Path(pattern).glob("*.tar"))
    names = _expanded(pattern)
    if not _RANGE.search(pattern) and not Path(pattern).is_file():
        names = sorted(glob.glob(pattern))
    if not names:
        raise InputError(
            f"there is no shard {pattern}; name tar files, such as shards/{{000..010}}.tar or shards/*.tar"
        )
    return [Path(name) for name in names]


def _expanded(pattern: str) -> list[str]:
    """Replaces ranges such as {000..010} by their numbers."""
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last = found[1], found[2]
    if not 0 <= int(last) - int(first) < _MAX_SHARDS:
        raise InputError(f"the range {found[0]} of {pattern} must ascend, over at most {_MAX_SHARDS:,} shards")
    numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [name for number in numbers for name in _expanded(pattern.replace(found[0], number, 1))]


def _index(shard: Path) -> list[ShardEntry]:
    """Lists the videos and pictures of a shard with their captions."""
    try:
        check_regular(shard)
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            return [entry for entry in (_entry(shard, tar, sample) for sample in _samples(shard, tar)) if entry]
    except (OSError, ValueError, tarfile.TarError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{shard} cannot be read as a tar file ({error}); get it again, or leave it out") from error


def _samples(shard: Path, tar: tarfile.TarFile) -> Iterator[dict[str, tarfile.TarInfo]]:
    """The files of each sample by their suffixes."""
    key, files = "", dict[str, tarfile.TarInfo]()
    for member in tar:
        folder, slash, name = member.name.rpartition("/")
        stem, _, suffixes = name.partition(".")
        if not member.isreg() or member.issparse() or name.startswith((".", "__")):
            continue
        if folder + slash + stem != key:
            yield files
            key, files = folder + slash + stem, {}
        if suffixes.lower() in files:
            raise InputError(f"{shard} holds {member.name} twice; give each sample a name of its own")
        files[suffixes.lower()] = member
    yield files


def _entry(shard: Path, tar: tarfile.TarFile, sample: dict[str, tarfile.TarInfo]) -> ShardEntry | None:
    """The video of a sample, or else its picture; None without either."""
    by_kind = {kind: suffixes for suffixes in reversed(sample) for kind in ["." + suffixes.rpartition(".")[2]]}
    kind = next((kind for kind in (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES) if kind in by_kind), None)
    if kind is None:
        return None
    medium, caption = sample[by_kind[kind]], None
    for suffix in ("json", "txt"):
        if suffix in sample:
            text = _read(tar, sample[suffix])
            place = f"{shard}, {sample[suffix].name}"
            try:
                value = parse_json(text) if suffix == "json" else text.decode("utf-8-sig")
            except ValueError as error:
                raise InputError(f"{place} cannot be read ({error}); write the shard again") from error
            if isinstance(value, dict):
                value = next((value[key] for key in CAPTION_KEYS if key in value), caption)
            caption = checked_caption(value, place)
    return ShardEntry(
        file=shard / medium.name,
        caption=caption,
        where=shard.name,
        shard=shard,
        start=medium.offset_data,
        size=medium.size,
    )


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > MAX_JSON_BYTES:
        raise ValueError(f"{member.name} has {member.size:,} bytes, and at most {MAX_JSON_BYTES:,} are read")
    file = tar.extractfile(member)
    assert file is not None, "an ordinary file has content"
    return file.read()
