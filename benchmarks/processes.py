"""Processes that benchmarks time, with threads as the command line chooses them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from show1.cli.threads import prepare_threads

PREPARED = """
import runpy, sys
from show1.cli.threads import prepare_threads
prepare_threads()
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Runs a module with its arguments; its threads are chosen before it imports torch."""
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
