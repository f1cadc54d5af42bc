"""Training of the stages' networks."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from show1.data.clips import ClipSource
from show1.errors import InputError
from show1.runtime import explained_memory
from show1.training.batches import clip_batches
from show1.training.checkpoint import check_folder, last_checkpoint
from show1.training.config import TrainingConfig
from show1.training.log import Line
from show1.training.loop import SMALLER, fit
from show1.training.options import LoopOptions, TaskOptions
from show1.training.tasks.base import Batch, make_task

_MAY_CHANGE = frozenset({"steps", "log_every", "checkpoint_every", "sample_every", "workers", "out"})
"""Options of the loop that may change when a run resumes."""


def train(
    options: TaskOptions,
    loop: LoopOptions,
    source: ClipSource,
    *,
    on_log: Callable[[Line], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Path:
    """Trains a network, resuming from the last checkpoint in `loop.out` if there is one.

    Args:
        options: What to train: the options of a task, such as `KeyframesOptions`.
        loop: How to train it.
        source: The clips to learn from: a `show1.data.folder.ClipFolder`, or a source of your own.
        on_log: Called by the main process with every line of the log.
        stop: Asked after every step, in runs of one process; when it returns True, the run writes a checkpoint and
            stops.

    Returns:
        The folder `export/` with the averaged weights in the layout that inference loads.

    Raises:
        MissingDependencyError: The training extra, or the package of the optimizer, is not installed.
        RunError: The folder holds a run with other options, or the loss is not finite.
        InputError: Options do not go together, or the data or the `init` folder cannot be used.
        Cancelled: `stop` returned True.
    """
    _check(options, loop, source)
    config = TrainingConfig(options=options, loop=loop, data=source.spec).to_dict()
    torch.manual_seed(loop.seed)
    with explained_memory("in training", SMALLER):
        task = make_task(options, source)
    batches = partial(_batches, options, loop, source)
    return fit(task, batches, loop, name=options.task, config=config, on_log=on_log, stop=stop)


def describe(options: TaskOptions, loop: LoopOptions, source: ClipSource) -> dict[str, Any]:
    """Says what a run would train, without training: parameter counts and the resolved options (`--dry-run`).

    Raises:
        RunError: The folder holds a run with other options.
        InputError: Options do not go together, or a folder cannot be used.
    """
    _check(options, loop, source)
    task = make_task(options, source)
    trained = sum(p.numel() for p in task.parameters() if p.requires_grad)
    checkpoint = last_checkpoint(loop.folder)
    return {
        "config": TrainingConfig(options=options, loop=loop, data=source.spec).to_dict(),
        "trained_parameters": trained,
        "frozen_parameters": sum(p.numel() for p in task.parameters()) - trained,
        "resumes_from": checkpoint.name if checkpoint else None,
    }


def _batches(
    options: TaskOptions, loop: LoopOptions, source: ClipSource, rank: int, world: int, start: int
) -> Iterator[Batch]:
    return clip_batches(source, options.view(), loop, rank=rank, world=world, start=start)


def _check(options: TaskOptions, loop: LoopOptions, source: ClipSource) -> None:
    """Refuses what this machine cannot do, what does not go together, and another run's folder."""
    options.check_loop(loop)
    if getattr(options, "cuda_graphs", False):
        if not torch.cuda.is_available():
            raise InputError("cuda_graphs needs a CUDA device, and there is none; leave it out (--no-cuda-graphs)")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError("cuda_graphs works only in a single process; leave it out, or train in one")
    if source.clips_per_scene > 1 and not options.shares_noise:
        raise InputError(f"data: {source.spec} shows scenes in several motions, which is only for keyframes")
    if loop.part_size % source.clips_per_scene:
        raise InputError(
            f"batch_size / accumulate must be a multiple of the {source.clips_per_scene} motions per scene of "
            f"{source.spec}, got {loop.part_size}"
        )
    check_folder(
        loop.folder,
        TrainingConfig(options=options, loop=loop, data=source.spec).to_dict(),
        lambda values: TrainingConfig.from_dict(values, [type(options)]).to_dict(),
        _MAY_CHANGE | options.may_change,
        "choose another folder",
    )
