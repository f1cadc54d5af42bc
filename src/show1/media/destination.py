"""The place of an output: checked before the work begins, and filled whole or not at all."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av

from show1.errors import InputError, OutputError, Show1Error
from show1.files import link_target, sha256_of_text, user_path
from show1.media.formats import choose_format

SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Image formats in which a contact sheet can be saved."""

FRAME_NAME = re.compile(r"\d{5,}\.png")
"""Names of the files in a folder of frames."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}


def probe_output(
    path: str | Path,
    overwrite: bool = False,
    *,
    codec: str | None = None,
    quality: int | None = None,
    size: tuple[int, int] | None = None,
    fps: float = 8.0,
) -> None:
    """Raises now what `write_video` would raise later; call it before a generation begins.

    Args:
        path: The video to be written.
        overwrite: Whether an existing file may be replaced.
        codec: One of the codecs of the container.
        quality: 0 (worst) to 100 (best).
        size: (height, width) of the video in pixels, if known.
        fps: Frames per second of the video.

    Raises:
        InputError: The suffix, codec, quality or size cannot be used.
        OutputError: The file exists, or its folder cannot be written.
    """
    output = choose_format(path, codec=codec, quality=quality)
    if size is not None:
        output.check_video(*size, fps)
    path = user_path(path)
    check_free(path, overwrite=overwrite, folder=not output.suffix)
    _check_folder(path)


def probe_sheet(path: str | Path, overwrite: bool = False) -> None:
    """Raises now what `save_sheet` would raise later.

    Args:
        path: The sheet to be saved.
        overwrite: Whether an existing file may be replaced.

    Raises:
        InputError: The suffix cannot be used.
        OutputError: The file exists, or its folder cannot be written.
    """
    path = user_path(path)
    if path.suffix.lower() not in SHEET_SUFFIXES:
        raise InputError(
            f"cannot write a contact sheet to {path}: the suffix must be one of {', '.join(SHEET_SUFFIXES)}"
        )
    check_free(path, overwrite=overwrite)
    _check_folder(path)


def check_free(path: Path, *, overwrite: bool, folder: bool = False) -> None:
    """Raises OutputError if something at `path` must not be replaced. A link stands for what it leads to.

    Args:
        path: The output.
        overwrite: Whether an existing output may be replaced.
        folder: The output is a folder of frames. An existing folder may be empty; with `overwrite` it may hold numbered
            frames, and nothing else, so that nobody loses other files.
    """
    target = link_target(path)
    if not os.path.lexists(path):
        return
    if not target.exists():
        if not overwrite:
            raise OutputError(
                f"{path} is a link to {target}, which does not exist: choose another name, or have the link's target "
                "written (--overwrite, or overwrite=True)"
            )
    elif folder and path.is_dir():
        names = os.listdir(path)
        if not all(FRAME_NAME.fullmatch(name) for name in names):
            raise OutputError(f"the folder {path} holds other files than numbered frames: choose another one")
        if names and not overwrite:
            raise OutputError(
                f"{path} holds frames already: choose another name, or overwrite it (--overwrite, or overwrite=True)"
            )
    elif folder or not path.is_file():
        wanted = "a folder" if folder else "a file"
        raise OutputError(f"{path} exists and is not {wanted}: choose another name")
    elif not overwrite:
        raise OutputError(
            f"{path} exists already: choose another name, or overwrite it (--overwrite, or overwrite=True)"
        )


@contextmanager
def replacing(path: Path, *, overwrite: bool, folder: bool = False) -> Iterator[Path]:
    """Gives a temporary path beside `path`, which replaces `path` when the block ends without an error.

    A link stays, and what it leads to is replaced. Missing parent folders are created. Whatever goes wrong, Ctrl-C
    included, the temporary file is removed and `path` stays as it was.

    Args:
        path: The output.
        overwrite: Whether an existing output may be replaced.
        folder: The output is a folder (already made when the block begins) rather than a file.

    Raises:
        OutputError: The output exists, or cannot be written.
    """
    target = link_target(path)
    partial = target.absolute().with_name(f"{_partial_prefix(target)}{secrets.token_hex(6)}.partial")
    with output_errors(path):
        check_free(path, overwrite=overwrite, folder=folder)
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            if folder:
                partial.mkdir()
                yield partial
                _replace_folder(partial, target)
            else:
                yield partial
                _flush_to_disk(partial)
                check_free(path, overwrite=overwrite)
                os.replace(partial, target)
        finally:
            _remove(partial)


def remove_partials(path: str | Path) -> None:
    """Removes what a process that was killed while it wrote an output has left beside it.

    Only for an output that no other process writes now.
    """
    target = link_target(user_path(path)).absolute()
    with suppress(OSError):
        for left in list(target.parent.glob(f"{_partial_prefix(target)}*.partial")):
            _remove(left)


def _partial_prefix(target: Path) -> str:
    """Begins the names of an output's temporary files: short, however long the output's name is."""
    return f".{sha256_of_text(target.name)[:12]}-"


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turns errors of the operating system and of FFmpeg into OutputError with a remedy."""
    try:
        yield
    except Show1Error:
        raise
    except (OSError, av.error.FFmpegError) as error:
        if error.errno in _NO_ROOM:
            message = f"no room left on the disk for {path}: free some space, or choose another folder"
        elif error.errno in _NO_PERMISSION:
            message = (
                f"no permission to write {path}: choose another folder, or change the permissions of {path.parent}"
            )
        elif error.errno in {errno.ENOTDIR, errno.EEXIST}:
            message = f"cannot write {path}: a part of its folder's name is a file; choose another folder"
        else:
            message = f"cannot write {path}: {error.strerror or error}; choose another name, folder or codec"
        raise OutputError(message) from error


def _check_folder(path: Path) -> None:
    """Writes a little file into the nearest existing folder above `path` and removes it."""
    target = link_target(path).absolute()
    folder = target.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    probe = folder / f"{_partial_prefix(target)}{secrets.token_hex(6)}.partial"
    with output_errors(path):
        try:
            probe.write_bytes(bytes(4096))
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    """Makes the file durable; some disks report only here that they are full."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _replace_folder(partial: Path, path: Path) -> None:
    """Moves the folder `partial` to `path`; if that fails, what was at `path` comes back."""
    if not path.exists():
        os.replace(partial, path)
        return
    former = partial.with_suffix(".former")
    os.replace(path, former)
    try:
        os.replace(partial, path)
    except OSError:
        os.replace(former, path)
        raise
    _remove(former)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
