"""Weights are read only inside the `forward` of the module that owns them, as offloading and casting by hooks need."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from show1.networks import UNet3DConditionModel
from tests.networks.tiny_unet import DIFFUSION, SIMPLE, build, inputs, run

CONFIGS: dict[str, dict[str, Any]] = {
    "simple": SIMPLE,
    "only text": {**SIMPLE, "only_cross_attention": True, "cross_attention_norm": "layer_norm"},
    "noise level": {**SIMPLE, "class_embed_type": "timestep"},
    "diffusion": DIFFUSION,
    "mini's own": {**SIMPLE, "embed_frames": True, "embed_places": True, "transfromer_in_opt": True, "patch_size": 2},
}


class _Reads(TorchFunctionMode):
    """Notes the parameters that are read while their owner's `forward` is not running."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        modules = dict(model.named_modules())
        self._owners = {
            id(p): (name, f"{prefix}.{name}" if prefix else name, module)
            for prefix, module in modules.items()
            for name, p in module.named_parameters(recurse=False)
        }
        self._running: list[nn.Module] = []
        self.outside: set[str] = set()
        for module in modules.values():
            module.register_forward_pre_hook(lambda module, args: self._running.append(module))
            module.register_forward_hook(lambda module, args, output: self._running.pop() and None)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            _, name, owner = self._owners.get(id(value), (None, "", None))
            if owner is not None and owner not in self._running:
                self.outside.add(f"{name} ({getattr(func, '__name__', func)})")
        return func(*args, **(kwargs or {}))


@contextmanager
def _reads(model: UNet3DConditionModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    # what diffusers' own `dtype` reads is no weight: with casting hooks, it asks those
    monkeypatch.setattr(UNet3DConditionModel, "dtype", torch.float32)
    with _Reads(model) as noted:
        yield noted.outside


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("published", [False, True])
def test_no_weight_is_read_from_outside(config, published, monkeypatch):
    model = build(CONFIGS[config])
    model.use_published_order(published)
    with _reads(model, monkeypatch) as outside:
        run(model, inputs(model))
    assert not outside


def test_a_read_from_outside_is_noticed(monkeypatch):
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.inner.weight

    model = Reader()
    with _Reads(model) as noted:
        model(torch.ones(1, 2))
    assert {name.partition(" ")[0] for name in noted.outside} == {"inner.weight"}


@pytest.mark.parametrize("config", CONFIGS)
def test_weights_can_wait_on_the_disk(config, tmp_path):
    model = build(CONFIGS[config])
    arguments = inputs(model)
    expected = run(model, arguments)
    device = torch.device("cpu")
    model.enable_group_offload(
        onload_device=device, offload_device=device, offload_type="leaf_level", offload_to_disk_path=str(tmp_path)
    )
    assert torch.equal(run(model, arguments), expected)
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize("config", CONFIGS)
def test_weights_can_be_stored_in_8_bits(config):
    model = build(CONFIGS[config])
    arguments = inputs(model)
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    stored = {name: p.float() for name, p in model.named_parameters() if p.dtype == torch.float8_e4m3fn}
    assert any("temp_convs" in name for name in stored) and any("conv1" in name for name in stored)
    rounded = build(CONFIGS[config])
    rounded.load_state_dict(stored, strict=False)
    assert torch.equal(run(model, arguments), run(rounded, arguments))
