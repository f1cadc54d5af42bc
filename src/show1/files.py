"""Files that are written whole or not at all, their hashes, and the cache folder."""

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from show1.errors import InputError, OutputError, RunError
from show1.limits import MAX_JSON_BYTES, MAX_JSON_DEPTH

if TYPE_CHECKING:
    from torch import Tensor


def user_path(path: str | os.PathLike[str], name: str = "path") -> Path:
    """A path that a user gave, on the command line or in Python, with `~` and `~user` replaced by the home folder.

    Args:
        path: What the user gave.
        name: What messages call it.

    Raises:
        InputError: It is no path, or an empty one.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(text := os.fspath(path), bytes):
        raise InputError(f"{name} must be a path, got {path!r}")
    if not text.strip() or "\0" in text:
        raise InputError(f"{name} must be a path, got {text!r}; give the name of a file or folder")
    return Path(os.path.expanduser(text))


def link_target(path: Path) -> Path:
    """Returns the file to write at a path: where it is a link, what the link leads to, even if that does not exist yet.

    Raises:
        OutputError: The link leads to itself, or to a device or pipe, which a file must not replace.
    """
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OutputError(f"{path} is a link that leads to itself; remove it, or choose another name")
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise OutputError(f"{path} is a link to {target}, which is no ordinary file; remove it, or choose another name")
    return target


def check_no_links(folder: Path) -> None:
    """Makes sure that what is written into a folder stays there: a stranger's may hold links to files of the user.

    Args:
        folder: A folder whose files this package writes; it may be missing, or a link itself.

    Raises:
        RunError: A file or folder in it is a link, or a pipe or device, which may never end.
    """
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            mode = file.lstat().st_mode
        except FileNotFoundError:  # another process has moved it into its place
            continue
        if stat.S_ISLNK(mode):
            raise RunError(f"{file} is a link, through which other files could be changed; put what it leads to there")
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise RunError(f"{file} is a pipe or a device, and no ordinary file; remove it")


def cache_dir() -> Path:
    """Returns the folder for what can be computed again: `SHOW1_CACHE`, otherwise in the system's folder for caches."""
    if chosen := os.environ.get("SHOW1_CACHE"):
        return user_path(chosen, "SHOW1_CACHE")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "show1"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "show1" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "show1"


def write_atomically(path: Path, write: Callable[[Path], object], *, mode: int = 0o666) -> None:
    """Lets `write` fill a temporary file beside `path`, makes it durable and moves it into place.

    Where `path` is a link, the file that it leads to is written. A crash at any moment leaves the old file or the new
    one, never a part of it.

    Args:
        path: The file.
        write: Fills the temporary file.
        mode: Who may read and write it, unless the process's umask forbids it.

    Raises:
        OutputError: No permission, or the disk is full; nothing is left behind.
    """
    partial: Path | None = None
    path = link_target(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(handle)
        partial = Path(name)
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.chmod(mode & ~_umask())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically.

    Raises:
        OutputError: No permission, or the disk is full.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Writes a text file atomically, in UTF-8; see `write_atomically`.

    Raises:
        OutputError: No permission, or the disk is full.
    """
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"), mode=mode)


def check_regular(path: Path, most: int | None = None) -> int:
    """Makes sure that a path is an ordinary file, because opening a pipe or a device may never end.

    Args:
        path: The file, or a link to it.
        most: Largest size in bytes; None: any.

    Returns:
        Its size in bytes. No more should be read, because files of the system have content but no size.

    Raises:
        ValueError: It is a folder, a pipe or a device, or too large.
        OSError: There is no such file.
    """
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is not an ordinary file")
    if most is not None and state.st_size > most:
        raise ValueError(f"it has {state.st_size:,} bytes, and at most {most:,} are read")
    return state.st_size


def parse_json(text: str | bytes) -> Any:
    """Reads JSON of limited size and depth.

    Raises:
        ValueError: It is no JSON, too large or nested too deep.
    """
    if len(text) > MAX_JSON_BYTES:
        raise ValueError(f"it has {len(text):,} bytes, and at most {MAX_JSON_BYTES:,} are read")
    deep = ValueError(f"its lists and mappings are nested deeper than {MAX_JSON_DEPTH} times")
    try:
        value = json.loads(text)
    except RecursionError:
        raise deep from None
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        groups = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [each for group in groups for each in group if isinstance(each, dict | list)]
        if not level:
            return value
    raise deep


def read_json_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object of limited size and depth.

    Raises:
        ValueError: The file is not an ordinary one, or does not hold such a JSON object.
        OSError: The file cannot be read.
    """
    size = check_regular(path, MAX_JSON_BYTES)
    with path.open("rb") as file:
        value = parse_json(file.read(size).decode("utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    return value


def write_tensors(path: Path, tensors: "dict[str, Tensor]", metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file atomically, with metadata in its header.

    Args:
        path: The file.
        tensors: Tensors of any shape, by name.
        metadata: Texts for the header.

    Raises:
        OutputError: No permission, or the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    def write(partial: Path) -> None:
        try:
            save_file(tensors, partial, metadata)
            if metadata:
                _sort_header(partial)
        except SafetensorError as error:  # how the library reports a full disk: "... (os error 28)"
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error

    write_atomically(path, write)


def sha256(path: Path) -> str:
    """Returns the hash of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """Returns the hash of a text in UTF-8, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def cached_sha256(path: Path) -> str:
    """Returns the hash of a large file's bytes, which is remembered by path, size and time of change.

    In the Hugging Face cache, the name of a file is its hash already.
    """
    real = path.resolve()
    if real.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", real.name):
        return real.name
    state = real.stat()
    if state.st_size < 1 << 20:
        return sha256(real)
    key = hashlib.sha256(f"{real}\n{state.st_size}\n{state.st_mtime_ns}".encode()).hexdigest()
    entry = cache_dir() / "hashes" / key
    with contextlib.suppress(OSError, ValueError):
        check_regular(entry, most=64)
        known = entry.read_text()
        if re.fullmatch(r"[0-9a-f]{64}", known):
            return known
    digest = sha256(real)
    with contextlib.suppress(OutputError):  # a cache that cannot be written costs time, not the run
        write_text(entry, digest)
    return digest


def _sort_header(file: Path) -> None:
    """Sorts the header, which safetensors writes in random order, so that the same content gives the same bytes."""
    with file.open("rb+") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
        text = json.dumps(header, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= size:
            opened.seek(8)
            opened.write(text.ljust(size))


_UMASK = threading.Lock()


def _umask() -> int:
    with _UMASK:  # it can be read only by changing it
        mask = os.umask(0o022)
        os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
