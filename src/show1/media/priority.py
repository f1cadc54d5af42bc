"""The priority of a process that encodes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def ordinary_priority() -> Iterator[None]:
    """Around the opening of an encoder: the process keeps its priority.

    Where it may, as root, SVT-AV1 gives its threads and the one that opens it the highest real-time priority. Such a
    process leaves other programs hardly any time, for as long as it lives.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    yield
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended meanwhile
            if os.sched_getscheduler(int(thread.name)) == os.SCHED_FIFO:
                os.sched_setscheduler(int(thread.name), policy, parameter)
