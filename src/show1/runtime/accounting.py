"""Measurement of seconds and peak memory."""

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass
class Cost:
    """Time and memory that a block of code took; `measure` fills it in when the block ends."""

    seconds: float = 0.0
    """Wall-clock time."""
    peak_memory: int = 0
    """Peak memory in bytes: allocations on CUDA, otherwise the process's resident set."""

    def to_dict(self) -> dict[str, float | int]:
        """Returns the saved form."""
        return {"seconds": round(self.seconds, 3), "peak_memory_bytes": self.peak_memory}


@contextlib.contextmanager
def measure(device: torch.device) -> Iterator[Cost]:
    """Measures the time and the peak memory of a block of code."""
    cost = Cost()
    _reset_peak(device)
    start = time.perf_counter()
    try:
        yield cost
    finally:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        cost.seconds = time.perf_counter() - start
        cost.peak_memory = _peak(device)


def taken_memory(device: torch.device) -> int:
    """Bytes that are taken now: allocations on CUDA, otherwise the process's resident set (0 where it is unknown)."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return process_memory("VmRSS") or 0


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # only Linux can reset it; elsewhere the peak is that of the process so far
        Path("/proc/self/clear_refs").write_text("5")


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if (peak := process_memory("VmHWM")) is not None:
        return peak
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def process_memory(field: str) -> int | None:
    """A size of the process in bytes, by its name in Linux's /proc/self/status, such as `VmRSS`; None elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return None
