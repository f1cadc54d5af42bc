"""How workers see that another one is dead: each holds a lock that the system frees when the process ends.

With SQLite it is the lock of a file, with PostgreSQL an advisory lock of the session. Nobody measures time: a worker
that is merely slow keeps its lock.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from show1.errors import MissingDependencyError, reason_of

_TCP = "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2"
"""Lets PostgreSQL notice within some 15 seconds that the machine of a worker is gone."""


class Locks(Protocol):
    """The locks of workers, by their names."""

    def hold(self) -> None:
        """Takes the own lock, or makes sure that it is still held.

        Raises:
            ConnectionError: The database that keeps it cannot be reached; the lock may be lost.
        """

    def freed(self, worker: str) -> "Any":
        """A context manager that takes the lock of another worker and gives whether it could: then that one is dead."""

    def close(self) -> None:
        """Gives the own lock back."""


class FileLocks:
    """Locks of files in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        """Takes the folder, and the own name."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._own = self._lock(name)

    def hold(self) -> None:
        """See `Locks`."""
        if not self._own.is_locked:
            self._own.acquire()

    @contextmanager
    def freed(self, worker: str) -> Iterator[bool]:
        """See `Locks`."""
        lock = self._lock(worker)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)  # while it is held, so that nobody else can have it by now
            lock.release()

    def close(self) -> None:
        """See `Locks`."""
        if self._own.is_locked:
            Path(self._own.lock_file).unlink(missing_ok=True)
            self._own.release()

    def _lock(self, worker: str) -> FileLock:
        return FileLock(self._folder / f"{worker}.lock", timeout=0)


class AdvisoryLocks:
    """Locks of a PostgreSQL, which frees them when the connection ends.

    When the database starts again, the locks of all workers are free until each has taken its own again. So a worker
    whose connection is young counts nobody as dead.
    """

    def __init__(self, database: str, name: str, settle_seconds: float) -> None:
        """Takes the database's URL, the own name, and the age of a connection at which it counts workers as dead."""
        self._url = database.replace("postgresql+psycopg://", "postgresql://", 1)
        self._name, self._settle_seconds = name, settle_seconds
        self._connection: Any = None
        self._since = 0.0

    def hold(self) -> None:
        """See `Locks`."""
        psycopg = _psycopg()
        try:
            if self._connection is not None:
                try:
                    self._connection.execute("select 1")
                    return
                except psycopg.Error:
                    self.close()
            connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5, options=_TCP)
            if not _ask(connection, "pg_try_advisory_lock", self._name):
                connection.close()
                raise ConnectionError("another worker is looking whether this one is dead; trying again")
            self._connection, self._since = connection, time.monotonic()
        except psycopg.Error as error:
            raise ConnectionError(f"the database cannot be reached: {reason_of(error)}") from error

    @contextmanager
    def freed(self, worker: str) -> Iterator[bool]:
        """See `Locks`."""
        if time.monotonic() - self._since < self._settle_seconds:
            yield False
            return
        free = _ask(self._connection, "pg_try_advisory_lock", worker)
        try:
            yield free
        finally:
            if free:
                _ask(self._connection, "pg_advisory_unlock", worker)

    def close(self) -> None:
        """See `Locks`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def open_locks(database: str, folder: Path, name: str, settle_seconds: float) -> Locks:
    """The locks that go with a database.

    Args:
        database: URL of the queue's database.
        folder: Where files of locks go, with SQLite.
        name: The worker's own name.
        settle_seconds: How long all workers together may need to take their locks again after the database is back.

    Raises:
        MissingDependencyError: It is a PostgreSQL, and its driver is not installed.
    """
    if database.startswith("sqlite"):
        return FileLocks(folder, name)
    _psycopg()
    return AdvisoryLocks(database, name, settle_seconds)


def _ask(connection: Any, function: str, worker: str) -> bool:
    """Calls a function of the database with the lock of a worker."""
    number = int.from_bytes(hashlib.sha256(worker.encode()).digest()[:8], "big", signed=True)
    return bool(connection.execute(f"select {function}(%s)", (number,)).fetchone()[0])


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise MissingDependencyError(
            "a PostgreSQL database needs its driver: pip install 'show1[server,postgres]'"
        ) from error
    return psycopg
