"""Does it pay to reuse deep features between steps (DeepCache, arXiv:2312.00858)?

    python -m benchmarks deep_features             # what it saves, and alignment of keyframes of mini with it
    python -m benchmarks deep_features --counted   # only what it saves, on any machine, in a minute
    python -m benchmarks deep_features --write docs/samplers.md

At every Nth step the whole pixel UNet is computed. At the steps between, only its first level is: the down block of the
full resolution, and the last up block, which takes what the levels below gave at the last whole step. Fewer steps save
operations too, so a row without reuse that takes as many operations follows each row with it.
"""

import argparse
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gate import gate_table
from benchmarks.pages import Page, measured_on, write_option
from show1.checkpoints.loading import load_unet
from show1.checkpoints.locate import resolve
from show1.networks.unet_3d_condition import TextCache, UNet3DConditionModel
from show1.sprites.alignment.prompts import PromptSet
from show1.sprites.alignment.run import AlignmentPlan
from show1.training.presets import preset

VARIANTS: tuple[tuple[int, int], ...] = ((32, 1), (32, 2), (18, 1), (12, 1), (12, 2), (7, 1))
"""Steps of the keyframes, and at how many of them one is whole."""


SIZES: dict[str, tuple[int, int, int]] = {
    "keyframes": (8, 40, 64),
    "interpolation": (5, 40, 64),
    "super_resolution": (8, 160, 256),
}
"""Frames, height, and width of a call of the published networks."""


class DeepFeatures:
    """As long as it is entered, the levels of pixel UNets below the first are computed at every Nth step only."""

    def __init__(self, every: int) -> None:
        self.every = every
        self._step, self._timestep, self._call = 0, -1.0, 0
        self._kept: dict[tuple[int, torch.Size], Tensor] = {}
        self._patches = ExitStack()

    def __enter__(self) -> Self:
        forward = UNet3DConditionModel.forward
        whole = UNet3DConditionModel._run_blocks

        def watched(unet: UNet3DConditionModel, sample: Tensor, timestep: Any, *inputs: Any, **named: Any) -> Any:
            self._begin(float(torch.as_tensor(timestep).reshape(-1)[0]))
            return forward(unet, sample, timestep, *inputs, **named)

        def run_blocks(unet: UNet3DConditionModel, x: Tensor, temb: Tensor, text: TextCache, num_frames: int) -> Tensor:
            key = (self._call, x.shape)
            if self._step % self.every and key in self._kept:
                return first_level(unet, x, temb, text, num_frames, self._kept[key])

            def keep(_block: Any, inputs: tuple[Any, ...]) -> None:
                self._kept[key] = inputs[0]

            hook = unet.up_blocks[-1].register_forward_pre_hook(keep)
            try:
                return whole(unet, x, temb, text, num_frames)
            finally:
                hook.remove()

        self._patches.enter_context(patch.object(UNet3DConditionModel, "forward", watched))
        self._patches.enter_context(patch.object(UNet3DConditionModel, "_run_blocks", run_blocks))
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()

    def _begin(self, timestep: float) -> None:
        """Counts steps and the calls in a step; a timestep above the last one begins another video."""
        if timestep == self._timestep:
            self._call += 1
            return
        self._step = 0 if timestep > self._timestep else self._step + 1
        if self._step == 0:
            self._kept.clear()
        self._timestep, self._call = timestep, 0


def first_level(
    unet: UNet3DConditionModel, x: Tensor, temb: Tensor, text: TextCache, num_frames: int, deep: Tensor
) -> Tensor:
    """Computes what `UNet3DConditionModel._run_blocks` does, with the input of the last up block given."""
    x = unet.conv_in(2 * x - 1.0 if unet.config.center_input_sample else x)
    if unet.transformer_in is not None:
        x = unet.transformer_in(x, num_frames)
    _, more = unet.down_blocks[0](unet._add_place(x, 0), temb, text.down[0], num_frames)
    last: Any = unet.up_blocks[-1]
    used = [x, *more][: len(last.resnets)]
    x = last(deep, used, temb, text.up[-1], num_frames, None)
    out: Tensor = unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))
    return out


def shares() -> dict[str, float]:
    """Counts the operations of the first level, as a share of those of a whole call: published networks and `mini`."""
    found = {}
    for stage, size in SIZES.items():
        with torch.device("meta"):
            unet = UNet3DConditionModel(**preset("show-1").network(stage))
        found[f"published {stage}"] = share(unet, size)
    mini = load_unet(resolve("mini").parts["keyframes"].path / "unet", dtype=torch.float32, device="cpu")
    return {**found, "keyframes of mini": share(mini, (8, 20, 32))}


def share(unet: UNet3DConditionModel, size: tuple[int, int, int]) -> float:
    """Counts the operations of a call of the first level, as a share of those of a whole call.

    Args:
        unet: The network.
        size: Frames, height, and width of the video.
    """
    config, counts = unet.config, []
    device = next(unet.parameters()).device
    video = torch.zeros(2, config.in_channels, *size, device=device)
    text = torch.zeros(2, 77, config.encoder_hid_dim or config.cross_attention_dim, device=device)
    labels = torch.zeros(2, device=device) if config.class_embed_type else None
    with torch.no_grad(), DeepFeatures(2):
        cache = unet.encode_text(text)  # once for all steps
        for timestep in (1.0, 0.0):
            with FlopCounterMode(display=False) as counter:
                unet(video, timestep, class_labels=labels, text_cache=cache)
            counts.append(counter.get_total_flops())
    return counts[1] / counts[0]


def judged_table(variants: Sequence[tuple[int, int]], plan: AlignmentPlan, *, out: Path, dtype: str) -> str:
    """Judges keyframes of `mini` as `python -m benchmarks gate` does.

    Args:
        variants: Numbers of steps, and at how many of them one is whole.
        plan: Which videos are made.
        out: Where videos are kept.
        dtype: Precision.

    Returns:
        The gate's table in Markdown, with a row for each variant.
    """
    head: list[str] = []
    rows = []
    for steps, every in variants:
        with DeepFeatures(every):
            model = [f"mini keyframes.num_inference_steps={steps}"]
            *head, row, _, _ = gate_table(model, plan, out=out / f"every-{every}", dtype=dtype).splitlines()
        said = f"{steps} steps" if every == 1 else f"{steps} steps, {len(range(0, steps, every))} of them whole"
        rows.append(re.sub(r"^\| [^|]+", f"| {said} ", row))
    return "\n".join((*head, *rows, "", f"{measured_on()}; {dtype}"))


def main() -> None:
    """Prints the shares and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counted", action="store_true", help="judge no videos")
    parser.add_argument("--out", type=Path, default=Path("evaluations/deep_features"))
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--dtype", default="bfloat16")
    write_option(parser)
    arguments = parser.parse_args()
    page = Page(arguments.write, "deep features")
    for name, part in shares().items():
        print(f"{name}: the first level takes {100 * part:.0f} % of a call")
    if arguments.counted:
        return
    held_out: tuple[PromptSet, ...] = ("held_out",)
    plan = AlignmentPlan(sets=held_out, videos=arguments.videos, until="keyframes", batch_size=arguments.batch_size)
    text = judged_table(VARIANTS, plan, out=arguments.out, dtype=arguments.dtype)
    print(text)
    page.write("deep features", text)


if __name__ == "__main__":
    main()
