"""What the trainings of the networks that read frames of the sprite world have in common."""

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from show1.sprites.readers.subject import FrameReader

SIZES = ((20, 32), (40, 64), (80, 128))
"""Sizes at which frames are rendered."""

Reader = TypeVar("Reader", bound=FrameReader)
Batch = TypeVar("Batch")


def arguments_of(doc: str | None, kind: type[FrameReader], rate: float, **numbers: int) -> argparse.Namespace:
    """Reads the command line of a training; `numbers` are further options with their defaults."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rate", type=float, default=rate, help="highest learning rate")
    parser.add_argument("--more", action="store_true", help="train the present weights further")
    parser.add_argument("--check", action="store_true", help="measure the present weights, and train nothing")
    parser.add_argument("--weights", type=Path, default=Path(str(kind.weights)))
    torch.manual_seed(0)
    return parser.parse_args()


def begin(kind: type[Reader], arguments: argparse.Namespace) -> Reader:
    """Returns the reader that is trained, or measured."""
    reader = kind.trained() if arguments.more or arguments.check else kind()
    print(f"{sum(p.numel() for p in reader.parameters())} parameters")
    return reader.train(not arguments.check)


def roughen(frames: Tensor, *, noise: float = 0.2, colour: float = 0.15) -> Tensor:
    """Adds blur, noise and a shift of colour to some of the frames (N, 3, H, W), since generated ones are not clean."""
    count = len(frames)
    blurred = F.avg_pool2d(F.pad(frames, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    blur = torch.rand(count, 1, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.4)
    grain = noise * torch.rand(count, 1, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.4)
    gain = 1 + colour * torch.randn(count, 3, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.4)
    return ((frames + blur * (blurred - frames)) * gain + grain * torch.randn_like(frames)).clamp(-1, 1)


def fit(
    reader: FrameReader,
    loss_of: Callable[[Any, Batch], Tensor],
    batches: Iterable[Batch],
    accuracy: Callable[[], object],
    arguments: argparse.Namespace,
    *,
    steps: int,
    every: int = 100,
) -> None:
    """Trains a reader on so many batches; prints its accuracy and saves it, in half precision, from time to time."""
    optimizer = torch.optim.AdamW(reader.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, arguments.rate, total_steps=steps)
    began = time.monotonic()
    for step, batch in zip(range(1, steps + 1), batches, strict=False):
        loss = loss_of(reader, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % every == 0 or step == steps:
            print(step, f"{time.monotonic() - began:.0f} s", f"loss {loss.item():.4f}", accuracy(), flush=True)
            weights = {k: v.half() if v.is_floating_point() else v for k, v in reader.state_dict().items()}
            save_file({k: v.contiguous() for k, v in weights.items()}, arguments.weights)
    print(f"{arguments.weights}: {arguments.weights.stat().st_size / 1e6:.1f} MB")
