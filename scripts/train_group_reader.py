"""Trains the network that groups are judged with in `show1 evaluate alignment`, on ground-truth renders.

    python scripts/train_group_reader.py            # into the package; about 17 minutes on one core
    python scripts/train_group_reader.py --more --steps 600 --rate 2e-3     # trains the present weights further
    python scripts/train_group_reader.py --check    # accuracy of the present weights

Half of the frames show groups, small and big subjects, two fifths single subjects of ordinary size, a tenth none. All
combinations are shown, as in `train_reader.py`, whose blur, noise and shifts of colour are used.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from reader_training import SIZES, arguments_of, begin, fit, roughen
from torch import Tensor

from show1.cli.failures import run_script
from show1.sprites.groups import GroupWorld
from show1.sprites.readers.group import GroupReader
from show1.sprites.readers.subject import HEIGHT, WIDTH, resize
from show1.sprites.scenes import Scene, SpriteWorld, render_tensor, sprite_layer

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
        sizes = [rng.choice(SIZES) for _ in scenes]
        shown = [example(scene, rng.random(), pixels) for scene, pixels in zip(scenes, sizes, strict=True)]
        parts = [torch.stack(part) for part in zip(*shown, strict=True)]
        frames, coverage, middles, sides, subjects = parts
        yield frames, coverage, middles, sides, subjects, torch.tensor([scene.background for scene in scenes])
        start += size


def loss_of(reader: GroupReader, batch: Batch) -> Tensor:
    """The loss of middles: the focal loss of CenterNet (arXiv:1904.07850, equation 1)."""
    frames, coverage, middles, sides, subjects, backgrounds = batch
    mask, seen, side, names, background = reader(roughen(frames))
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
        size = rng.choice(SIZES)
        reading = reader.read(render_tensor(scene, np.array([rng.random()]), *size))
        shown = [s.subject for s in (scene, *scene.others)]
        kind = "empty" if scene.start == (9.0, 9.0) else "groups" if scene.others or scene.sized else "single"
        wanted = [] if kind == "empty" else sorted(shown)
        found[kind].append(sorted(detection.subject for detection in reading.detections[0]) == wanted)
        found["background"].append(reading.background == scene.background)
    reader.train()
    return {name: round(float(np.mean(right)), 4) for name, right in found.items()}


def main() -> None:
    arguments = arguments_of(__doc__, GroupReader, 4e-3, steps=1500, batch=48)
    reader = begin(GroupReader, arguments)
    if not arguments.check:
        stream = batches(arguments.steps, arguments.batch)
        fit(reader, loss_of, stream, lambda: accuracy(reader, 256), arguments, steps=arguments.steps)
    print(accuracy(reader, 2048))


if __name__ == "__main__":
    run_script(main)
