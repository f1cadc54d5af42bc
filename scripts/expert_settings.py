"""From which noise level, and in how many steps, should an expert translate? Scores against ground truth.

    python scripts/expert_settings.py training-runs/translation/export 0.15:7 0.3:10 0.5:10

Clips of the sprite world are rendered at 20x32 and go through the super-resolution of `mini`; the expert translates
what that gives, with every pair of strength and number of steps. Two more rows say what can be reached: plain
upscaling, and what the expert's autoencoder alone keeps of the ground truth. Errors and flicker are in 8-bit levels;
sharpness and flicker are those of `show1 evaluate alignment`. `--low FILE.pt` keeps the low-resolution clips.
"""

import argparse
import datetime
import platform
import statistics
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from show1 import Show1Pipeline
from show1.cli.failures import run_script
from show1.config import StageName, TranslationSettings
from show1.data.clips import frame_times
from show1.diffusion import IndependentSeeds, fold_frames, unfold_frames
from show1.media import contact_sheet, save_sheet
from show1.sprites.alignment.judge import SceneJudge
from show1.sprites.captions import caption
from show1.sprites.scenes import SpriteWorld, render_tensor
from show1.stages import TranslationStage, load_stage
from show1.stages.stage import PromptEmbeddings
from show1.stages.translation import decode, encode
from show1.training.tasks.text_conditioner import TextConditioner
from show1.video import Video

FRAMES, TINY, SIZE = 29, (20, 32), (160, 256)

HEADER = "error | error where it changes | sharpness | flicker"
"""Columns of `scored`."""

CHANGE = 0.1
"""A pixel changes if its values, in [-1, 1], are further apart than this over the clip."""


def scenes(count: int, size: tuple[int, int] = SIZE, *, seed: int = 79) -> tuple[list[str], Tensor, Tensor]:
    """Captions, and clips of training scenes at 20x32 and at a size: (N, 3, F, H, W)."""
    world = SpriteWorld(seed=seed)
    chosen = [world.scene(i) for i in range(count)]
    tiny, full = (torch.stack([render_tensor(s, frame_times(FRAMES), *hw) for s in chosen]) for hw in (TINY, size))
    return [caption(scene) for scene in chosen], tiny, full


@torch.no_grad()
def encoded(text: TextConditioner, captions: list[str]) -> PromptEmbeddings:
    """Text states of captions, for sampling."""
    empty = text([""]).expand(len(captions), -1, -1)
    return PromptEmbeddings(prompt_embeds=text(captions), negative_prompt_embeds=empty)


def super_resolved(captions: list[str], tiny: Tensor) -> Tensor:
    """What `mini` makes of the tiny clips."""
    pipe = Show1Pipeline.from_pretrained("mini")
    stage: StageName = "super_resolution"
    clips = [
        pipe(prompt, seed=i, start_from=stage, until=stage, video=clip, output_type="pt")
        for i, (prompt, clip) in enumerate(zip(captions, tiny, strict=True))
    ]
    return torch.stack(clips)


def scored(videos: Tensor, wanted: Tensor, judge: SceneJudge) -> list[str]:
    """Error, error of the pixels that change over the clip, sharpness and flicker of clips."""
    videos = videos.clamp(-1, 1)
    errors = (videos - wanted).abs().mean(1) * 127.5
    changing = ((wanted.amax(2) - wanted.amin(2)).amax(1) > CHANGE)[:, None].expand_as(errors)
    scores = [judge.score(video)[0] for video in videos]
    sharp = statistics.mean(score.sharpness or 0.0 for score in scores)
    flicker = statistics.mean(score.flicker or 0.0 for score in scores)
    return [f"{value:.2f}" for value in (errors.mean(), errors[changing].mean(), sharp, flicker)]


@torch.no_grad()
def translate(
    stage: TranslationStage,
    text: TextConditioner,
    captions: list[str],
    low: Tensor,
    pairs: list[tuple[float, int]],
) -> list[Tensor]:
    """The expert's videos for every pair of strength and steps."""
    height, width = SIZE
    made = []
    for strength, steps in pairs:
        settings = TranslationSettings(
            num_inference_steps=steps, guidance_scale=1.0, height=height, width=width, strength=strength
        )
        made.append(
            stage(low, encoded(text, captions), seeds=IndependentSeeds(list(range(len(captions)))), settings=settings)
        )
    return made


@torch.no_grad()
def reconstructed(vae: Any, videos: Tensor) -> Tensor:
    """Ground truth through the autoencoder alone."""
    latents = encode(vae, fold_frames(videos), draw=None, frames_per_slice=8)
    return unfold_frames(torch.stack(list(decode(vae, latents))), len(videos))


def upscaled(low: Tensor) -> Tensor:
    """Bilinear, as the expert sees its input."""
    return unfold_frames(F.interpolate(fold_frames(low), size=SIZE, mode="bilinear"), len(low))


def _pair(text: str) -> tuple[float, int]:
    strength, steps = text.split(":")
    return float(strength), int(steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path)
    parser.add_argument("pairs", type=_pair, nargs="*", metavar="STRENGTH:STEPS")
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--low", type=Path, help="file that keeps the low-resolution clips from one call to the next")
    parser.add_argument("--sheet", type=Path, help="PNG to draw: ground truth, upscaled, then the result of each pair")
    arguments = parser.parse_args()
    captions, tiny, full = scenes(arguments.videos)
    if arguments.low and arguments.low.is_file():
        low = torch.load(arguments.low, weights_only=True)
    else:
        low = super_resolved(captions, tiny)
        if arguments.low:
            torch.save(low, arguments.low)
    judge, stage = SceneJudge(), load_stage("translation", arguments.export)
    assert isinstance(stage, TranslationStage)
    text = TextConditioner.from_folder(arguments.export)
    rows = {"ground truth": full, "autoencoder alone": reconstructed(stage.vae, full), "upscaled": upscaled(low)}
    made = translate(stage, text, captions, low, arguments.pairs)
    for (strength, steps), video in zip(arguments.pairs, made, strict=True):
        rows[f"strength {strength:g} of {steps} steps"] = video
    print(f"| clips | {HEADER} |\n|---|---:|---:|---:|---:|")
    for name, videos in rows.items():
        print(f"| {name} | {' | '.join(scored(videos, full, judge))} |", flush=True)
    print(f"\n{len(captions)} clips, {platform.machine()}, torch {torch.__version__}, {datetime.date.today()}.")
    if arguments.sheet:
        shown = [(name, Video.from_tensor(videos[0], fps=8.0).frames) for name, videos in rows.items()]
        sheet = contact_sheet([v for _, v in shown], labels=[n for n, _ in shown], columns=5, max_width=1500)
        save_sheet(sheet, arguments.sheet, overwrite=True)


if __name__ == "__main__":
    run_script(main)
