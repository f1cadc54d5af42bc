"""How many threads a command computes with, and how they wait for one another; to be decided before torch is imported.

OpenMP's threads wait by spinning. Where another process needs the core, the one that all wait for then does not run: a
command beside one busy process takes several times its share. Threads that sleep instead lose nothing else.
"""

import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BUSY = 0.5
"""Load of other processes from which the machine counts as busy."""
LOOKS = 8
"""How often is looked whether others compute, 5 ms apart."""


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What is free when a command begins."""

    cores: int
    """Cores that the process may run on."""
    quota: float | None
    """Cores' worth of time that a container's limit allows; None: no limit."""
    load: float
    """Other processes that compute now."""

    @classmethod
    def look(cls) -> "Processor":
        """Asks the system."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(cores=cores, quota=_quota(), load=_load())

    @property
    def busy(self) -> bool:
        """Whether other processes need the cores too."""
        return self.load >= BUSY

    @property
    def threads(self) -> int:
        """Threads to compute with. On a busy machine, too, one per core gets the largest share."""
        return self.cores if self.quota is None else max(1, min(self.cores, math.ceil(self.quota)))

    def settings(self) -> dict[str, str]:
        """The environment variables of OpenMP (GNU's, and Intel's and LLVM's) that ask for it."""
        if self.busy:
            waiting = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
        else:  # some microseconds, in case that the machine becomes busy
            waiting = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
        return waiting if self.threads == self.cores else {**waiting, "OMP_NUM_THREADS": str(self.threads)}


def prepare_threads() -> None:
    """Sets what the user has not set, unless torch is there already and reads it no more."""
    if "torch" not in sys.modules:
        for name, value in missing(Processor.look().settings(), os.environ).items():
            os.environ[name] = value


def missing(settings: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """The settings that are to be made: none about waiting where the user has made one."""
    waiting = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    kept = set(waiting) if any(name in known for name in waiting) else set()
    return {name: value for name, value in settings.items() if name not in known and name not in kept}


def _load() -> float:
    """Other processes that compute now, the mean of some looks; or of the last minute, where the system does not tell.

    The average of the last minute would count what this user's last command did.
    """
    looks = []
    try:
        for _ in range(LOOKS):
            looks.append(int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]) - 1)
            time.sleep(0.005)
    except (OSError, ValueError, IndexError):
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return sum(looks) / LOOKS


def _quota() -> float | None:
    """The limit of a container (cgroup v2, then v1)."""
    root = Path("/sys/fs/cgroup")
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        cores = int(quota) / int(period)  # without a limit "max" (v2) or -1 (v1)
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None
