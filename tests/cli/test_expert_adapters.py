"""`--adapter translation=FILE` for experts: LoRA files of their families, in the formats that are in the wild."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, LTXPipeline, LTXVideoTransformer3DModel, WanPipeline, WanTransformer3DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from show1.experts.placing import add_loras
from show1.generation.run import Run
from show1.video import Video
from tests.cli.conftest import Show1
from tests.experts.tiny_experts import build_ltx
from tests.published_layout import T5_WIDTH

Layers = dict[str, Tensor]


def random_lora(network: torch.nn.Module, modules: list[str]) -> Layers:
    """Random weights of a LoRA of rank 2, by the names that peft gives them."""
    network.add_adapter(LoraConfig(r=2, target_modules=modules))
    generator = torch.Generator().manual_seed(0)
    found = get_peft_model_state_dict(network)
    return {name: torch.randn(weight.shape, generator=generator) for name, weight in found.items()}


@pytest.fixture(scope="session")
def lora(wan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA for the tiny Wan, as diffusers writes it."""
    layers = random_lora(WanTransformer3DModel.from_pretrained(wan / "transformer"), ["to_q", "to_v"])
    folder = tmp_path_factory.mktemp("lora")
    WanPipeline.save_lora_weights(folder, transformer_lora_layers=layers)
    return folder / "pytorch_lora_weights.safetensors"


def test_a_lora_of_the_experts_family(show1: Show1, cascade: Path, wan: Path, lora: Path, tmp_path: Path) -> None:
    command = ["refine", "clip.mkv", "-p", "a cat", "--expert", wan, "--seed", 1, "--dtype", "float32", "--quiet"]
    command += ["--set", "translation.height=16", "--set", "translation.width=16"]
    command += ["--set", "translation.num_inference_steps=3"]
    frames = np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), dtype=np.uint8)
    Video(frames=frames, fps=8.0).save("clip.mkv")
    shutil.copyfile(lora, "mine.safetensors")
    made = {}
    for name, adapters in {"none": [], "0": ["mine.safetensors:0"], "1": ["mine.safetensors"]}.items():
        options = [word for adapter in adapters for word in ("--adapter", f"translation={adapter}")]
        out = show1(*command, *options, "-o", f"{name}.mkv", "--run", name)
        assert out.code == 0, out.err
        made[name] = Run.open(name).load("translation")
    assert torch.equal(made["none"], made["0"]) and not torch.equal(made["none"], made["1"])
    (record,) = Video.load("1.mkv").metadata["model"]["adapters"]
    assert record["stage"] == "translation" and record["path"] == str(tmp_path / "mine.safetensors")
    assert Video.load("1.mkv").metadata["model"]["sha256"] != Video.load("none.mkv").metadata["model"]["sha256"]
    two = show1(*command, "--adapter", "translation=mine.safetensors:1:0.5", "-o", "x.mkv")
    assert two.code == 2 and "has one weight, for all noise levels" in two.err
    save_file({"some.lora_A.weight": torch.ones(2, 2), "some.lora_B.weight": torch.ones(2, 2)}, "other.safetensors")
    other = show1(*command, "--adapter", "translation=other.safetensors", "-o", "x.mkv")
    assert other.code == 1 and "other.safetensors" in other.err and "bug" not in other.err, other.err
    save_file({"some.weight": torch.ones(2, 2)}, "none.safetensors")
    assert "holds no LoRA" in show1(*command, "--adapter", "translation=none.safetensors", "-o", "x.mkv").err


WAN_NAMES = {
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}
"""Wan's own names of its layers, which other programs keep, by those of diffusers."""


def own_name(name: str) -> str:
    """Wan's own name of a layer."""
    for theirs, own in WAN_NAMES.items():
        name = name.replace(theirs, own)
    return name


def as_comfy(layers: Layers) -> Layers:
    """As ComfyUI's nodes and trainers name the layers, such as `diffusion_model.blocks.0.self_attn.q.lora_A.weight`."""
    return {f"diffusion_model.{own_name(name)}": weight for name, weight in layers.items()}


def with_scales(layers: Layers) -> Layers:
    """As above, with `lora_down` and `lora_up` and the scale `alpha / rank` of each layer."""
    return with_alphas(as_comfy(layers))


def as_musubi(layers: Layers) -> Layers:
    """As musubi-tuner writes them, after kohya's scripts: `lora_unet_blocks_0_self_attn_q.lora_down.weight`."""
    named = {}
    for name, weight in layers.items():
        layer, _, rest = name.partition(".lora_")
        named[f"lora_unet_{own_name(layer).replace('.', '_')}.lora_{rest}"] = weight
    return with_alphas(named)


def with_alphas(layers: Layers) -> Layers:
    """Renames A and B to down and up, and writes half of A twice as strongly scaled: the same change of the network."""
    out = {}
    for name, weight in layers.items():
        down = ".lora_A." in name
        out[name.replace(".lora_A.", ".lora_down.").replace(".lora_B.", ".lora_up.")] = weight / 2 if down else weight
        if down:
            out[f"{name.partition('.lora_A')[0]}.alpha"] = torch.tensor(4.0)
    return out


def noise_found(pipe: DiffusionPipeline, file: Path | None, **inputs: Any) -> Tensor:
    """What a pipeline's network finds with a LoRA, which is then taken out of it again."""
    add_loras(pipe, [] if file is None else [(file, 0.8)])
    with torch.no_grad():
        found = pipe.transformer(**inputs, return_dict=False)[0]
    if file is not None:
        pipe.unload_lora_weights()
    return found


@pytest.mark.parametrize("written", [as_comfy, with_scales, as_musubi])
def test_wan_takes_the_formats_of_other_programs(
    wan: Path, written: Callable[[Layers], Layers], tmp_path: Path
) -> None:
    network = WanTransformer3DModel.from_pretrained(wan / "transformer")
    layers = random_lora(WanTransformer3DModel.from_pretrained(wan / "transformer"), list(WAN_NAMES))
    save_file({f"transformer.{name}": weight for name, weight in layers.items()}, tmp_path / "diffusers.safetensors")
    save_file(written(layers), tmp_path / "other.safetensors")
    pipe = WanPipeline(tokenizer=None, text_encoder=None, vae=None, scheduler=None, transformer=network)
    inputs = {
        "hidden_states": torch.randn(1, 16, 2, 4, 4),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, 5, T5_WIDTH),
    }
    made = noise_found(pipe, tmp_path / "other.safetensors", **inputs)
    torch.testing.assert_close(made, noise_found(pipe, tmp_path / "diffusers.safetensors", **inputs))
    assert (made - noise_found(pipe, None, **inputs)).abs().max() > 1e-2


def test_ltx_takes_the_format_of_other_programs(tmp_path: Path) -> None:
    folder = build_ltx(tmp_path / "ltx") / "transformer"
    layers = random_lora(LTXVideoTransformer3DModel.from_pretrained(folder), ["to_q", "to_v"])
    save_file({f"transformer.{name}": weight for name, weight in layers.items()}, tmp_path / "diffusers.safetensors")
    save_file({f"diffusion_model.{name}": weight for name, weight in layers.items()}, tmp_path / "comfy.safetensors")
    network = LTXVideoTransformer3DModel.from_pretrained(folder)
    pipe = LTXPipeline(scheduler=None, vae=None, text_encoder=None, tokenizer=None, transformer=network)
    inputs = {
        "hidden_states": torch.randn(1, 8, 8),
        "encoder_hidden_states": torch.randn(1, 5, T5_WIDTH),
        "timestep": torch.tensor([500.0]),
        "encoder_attention_mask": torch.ones(1, 5),
        "num_frames": 2,
        "height": 2,
        "width": 2,
    }
    made = noise_found(pipe, tmp_path / "comfy.safetensors", **inputs)
    torch.testing.assert_close(made, noise_found(pipe, tmp_path / "diffusers.safetensors", **inputs))
    assert (made - noise_found(pipe, None, **inputs)).abs().max() > 1e-2
