"""Real workers and a real PostgreSQL for the tests of the server."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx2

T = TypeVar("T")

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
"""The servers that Debian's package has installed."""


class Process:
    """A command of show1 that runs until it is stopped."""

    def __init__(self, *words: str, log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "show1", *words],
                stdout=output,
                stderr=output,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
                start_new_session=True,
            )

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        return self._process.poll()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """Ends it and its children at once, as when the machine loses its power."""
        if self.runs:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def terminate(self, timeout: float = 60) -> int:
        self._process.terminate()
        return self._process.wait(timeout)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *error: Any) -> None:
        self.kill()
        if error[0] is not None:
            print(self.log.read_text(errors="replace")[-6000:])


def worker(data: Path, *words: str) -> Process:
    """Starts a worker on a data folder."""
    words = ("--data", str(data), "--look", "0.5", "--dtype", "float32", *words)
    return Process("worker", *words, log=data.parent / "worker.log")


def serve(data: Path, *words: str) -> tuple[Process, str]:
    """Starts a server on any free port; returns it and its address."""
    log = data.parent / f"serve-{time.time_ns()}.log"
    server = Process("serve", "--port", "0", "--data", str(data), "--dtype", "float32", *words, log=log)

    def address() -> str | None:
        assert server.runs, log.read_text()
        found = re.search(r"^http://\S+:\d+$", log.read_text(), re.MULTILINE)
        return found and found[0]

    where = wait_for(address)
    wait_for(lambda: _answers(where))
    return server, where


def _answers(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/health").status_code == 200
    except httpx2.TransportError:
        return False


def wait_for(what: Callable[[], T | None], seconds: float = 180, *, every: float = 0.05) -> T:
    """Waits until `what` gives something that is true, and returns it."""
    end = time.monotonic() + seconds
    while True:
        if found := what():
            return found
        if time.monotonic() > end:
            raise AssertionError("it did not happen in time")
        time.sleep(every)


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


class Postgres:
    """A PostgreSQL of its own, in a folder that the user `postgres` can reach."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="show1-postgres-"))
        self._bin = POSTGRES[-1].parent
        self.port = free_port()
        self.url = f"postgresql://show1@127.0.0.1:{self.port}/show1"
        if os.getuid() == 0:  # it refuses to run as root
            shutil.chown(self._folder, "postgres", "postgres")
        self._do("initdb", "-D", str(self._folder / "data"), "-A", "trust", "-U", "show1", "--no-sync")

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._do("pg_ctl", "-D", f"{self._folder}/data", "-o", options, "-l", f"{self._folder}/log", "-w", "start")

    def stop(self) -> None:
        self._do("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "-w", "stop")

    def _do(self, program: str, *words: str) -> None:
        command = [str(self._bin / program), *words]
        if os.getuid() == 0:
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--", *command]
        done = subprocess.run(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, f"{program}: {done.stderr}"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that runs inside the block, with an empty database `show1`."""
    server = Postgres()
    try:
        server.start()
        subprocess.run(
            [str(POSTGRES[-1].parent / "createdb"), "-h", "127.0.0.1", "-p", str(server.port), "-U", "show1", "show1"],
            check=True,
        )
        yield server
    finally:
        with suppress(AssertionError):  # a test may have stopped it
            server.stop()
        server.remove()
