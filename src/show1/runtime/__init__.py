"""Device, precision, memory and cost of a computation."""

from show1.runtime.accounting import Cost, measure, taken_memory
from show1.runtime.devices import DeviceLike, Devices, choose_devices
from show1.runtime.placement import (
    PRECISIONS,
    MemoryPolicy,
    Residency,
    choose_device,
    choose_dtype,
    choose_memory,
    computes_bfloat16,
    computing_device,
    empty_cache,
    explained_memory,
    free_memory,
    give_back_what_is_freed,
    is_out_of_memory,
    offloading_options,
)

__all__ = [
    "PRECISIONS",
    "Cost",
    "DeviceLike",
    "Devices",
    "MemoryPolicy",
    "Residency",
    "choose_device",
    "choose_devices",
    "choose_dtype",
    "choose_memory",
    "computes_bfloat16",
    "computing_device",
    "empty_cache",
    "explained_memory",
    "free_memory",
    "give_back_what_is_freed",
    "is_out_of_memory",
    "measure",
    "offloading_options",
    "taken_memory",
]
