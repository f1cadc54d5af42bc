"""Trains the network that groups are judged with in `show1 evaluate alignment`, on ground-truth renders.

    python scripts/train_group_reader.py            # into the package; about 17 minutes on one core
    python scripts/train_group_reader.py --more --steps 600 --rate 2e-3     # trains the present weights further
    python scripts/train_group_reader.py --check    # accuracy of the present weights

Half of the frames show groups, small and big subjects, two fifths single subjects of ordinary size, a tenth none. All
combinations are shown, as in `train_reader.py`, whose blur, noise and shifts of colour are used.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from train_reader import roughen, save

from show1.sprites.groups import GroupWorld
from show1.sprites.readers.group import GroupReader
from show1.sprites.readers.subject import HEIGHT, WIDTH, resize
from show1.sprites.scenes import Scene, SpriteWorld, render_tensor, sprite_layer

WEIGHTS = Path("src/show1/sprites/assets/group_reader.safetensors")
GROUPS, EMPTY = 0.5, 0.1
NOTHING = -1
"""Value of the map of subjects where there is none."""

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""Frames (N, 3, 40, 64), coverage (N, 40, 64), middles, sides and subjects (N, 20, 32), backgrounds (N,)."""


def draw(seed: int, index: int, rng: random.Random) -> Scene:
    """A scene of one of the three kinds."""
    kind = rng.random()
    if kind < GROUPS:
        return GroupWorld(seed=seed, split="all").scene(index)
    scene = SpriteWorld(seed=seed, split="all", tilts=0.2).scene(index)
    return replace(scene, start=(9.0, 9.0), end=(9.0, 9.0)) if kind > 1 - EMPTY else scene


def example(scene: Scene, time_: float, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """A frame, its coverage by subjects, and maps of middles, sides and subjects: see `Batch`."""
    frame = resize(render_tensor(scene, np.array([time_]), *size).transpose(0, 1))[0]
    rows, columns = HEIGHT // 2, WIDTH // 2
    coverage, middles = torch.zeros(HEIGHT, WIDTH), torch.zeros(rows, columns)
    sides, subjects = torch.zeros(rows, columns), torch.full((rows, columns), NOTHING)
    shown = (scene, *scene.others)
    for each in shown:  # later ones are in front
        alpha = sprite_layer(each, time_, HEIGHT, WIDTH)[3]
        coverage = alpha + (1 - alpha) * coverage
        subjects[F.avg_pool2d(alpha[None], 2)[0] > 0.3] = each.subject
    for each in shown:
        x, y, scale, _ = each.pose(time_)
        away = torch.maximum(
            (torch.arange(rows)[:, None] + 0.5 - y * rows).abs(), (torch.arange(columns) + 0.5 - x * columns).abs()
        )
        near = away <= 1.5
        subjects[near], sides[near] = each.subject, math.log(each.size * scale)
        middles = torch.maximum(middles, torch.where(away <= 0.5, 1.0, torch.exp(-away.square() / 2)))
    return frame, coverage, middles, sides, subjects


def batches(seed: int, size: int) -> Iterator[Batch]:
    rng, start = random.Random(seed), 0
    while True:
        scenes = [draw(seed, start + i, rng) for i in range(size)]
        sizes = [rng.choice([(20, 32), (40, 64), (80, 128)]) for _ in scenes]
        shown = [example(scene, rng.random(), pixels) for scene, pixels in zip(scenes, sizes, strict=True)]
        parts = [torch.stack(part) for part in zip(*shown, strict=True)]
        frames, coverage, middles, sides, subjects = parts
        yield frames, coverage, middles, sides, subjects, torch.tensor([scene.background for scene in scenes])
        start += size


def loss_of(reader: GroupReader, batch: Batch) -> Tensor:
    """The loss of middles: the focal loss of CenterNet (arXiv:1904.07850, equation 1)."""
    frames, coverage, middles, sides, subjects, backgrounds = batch
    mask, seen, side, names, background = reader(frames)
    p, peak = seen.sigmoid(), middles == 1
    right = (1 - p).square() * F.logsigmoid(seen) * peak
    wrong = (1 - middles) ** 4 * p.square() * F.logsigmoid(-seen)
    return (
        F.binary_cross_entropy_with_logits(mask, coverage)
        - (right + wrong).sum() / peak.sum()
        + (side - sides)[sides != 0].abs().mean()
        + F.cross_entropy(names, subjects, ignore_index=NOTHING)
        + F.cross_entropy(background, backgrounds)
    )


@torch.no_grad()
def accuracy(reader: GroupReader, count: int) -> dict[str, float]:
    """Share of clean frames, held-out combinations among them, in which all subjects and nothing else are found."""
    reader.eval()
    found: dict[str, list[bool]] = {"groups": [], "single": [], "empty": [], "background": []}
    rng = random.Random(77)
    for index in range(count):
        scene = draw(77, index, rng)
        size = rng.choice([(20, 32), (40, 64), (80, 128)])
        reading = reader.read(render_tensor(scene, np.array([rng.random()]), *size))
        shown = [s.subject for s in (scene, *scene.others)]
        kind = "empty" if scene.start == (9.0, 9.0) else "groups" if scene.others or scene.sized else "single"
        wanted = [] if kind == "empty" else sorted(shown)
        found[kind].append(sorted(detection.subject for detection in reading.detections[0]) == wanted)
        found["background"].append(reading.background == scene.background)
    reader.train()
    return {name: round(float(np.mean(right)), 4) for name, right in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=4e-3, help="highest learning rate")
    parser.add_argument("--more", action="store_true", help="train the present weights further")
    parser.add_argument("--check", action="store_true", help="measure the present weights, and train nothing")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    if arguments.check:
        print(accuracy(GroupReader.trained(), 2048))
        return
    torch.manual_seed(0)
    rng = random.Random(arguments.steps)
    reader = GroupReader.trained().train() if arguments.more else GroupReader()
    print(f"{sum(p.numel() for p in reader.parameters())} parameters")
    optimizer = torch.optim.AdamW(reader.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, arguments.rate, total_steps=arguments.steps)
    stream, began = batches(arguments.steps, arguments.batch), time.monotonic()
    for step in range(1, arguments.steps + 1):
        frames, *truth = next(stream)
        loss = loss_of(reader, (roughen(frames, rng), *truth))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == arguments.steps:
            print(step, f"{time.monotonic() - began:.0f} s", f"loss {loss.item():.4f}", accuracy(reader, 256))
            save(reader, arguments.weights)
    print(f"{arguments.weights}: {arguments.weights.stat().st_size / 1e6:.1f} MB", accuracy(reader, 2048))


if __name__ == "__main__":
    main()
