"""Times evaluations of the networks as the published run computes them against ours: the same mathematics.

    python -m benchmarks speed --quick       # mini's networks, random weights, in minutes on two cores
    python -m benchmarks speed               # also networks of the published shape at half width

Plain is the published way: eager, convolutions over frames as 3D ones, attention to the text frame by frame, the text
computed at every call, segments one by one. Both are timed in turn. Seconds are those of all cores, which other work on
the machine disturbs least; medians.
"""

import argparse
import copy
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet3DConditionModel as LatentUNet
from torch import Tensor, nn

from show1.networks import UNet3DConditionModel
from show1.networks.layers import use_frame_convolutions
from show1.runtime import choose_dtype
from show1.training.presets import preset

Call = Callable[[], Any]
Calls = Callable[[torch.dtype], tuple[Call, Call]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network with what a step of a run asks of it, both halves of guidance."""

    name: str
    calls: Calls
    """Makes the plain call and ours, in a precision."""


def pixel(
    config: dict[str, Any], shape: tuple[int, int, int], *, segments: int = 1
) -> Callable[..., tuple[Call, Call]]:
    """A pixel network on videos of (frames, height, width), of which plain takes one segment at a time."""

    def calls(dtype: torch.dtype) -> tuple[Call, Call]:
        unet = UNet3DConditionModel(**config).eval().to(dtype)
        plain_unet = copy.deepcopy(unet)
        plain_unet.use_published_order(True)
        noisy = torch.randn(2 * segments, config["in_channels"], *shape, dtype=dtype)
        states = torch.randn(2, 24, unet.config.encoder_hid_dim or config["cross_attention_dim"], dtype=dtype)
        level = {"class_labels": torch.full((2,), 250)} if config.get("class_embed_type") else {}
        cache = unet.encode_text(states.repeat(segments, 1, 1))
        levels = {name: value.repeat(segments) for name, value in level.items()}

        def plain() -> list[Tensor]:
            return [plain_unet(part, 500, states, **level).sample for part in noisy.split(2)]

        return plain, lambda: unet(noisy, 500, text_cache=cache, **levels)

    return calls


def latent(config: dict[str, Any], frames: int, height: int, width: int) -> Calls:
    """A latent network on latents of (frames, height, width)."""

    def calls(dtype: torch.dtype) -> tuple[Call, Call]:
        plain: nn.Module = LatentUNet(**config).eval().to(dtype)
        ours = copy.deepcopy(plain)
        use_frame_convolutions(ours)
        noisy = torch.randn(2, config["in_channels"], frames, height, width, dtype=dtype)
        text = torch.randn(2, 24, config["cross_attention_dim"], dtype=dtype)
        return lambda: plain(noisy, 500, text), lambda: ours(noisy, 500, text)

    return calls


def cases(quick: bool) -> Iterator[Case]:
    """What is timed."""
    mini = preset("mini")
    keyframes = mini.network("keyframes")
    yield Case(name="mini keyframes, 8x20x32", calls=pixel(keyframes, (8, 20, 32)))
    interpolation = {**mini.network("interpolation"), "in_channels": 7}
    yield Case(name="mini interpolation, 7 segments of 5x20x32", calls=pixel(interpolation, (5, 20, 32), segments=7))
    super_resolution = mini.network("super_resolution")
    yield Case(name="mini super-resolution, 8x80x128", calls=pixel(super_resolution, (8, 80, 128)))
    yield Case(name="mini translation, 29x20x32 latents", calls=latent(mini.network("translation"), 29, 20, 32))
    if not quick:
        config = preset("show-1").network("keyframes")
        half = {**config, "block_out_channels": [n // 2 for n in config["block_out_channels"]], "encoder_hid_dim": 512}
        half |= {"cross_attention_dim": 640}
        yield Case(name="published keyframes at half width, 8x20x32", calls=pixel(half, (8, 20, 32)))


def timed(calls: tuple[Call, Call], repeat: int) -> tuple[float, float]:
    """Median core seconds of two calls that are made in turn, after one of each to warm up."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeat + 1):
        for call, taken in zip(calls, seconds, strict=True):
            began = time.process_time()
            call()
            if turn:
                taken.append(time.process_time() - began)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def rows(case: Case, repeat: int) -> Iterator[str]:
    """Times a case: float32 against float32, bfloat16 against bfloat16, and as a user runs each."""
    own = choose_dtype(None, torch.device("cpu"))
    found = {}
    for dtype in dict.fromkeys((torch.float32, torch.bfloat16, own)):
        torch.manual_seed(0)
        found[dtype] = timed(case.calls(dtype), repeat)
        yield _row(case.name, f"{_name(dtype)} both", *found[dtype])
    yield _row(case.name, f"float32, {_name(own)}", found[torch.float32][0], found[own][1])


def _row(name: str, precision: str, plain: float, ours: float) -> str:
    return f"| {name} | {precision} | {plain * 1e3:.0f} | {ours * 1e3:.0f} | {plain / ours:.2f} |"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the networks of mini")
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    print("| network | precision of plain, ours | plain, core-ms | ours, core-ms | ratio |\n|---|---|---:|---:|---:|")
    with torch.inference_mode():
        for case in cases(arguments.quick):
            for row in rows(case, arguments.repeat):
                print(row, flush=True)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{platform.machine()}, {torch.get_num_threads()} threads, load {load}; torch {torch.__version__},")
    print(f"{datetime.date.today()}; random weights, medians of {arguments.repeat} calls in turn; same mathematics")


if __name__ == "__main__":
    main()
