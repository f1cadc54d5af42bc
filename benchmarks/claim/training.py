"""Trains the networks that the hybrid lacks, each with the compute of what it stands against."""

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.claim.plans import PLANS, TRAINED, WHOLE, Options
from scripts import train_mini
from show1.checkpoints.locate import resolve
from show1.errors import InputError
from show1.files import write_json
from show1.sprites.clips import SpriteClips
from show1.training import TASKS, LoopOptions, TrainingConfig, train
from show1.training.batches import clip_batches
from show1.training.tasks.base import make_task

logger = logging.getLogger(__name__)


def operations_of(config: TrainingConfig) -> float:
    """Counts the floating-point operations of one sample, forward and backward; those of corrupting inputs aside."""
    values = {**config.to_dict(), "batch_size": 1, "accumulate": 1, "workers": 0, "cuda_graphs": False}
    if "corruption" in values:
        values["corruption"] = 0.0
    config = TrainingConfig.from_dict(values, TASKS)
    clips = SpriteClips.from_spec(config.data, config.loop.seed)
    batch = next(clip_batches(clips, config.options.view(), config.loop, rank=0, world=1, start=0))
    with torch.random.fork_rng(), FlopCounterMode(display=False) as counter:
        torch.manual_seed(0)
        make_task(config.options, clips)(batch)["loss"].backward()
    return float(counter.get_total_flops())


def train_networks(
    options: Options,
    only: Sequence[str] = (),
    stop: Callable[[], bool] | None = None,
    *,
    train: Callable[..., Any] = train,
    operations_of: Callable[[TrainingConfig], float] = operations_of,
) -> dict[str, Path]:
    """Trains what is missing of the networks that the ways need, or of those that are named.

    Args:
        options: Options of the comparison.
        only: Names in `PLANS`; empty: all that are needed.
        stop: Called after every step; when it returns True, the training writes a checkpoint and stops.
        train: Runs a training.
        operations_of: Counts the operations of a training on one sample.

    Returns:
        The stage folders of all networks that the ways need.

    Raises:
        Cancelled: `stop` returned True; the next call resumes.
        InputError: The share is less than what the stages that a way takes as they are were trained for.
    """
    missing = [name for name in only or options.needed if not options.training_record(name).is_file()]
    budgets = {} if options.steps is not None else budgets_of(options, missing, operations_of)
    for name in missing:
        plan = PLANS[name]
        # super-resolution has steps of single frames among those of windows, and graphs are of one shape
        task = train_mini.RECIPE[plan.task].get("task", plan.task)
        graphs = options.cuda_graphs and task != "super_resolution"
        changes = {**plan.changes, "lr_schedule": "linear", "cuda_graphs": graphs}
        if options.steps is not None:
            changes["batch_size"] = 2
        config = _config(options, name, plan.task, changes)
        operations, batch_size = operations_of(config), config.loop.batch_size
        steps = options.steps or max(1, round(budgets[name] / operations / batch_size))
        loop = dataclasses.replace(config.loop, steps=steps)
        logger.info("training %s: %d steps of %d", name, steps, batch_size)
        train(config.options, loop, SpriteClips.from_spec(config.data, loop.seed), stop=stop)
        samples = steps * batch_size
        record = {"steps": steps, "samples": samples, "petaflops": samples * operations / 1e15}
        write_json(options.training_record(name), {**record, "minutes": _minutes(loop)})
    return {name: options.network(name) / "export" for name in options.needed}


def budgets_of(
    options: Options, names: Sequence[str], operations_of: Callable[[TrainingConfig], float]
) -> dict[str, float]:
    """Gives the floating-point operations that the trainings of some networks may take.

    Raises:
        InputError: The share is less than what the stages that a way takes as they are were trained for.
    """
    asking = {task: name for name in names for task in PLANS[name].like}
    spent = {
        task: TRAINED[task] * operations_of(_config(options, name, task, {"init": None}))
        for task, name in asking.items()
    }
    budgets = {}
    for name in names:
        plan = PLANS[name]
        whole, already = (sum(spent[task] for task in tasks) for tasks in (plan.like, plan.already_spent))
        left = (options.share if plan.like == WHOLE else 1.0) * whole - already
        if left <= 0:
            raise InputError(
                f"share must be more than {already / whole:.3f} for keyframes of the same share: the stages after them "
                f"took that much; got {options.share:g}"
            )
        budgets[name] = plan.part * left
    return budgets


def _config(options: Options, name: str, task: str, changes: dict[str, Any]) -> TrainingConfig:
    """The options of a training by the recipe of `mini`, with the text encoder and the VAE of the model."""
    parts = resolve(options.model).parts
    recipe = {"task": task, **train_mini.RECIPE[task], **changes, "sample_every": 0, "workers": options.workers}
    recipe |= {"text": str(parts["keyframes"].text), "out": str(options.network(name))}
    if options.mixed_precision is not None:
        recipe["mixed_precision"] = options.mixed_precision
    if "vae" in recipe:
        recipe["vae"] = str(parts["translation"].path)
    if recipe.get("init") is not None:
        recipe["init"] = str(options.network(recipe["init"]) / "export")
    return TrainingConfig.from_dict(train_mini.with_data(recipe), TASKS)


def _minutes(loop: LoopOptions) -> float:
    """Time that the log of a run gives for its steps."""
    before, seconds = 0, 0.0
    for line in map(json.loads, (loop.folder / "log.jsonl").read_text().splitlines()):
        seconds += (line["step"] - before) * loop.batch_size / line["samples_per_second"]
        before = line["step"]
    return seconds / 60
