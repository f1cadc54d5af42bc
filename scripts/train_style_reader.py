"""Trains the network that styled videos are judged with, on ground-truth renders in every style and in none.

    python scripts/train_style_reader.py            # into the package; a few minutes on one core
    python scripts/train_style_reader.py --more --seed 6 --frames 20000 --rate 1e-3  # trains further
    python scripts/train_style_reader.py --more --seed 8 --frames 40000 --epochs 5 --rate 3e-3  # further, 17 minutes
    python scripts/train_style_reader.py --check    # accuracy of the present weights, by style and size

The part that reads the content starts from the sprite reader. A pool of frames is drawn once and shown several times,
blurred, noised and shifted in colour, since generated frames are not clean.
"""

import argparse
import itertools
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from train_reader import save

from show1.sprites.readers.style import KINDS, StyleReader
from show1.sprites.readers.subject import SpriteReader, resize
from show1.sprites.scenes import SpriteWorld, render
from show1.sprites.styles import apply_style

WEIGHTS = Path("src/show1/sprites/assets/style_reader.safetensors")
SIZES = ((20, 32), (40, 64), (80, 128))
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


def roughen(frames: Tensor) -> Tensor:
    """Blur, noise, and a shift of colour, on some of the frames."""
    count = len(frames)
    blurred = F.avg_pool2d(F.pad(frames, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    blur = torch.rand(count, 1, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.4)
    noise = 0.15 * torch.rand(count, 1, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.4)
    gain = 1 + 0.1 * torch.randn(count, 3, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.4)
    return ((frames + blur * (blurred - frames)) * gain + noise * torch.randn_like(frames)).clamp(-1, 1)


@torch.no_grad()
def accuracy(reader: StyleReader, data: Pool) -> list[tuple[str, float, float, float]]:
    """Style, subject and background accuracy for each style."""
    reader.eval()
    frames, *wanted = data
    parts = [reader(pixels(chunk)) for chunk in frames.split(128)]
    right = [torch.cat([p[i] for p in parts]).argmax(1) == wanted[i] for i in range(3)]
    reader.train()
    rows = []
    for kind, name in enumerate(KINDS):
        rows.append((name, *(float(r[wanted[0] == kind].float().mean()) for r in right)))
    return rows


def show(rows: list[tuple[str, float, float, float]]) -> None:
    for name, kind, subject, background in rows:
        print(f"{name:14} style {kind:.3f} subject {subject:.3f} background {background:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=6000, help="number of frames in the pool")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=5, help="seed of the scenes")
    parser.add_argument("--more", action="store_true", help="train the present weights further")
    parser.add_argument("--check", action="store_true", help="measure the present weights, and train nothing")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    held_out = pool(SpriteWorld(seed=77, split="held_out"), COUNT)
    if arguments.check:
        reader = StyleReader.trained()
        for number, size in enumerate(SIZES):
            picked = [i for i in range(COUNT) if i // len(KINDS) % len(SIZES) == number]
            print(size)
            show(accuracy(reader, tuple(part[picked] for part in held_out)))  # type: ignore[arg-type]
        return
    reader = StyleReader.trained() if arguments.more else StyleReader()
    if not arguments.more:
        reader.content.load_state_dict(SpriteReader.trained().state_dict())
    print("before:")
    show(accuracy(reader, held_out))
    began = time.monotonic()
    frames, kinds, subjects, backgrounds = pool(SpriteWorld(seed=arguments.seed, split="all"), arguments.frames)
    print(f"{arguments.frames} frames drawn in {time.monotonic() - began:.0f} s", flush=True)
    steps = arguments.epochs * (arguments.frames // 64)
    optimizer = torch.optim.AdamW(reader.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, arguments.rate, total_steps=steps)
    orders = itertools.chain.from_iterable(torch.randperm(arguments.frames).split(64) for _ in itertools.count())
    for step, rows in enumerate(itertools.islice((o for o in orders if len(o) == 64), steps), start=1):
        kind, subject, background = reader(roughen(pixels(frames[rows])))
        loss = F.cross_entropy(kind, kinds[rows]) + F.cross_entropy(subject, subjects[rows])
        loss = loss + F.cross_entropy(background, backgrounds[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 140 == 0 or step == steps:
            print(step, f"{time.monotonic() - began:.0f} s", f"loss {loss.item():.4f}")
            show(accuracy(reader, held_out))
    save(reader, arguments.weights)
    print(f"{arguments.weights}: {arguments.weights.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
