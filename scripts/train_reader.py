"""Trains the network that `show1 evaluate alignment` reads frames with, on ground-truth renders.

    python scripts/train_reader.py                                     # into the package
    python scripts/train_reader.py --more --steps 400 --rate 2e-3      # trains the present weights further

All combinations are shown, the held-out ones too: a reader that never saw a bicycle over the sea would not call
anything there a bicycle, and could not judge a model that composes the two. Frames are rendered at several sizes; some
are blurred, noised or shifted in colour, since generated frames are not clean.
"""

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from show1.sprites.readers.subject import HEIGHT, WIDTH, SpriteReader, resize
from show1.sprites.scenes import SpriteWorld, render_tensor, sprite_layer

WEIGHTS = Path("src/show1/sprites/assets/sprite_reader.safetensors")


def example(world: SpriteWorld, index: int, rng: random.Random) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    """A frame (3, 40, 64), the subject's coverage (40, 64), subject, background."""
    scene = world.scene(index)
    time_ = np.array([rng.random()])
    height, width = rng.choice([(20, 32), (40, 64), (80, 128)])
    frame = resize(render_tensor(scene, time_, height, width).transpose(0, 1))[0]
    return frame, sprite_layer(scene, float(time_[0]), HEIGHT, WIDTH)[3], scene.subject, scene.background


def roughen(frames: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Blur, noise, and a shift of colour, on some of the frames."""
    count = len(frames)
    blurred = F.avg_pool2d(F.pad(frames, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    blur = torch.rand(count, 1, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.4)
    frames = frames + blur * (blurred - frames)
    noise = 0.2 * torch.rand(count, 1, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.4)
    gain = 1 + 0.15 * torch.randn(count, 3, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.4)
    return (frames * gain + noise * torch.randn_like(frames)).clamp(-1, 1)


def batches(world: SpriteWorld, start: int, size: int, rng: random.Random):  # type: ignore[no-untyped-def]
    while True:
        frames, masks, subjects, backgrounds = zip(*(example(world, start + i, rng) for i in range(size)), strict=True)
        yield torch.stack(frames), torch.stack(masks), torch.tensor(subjects), torch.tensor(backgrounds)
        start += size


@torch.no_grad()
def accuracy(reader: SpriteReader, count: int = 1024) -> dict[str, float]:
    """On clean renders of held-out combinations."""
    reader.eval()
    world, rng = SpriteWorld(seed=77, split="held_out"), random.Random(77)
    frames, masks, subjects, backgrounds = next(batches(world, 0, count, rng))
    parts = [reader(x) for x in frames.split(128)]
    subject, background, mask = (torch.cat([part[i] for part in parts]) for i in range(3))
    reader.train()
    return {
        "subject": float((subject.argmax(1) == subjects).float().mean()),
        "background": float((background.argmax(1) == backgrounds).float().mean()),
        "mask_error": float((mask.sigmoid() - masks).abs().mean()),
    }


def save(reader: torch.nn.Module, file: Path) -> None:
    """Writes the weights in half precision."""
    weights = {k: v.half() if v.is_floating_point() else v for k, v in reader.state_dict().items()}
    save_file({k: v.contiguous() for k, v in weights.items()}, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=4e-3, help="highest learning rate")
    parser.add_argument("--more", action="store_true", help="train the present weights further")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rng = random.Random(arguments.steps)
    reader = SpriteReader.trained().train() if arguments.more else SpriteReader()
    print(f"{sum(p.numel() for p in reader.parameters())} parameters")
    optimizer = torch.optim.AdamW(reader.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, arguments.rate, total_steps=arguments.steps)
    stream, began = batches(SpriteWorld(seed=arguments.steps, split="all"), 0, arguments.batch, rng), time.monotonic()
    for step in range(1, arguments.steps + 1):
        frames, masks, subjects, backgrounds = next(stream)
        subject, background, mask, _ = reader(roughen(frames, rng))
        loss = F.cross_entropy(subject, subjects) + F.cross_entropy(background, backgrounds)
        loss = loss + F.binary_cross_entropy_with_logits(mask, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == arguments.steps:
            print(step, f"{time.monotonic() - began:.0f} s", f"loss {loss.item():.4f}", accuracy(reader), flush=True)
    save(reader, arguments.weights)
    print(f"{arguments.weights}: {arguments.weights.stat().st_size / 1e6:.1f} MB", accuracy(reader, 4096))


if __name__ == "__main__":
    main()
