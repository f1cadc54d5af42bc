"""The contract between the training loop and what it trains.

A task is one module whose forward gives the loss, so that it can be wrapped for many processes as a whole. All its
randomness comes from the global generator, which the loop seeds for every step.
"""

from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from show1.data.clips import ClipSource
from show1.training.options import TaskOptions

Sample = tuple[str, Tensor]
"""A caption and a video (3, F, H, W) in about [-1, 1]."""

Batch = dict[str, Any]
"""A collated batch of `show1.data.clips.ClipDataset`: "video" (B, 3, F, H, W), "caption" (list), and for some
tasks "low" (B, 3, F, h, w)."""


class Task(nn.Module, ABC):
    """A network to train, with its loss, samples and export."""

    inherited_lr_scale: float = 1.0
    """Factor on the learning rate of the parameters that are not `new_parameters`."""

    def train(self, mode: bool = True) -> Self:
        """Sets the mode as for every module, but parts that are frozen as a whole stay in evaluation mode."""
        super().train(mode)
        for part in self.children():
            if not any(weight.requires_grad for weight in part.parameters()):
                part.eval()
        return self

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Gives scalars for a batch: "loss", which is minimised, and others for the log."""

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Gives scalars for a batch that is not learned from: "loss" and others; by default as `forward`."""
        return self(batch)  # type: ignore[no-any-return]

    def restore(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Makes what is known again: (B, 3, F, H, W) as made, and as it was; None for what is not known."""
        return None

    def calibrate(self, batch: Batch) -> None:
        """Measures, on a batch that is not learned from, what the export says of the network."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Writes the stage folder that inference loads. Comes after `calibrate`."""

    @abstractmethod
    def preview(self, batch: Batch) -> list[Sample]:
        """Makes samples to look at: for the first captions of a batch, videos (3, F, H, W)."""

    def own_texts(self) -> list[str]:
        """Texts that the task encodes besides captions and the empty text."""
        return []

    def new_parameters(self) -> set[str]:
        """Names the parameters that learn at the full rate, because no `init` brought them."""
        return {name for name, _ in self.named_parameters()}


def make_task(options: TaskOptions, source: ClipSource) -> Task:
    """Makes the task of some options, with random weights from the global generator where no folder has them.

    Raises:
        InputError: A folder that the options name does not fit the task.
    """
    module, _, name = options.implementation.partition(":")
    task: Task = getattr(import_module(module), name)(options, source)
    return task


def random_crop(size: tuple[int, int], *tensors: Tensor) -> list[Tensor]:
    """Cuts the same random part out of tensors of equal height and width.

    Args:
        size: Height and width of the part; at most those of the tensors are used.
        tensors: Each of shape (C, H, W), with any number of axes in front.
    """
    full = tensors[0].shape[-2:]
    height, width = min(size[0], full[0]), min(size[1], full[1])
    top = int(torch.randint(0, full[0] - height + 1, ()))
    left = int(torch.randint(0, full[1] - width + 1, ()))
    return [x[..., top : top + height, left : left + width] for x in tensors]


def paired(
    captions: list[str], given: Tensor, made: Tensor, names: tuple[str, str] = ("input", "output")
) -> list[Sample]:
    """Lists what a network saw beside what it made of it: two videos (3, F, H, W) per caption, each with its name."""
    return [
        (f"{name}: {caption}" if caption else name, x)
        for caption, *pair in zip(captions, given, made, strict=True)
        for name, x in zip(names, pair, strict=True)
    ]
