"""Does a keyframe network know what the words for motions mean? Losses with the right captions and with swapped ones.

    python scripts/swapped_motions.py training-runs/keyframes/export [another export ...]

The same 64 clips of the sprite world (8 of each motion), the same noise and four noise levels for all networks: the
loss with the caption, how much it grows with a caption that names the opposite motion, and how often it grows.
Far cheaper than to sample videos and to score them, and steadier than the losses of a training's log.

    python scripts/swapped_motions.py training-runs/keyframes/export --expected expected.png

also draws what the networks expect of each motion before the input shows it: the mean of their predictions of the
clip at noise level 980, over 16 noises. A motion whose direction they do not know is a mixture of both.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import SchedulerMixin
from numpy.typing import NDArray
from torch import Tensor

from show1.checkpoints.loading import load_unet, read_scheduler_config
from show1.cli.failures import run_script
from show1.data.clips import frame_times
from show1.diffusion import add_noise, build_scheduler, noise_scales, predicted_x0
from show1.media import contact_sheet, save_sheet
from show1.networks import UNet3DConditionModel
from show1.sprites.captions import caption
from show1.sprites.scenes import Scene, SpriteWorld, render_tensor
from show1.sprites.world import MOTIONS
from show1.training.objective import prediction_loss
from show1.training.tasks.text_conditioner import TextConditioner
from show1.video import Video

OPPOSITE = {"left": "right", "up": "down", "grows": "shrinks", "spins": "still"}
LEVELS = (500, 700, 850, 950)
EXPECTED_LEVEL = 980
BATCH = 8


def opposite(motion: int) -> int:
    """The motion that a swapped caption names."""
    pairs = OPPOSITE | {b: a for a, b in OPPOSITE.items()}
    last = [phrase.split()[-1] for phrase in MOTIONS]
    return last.index(pairs[last[motion]])


def choose_scenes(each: int = 8) -> list[Scene]:
    """Training scenes, as many of every motion."""
    chosen: dict[int, list[Scene]] = {motion: [] for motion in range(len(MOTIONS))}
    world, index = SpriteWorld(seed=777), 5000
    while any(len(scenes) < each for scenes in chosen.values()):
        scene = world.scene(index)
        if len(chosen[scene.motion]) < each:
            chosen[scene.motion].append(scene)
        index += 1
    return [scene for scenes in chosen.values() for scene in scenes]


@torch.no_grad()
def predict(unet: UNet3DConditionModel, x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
    """The network's output, some clips at a time."""
    batches = zip(x_t.split(BATCH), t.split(BATCH), text.split(BATCH), strict=True)
    return torch.cat([unet(*batch).sample for batch in batches])


def losses(unet: UNet3DConditionModel, schedule: SchedulerMixin, video: Tensor, text: Tensor, level: int) -> Tensor:
    """The loss on each clip at one noise level: (N,)."""
    noise = torch.randn(video.shape, generator=torch.Generator().manual_seed(5))
    t = torch.full((len(video),), level)
    x_t = add_noise(video, noise, t, schedule.alphas_cumprod)
    predicted = predict(unet, x_t, t, text)
    alphas, kind = schedule.alphas_cumprod, schedule.config.prediction_type
    rows = zip(predicted.split(1), video.split(1), noise.split(1), t.split(1), strict=True)
    return torch.stack([prediction_loss(*row, alphas, prediction=kind) for row in rows])


def expected(unet: UNet3DConditionModel, schedule: SchedulerMixin, text: Tensor, draws: int = 16) -> Tensor:
    """What the network expects of a text, (1, L, D), at the noise level `EXPECTED_LEVEL`: (3, 8, 20, 32)."""
    x_t = torch.randn(draws, 3, 8, 20, 32, generator=torch.Generator().manual_seed(1))
    t = torch.full((draws,), EXPECTED_LEVEL)
    predicted = predict(unet, x_t, t, text.expand(draws, -1, -1))
    alpha, sigma = noise_scales(t, schedule.alphas_cumprod)
    clips = predicted_x0(x_t, predicted, alpha, sigma, schedule.config.prediction_type)
    return clips.mean(0)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Losses of keyframe networks with right and with swapped captions.")
    parser.add_argument("exports", type=Path, nargs="+", help="folders with unet, scheduler, text_encoder, tokenizer")
    parser.add_argument("--expected", type=Path, metavar="PNG", help="draw what the networks expect of each motion")
    arguments = parser.parse_args()
    scenes = choose_scenes()
    video = torch.stack([render_tensor(scene, frame_times(8), 20, 32) for scene in scenes])
    right = [caption(scene) for scene in scenes]
    swapped = [
        text.replace(MOTIONS[s.motion], MOTIONS[opposite(s.motion)]) for text, s in zip(right, scenes, strict=True)
    ]
    pictures: dict[str, NDArray[np.uint8]] = {}
    for export in arguments.exports:
        unet = load_unet(export / "unet", dtype=torch.float32, device="cpu")
        schedule = build_scheduler(read_scheduler_config(export / "scheduler"), "ddpm")
        read = TextConditioner.from_folder(export)
        texts = read(right), read(swapped)
        for level in LEVELS:
            true, other = (losses(unet, schedule, video, text, level) for text in texts)
            more = other - true
            shares = (more > 0).float().unflatten(0, (len(MOTIONS), -1)).mean(1)
            told = ", ".join(f"{name} {share:.0%}" for name, share in zip(MOTIONS, shares.tolist(), strict=True))
            told_all = (more > 0).float().mean()
            print(f"{export} {level}: loss {true.mean():.4f}, swapped +{more.mean():.4f}, told {told_all:.0%} ({told})")
        if arguments.expected:
            for motion in MOTIONS:
                clip = expected(unet, schedule, read([f"a frog {motion} over the snow"]))
                pictures[f"{export}: {motion}"] = Video.from_tensor(clip, fps=2.0).frames
    if arguments.expected:
        sheet = contact_sheet(list(pictures.values()), labels=list(pictures))
        save_sheet(sheet, arguments.expected, overwrite=True)


if __name__ == "__main__":
    run_script(main)
