"""Networks of experts in fewer bits: GGUF files, and the layers of bitsandbytes."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from show1 import Show1Pipeline
from show1.checkpoints.cascade import Part
from show1.checkpoints.locate import resolve
from show1.errors import CheckpointError, InputError, MissingDependencyError
from show1.experts import ExpertText, check_expert_settings, load_expert
from show1.experts.packing import pack, packed_bytes
from show1.generation.verify import verify
from tests.experts.test_needs import SETTINGS, made, needs_of
from tests.experts.tiny_experts import build_cogvideox, build_wan, wan_transformer

gguf: Any = pytest.importorskip("gguf")

WEIGHTS = "diffusion_pytorch_model.safetensors"


def as_gguf(folder: Path) -> Path:
    """Puts a GGUF file in the place of the weights of a folder's transformer: what can be in blocks of 8 bits is."""
    place = folder / "transformer"
    writer = gguf.GGUFWriter(place / "wan-Q8_0.gguf", "wan")
    for name, weight in load_file(place / WEIGHTS).items():
        numbers = weight.float().numpy()
        if weight.ndim == 2 and weight.shape[1] % 32 == 0:
            packed = gguf.quants.quantize(numbers, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (place / WEIGHTS).unlink()
    return folder


def part_of(folder: Path) -> Part:
    return resolve({"translation": str(folder)}).parts["translation"]


def test_a_gguf_file_in_the_place_of_the_weights(tmp_path: Path) -> None:
    plain, packed = build_wan(tmp_path / "plain"), as_gguf(build_wan(tmp_path / "packed"))
    assert verify({"translation": str(packed)}, deep=True) == []
    whole, small = (made(part_of(folder), None, False) for folder in (plain, packed))
    assert 0 < (whole - small).abs().mean() < 0.05 * whole.std()
    expert = load_expert(part_of(packed), dtype=torch.float32, device="cpu")
    kinds = {type(parameter).__name__ for parameter in expert.pipe.transformer.parameters()}
    assert "GGUFParameter" in kinds
    counted, least = needs_of(part_of(plain)).networks, needs_of(part_of(packed)).networks
    file = packed / "transformer" / "wan-Q8_0.gguf"
    gained = sum(p.nbytes for p in wan_transformer().parameters()) - file.stat().st_size
    assert gained > 0 and least.weights == counted.weights - gained + counted.largest_layer
    assert not least.streamable and least.fp8 is None
    with pytest.raises(InputError, match="wan-Q8_0.gguf has few bits already; leave out translation.weights"):
        made(part_of(packed), None, False, dataclasses.replace(SETTINGS, weights="fp8"))


def test_a_gguf_file_that_cannot_be_used_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = as_gguf(build_wan(tmp_path / "wan"))
    (folder / "transformer" / "second.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="holds 2 GGUF files"):
        Show1Pipeline.from_pretrained({"translation": str(folder)}).model_record  # noqa: B018
    (folder / "transformer" / "second.gguf").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(MissingDependencyError, match=r"needs the package gguf: pip install 'show1\[gguf\]'"):
            load_expert(part_of(folder), dtype=torch.float32, device="cpu").pipe  # noqa: B018
    file = folder / "transformer" / "wan-Q8_0.gguf"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_expert(part_of(folder), dtype=torch.float32, device="cpu").pipe  # noqa: B018
    other = build_cogvideox(tmp_path / "cog")
    (other / "transformer" / WEIGHTS).rename(other / "transformer" / "cog.gguf")
    problems = verify({"translation": str(other)})
    assert any("diffusers reads no CogVideoXTransformer3DModel from a GGUF file" in str(p) for p in problems)
    config = json.loads((folder / "transformer" / "config.json").read_text())
    assert config["num_layers"] == 2


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_layers_of_bitsandbytes(tmp_path: Path, bits: Any) -> None:
    pytest.importorskip("bitsandbytes")
    part = part_of(build_wan(tmp_path / "wan"))
    whole, small = made(part, None, False), made(part, None, False, dataclasses.replace(SETTINGS, weights=bits))
    assert 0 < (whole - small).abs().mean() < 0.5 * whole.std()
    counted, least = needs_of(part).networks, needs_of(part, dataclasses.replace(SETTINGS, weights=bits)).networks
    assert least.weights < counted.weights and not least.streamable
    network = wan_transformer()
    expected = packed_bytes(network, bits)
    pack(network, bits)
    assert {"Linear8bitLt", "Linear4bit"} & {type(layer).__name__ for layer in network.modules()}
    assert sum(p.nbytes for p in network.parameters()) <= expected


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_the_text_encoder_of_an_expert_in_fewer_bits(tmp_path: Path, bits: Any) -> None:
    pytest.importorskip("bitsandbytes")
    part = part_of(build_wan(tmp_path / "wan"))
    place: dict[str, Any] = {"dtype": torch.float32, "device": torch.device("cpu")}
    whole, small = (ExpertText(part, **place, stored=stored).embed(["a cat"], [""]) for stored in (None, bits))
    difference = (whole.prompt_embeds - small.prompt_embeds).abs().mean()
    assert 0 < difference < 0.5 * whole.prompt_embeds.std()
    assert needs_of(part, stored=bits).text.weights < needs_of(part).text.weights


def test_without_bitsandbytes_its_kinds_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = part_of(build_wan(tmp_path / "wan"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert part.expert is not None
    with pytest.raises(MissingDependencyError, match=r"weights in int4 need bitsandbytes: pip install"):
        check_expert_settings(part.expert, dataclasses.replace(SETTINGS, weights="int4"))
