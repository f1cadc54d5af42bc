"""How well does interpolation, or super-resolution, do its own part? Scores against ground truth.

    python scripts/stage_errors.py src/show1/weights/mini/interpolation 1 2 6
    python scripts/stage_errors.py training-runs/super_resolution/export 2 4 --noise-level 0

The stage gets keyframes, or clips of 20x32, that the sprite world rendered, as they are and corrupted as training
corrupts them (`show1.training.corruption`), and makes of them what `mini` does. Beside it stands what needs no network:
the linear blend of neighbouring keyframes, or plain upscaling. Errors and flicker are in 8-bit levels; sharpness and
flicker are those of `show1 evaluate alignment`.
"""

import argparse
import datetime
import platform
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from expert_settings import FRAMES, TINY, scored
from torch import Tensor

from show1.config import InterpolationSettings, SuperResolutionSettings
from show1.data.captions import caption
from show1.data.sprites import SpriteWorld, frame_times, render_tensor
from show1.diffusion import IndependentSeeds
from show1.evaluation.reader import SpriteReader
from show1.models import UNet3DConditionModel
from show1.stages import InterpolationStage, SuperResolutionStage
from show1.stages.base import PromptEmbeddings
from show1.stages.super_resolution import upsample
from show1.training.corruption import LOW, corrupted
from show1.training.tasks import TextConditioner

HIGH, FACTOR = (80, 128), 4


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", type=Path, help="folder of a stage")
    parser.add_argument("steps", type=int, nargs="+")
    parser.add_argument("--text", type=Path, default=Path("src/show1/weights/mini/keyframes"))
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--noise-level", type=int, default=0, help="of the condition of super-resolution")
    arguments = parser.parse_args()
    world = SpriteWorld(seed=78)
    scenes = [world.scene(i) for i in range(arguments.videos)]
    tiny, large = (torch.stack([render_tensor(s, frame_times(FRAMES), *size) for s in scenes]) for size in (TINY, HIGH))
    text = TextConditioner.from_folder(arguments.text)
    captions = [caption(scene) for scene in scenes]
    empty = text([""]).expand(len(scenes), -1, -1)
    prompts = PromptEmbeddings(prompt_embeds=text(captions), negative_prompt_embeds=empty)
    seeds = IndependentSeeds(list(range(len(scenes))))

    fills_in = UNet3DConditionModel.load_config(arguments.stage / "unet")["in_channels"] == 7
    given, wanted = (tiny[:, :, ::FACTOR], tiny) if fills_in else (tiny, large)
    if fills_in:
        interpolation = InterpolationStage.from_folder(arguments.stage)
    else:
        super_resolution = SuperResolutionStage.from_folder(arguments.stage)

    def plain(video: Tensor) -> Tensor:
        if not fills_in:
            return upsample(video, *HIGH)
        return F.interpolate(video, size=(FRAMES, *TINY), mode="trilinear", align_corners=True)

    def made(video: Tensor, steps: int) -> Tensor:
        if fills_in:
            filling = InterpolationSettings(num_inference_steps=steps, guidance_scale=1.0, factor=FACTOR)
            return interpolation(video, prompts, seeds=seeds, settings=filling)
        height, width = HIGH
        upscaling = SuperResolutionSettings(
            num_inference_steps=steps,
            guidance_scale=1.0,
            height=height,
            width=width,
            noise_level=arguments.noise_level,
        )
        return super_resolution(video, prompts, seeds=seeds, settings=upscaling)

    reader = SpriteReader.trained()
    torch.manual_seed(0)
    print("| given | made by | error | sharpness | flicker | seconds |\n|---|---|---:|---:|---:|---:|")
    for name, video in {"ground truth": given, "corrupted": corrupted(given, LOW)}.items():
        for steps in (0, *arguments.steps):
            began = time.perf_counter()
            clips = made(video, steps) if steps else plain(video)
            seconds = time.perf_counter() - began
            how = f"{steps} steps" if steps else ("linear blend" if fills_in else "upscaling")
            print(f"| {name} | {how} | {' | '.join(scored(clips, wanted, reader))} | {seconds:.1f} |", flush=True)
    print(f"\n{len(scenes)} clips, {platform.machine()}, torch {torch.__version__}, {datetime.date.today()}.")


if __name__ == "__main__":
    main()
