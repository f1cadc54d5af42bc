"""Trains the network that styled videos are judged with, on ground-truth renders in every style and in none.

    python -m benchmarks.customization.train_style_reader            # a few minutes on one core
    python -m benchmarks.customization.train_style_reader --check    # accuracy of the present weights

The present weights were then trained further, in two more runs, the second of 17 minutes:

    --more --seed 6 --frames 20000 --rate 1e-3
    --more --seed 8 --frames 40000 --epochs 5 --rate 3e-3

The part that reads the content starts from the sprite reader. A pool of frames is drawn once and shown several times,
blurred, noised and shifted in colour, since generated frames are not clean.
"""

import random
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.customization.style_reader import KINDS, StyleReader
from benchmarks.customization.styles import apply_style
from scripts.reader_training import SIZES, arguments_of, begin, fit, roughen
from show1.sprites.readers.subject import SpriteReader, resize
from show1.sprites.scenes import SpriteWorld, render

COUNT = 1000
"""Held-out frames that the accuracy is measured on."""

Pool = tuple[Tensor, Tensor, Tensor, Tensor]
"""Frames (N, 3, 40, 64) uint8, kinds, subjects, backgrounds (N,)."""


def draw(world: SpriteWorld, index: int, kind: int, size: tuple[int, int]) -> tuple[Tensor, int, int, int]:
    """One frame of a scene in a style, at the reader's size."""
    rng = random.Random(index)
    scene = world.scene(index)
    frames = render(scene, 1, *size, times=np.array([rng.random()]))
    if KINDS[kind] != "plain":
        frames = apply_style(KINDS[kind], frames, first_number=rng.randrange(100))
    frame = resize(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1)[0]
    return ((frame + 1) * 127.5).round().clamp(0, 255).byte(), kind, scene.subject, scene.background


def pool(world: SpriteWorld, count: int) -> Pool:
    drawn = [draw(world, i, i % len(KINDS), SIZES[i // len(KINDS) % len(SIZES)]) for i in range(count)]
    frames, kinds, subjects, backgrounds = zip(*drawn, strict=True)
    return torch.stack(frames), torch.tensor(kinds), torch.tensor(subjects), torch.tensor(backgrounds)


def pixels(frames: Tensor) -> Tensor:
    return frames.float() / 127.5 - 1


@torch.no_grad()
def accuracy(reader: StyleReader, data: Pool) -> str:
    """Style, subject and background accuracy for each style."""
    reader.eval()
    frames, *wanted = data
    parts = [reader(pixels(chunk)) for chunk in frames.split(128)]
    right = [torch.cat([p[i] for p in parts]).argmax(1) == wanted[i] for i in range(3)]
    reader.train()
    lines = []
    for number, name in enumerate(KINDS):
        kind, subject, background = (float(r[wanted[0] == number].float().mean()) for r in right)
        lines.append(f"{name:14} style {kind:.3f} subject {subject:.3f} background {background:.3f}")
    return "\n".join(["", *lines])


def batches(data: Pool) -> Iterator[Pool]:
    """The frames of a pool in random orders, without end, 64 at a time."""
    while True:
        for rows in torch.randperm(len(data[0])).split(64):
            if len(rows) == 64:
                frames, kinds, subjects, backgrounds = (part[rows] for part in data)
                yield frames, kinds, subjects, backgrounds


def loss_of(reader: StyleReader, batch: Pool) -> Tensor:
    frames, *wanted = batch
    found = reader(roughen(pixels(frames), noise=0.15, colour=0.1))
    style, subject, background = map(F.cross_entropy, found, wanted)
    return style + subject + background


def main() -> None:
    arguments = arguments_of(__doc__, StyleReader, 2e-3, frames=6000, epochs=4, seed=5)
    reader, held_out = begin(StyleReader, arguments), pool(SpriteWorld(seed=77, split="held_out"), COUNT)
    if arguments.check:
        for number, size in enumerate(SIZES):
            picked = [i for i in range(COUNT) if i // len(KINDS) % len(SIZES) == number]
            frames, kinds, subjects, backgrounds = (part[picked] for part in held_out)
            print(size, accuracy(reader, (frames, kinds, subjects, backgrounds)))
        return
    if not arguments.more:
        reader.content.load_state_dict(SpriteReader.trained().state_dict())
    print("before:", accuracy(reader, held_out))
    shown = pool(SpriteWorld(seed=arguments.seed, split="all"), arguments.frames)
    steps = arguments.epochs * (arguments.frames // 64)
    fit(reader, loss_of, batches(shown), lambda: accuracy(reader, held_out), arguments, steps=steps, every=140)


if __name__ == "__main__":
    main()
