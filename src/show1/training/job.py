"""What the training loop asks of a training: its options, its task, and its batches."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

import torch

from show1.training.tasks import Batch, Task


class LoopOptions(Protocol):
    """The options that the loop itself reads; `TrainingConfig` says what they mean."""

    @property
    def folder(self) -> Path: ...
    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def accumulate(self) -> int: ...
    @property
    def lr_schedule(self) -> Literal["constant", "linear", "cosine"]: ...
    @property
    def warmup_steps(self) -> int: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def ema_decay(self) -> float: ...
    @property
    def mixed_precision(self) -> Literal["no", "bf16"]: ...
    @property
    def seed(self) -> int: ...
    @property
    def log_every(self) -> int: ...
    @property
    def checkpoint_every(self) -> int: ...
    @property
    def sample_every(self) -> int: ...


class Job(ABC):
    """A training as the loop sees it."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Stands in the record of the export."""

    @property
    @abstractmethod
    def options(self) -> LoopOptions:
        """The loop's options."""

    @abstractmethod
    def claim_folder(self) -> None:
        """Writes the options to the run's folder, in the main process.

        Raises:
            RunError: The folder holds a run with other options.
        """

    @abstractmethod
    def make_task(self) -> Task:
        """The networks and the loss; random weights come from the global generator, which is seeded."""

    @abstractmethod
    def make_optimizer(self, task: Task) -> torch.optim.Optimizer:
        """The optimizer of a task's parameters."""

    @abstractmethod
    def batches(self, rank: int, world: int, start: int) -> Iterator[Batch]:
        """Parts of batches from step `start` on, as process `rank` of `world` sees them; they follow from these."""

    @abstractmethod
    def preview_batch(self) -> Batch:
        """The batch whose samples are looked at."""
