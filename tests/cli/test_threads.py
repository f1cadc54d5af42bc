"""Threads of a command, by what is free."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from show1.cli.threads import Processor, missing

NAMES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@contextmanager
def other_process() -> Iterator[None]:
    """A process that computes all the time."""
    program = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            yield
        finally:
            other.kill()


def test_threads_sleep_on_a_busy_machine_only():
    free = Processor(cores=4, quota=None, load=0.1)
    busy = Processor(cores=4, quota=None, load=1.0)
    assert not free.busy and busy.busy
    assert busy.settings() == {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
    assert "OMP_WAIT_POLICY" not in free.settings() and int(free.settings()["GOMP_SPINCOUNT"]) > 0
    assert free.threads == busy.threads == 4  # the same, so that the last digits do not depend on the load


@pytest.mark.parametrize(("quota", "threads"), [(0.5, 1), (1.5, 2), (2.0, 2), (8.0, 4)])
def test_a_container_s_limit_is_kept_to(quota, threads):
    limited = Processor(cores=4, quota=quota, load=0.0)
    assert limited.threads == threads
    assert limited.settings().get("OMP_NUM_THREADS") == (None if threads == 4 else str(threads))


def test_what_the_user_has_set_stays():
    busy = Processor(cores=4, quota=2.0, load=3.0).settings()
    assert missing(busy, {"OMP_NUM_THREADS": "3"}) == {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
    assert missing(busy, {"GOMP_SPINCOUNT": "7"}) == {"OMP_NUM_THREADS": "2"}


def test_the_command_sees_another_process_and_says_what_it_chose():
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    with other_process():
        shown = subprocess.run(
            [sys.executable, "-m", "show1", "env", "--json"], env=clean, capture_output=True, text=True, check=True
        )
    threads = json.loads(shown.stdout)["threads"]
    assert threads["OMP_WAIT_POLICY"] == "PASSIVE" and threads["load of others"] >= 0.5
    assert threads["machine"].startswith("busy")
