"""Batches of clips: which clips a step sees follows from the seed, the step and the process alone."""

import functools
import gc
import random
import signal
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, default_collate

from show1.data.clips import ClipDataset, ClipSource, ClipView
from show1.errors import Show1Error
from show1.training.options import LoopOptions
from show1.training.tasks.base import Batch

_LENGTH = 2**40
"""Number of samples of the endless data sets."""


def clip_batches(
    source: ClipSource, view: ClipView, loop: LoopOptions, rank: int, world: int, start: int
) -> Iterator[Batch]:
    """Gives collated parts of batches; which samples a step has does not depend on the number of parts.

    Args:
        source: The clips.
        view: What to see of each.
        loop: Sizes, seed and number of workers.
        rank: This process, from 0.
        world: Number of processes.
        start: First step.

    Raises:
        Show1Error: A clip cannot be read.
    """
    dataset = ClipDataset(source, view, length=2 * _LENGTH, seed=loop.seed)  # the last turn may go beyond
    size = loop.part_size

    def indices() -> Iterator[list[int]]:
        part = start * loop.accumulate
        while True:
            first = (part * world + rank) * size % (_LENGTH - size + 1)
            yield [_shuffled(i, source.num_clips, loop.seed) for i in range(first, first + size)]
            part += 1

    loader = DataLoader(
        _ErrorsAsItems(dataset),
        batch_sampler=indices(),  # type: ignore[arg-type]  # any iterable is one
        num_workers=loop.workers,
        worker_init_fn=_ignore_interrupts,
        collate_fn=_collated,
    )
    if loop.workers:
        gc.collect()  # a decoder that a worker cleaned up would wait for threads that only this process has
    for batch in loader:
        if isinstance(batch, Show1Error):
            raise batch
        yield batch


def last_start(batch_size: int) -> int:
    """Gives a step that no training comes to, whose clips previews are made of."""
    return _LENGTH // batch_size - 1


def _shuffled(index: int, count: int | None, seed: int) -> int:
    """Puts the clips of a finite source into another order each time round."""
    if count is None:
        return index
    turn, place = divmod(index, count)
    return turn * count + _order(count, seed, turn)[place]


@functools.lru_cache(maxsize=2)
def _order(count: int, seed: int, turn: int) -> list[int]:
    order = list(range(count))
    random.Random(f"order {seed} {turn}").shuffle(order)
    return order


class _ErrorsAsItems(Dataset[Any]):
    """A dataset whose errors are items, so that they come out of a worker as they are."""

    def __init__(self, dataset: ClipDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            return self._dataset[index]
        except Show1Error as error:
            return error


def _collated(items: list[Any]) -> Any:
    """A batch, or the first error."""
    return next((item for item in items if isinstance(item, Show1Error)), None) or default_collate(items)


def _ignore_interrupts(_: int) -> None:
    """Lets signals that stop reach only the training process, which then ends its workers."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
