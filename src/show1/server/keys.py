"""API keys: who may use a server. A file keeps their hashes, never the keys."""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from show1.errors import InputError, OutputError
from show1.files import read_json_object, write_text
from show1.options import shown

PREFIX = "sk-show1-"


@dataclass(frozen=True, kw_only=True)
class Key:
    """What is known of a key."""

    name: str
    """Who has it; jobs belong to this name."""
    sha256: str
    """Hash of the key, which has 256 random bits, so that no slow hash is needed."""
    priority: int = 100
    """Priority of its jobs; 1 is first."""
    max_jobs: int | None = None
    """Jobs that may wait or run at once; None: as the server's limits say."""


class KeyFile:
    """The keys of a server, by their names. The file is read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Takes the file, which may be missing: then there are no keys."""
        self._path = path
        self._state: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}

    def keys(self) -> dict[str, Key]:
        """The keys by their names.

        Raises:
            InputError: The file is damaged.
        """
        try:
            known = self._path.stat()
        except FileNotFoundError:
            return {}
        state = (known.st_ino, known.st_mtime_ns, known.st_size)
        if state != self._state:
            try:
                rows = read_json_object(self._path)
                self._keys = {name: Key(name=name, **row) for name, row in rows.items()}
            except (ValueError, TypeError, OSError) as error:
                raise InputError(
                    f"the file of API keys {self._path} is damaged: {error}; restore or remove it"
                ) from error
            self._state = state
        return self._keys

    def find(self, key: str) -> Key | None:
        """The key that a client shows; None if it is none of these."""
        digest = _digest(key)
        found = None
        for known in self.keys().values():  # all are compared, so that time says nothing
            if hmac.compare_digest(known.sha256, digest):
                found = known
        return found

    def add(self, name: str, *, priority: int = 100, max_jobs: int | None = None) -> str:
        """Makes a key, and returns it: it is shown this once.

        Raises:
            InputError: The name is taken, or no name.
        """
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", name) is None:
            raise InputError(f"the name of a key has up to 64 letters, digits and . _ @ -, got {shown(name)}")
        key = PREFIX + secrets.token_urlsafe(32)
        with self._changed() as keys:
            if name in keys:
                raise InputError(f"there is a key called {name} already; remove it first, or choose another name")
            keys[name] = Key(name=name, sha256=_digest(key), priority=priority, max_jobs=max_jobs)
        return key

    def remove(self, name: str) -> None:
        """Forgets a key; whoever has it can no longer use the server, which stays closed when it was the last one.

        Raises:
            InputError: There is none of that name.
        """
        with self._changed() as keys:
            if keys.pop(name, None) is None:
                raise InputError(f"there is no key called {shown(name)}; there are {', '.join(keys) or 'none'}")

    @contextmanager
    def _changed(self) -> Iterator[dict[str, Key]]:
        """The keys, which are written at the end of the block. Two commands at once wait for each other.

        Raises:
            OutputError: The folder cannot be written.
        """
        lock = FileLock(self._path.with_name(f".{self._path.name}.lock"), mode=0o600)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror or error}") from error
        try:
            keys = dict(self.keys())
            yield keys
            rows: dict[str, dict[str, Any]] = {}
            for name, key in keys.items():
                rows[name] = {"sha256": key.sha256, "priority": key.priority, "max_jobs": key.max_jobs}
            write_text(self._path, json.dumps(rows, indent=2) + "\n", mode=0o600)
        finally:
            lock.release()


def anonymous() -> Key:
    """Stands for whoever uses a server without keys."""
    return Key(name="", sha256="")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
