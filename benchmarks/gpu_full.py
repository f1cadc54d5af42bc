"""Runs the whole cascade at the published sizes on a GPU, with random weights: time and memory, never quality.

    python -m benchmarks gpu_full                          # one command without network, minutes on an H100
    python -m benchmarks gpu_full --write docs/speed.md

All networks of the published shapes are drawn on the device, one stage at a time, and the stages run with the published
settings. Beside it, a few steps of each stage are computed in the plain way (`benchmarks.plain`) and in ours, in turn.
Without a GPU it prints what the run would compute, counted, and measures nothing.
"""

import argparse
import dataclasses
import logging
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers import UNet3DConditionModel as LatentUNet
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from benchmarks.claim.memory import CLIP, T5
from benchmarks.cost import IMAGE, count, parts, table
from benchmarks.pages import Page, measured_on, write_option
from benchmarks.plain import plain, plain_settings
from benchmarks.whole import Evaluations
from show1.config import PUBLISHED, CascadeSettings, StageName
from show1.diffusion import IndependentSeeds
from show1.networks import UNet3DConditionModel
from show1.networks.layers import use_frame_convolutions
from show1.runtime import choose_dtype, empty_cache
from show1.runtime.accounting import measure
from show1.stages import InterpolationStage, KeyframesStage, PromptEmbeddings, SuperResolutionStage, TranslationStage
from show1.stages.first_frame import DeepFloydFirstFrame
from show1.training.presets import preset

PIXEL_SCHEDULE: dict[str, Any] = {
    "_class_name": "DPMSolverMultistepScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "lambda_min_clipped": -5.1,
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.95,
    "sample_max_value": 1.5,
}
LATENT_SCHEDULE: dict[str, Any] = {
    "_class_name": "DPMSolverMultistepScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
}
IMAGE_SCHEDULE: dict[str, Any] = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "variance_type": "learned_range",
    "thresholding": True,
    "clip_sample": False,
}
FEW_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The networks of a cascade, and the settings that they run with."""

    networks: dict[str, Callable[[], nn.Module]]
    """`T5`, `CLIP`, `first_frame`, `vae`, and a UNet for each stage by its name."""
    settings: CascadeSettings


def published() -> Sizes:
    """The published sizes."""
    networks = preset("show-1")
    t5 = T5Config(**T5, feed_forward_proj="gated-gelu", vocab_size=32128)
    return Sizes(
        networks={
            "T5": lambda: T5EncoderModel(t5),
            "keyframes": lambda: UNet3DConditionModel(**networks.network("keyframes")),
            "interpolation": lambda: UNet3DConditionModel(**networks.network("interpolation")),
            "first_frame": lambda: UNet2DConditionModel(**IMAGE),
            "super_resolution": lambda: UNet3DConditionModel(**networks.network("super_resolution")),
            "CLIP": lambda: CLIPTextModel(CLIPTextConfig(**CLIP)),
            "translation": lambda: LatentUNet(**networks.network("translation")),
            "vae": lambda: AutoencoderKL(**networks.network("vae")),
        },
        settings=PUBLISHED,
    )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a stage took."""

    name: str
    evaluations: int
    """Samples that went through networks which denoise."""
    seconds: float
    """Wall-clock time, without the making of the networks."""
    peak: int
    """Bytes at the peak: allocations on CUDA, otherwise the process."""
    plain: float
    """Seconds of a few steps in the plain way."""
    ours: float
    """Seconds of the same steps in ours."""


class Runner:
    """Runs the stages of a cascade with random weights one after another."""

    def __init__(self, sizes: Sizes, device: torch.device, dtype: torch.dtype) -> None:
        self.sizes, self.device, self.dtype = sizes, device, dtype
        self.evaluations = Evaluations()
        self.seeds = IndependentSeeds([1])

    def run(self) -> Iterator[Measured]:
        """Runs all parts in order; frees each before the next."""
        states = {}
        for name in ("T5", "CLIP"):
            network: Any = self._draw(name)
            tokens = torch.ones(2, self.sizes.settings.max_text_tokens, dtype=torch.long, device=self.device)
            with self._measured(name) as found:
                negative, positive = network(input_ids=tokens).last_hidden_state.float().cpu().split(1)
            states[name] = PromptEmbeddings(prompt_embeds=positive, negative_prompt_embeds=negative)
            del network
            yield found()
        video: Tensor | None = None
        for stage_name in ("keyframes", "interpolation", "super_resolution", "translation"):
            stage, prompts = self._stage(stage_name), states["CLIP" if stage_name == "translation" else "T5"]
            given, settings = video, getattr(self.sizes.settings, stage_name)
            with self.evaluations, self._measured(stage_name) as found:
                video = stage(given, prompts, seeds=self.seeds, settings=settings)
            compared = self._compared(stage_name, stage, given, prompts)
            del stage
            if not bool(torch.isfinite(video).all()):
                raise SystemExit(f"{stage_name} computed numbers that are not finite")
            yield found(*compared)

    def _stage(self, name: StageName) -> Any:
        unet = self._draw(name)
        if name == "keyframes":
            return KeyframesStage(unet, PIXEL_SCHEDULE)
        if name == "interpolation":
            return InterpolationStage(unet, PIXEL_SCHEDULE)
        if name == "super_resolution":
            first = DeepFloydFirstFrame(self._draw("first_frame"), IMAGE_SCHEDULE)
            return SuperResolutionStage(unet, PIXEL_SCHEDULE, first_frame=first)
        use_frame_convolutions(unet)
        return TranslationStage(unet, self._draw("vae"), LATENT_SCHEDULE)

    def _draw(self, name: str) -> nn.Module:
        """Makes a network with random weights on the device, in its precision."""
        empty_cache(self.device)
        usual = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with self.device:
                return self.sizes.networks[name]().eval()
        finally:
            torch.set_default_dtype(usual)

    def _compared(
        self, name: StageName, stage: Any, video: Tensor | None, prompts: PromptEmbeddings
    ) -> tuple[float, float]:
        """Seconds of a few steps, plain and ours: medians of three in turn, after one of each."""
        few: dict[str, Any] = {"num_inference_steps": FEW_STEPS}
        if name == "super_resolution":  # one window, without the first frame's own network
            few["first_frame"] = None
            video = None if video is None else video[:, :, : self.sizes.settings.super_resolution.window]
        settings = self.sizes.settings.replace(**{name: few})
        taken: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(4):
            for is_plain, seconds in taken.items():
                own = getattr(plain_settings(settings) if is_plain else settings, name)
                with plain() if is_plain else nullcontext():
                    began = time.perf_counter()
                    stage(video, prompts, seeds=self.seeds, settings=own)
                    if turn:
                        seconds.append(time.perf_counter() - began)
        return statistics.median(taken[True]), statistics.median(taken[False])

    @contextmanager
    def _measured(self, name: str) -> Iterator[Callable[..., Measured]]:
        before = self.evaluations.count
        with measure(self.device) as cost, torch.no_grad():
            yield lambda plain=0.0, ours=0.0: Measured(
                name=name, evaluations=done, seconds=cost.seconds, peak=cost.peak_memory, plain=plain, ours=ours
            )
        done = self.evaluations.count - before


def report(found: list[Measured]) -> str:
    """What was measured, in Markdown."""
    lines = [f"| part | evaluations | seconds | peak, GB | {FEW_STEPS} steps, plain, s | ours, s | ratio |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for each in found:
        compared = f"{each.plain:.2f} | {each.ours:.2f} | {each.plain / each.ours:.2f}" if each.ours else " | | "
        lines.append(f"| {each.name} | {each.evaluations} | {each.seconds:.1f} | {each.peak / 1e9:.2f} | {compared} |")
    evaluations, seconds = sum(m.evaluations for m in found), sum(m.seconds for m in found)
    lines.append(f"| all | {evaluations} | {seconds:.1f} | {max(m.peak for m in found) / 1e9:.2f} | | | |")
    return "\n".join(lines)


def main() -> None:
    """Runs or counts, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    write_option(parser)
    arguments = parser.parse_args()
    page = Page(arguments.write, "published sizes")
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    if torch.cuda.is_available():
        device = torch.device("cuda")
        dtype = choose_dtype(None, device)
        torch.manual_seed(0)
        began = time.perf_counter()
        text = report(list(Runner(published(), device, dtype).run()))
        where = f"{torch.cuda.get_device_name()}, {str(dtype).removeprefix('torch.')}; {measured_on()}"
        text += f"\n\n{where}; random weights; {time.perf_counter() - began:.0f} s for the whole command"
    else:
        text = f"{table([count(part) for part in parts()])}\n\nThis machine has no GPU: counted, not measured."
        text += f" {dataclasses.asdict(PUBLISHED)['max_text_tokens']} tokens of text, torch {torch.__version__}."
    print(text)
    page.write("published sizes", text)


if __name__ == "__main__":
    main()
