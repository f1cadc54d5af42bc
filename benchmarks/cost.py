"""Counts what the published run costs: parameters, operations and bytes of each stage. Nothing is computed.

    python -m benchmarks cost            # a table in Markdown, in under a minute on any machine
    python -m benchmarks cost --preset efficient
    python -m benchmarks cost --json

The networks of the published sizes are built on the meta device and called once, with both halves of guidance. A
multiplication and an addition are two operations; what is not counted (normalisation, activations) is below 1 %. Bytes
are those of the weights in bfloat16.
"""

import argparse
import dataclasses
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers import UNet3DConditionModel as LatentUNet
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from benchmarks.claim.memory import CLIP, T5
from benchmarks.pages import Page, counted_on, write_option
from show1.config import PRESETS, PUBLISHED, CascadeSettings
from show1.diffusion import segments, sliding_windows
from show1.networks import UNet3DConditionModel
from show1.training.presets import preset

META = torch.device("meta")
FRAMES = 29
_NETWORKS = preset("show-1")
IMAGE: dict[str, Any] = {
    "sample_size": 256,
    "in_channels": 6,
    "out_channels": 6,
    "block_out_channels": [160, 320, 640, 960, 1280],
    "layers_per_block": [2, 2, 3, 5, 5],
    "down_block_types": ["ResnetDownsampleBlock2D"] * 3 + ["SimpleCrossAttnDownBlock2D"] * 2,
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ["SimpleCrossAttnUpBlock2D"] * 2 + ["ResnetUpsampleBlock2D"] * 3,
    "act_fn": "gelu",
    "cross_attention_dim": 1280,
    "encoder_hid_dim": 4096,
    "encoder_hid_dim_type": "text_proj",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 64,
    "attention_head_dim": 64,
    "class_embed_type": "timestep",
    "resnet_time_scale_shift": "scale_shift",
    "resnet_skip_time_act": True,
    "resnet_out_scale_factor": 1.414,
    "mid_block_scale_factor": 1.414,
    "cross_attention_norm": "group_norm",
}
"""DeepFloyd's IF-II-L, which makes the first frame: 1.188 billion parameters."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A network of the cascade, with one call of it."""

    stage: str
    """The stage that it belongs to."""
    network: str
    """What it is."""
    calls: int
    """Calls in a run of 29 frames."""
    build: Callable[[], nn.Module]
    """Makes it on the meta device."""
    call: Callable[[Any], object]
    """Calls it once."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """What a part costs."""

    stage: str
    network: str
    calls: int
    parameters: int
    weight_bytes: int
    """Of the weights in bfloat16."""
    operations: int
    """Of one call."""

    @property
    def total(self) -> int:
        """Operations of all calls."""
        return self.calls * self.operations


def _tokens() -> Tensor:
    return torch.zeros(2, 77, dtype=torch.long, device=META)


def _pixel(config: dict[str, Any], frames: int, height: int, width: int) -> Callable[[Any], object]:
    def call(unet: Any) -> object:
        labels = torch.zeros(2, device=META) if config.get("class_embed_type") else None
        noisy = torch.empty(2, config["in_channels"], frames, height, width, device=META)
        # the published code computes the keys and values of the text at every call for each frame, ours once
        repeated = torch.empty(2 * (frames - 1), 77, config["cross_attention_dim"], device=META)
        for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
            block.text_key_value(repeated)
        return unet(noisy, torch.zeros(2, device=META), torch.empty(2, 77, 4096, device=META), class_labels=labels)

    return call


def _image(unet: Any) -> object:
    text, zeros = torch.empty(2, 77, 4096, device=META), torch.zeros(2, device=META)
    return unet(torch.empty(2, 6, 160, 256, device=META), zeros, text, class_labels=zeros)


def _expert(unet: Any) -> object:
    text = torch.empty(2, 77, 1024, device=META)
    return unet(torch.empty(2, 4, FRAMES, 40, 72, device=META), torch.zeros(2, device=META), text)


def parts(settings: CascadeSettings = PUBLISHED) -> list[Part]:
    """The networks of the published cascade, in order, with their calls in a run with some settings."""
    config = {stage: _NETWORKS.network(stage) for stage in ("keyframes", "interpolation", "super_resolution")}
    vae = _NETWORKS.network("vae")
    gaps = len(segments(settings.keyframes.num_frames, settings.interpolation.factor))
    windows = len(sliding_windows(FRAMES, settings.super_resolution.window, settings.super_resolution.stride))
    assert settings.super_resolution.first_frame is not None
    expert_steps = int(settings.translation.num_inference_steps * settings.translation.strength)
    t5 = T5Config(**T5, feed_forward_proj="gated-gelu", vocab_size=32128)
    steps = {"keyframes": settings.keyframes.num_inference_steps}
    steps["interpolation"] = gaps * settings.interpolation.num_inference_steps
    steps["super_resolution"] = windows * settings.super_resolution.num_inference_steps
    sizes = {"keyframes": (8, 40, 64), "interpolation": (5, 40, 64), "super_resolution": (8, 160, 256)}
    pixels = {
        stage: Part(
            stage=stage,
            network="pixel UNet",
            calls=steps[stage],
            build=lambda stage=stage: UNet3DConditionModel(**config[stage]),  # type: ignore[misc]
            call=_pixel(config[stage], *size),
        )
        for stage, size in sizes.items()
    }
    return [
        Part(stage="text", network="T5-XXL", calls=1, build=lambda: T5EncoderModel(t5), call=lambda n: n(_tokens())),
        Part(
            stage="text",
            network="CLIP",
            calls=1,
            build=lambda: CLIPTextModel(CLIPTextConfig(**CLIP)),
            call=lambda n: n(_tokens()),
        ),
        pixels["keyframes"],
        pixels["interpolation"],
        Part(
            stage="first frame",
            network="image UNet",
            calls=settings.super_resolution.first_frame.num_inference_steps,
            build=lambda: UNet2DConditionModel(**IMAGE),
            call=_image,
        ),
        pixels["super_resolution"],
        Part(
            stage="translation",
            network="latent UNet",
            calls=expert_steps,
            build=lambda: LatentUNet(**_NETWORKS.network("translation")),
            call=_expert,
        ),
        Part(
            stage="translation",
            network="VAE, encoding a frame",
            calls=FRAMES,
            build=lambda: AutoencoderKL(**vae),
            call=lambda n: n.encode(torch.empty(1, 3, 320, 576, device=META)),
        ),
        Part(
            stage="translation",
            network="VAE, decoding a frame",
            calls=FRAMES,
            build=lambda: AutoencoderKL(**vae),
            call=lambda n: n.decode(torch.empty(1, 4, 40, 72, device=META)),
        ),
    ]


def count(part: Part) -> Count:
    """Counts one part."""
    with META:
        network = part.build().eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        part.call(network)
    parameters = sum(p.numel() for p in network.parameters())
    return Count(
        stage=part.stage,
        network=part.network,
        calls=part.calls,
        parameters=parameters,
        weight_bytes=2 * parameters,
        operations=counter.get_total_flops(),
    )


def table(counts: list[Count]) -> str:
    """The counts in Markdown."""
    whole = sum(each.total for each in counts)
    lines = ["| stage | network | parameters, billions | weights, GB | calls | TFLOP each | PFLOP | share, % |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|")
    for each in counts:
        numbers = f"{each.parameters / 1e9:.3f} | {each.weight_bytes / 1e9:.2f} | {each.calls}"
        work = f"{each.operations / 1e12:.2f} | {each.total / 1e15:.3f} | {100 * each.total / whole:.1f}"
        lines.append(f"| {each.stage} | {each.network} | {numbers} | {work} |")
    calls = sum(each.calls for each in counts if "UNet" in each.network)
    lines.append(f"| all | | | | {calls} of UNets | | {whole / 1e15:.2f} | 100 |")
    return "\n".join(lines)


def main() -> None:
    """Prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--preset", choices=PRESETS, default="published", help="steps of each stage")
    write_option(parser)
    arguments = parser.parse_args()
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    name = f"cost, {arguments.preset}"
    page = Page(arguments.write, name)
    counts = [count(part) for part in parts(PUBLISHED.replace(**PRESETS[arguments.preset]))]
    if arguments.json:
        print(json.dumps([dataclasses.asdict(each) for each in counts], indent=2))
        return
    text = f"{table(counts)}\n\ncounted on the meta device, {counted_on()}"
    print(text)
    page.write(name, text)


if __name__ == "__main__":
    main()
