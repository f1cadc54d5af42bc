"""The files of machines that share no disk: a place that fsspec knows, such as a bucket of S3, keeps what all must see.

Each machine has a folder of copies. Whoever reads a file fetches it first, and whoever has written one publishes it.
The manifest of a run goes last, and says the hash of each artefact, so that a worker that dies between two files leaves
nothing that another one would take for finished.
"""

import contextlib
import logging
import math
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from show1.errors import InputError, MissingDependencyError, reason_of
from show1.files import write_text
from show1.generation.manifest import MANIFEST
from show1.server.store import Store, StoreError

logger = logging.getLogger(__name__)

T = TypeVar("T")

SECONDS_BETWEEN_NEWS = 1.0
"""How often the progress of a running stage is published."""
SECONDS_UNTIL_FORGOTTEN = 3600.0
"""Copies of a job that nobody has used for so long are removed."""
WORKING = ".working"
"""A file in the folder of a job, which is locked while a worker of this machine writes there."""
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds that a worker waits before it tries again, while the store is away."""
_MARKS = ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "last_modified", "updated", "created")
"""What file systems say of a file that changes with its content, the best first."""


@dataclass
class _Known:
    """A file as it was when it was last fetched or published."""

    here: tuple[int, int]
    """Its time of change and size on this machine."""
    there: str
    """Its mark in the store."""


class RemoteStore(Store):
    """A store at a URL of fsspec. Its methods may be called from several threads."""

    def __init__(self, url: str, copies: Path) -> None:
        """Opens it.

        Args:
            url: Such as `s3://bucket/show1`.
            copies: The folder of copies, which holds nothing else.

        Raises:
            InputError: It is no such URL.
            MissingDependencyError: fsspec needs another package for it.
        """
        from fsspec.core import url_to_fs

        if "://" not in url:  # fsspec would take it for a folder of this machine
            raise InputError(f"--store {url!r} is no URL; give one, such as s3://bucket/show1 or file:///mnt/show1")
        try:
            self._fs, root = url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise MissingDependencyError(f"--store needs another package: {error}") from error
        except Exception as error:
            reason = reason_of(error)
            raise InputError(f"--store cannot be used: {reason}; give a URL, such as s3://bucket/show1") from error
        # Those whose `mv` puts a file in another one's place at once.
        self._renames = bool({"file", "sftp"} & set(_names(self._fs.protocol)))
        self._root, self._copies = root.rstrip("/"), copies
        self._known: dict[Path, _Known] = {}
        self._looked: dict[Path, float] = {}
        self._busy: dict[Path, threading.Lock] = {}
        self._working: set[Path] = set()
        self._probing = threading.Lock()
        self._swept = time.monotonic()

    def check(self) -> None:
        """See `Store`."""
        sign = self._copies / "show1.txt"
        try:
            self.fetch(sign)
            if not sign.exists():
                write_text(sign, "Files of servers and workers of show1 (docs/serve.md).\n")
                self._publish_one(sign)
        except OSError as error:
            reason = reason_of(error.__cause__ or error)
            raise InputError(f"--store cannot be used: {reason}; check the URL, and who may write there") from error

    def fetch(self, path: Path, *, age: float = 0.0) -> None:
        """See `Store`."""
        with self._looking(path, age) as due:
            if due:
                try:
                    self._fetch_one(path, self._do(self._fs.info, self._key(path)))
                except FileNotFoundError:
                    self._drop(path)

    def fetch_folder(self, path: Path, *, age: float = 0.0) -> None:
        """See `Store`."""
        with self._looking(path, age) as due:
            if due:
                self._fetch_all(path, begun=path not in self._looked)

    def publish(self, path: Path) -> None:
        """See `Store`."""
        for file in [path] if path.is_file() else _files(path):
            try:
                self._publish_one(file)
            except FileNotFoundError as error:
                if file.exists():  # else it is gone by now
                    raise self._failed(error) from error
        for file in self._known_in(path):
            if not file.exists():
                self._remove_there(file)
                self._known.pop(file, None)

    def remove(self, path: Path) -> None:
        """See `Store`."""
        self._remove_there(path)
        super().remove(path)
        for file in self._known_in(path):
            self._known.pop(file, None)

    @contextmanager
    def working(self, path: Path) -> Iterator[None]:
        """See `Store`."""
        with self._held(path):
            self._patiently(self.fetch_folder, path)
            with self._telling(path):
                yield
            self._patiently(self.publish, path)

    @contextmanager
    def _telling(self, job: Path) -> Iterator[None]:
        """Publishes the progress of a job whenever some time has passed in the block."""
        ended = threading.Event()

        def tell() -> None:
            while not ended.wait(SECONDS_BETWEEN_NEWS):
                _touch(job)  # a single step may take longer than a copy is kept
                with contextlib.suppress(StoreError):
                    for file in job.glob("[!.]*.*"):  # not the run folder, whose files belong together
                        self.publish(file)

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @contextmanager
    def _held(self, job: Path) -> Iterator[None]:
        """Keeps other processes of this machine from replacing by older files what the worker writes in its block."""
        lock = FileLock(job / WORKING, timeout=1)
        try:
            job.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except (Timeout, OSError):  # one that has lost the job still ends its step, or what follows says what is wrong
            logger.info("another worker still writes %s", job)
        self._working.add(job)
        try:
            yield
        finally:
            self._working.discard(job)
            lock.release()

    def _is_newer_here(self, path: Path) -> bool:
        """Whether another process of this machine works on the file's job: what it has written is not published yet."""
        jobs = self._copies / "jobs"
        if jobs not in path.parents or not path.exists():
            return False
        job = jobs / path.relative_to(jobs).parts[0]
        if job in self._working or not (job / WORKING).exists():
            return False
        with self._probing:  # threads must not take each other for a worker
            try:
                with FileLock(job / WORKING, timeout=0):
                    return False
            except Timeout:
                return True
            except OSError:
                return False

    def _fetch_all(self, path: Path, *, begun: bool) -> None:
        start = f"{self._key(path)}/"
        found = self._do(self._find, start[:-1])
        wanted = {path / name[len(start) :]: info for name, info in found.items() if name.startswith(start)}
        # The keys of a bucket may be any text: none leads out of the folder.
        wanted = {file: info for file, info in wanted.items() if path in file.parents and ".." not in file.parts}
        wanted = {file: info for file, info in wanted.items() if not file.name.startswith(".")}  # what is being put
        for file, info in sorted(wanted.items(), key=lambda each: each[0].name == MANIFEST):
            with contextlib.suppress(FileNotFoundError):  # it is gone by now
                self._fetch_one(file, info)
        # At the first look, what an earlier process has left is removed too.
        for file in _files(path) if begun else self._known_in(path):
            if file not in wanted:
                self._drop(file)

    def _find(self, folder: str) -> dict[str, dict[str, Any]]:
        """The files in a folder of the store. What cannot be listed must not count as gone, so an error is raised.

        Other file systems than buckets walk through folders, and overlook errors below the first one.
        """
        found: dict[str, dict[str, Any]] = {}
        if self._fs.async_impl:
            with contextlib.suppress(FileNotFoundError):
                found = self._fs.find(folder, detail=True)
            return found
        folders = [folder]
        while folders:
            with contextlib.suppress(FileNotFoundError):
                for info in self._fs.ls(each := folders.pop(), detail=True):
                    if info["type"] != "directory":
                        found[info["name"]] = info
                    elif info["name"].rstrip("/") != each:
                        folders.append(info["name"].rstrip("/"))
        return found

    def _fetch_one(self, path: Path, info: dict[str, Any]) -> None:
        mark, known = _mark(info), self._known.get(path)
        if known is not None and known.there == mark and path.exists():
            return
        if self._is_newer_here(path):
            return
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._do(self._fs.get_file, self._key(path), str(partial))
            if self._is_newer_here(path):  # by now
                return
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        self._known[path] = _Known(_state(path), mark)

    def _publish_one(self, path: Path) -> None:
        state, known, key = _state(path), self._known.get(path), self._key(path)
        if known is not None and known.here == state:
            return
        try:
            self._put(path, key)
        except FileNotFoundError:  # a file system with folders
            self._do(self._fs.makedirs, key.rpartition("/")[0], exist_ok=True)
            self._put(path, key)
        self._known[path] = _Known(state, _mark(self._do(self._fs.info, key)))

    def _put(self, path: Path, key: str) -> None:
        """Puts a file there whole or not at all, as buckets do: a folder keeps the part of a worker that is killed."""
        if not self._renames:
            self._do(self._fs.put_file, str(path), key)
            return
        folder, _, name = key.rpartition("/")
        partial = f"{folder}/.{name}.{secrets.token_hex(4)}.partial"
        try:
            self._do(self._fs.put_file, str(path), partial)
            self._do(self._fs.mv, partial, key)
        except BaseException:
            with contextlib.suppress(Exception):
                self._fs.rm_file(partial)
            raise

    def _drop(self, path: Path) -> None:
        """Removes a copy of what is not in the store."""
        if self._is_newer_here(path):
            return
        self._known.pop(path, None)
        path.unlink(missing_ok=True)

    def _known_in(self, path: Path) -> list[Path]:
        """The file itself, or those in a folder, as far as they have been fetched or published."""
        return [file for file in list(self._known) if path in (file, *file.parents)]

    def _remove_there(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._do(self._fs.rm, self._key(path), recursive=True)

    @contextmanager
    def _looking(self, path: Path, age: float) -> Iterator[bool]:
        """Gives whether a copy is to be looked at, and notes that it was unless the block fails.

        Whoever asks for what another thread fetches waits, as a large file is not there at once.
        """
        with self._busy.setdefault(path, threading.Lock()):
            due = self._is_due(path, age) and not self._is_newer_here(path)
            yield due
            if due:
                self._looked[path] = time.monotonic()

    def _is_due(self, path: Path, age: float) -> bool:
        """Whether a copy is to be looked at. Marks the folder of its job as used, and sweeps out old ones at times."""
        now, jobs = time.monotonic(), self._copies / "jobs"
        if jobs in path.parents:
            _touch(jobs / path.relative_to(jobs).parts[0])
        if now - self._swept > SECONDS_UNTIL_FORGOTTEN / 10:
            self._swept = now
            self._sweep(jobs)
        return not age or now - self._looked.get(path, -math.inf) >= age

    def _sweep(self, jobs: Path) -> None:
        """Removes copies of jobs that nobody uses. The worker that computes a job marks its folder every second."""
        for job in jobs.glob("*"):
            with contextlib.suppress(OSError):
                if time.time() - job.stat().st_mtime > SECONDS_UNTIL_FORGOTTEN:
                    shutil.rmtree(job)
        for path in [path for path in (*self._known, *self._looked) if not path.exists()]:
            self._known.pop(path, None)
            self._looked.pop(path, None)
        for path in [path for path in list(self._busy) if path not in self._looked]:
            if not self._busy[path].locked():
                self._busy.pop(path, None)

    def _key(self, path: Path) -> str:
        return f"{self._root}/{path.relative_to(self._copies).as_posix()}"

    def _do(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Calls the file system, whose packages each raise errors of their own.

        Raises:
            StoreError: It failed.
            FileNotFoundError: There is no such file.
        """
        try:
            return work(*args, **kwargs)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> StoreError:
        logger.warning("the store failed: %s", reason_of(error))
        return StoreError("the store of the files cannot be reached; try again in a moment")

    def _patiently(self, work: Callable[[Path], None], path: Path) -> None:
        """Does something again and again while the store is away for some time."""
        for pause in PAUSES:
            try:
                return work(path)
            except StoreError:
                time.sleep(pause)
        return work(path)


def _files(folder: Path) -> list[Path]:
    """The files in a folder, manifests last, without locks and what is being written."""
    found = [file for file in folder.rglob("*") if not file.name.startswith(".") and file.is_file()]
    return sorted(found, key=lambda file: file.name == MANIFEST)


def _names(protocol: str | tuple[str, ...]) -> tuple[str, ...]:
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _touch(folder: Path) -> None:
    """Marks a folder as used."""
    with contextlib.suppress(OSError):
        os.utime(folder)


def _state(path: Path) -> tuple[int, int]:
    known = path.stat()
    return known.st_mtime_ns, known.st_size


def _mark(info: dict[str, Any]) -> str:
    """What changes when a file in the store changes."""
    return f"{info.get('size')} {next((info[name] for name in _MARKS if info.get(name)), '')}"
