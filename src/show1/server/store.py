"""Where the files of jobs are: a folder that all share, or a store of machines that share none (`remote_store`)."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from show1.errors import OutputError

SECONDS_OF_COPY = 1.0
"""How old a copy may be that shows how a job stands."""


class StoreError(OutputError):
    """The store cannot be reached, or refuses. The log says why, because that may name what clients must not see."""


class Store:
    """What is done where all share one folder already: nothing, but to remove."""

    def check(self) -> None:
        """Makes sure that it can be read and written.

        Raises:
            InputError: It cannot.
        """

    def fetch(self, path: Path, *, age: float = 0.0) -> None:
        """Brings a file up to date, and removes it if it is no longer in the store.

        Args:
            path: The file.
            age: Seconds for which it is not looked at again.

        Raises:
            StoreError: The store cannot be reached.
        """

    def fetch_folder(self, path: Path, *, age: float = 0.0) -> None:
        """Brings all files of a folder up to date; see `fetch`."""

    def publish(self, path: Path) -> None:
        """Puts what is new or changed of a file, or of a folder, into the store, and removes what is gone.

        Raises:
            StoreError: The store cannot be reached.
        """

    def remove(self, path: Path) -> None:
        """Removes a file or a folder, here and in the store.

        Raises:
            StoreError: The store cannot be reached.
            OSError: It cannot be removed here.
        """
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    @contextmanager
    def working(self, path: Path) -> Iterator[None]:
        """Fetches a job's folder, publishes its progress inside the block, and all of it at the end.

        Raises:
            StoreError: The store cannot be reached, also after a while.
        """
        yield
