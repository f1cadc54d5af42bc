"""Peak memory of five ways to high resolution, with networks of the published sizes and random weights.

    python -m benchmarks.claim.memory              # the allocator's arithmetic on fake tensors, on any machine
    python -m benchmarks.claim.memory --measure    # the same calls on a GPU, with their time

Each way is a list of networks that are in memory one after another (float16); a call has both halves of guidance.
Nothing is computed on fake tensors, so kernels' own workspaces are not counted.
"""

import argparse
import contextlib
import datetime
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers import UNet3DConditionModel as LatentUNet
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from show1.networks import UNet3DConditionModel
from show1.training.presets import preset

HALF = torch.float16
_PUBLISHED = preset("show-1")
_SUPER_RESOLUTION = _PUBLISHED.network("super_resolution")
T5: dict[str, Any] = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
CLIP: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "projection_dim": 512,
}


@dataclass(frozen=True)
class Part:
    """A network with the call that needs most memory."""

    build: Callable[[], nn.Module]
    call: Callable[[Any, torch.device], object]


def _tokens(device: torch.device) -> Tensor:
    return torch.ones(2, 77, dtype=torch.long, device=device)


def _pixel(config: dict[str, Any], frames: int, height: int, width: int) -> Part:
    def call(unet: Any, device: torch.device) -> object:
        noisy = torch.empty(2, config["in_channels"], frames, height, width, dtype=HALF, device=device)
        text = torch.empty(2, 77, 4096, dtype=HALF, device=device)
        steps = torch.full((2,), 500, device=device)
        labels = {"class_labels": steps} if config.get("class_embed_type") else {}
        return unet(noisy, steps, encoder_hidden_states=text, return_dict=False, **labels)

    return Part(lambda: UNet3DConditionModel(**config), call)


def _latent(frames: int, height: int, width: int) -> Part:
    def call(unet: Any, device: torch.device) -> object:
        noisy = torch.empty(2, 4, frames, height // 8, width // 8, dtype=HALF, device=device)
        text = torch.empty(2, 77, 1024, dtype=HALF, device=device)
        return unet(noisy, torch.tensor(500, device=device), encoder_hidden_states=text, return_dict=False)

    return Part(lambda: LatentUNet(**_PUBLISHED.network("translation")), call)


def _vae(height: int, width: int) -> Part:
    """One frame at a time, as the translation stage decodes."""

    def call(vae: Any, device: torch.device) -> object:
        return vae.decode(torch.empty(1, 4, height // 8, width // 8, dtype=HALF, device=device), return_dict=False)

    return Part(lambda: AutoencoderKL(**_PUBLISHED.network("vae")), call)


PARTS = {
    "T5-XXL": Part(
        lambda: T5EncoderModel(T5Config(**T5, feed_forward_proj="gated-gelu", vocab_size=32128)),
        lambda net, device: net(input_ids=_tokens(device)),
    ),
    "CLIP text": Part(
        lambda: CLIPTextModel(CLIPTextConfig(**CLIP)), lambda net, device: net(input_ids=_tokens(device))
    ),
    "keyframes 8x40x64": _pixel(_PUBLISHED.network("keyframes"), 8, 40, 64),
    "interpolation 5x40x64": _pixel(_PUBLISHED.network("interpolation"), 5, 40, 64),
    "super-resolution 8x160x256": _pixel(_SUPER_RESOLUTION, 8, 160, 256),
    "pixel last stage 8x320x576": _pixel(_SUPER_RESOLUTION, 8, 320, 576),
    "pixel last stage 29x320x576, no windows": _pixel(_SUPER_RESOLUTION, 29, 320, 576),
    "expert 29x320x576": _latent(29, 320, 576),
    "VAE decoder, a frame of 320x576": _vae(320, 576),
}
_CASCADE = ("T5-XXL", "keyframes 8x40x64", "interpolation 5x40x64", "super-resolution 8x160x256")
_EXPERT = ("CLIP text", "expert 29x320x576", "VAE decoder, a frame of 320x576")
ARMS = {
    "hybrid": (*_CASCADE, *_EXPERT),
    "latent only": _EXPERT,
    "pixel only, windows of 8 frames": (*_CASCADE, "pixel last stage 8x320x576"),
    "pixel only, all frames at once": (*_CASCADE, "pixel last stage 29x320x576, no windows"),
    "hybrid, expert of all noise levels": (*_CASCADE, *_EXPERT),
    "plain upscaling": _CASCADE,
}


@contextlib.contextmanager
def _fresh_half() -> Iterator[None]:
    torch.set_default_dtype(HALF)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def traced(part: Part) -> tuple[int, int, float]:
    """Bytes of the weights and of the peak, by the allocator's arithmetic; no time."""
    device = torch.device("cpu")
    with FakeTensorMode():
        with _fresh_half():
            network = part.build().eval()
        tracker = MemTracker()
        tracker.track_external(network)
        with tracker, torch.no_grad():
            part.call(network, device)
        weights = sum(p.numel() * p.element_size() for p in network.parameters())
        peak = sum(snapshot["Total"] for snapshot in tracker.get_tracker_snapshot("peak").values())
    return weights, int(peak), math.nan


def measured(part: Part) -> tuple[int, int, float]:
    """Bytes of the weights and of the peak, as CUDA's allocator counts them, and seconds of a call after the first."""
    device = torch.device("cuda")
    torch.cuda.empty_cache()
    with _fresh_half(), device:
        network = part.build().eval()
    weights = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.no_grad():
        part.call(network, device)
        peak = torch.cuda.max_memory_allocated()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(3):
            part.call(network, device)
        torch.cuda.synchronize()
    return weights, peak, (time.perf_counter() - start) / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure on a CUDA device instead")
    arguments = parser.parse_args()
    costs = {name: (measured if arguments.measure else traced)(part) for name, part in PARTS.items()}
    print("| network | weights, GB | peak of a call, GB | ms of a call |\n|---|---:|---:|---:|")
    for name, (weights, peak, seconds) in costs.items():
        print(f"| {name} | {weights / 1e9:.2f} | {peak / 1e9:.2f} | {seconds * 1e3:.0f} |")
    print("\n| way | peak, GB | where |\n|---|---:|---|")
    for arm, names in ARMS.items():
        where = max(names, key=lambda name: costs[name][1])
        print(f"| {arm} | {costs[where][1] / 1e9:.2f} | {where} |")
    how = f"measured on {torch.cuda.get_device_name()}" if arguments.measure else "computed on fake tensors"
    print(f"\n{how}, float16, random weights; torch {torch.__version__}, {datetime.date.today()}")


if __name__ == "__main__":
    main()
