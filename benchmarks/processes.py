"""Processes that benchmarks time, with threads as the command line chooses them, and processes that keep cores busy."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from show1.cli.threads import Processor, prepare_threads

OPENMP = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""The variables that `show1` chooses where the user has not."""
PREPARED = """
import runpy, sys
from show1.cli.threads import prepare_threads
prepare_threads()
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Runs a module with its arguments; its threads are chosen before it imports torch."""
SPIN = """
import os
parent = os.getppid()
print(flush=True)
while os.getppid() == parent:
    for _ in range(10**5):
        pass
"""
"""Keeps a core busy as long as the process that started it lives."""
_chosen: set[str] = set()


def choose_threads() -> None:
    """Chooses the threads of this process as the command line does; processes that are timed choose their own."""
    before = set(os.environ)
    prepare_threads()
    _chosen.update(set(os.environ) - before)


def environment(**further: str) -> dict[str, str]:
    """The environment for a process that is timed: that of the user, with further variables."""
    return {name: value for name, value in os.environ.items() if name not in _chosen} | further


def run_module(module: str, *arguments: str, cache: Path) -> dict[str, Any]:
    """Runs a module in a new process, whose threads are chosen as those of the command line are.

    Args:
        module: Its name. The last line that it prints is a JSON object.
        arguments: Its command line.
        cache: Folder of the caches.

    Returns:
        The JSON object.
    """
    command = [sys.executable, "-c", PREPARED, module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(SHOW1_CACHE=str(cache)))
    if done.returncode:
        raise SystemExit(f"{' '.join([module, *arguments])} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keeps so many cores busy inside the block, each by a process of its own."""
    with ExitStack() as stack:
        for _ in range(count):
            other = stack.enter_context(subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE))
            stack.callback(other.kill)  # before its exit, which waits for the process
            assert other.stdout is not None
            other.stdout.readline()  # it spins from now on
        yield


def without_policy() -> dict[str, str]:
    """The variables with which OpenMP does what it does by itself, and `show1` therefore chooses nothing.

    The values are the defaults of GNU's and of Intel's and LLVM's runtime: a thread per core, which waits by spinning.
    """
    return {"OMP_NUM_THREADS": str(Processor.look().cores), "GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}
