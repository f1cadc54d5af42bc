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
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from expert_settings import FRAMES, HEADER, TINY, encoded, scenes, scored
from torch import Tensor

from show1.checkpoints.locate import embedded_folder
from show1.checkpoints.weight_files import read_json
from show1.cli.failures import run_script
from show1.config import InterpolationSettings, StageName, SuperResolutionSettings
from show1.diffusion import IndependentSeeds
from show1.sprites.alignment.judge import SceneJudge
from show1.stages import load_stage
from show1.stages.super_resolution import upsample
from show1.training.corruption import LOW, corrupted
from show1.training.tasks.text_conditioner import TextConditioner

HIGH, FACTOR = (80, 128), 4


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", type=Path, help="folder of a stage")
    parser.add_argument("steps", type=int, nargs="+")
    parser.add_argument("--text", type=Path, default=embedded_folder() / "keyframes")
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--noise-level", type=int, default=0, help="noise level of the condition of super-resolution")
    arguments = parser.parse_args()
    captions, tiny, large = scenes(arguments.videos, HIGH, seed=78)
    prompts = encoded(TextConditioner.from_folder(arguments.text), captions)
    seeds = IndependentSeeds(list(range(len(captions))))
    name: StageName
    settings: InterpolationSettings | SuperResolutionSettings
    if read_json(arguments.stage / "unet" / "config.json").get("in_channels") == 7:
        name, given, wanted, plain = "interpolation", tiny[:, :, ::FACTOR], tiny, "linear blend"
        settings = InterpolationSettings(guidance_scale=1.0, factor=FACTOR)
    else:
        name, given, wanted, plain = "super_resolution", tiny, large, "upscaling"
        settings = SuperResolutionSettings(
            guidance_scale=1.0, height=HIGH[0], width=HIGH[1], noise_level=arguments.noise_level
        )
    stage = load_stage(name, arguments.stage)

    def make(video: Tensor, steps: int) -> Tensor:
        """What the stage makes; without steps, what needs no network: (N, 3, F, h, w) -> (N, 3, F', H, W)."""
        if steps:
            return stage(video, prompts, seeds=seeds, settings=replace(settings, num_inference_steps=steps))
        if name == "interpolation":
            return F.interpolate(video, size=(FRAMES, *TINY), mode="trilinear", align_corners=True)
        return upsample(video, *HIGH)

    judge = SceneJudge()
    torch.manual_seed(0)
    print(f"| given | made by | {HEADER} | seconds |\n|---|---|---:|---:|---:|---:|---:|")
    for name, video in {"ground truth": given, "corrupted": corrupted(given, LOW)}.items():
        for steps in (0, *arguments.steps):
            began = time.perf_counter()
            clips = make(video, steps)
            seconds = time.perf_counter() - began
            how = f"{steps} steps" if steps else plain
            print(f"| {name} | {how} | {' | '.join(scored(clips, wanted, judge))} | {seconds:.1f} |", flush=True)
    print(f"\n{len(captions)} clips, {platform.machine()}, torch {torch.__version__}, {datetime.date.today()}.")


if __name__ == "__main__":
    run_script(main)
