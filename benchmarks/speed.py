"""Times the networks, and a whole generation, as the published run computes them against ours: the same mathematics.

    python -m benchmarks speed --quick       # mini's networks and a whole run of mini, in minutes on two cores
    python -m benchmarks speed               # also networks of the published shapes at half width
    python -m benchmarks speed --only expert --only whole --repeat 3 --write docs/speed.md

Of a page, `--write` replaces the rows of what was timed; with `--quick` or `--only`, other networks keep theirs.
Plain is the published way (`benchmarks.plain`). Both are timed in turn, A B A B. Seconds are those of all cores, which
other work on the machine disturbs least; medians. Weights are random where a single evaluation is timed, and `mini`'s
own in the whole run, of which each is a process of its own.
"""

import argparse
import copy
import itertools
import logging
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet3DConditionModel as LatentUNet
from torch import Tensor, nn

from benchmarks.pages import Page, measured_on, merged, times, write_option
from benchmarks.plain import plain, text_of_frames
from benchmarks.whole import whole_table
from show1.networks import UNet3DConditionModel
from show1.networks.layers import use_frame_convolutions
from show1.runtime import choose_dtype
from show1.training.presets import preset

Call = Callable[[], Any]
Calls = Callable[[torch.dtype], tuple[Call, Call]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network with what a step of a run asks of it, both halves of guidance."""

    stage: str
    """Name of the stage, for the command line."""
    name: str
    calls: Calls
    """Makes the plain call and ours, in a precision."""


def pixel(config: dict[str, Any], shape: tuple[int, int, int], *, segments: int = 1, tokens: int = 24) -> Calls:
    """A pixel network on videos of (frames, height, width), of which plain takes one segment at a time."""

    def calls(dtype: torch.dtype) -> tuple[Call, Call]:
        unet = UNet3DConditionModel(**config).eval().to(dtype)
        noisy = torch.randn(2 * segments, config["in_channels"], *shape, dtype=dtype)
        states = torch.randn(2, tokens, unet.config.encoder_hid_dim or config["cross_attention_dim"], dtype=dtype)
        level = {"class_labels": torch.full((2,), 250)} if config.get("class_embed_type") else {}
        cache = unet.encode_text(states.repeat(segments, 1, 1))
        levels = {name: value.repeat(segments) for name, value in level.items()}

        def published() -> list[Tensor]:
            with plain():
                return [
                    unet(part, 500, text_cache=text_of_frames(unet, states, shape[0]), **level).sample
                    for part in torch.split(noisy, 2)
                ]

        return published, lambda: unet(noisy, 500, text_cache=cache, **levels)

    return calls


def latent(config: dict[str, Any], frames: int, height: int, width: int, *, tokens: int = 24) -> Calls:
    """A latent network on latents of (frames, height, width)."""

    def calls(dtype: torch.dtype) -> tuple[Call, Call]:
        published: nn.Module = LatentUNet(**config).eval().to(dtype)
        # the layers differ, the weights are shared
        ours = copy.deepcopy(published, {id(p): p for p in published.parameters()})
        use_frame_convolutions(ours)
        noisy = torch.randn(2, config["in_channels"], frames, height, width, dtype=dtype)
        text = torch.randn(2, tokens, config["cross_attention_dim"], dtype=dtype)
        return lambda: published(noisy, 500, text), lambda: ours(noisy, 500, text)

    return calls


def halved(stage: str) -> dict[str, Any]:
    """The published network of a stage at half width."""
    config = preset("show-1").network(stage)
    channels = [n // 2 for n in config["block_out_channels"]]
    return config | {"block_out_channels": channels, "cross_attention_dim": config["cross_attention_dim"] // 2}


def cases(quick: bool) -> Iterator[Case]:
    """What is timed."""
    mini = preset("mini")
    interpolation = {**mini.network("interpolation"), "in_channels": 7}
    yield Case(stage="keyframes", name="mini keyframes, 8x20x32", calls=pixel(mini.network("keyframes"), (8, 20, 32)))
    yield Case(
        stage="interpolation",
        name="mini interpolation, 7 segments of 5x20x32",
        calls=pixel(interpolation, (5, 20, 32), segments=7),
    )
    yield Case(
        stage="super_resolution",
        name="mini super-resolution, 8x80x128",
        calls=pixel(mini.network("super_resolution"), (8, 80, 128)),
    )
    yield Case(
        stage="expert",
        name="mini expert, 29x20x32 latents",
        calls=latent(mini.network("translation"), 29, 20, 32),
    )
    if quick:
        return
    yield Case(
        stage="keyframes",
        name="half-width keyframes, 8x20x32",
        calls=pixel(halved("keyframes"), (8, 20, 32), tokens=77),
    )
    yield Case(
        stage="interpolation",
        name="half-width interpolation, 7 segments of 5x20x32",
        calls=pixel(halved("interpolation"), (5, 20, 32), segments=7, tokens=77),
    )
    yield Case(
        stage="super_resolution",
        name="half-width super-resolution, 8x80x128",
        calls=pixel(halved("super_resolution"), (8, 80, 128), tokens=77),
    )
    yield Case(
        stage="expert",
        name="half-width expert, 29x20x36 latents",
        calls=latent(halved("translation"), 29, 20, 36, tokens=77),
    )


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


def evaluations_table(quick: bool, stages: list[str], repeat: int) -> str:
    """Times the cases of some stages, printing rows as they come."""
    lines = [
        "| network | precision of plain, ours | plain, core-ms | ours, core-ms | ratio |\n|---|---|---:|---:|---:|"
    ]
    print(lines[0])
    with torch.inference_mode():
        for row in itertools.chain(*(rows(case, repeat) for case in cases(quick) if case.stage in stages)):
            lines.append(row)
            print(row, flush=True)
    lines.append(f"\n{measured_on()}; random weights, {times(repeat, 'call')}")
    print(lines[-1])
    return "\n".join(lines)


STAGES = ("keyframes", "interpolation", "super_resolution", "expert")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only mini, and the whole run once")
    parser.add_argument("--only", action="append", choices=[*STAGES, "whole"], help="only evaluations of this stage")
    parser.add_argument("--repeat", type=int, default=5)
    write_option(parser)
    arguments = parser.parse_args()
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    chosen = arguments.only or [*STAGES, "whole"]
    repeat = min(arguments.repeat, 3) if arguments.quick else arguments.repeat
    stages = [stage for stage in STAGES if stage in chosen]
    asked = {"evaluations": bool(stages), "whole run": "whole" in chosen}
    page = Page(arguments.write, *(name for name, wanted in asked.items() if wanted))
    if stages:
        table = evaluations_table(arguments.quick, stages, repeat)
        some = arguments.quick or len(stages) < len(STAGES)
        page.write("evaluations", merged(page.table("evaluations"), table) if some else table)
    if "whole" in chosen:
        print()
        table = whole_table(1 if arguments.quick else repeat)
        print(table)
        page.write("whole run", table)


if __name__ == "__main__":
    main()
