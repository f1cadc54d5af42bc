"""Adapters as a stranger may write them: each is read, or refused by an error of the package's own, in bounded time."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from show1.adapters.adapter import FORMAT, Adapter
from show1.adapters.lora import DIFFUSERS_KEY
from show1.errors import Show1Error

TEXTS = st.text(max_size=8) | st.sampled_from(["keyframes", "motion", "lora", "(a+)+b", "^m", "\x1b[2J", "nan"])
NUMBERS = st.none() | st.booleans() | st.integers() | st.floats()
VALUES = st.recursive(
    NUMBERS | TEXTS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXTS, inside, max_size=3),
    max_leaves=6,
)
KEYS = ["stage", "kind", "method", "base_name", "base_sha256", "prompt", "settings", "lora_alpha", "noise_weight", "x"]
SOUND: dict[str, Any] = {
    "format": FORMAT, "stage": "keyframes", "kind": "motion", "method": "lora", "base_name": "", "base_sha256": "",
    "prompt": "a cat", "settings": {}, "lora_alpha": None, "noise_weight": 0.0,
}  # fmt: skip
CONFIG_KEYS = [
    "lora_alpha", "alpha_pattern", "rank_pattern", "r", "use_dora", "use_rslora", "unet.lora_alpha",
    "unet.alpha_pattern",
]  # fmt: skip
BEFORE = ["", "unet.", "base_model.model.", "lora_unet_", "lora_te_", "diffusion_model.", "text_encoder.", "\x00"]
ENDS = [
    ".lora_A.weight", ".lora_B.weight", ".lora_A.default.weight", ".lora_down.weight", ".lora_up.weight", ".alpha",
    ".dora_scale", ".diff", ".lokr_w1", ".hada_w1_a", "", ".weight",
]  # fmt: skip
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64, torch.bool]


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    """Tensors of a file, with names and shapes that nearly fit."""
    out = {}
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(BEFORE)) + draw(st.sampled_from(["m", "a.b", ""])) + draw(st.sampled_from(ENDS))
        shape = draw(st.lists(st.integers(0, 3), max_size=5))
        out[name] = torch.full(shape, draw(st.sampled_from([0.0, 1.0, float("nan"), 1e30]))).to(
            draw(st.sampled_from(DTYPES))
        )
    return out


def read(own: bool, header: str, config: str, held: dict[str, torch.Tensor]) -> None:
    """Writes a file and reads it in every way."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.safetensors"
        save_file(held, file, {"show1": header} if own else {DIFFUSERS_KEY: config})
        for options in ({}, {"stage": "keyframes"}, {"stage": "keyframes", "modules": {"m", "a.b"}}):
            try:
                adapter = Adapter.load(file, **options)
            except Show1Error:
                continue
            assert adapter.describe()
            assert all(bool(delta.isfinite().all()) or delta.abs().max() > 1e29 for delta in adapter.deltas().values())


HEADERS = st.text(max_size=20) | st.builds(
    lambda changes: json.dumps({**SOUND, **changes}), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3)
)
CONFIGS = st.text(max_size=20) | st.builds(
    json.dumps, st.dictionaries(st.sampled_from(CONFIG_KEYS), VALUES, max_size=3)
)
GENERATED = given(own=st.booleans(), header=HEADERS, config=CONFIGS, held=tensors())
COMMON: dict[str, Any] = {
    "deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck),
}  # fmt: skip


@settings(max_examples=500, **COMMON)
@GENERATED
def test_generated_adapters(own: bool, header: str, config: str, held: dict[str, torch.Tensor]) -> None:
    read(own, header, config, held)


@pytest.mark.thousands
@settings(max_examples=10_000, **COMMON)
@GENERATED
def test_many_generated_adapters(own: bool, header: str, config: str, held: dict[str, torch.Tensor]) -> None:
    read(own, header, config, held)
