"""Placement and accounting."""

import gc
import time
import weakref
from pathlib import Path

import pytest
import torch

from show1.errors import InputError, Show1Error
from show1.runtime import (
    Residency,
    choose_device,
    choose_dtype,
    choose_memory,
    computes_bfloat16,
    explained_memory,
    free_memory,
    measure,
    offloading_options,
    placement,
)

CPU = torch.device("cpu")


class Weights:
    """Something that can be watched being freed."""


@pytest.mark.parametrize(("policy", "held"), [("low", ("b",)), ("high", ("a", "b"))])
def test_residency_holds_one_or_all(policy: str, held: tuple[str, ...]) -> None:
    residency: Residency[Weights] = Residency(policy, CPU)  # type: ignore[arg-type]
    first = weakref.ref(residency.get("a", Weights))
    residency.get("b", Weights)
    assert residency.loaded == held
    gc.collect()
    assert (first() is None) == (policy == "low")
    if policy == "high":
        assert residency.get("a", lambda: pytest.fail("loaded twice")) is first()
    residency.release("b")
    assert residency.loaded == (() if policy == "low" else ("a", "b"))
    residency.clear()
    assert residency.loaded == ()


def test_auto_keeps_what_fills_half_of_the_free_memory() -> None:
    free = free_memory(CPU)
    assert free is not None
    assert free > 10**8
    assert choose_memory("auto", {CPU: free // 4}) == "high"
    assert choose_memory("auto", {CPU: free * 2}) == "low"
    assert choose_memory("high", {CPU: free * 2}) == "high"
    assert choose_memory("low", {CPU: 1}) == "low"


@pytest.mark.parametrize(
    ("limit", "used", "stat", "cached"),
    [
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ],
)
def test_cached_files_of_a_container_count_as_free(
    limit: str, used: str, stat: str, cached: str, tmp_path: Path
) -> None:
    (tmp_path / "memory").mkdir()
    assert placement._cgroup_available(tmp_path) is None
    (tmp_path / limit).write_text("1000\n")
    (tmp_path / used).write_text("900\n")
    assert placement._cgroup_available(tmp_path) == 100
    (tmp_path / stat).write_text(f"anon 300\ninactive_file_of_another_kind 1\n{cached} 550\nactive_file 50\n")
    assert placement._cgroup_available(tmp_path) == 650
    (tmp_path / limit).write_text("max\n")
    assert placement._cgroup_available(tmp_path) is None


def test_weights_are_pinned_before_the_first_call_only_if_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    card, free = torch.device("cuda"), 12_000
    monkeypatch.setattr("show1.runtime.placement.free_memory", lambda device: free if device.type == "cpu" else 0)
    assert not offloading_options(card, 10_000)["low_cpu_mem_usage"]
    assert offloading_options(card, 10_001)["low_cpu_mem_usage"]
    assert offloading_options(card, 10_000)["use_stream"]
    assert offloading_options(torch.device("cpu"), 10**15) == {"offload_type": "leaf_level", "use_stream": False}


def test_devices_and_precisions() -> None:
    assert choose_device("cpu") == CPU
    assert choose_dtype(None, CPU) == torch.float32
    assert choose_dtype(torch.bfloat16, CPU) == torch.bfloat16
    assert choose_dtype(None, torch.device("meta")) == torch.float32
    for other in ("abacus", "xpu", "hpu", "meta"):
        with pytest.raises(InputError, match=f"unknown device '{other}'; use cpu, cuda"):
            choose_device(other)


@pytest.mark.parametrize("supported", ["_is_avx512_bf16_supported", "_is_amx_tile_supported", None])
def test_bfloat16_is_the_default_where_the_processor_computes_it(
    supported: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "computes_bfloat16", computes_bfloat16)
    for check in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, check, lambda check=check: check == supported)
    assert choose_dtype(None, CPU) == (torch.float32 if supported is None else torch.bfloat16)
    assert choose_dtype("float32", CPU) == torch.float32


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="'cuda' is not available.*use cpu"):
        choose_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device() == CPU


def test_measure_sees_time_and_memory_of_its_block() -> None:
    with measure(CPU) as small:
        pass
    with measure(CPU) as large:
        block = torch.ones(50_000_000)  # 200 MB
        time.sleep(0.05)
    assert large.seconds >= 0.05 > small.seconds
    assert large.peak_memory >= small.peak_memory + 150_000_000
    assert large.to_dict()["peak_memory_bytes"] == large.peak_memory
    del block


def test_running_out_of_memory_is_explained() -> None:
    with pytest.raises(Show1Error, match="memory ran out in the stage 'translation'.*max_batch=1"):
        with explained_memory("in the stage 'translation'"):
            raise torch.OutOfMemoryError("CUDA out of memory.")
    with pytest.raises(Show1Error, match="memory ran out in training; use a smaller batch"):
        with explained_memory("in training", "a smaller batch"):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
    with pytest.raises(RuntimeError, match="other"):
        with explained_memory("here"):
            raise RuntimeError("other")
