"""Trains the network that `show1 evaluate alignment` reads frames with, on ground-truth renders.

    python scripts/train_reader.py                                     # into the package
    python scripts/train_reader.py --more --steps 400 --rate 2e-3      # trains the present weights further
    python scripts/train_reader.py --check                             # accuracy of the present weights

All combinations are shown, the held-out ones too: a reader that never saw a bicycle over the sea would not call
anything there a bicycle, and could not judge a model that composes the two. Frames are rendered at several sizes; some
are blurred, noised or shifted in colour, since generated frames are not clean.
"""

import random
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from reader_training import SIZES, arguments_of, begin, fit, roughen
from torch import Tensor

from show1.cli.failures import run_script
from show1.sprites.readers.subject import HEIGHT, WIDTH, SpriteReader, resize
from show1.sprites.scenes import SpriteWorld, render_tensor, sprite_layer

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""Frames (N, 3, 40, 64), the subject's coverage (N, 40, 64), subjects and backgrounds (N,)."""


def example(world: SpriteWorld, index: int, rng: random.Random) -> tuple[Tensor, Tensor, int, int]:
    """A frame (3, 40, 64), the subject's coverage (40, 64), subject, background."""
    scene = world.scene(index)
    time_ = np.array([rng.random()])
    height, width = rng.choice(SIZES)
    frame = resize(render_tensor(scene, time_, height, width).transpose(0, 1))[0]
    return frame, sprite_layer(scene, float(time_[0]), HEIGHT, WIDTH)[3], scene.subject, scene.background


def batches(world: SpriteWorld, size: int, rng: random.Random) -> Iterator[Batch]:
    start = 0
    while True:
        frames, masks, subjects, backgrounds = zip(*(example(world, start + i, rng) for i in range(size)), strict=True)
        yield torch.stack(frames), torch.stack(masks), torch.tensor(subjects), torch.tensor(backgrounds)
        start += size


@torch.no_grad()
def accuracy(reader: SpriteReader, count: int = 1024) -> dict[str, float]:
    """On clean renders of held-out combinations."""
    reader.eval()
    world, rng = SpriteWorld(seed=77, split="held_out"), random.Random(77)
    frames, masks, subjects, backgrounds = next(batches(world, count, rng))
    parts = [reader(x) for x in frames.split(128)]
    subject, background, mask = (torch.cat([part[i] for part in parts]) for i in range(3))
    reader.train()
    return {
        "subject": float((subject.argmax(1) == subjects).float().mean()),
        "background": float((background.argmax(1) == backgrounds).float().mean()),
        "mask_error": float((mask.sigmoid() - masks).abs().mean()),
    }


def loss_of(reader: SpriteReader, batch: Batch) -> Tensor:
    frames, masks, subjects, backgrounds = batch
    subject, background, mask, _ = reader(roughen(frames))
    loss = F.cross_entropy(subject, subjects) + F.cross_entropy(background, backgrounds)
    return loss + F.binary_cross_entropy_with_logits(mask, masks)


def main() -> None:
    arguments = arguments_of(__doc__, SpriteReader, 4e-3, steps=1200, batch=64)
    reader = begin(SpriteReader, arguments)
    if not arguments.check:
        world, rng = SpriteWorld(seed=arguments.steps, split="all"), random.Random(arguments.steps)
        stream = batches(world, arguments.batch, rng)
        fit(reader, loss_of, stream, lambda: accuracy(reader), arguments, steps=arguments.steps)
    print(accuracy(reader, 4096))


if __name__ == "__main__":
    run_script(main)
