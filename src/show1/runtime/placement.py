"""Choice of device, precision and memory policy, and the stages that are held in memory."""

import contextlib
import ctypes
import gc
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import nn

from show1.errors import InputError, OutOfMemory
from show1.options import require

logger = logging.getLogger(__name__)

MemoryPolicy = Literal["auto", "low", "high"]
"""`low` holds one stage at a time, `high` all of them; `auto` decides by the free memory."""

PRECISIONS = ("float32", "bfloat16", "float16", "float64")
"""Names of the precisions in which networks compute."""

T = TypeVar("T")


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """Chooses the device that is asked for; otherwise CUDA, MPS or the CPU, whichever comes first.

    Raises:
        InputError: There is no such device.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"unknown device {device!r}; use cpu, cuda, cuda:1 or mps") from error
    there: dict[str, Callable[[], bool]] = {
        "cpu": lambda: True,
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
    if chosen.type not in there:
        raise InputError(f"unknown device {device!r}; use cpu, cuda, cuda:1 or mps")
    if not there[chosen.type]():
        raise InputError(f"the device {device!r} is not available: torch {torch.__version__} finds none; use cpu")
    if chosen.type == "cuda" and chosen.index is not None and chosen.index >= torch.cuda.device_count():
        raise InputError(
            f"the device {device!r} is not available: this machine has {torch.cuda.device_count()} CUDA devices"
        )
    return chosen


def choose_dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    """Chooses the precision asked for; otherwise the fastest: bfloat16 where the device computes in it.

    Without it, float16 on CUDA, and float32 elsewhere.

    Raises:
        InputError: It is no precision in which networks compute.
    """
    if dtype is not None:
        name = str(dtype).removeprefix("torch.")
        known = isinstance(dtype, torch.dtype | str) and name in PRECISIONS
        require(known, "dtype", dtype, f"one of {', '.join(PRECISIONS)} (or of torch's)")
        chosen: torch.dtype = getattr(torch, name)
        return chosen
    if device.type == "cpu" and computes_bfloat16():
        return torch.bfloat16
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def computes_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16 itself (AVX-512 BF16, AMX); others would emulate it slowly."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def choose_memory(policy: MemoryPolicy, needed: Mapping[torch.device, int]) -> Literal["low", "high"]:
    """Resolves `auto`, which keeps all networks if their weights fill at most half of each device's free memory.

    Args:
        policy: The policy that is asked for; a budget is kept to with `low`.
        needed: Bytes of all weights on each device.
    """
    if policy != "auto":
        return policy
    free = {device: free_memory(device) for device in needed}
    return "high" if all(size <= (free[device] or 0) // 2 for device, size in needed.items()) else "low"


def computing_device(module: nn.Module) -> torch.device:
    """Where a diffusers network computes, also while its weights wait elsewhere."""
    for part in module.modules():
        hooked = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if hooked is not None:
            return torch.device(hooked)
    network: Any = module
    device: torch.device = network.device
    return device


def free_memory(device: torch.device) -> int | None:
    """Returns the bytes that can still be allocated, or None if that is unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [value for value in (_memory_available(), _cgroup_available()) if value is not None]
    return min(limits, default=None)


def offloading_options(device: torch.device, weights: int) -> dict[str, Any]:
    """Options of diffusers' `enable_group_offload` for layers whose weights come from the computer's memory.

    On a card, weights are copied while the layer before computes, out of pinned memory. Pinning all of them takes as
    much memory again until the first call; where that is not free, each layer's weights are pinned when they are
    copied, which is slower.

    Args:
        device: Where the layers compute.
        weights: Bytes of all weights, which are in the computer's memory already.
    """
    options: dict[str, Any] = {"offload_type": "leaf_level", "use_stream": device.type == "cuda"}
    if options["use_stream"]:
        free = free_memory(torch.device("cpu"))
        options["low_cpu_mem_usage"] = free is not None and free < 1.2 * weights
    return options


class Residency(Generic[T]):
    """Holds loaded stages: at most one with `low`, all with `high`."""

    def __init__(self, policy: Literal["low", "high"], device: torch.device) -> None:
        """Starts with no stage in memory."""
        self.policy = policy
        self.device = device
        self._loaded: dict[str, T] = {}

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the stages in memory."""
        return tuple(self._loaded)

    def get(self, name: str, load: Callable[[], T]) -> T:
        """Returns a stage, which `load` loads if it is not in memory; with `low`, the others are freed first."""
        if name not in self._loaded:
            if self.policy == "low":
                self.clear()
            self._loaded[name] = load()
        return self._loaded[name]

    def release(self, name: str) -> None:
        """Frees a stage if the policy is `low`; the caller must not hold it any more."""
        if self.policy == "low" and self._loaded.pop(name, None) is not None:
            empty_cache(self.device)

    def discard(self, name: str) -> None:
        """Frees a stage under any policy, so that it is loaded again."""
        if self._loaded.pop(name, None) is not None:
            empty_cache(self.device)

    def clear(self) -> None:
        """Frees all stages."""
        if self._loaded:
            self._loaded.clear()
            empty_cache(self.device)


def give_back_what_is_freed() -> None:
    """Lets glibc return freed memory to the system at once: the process stays small, and gets a little slower."""
    with contextlib.suppress(OSError, AttributeError):
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            ctypes.CDLL(None).mallopt(option, 2**20)


def empty_cache(device: torch.device) -> None:
    """Gives unused memory back to the system."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # only glibc keeps what is freed, and can be told not to
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def explained_memory(
    where: str, smaller: str = "memory='low', max_batch=1, fewer frames or a smaller size"
) -> Iterator[None]:
    """Turns running out of memory into an `OutOfMemory` that says what to do.

    Args:
        where: The place for the message, such as "in the stage 'keyframes'".
        smaller: What would need less memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"memory ran out {where}; use {smaller} "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out; on a CPU, torch has no class of its own for that."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def _memory_available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup_available(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Returns what a container's limit leaves (cgroup v2, then v1); the system gives back cached files as needed."""
    for limit, used, stat, cached in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        try:
            left = int((root / limit).read_text()) - int((root / used).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        return max(0, left + _counted(root / stat, cached))
    return None


def _counted(stat: Path, name: str) -> int:
    """A number of bytes in a container's `memory.stat`; 0 if it is not there."""
    with contextlib.suppress(OSError, ValueError):
        for line in stat.read_text().splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    return 0
