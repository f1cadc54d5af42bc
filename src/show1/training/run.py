"""Training of the stages' networks."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from show1.data.clips import ClipSource, ClipView
from show1.errors import InputError
from show1.runtime import explained_memory
from show1.text.unread import unread
from show1.training.batches import clip_batches
from show1.training.checkpoint import CONFIG, check_folder
from show1.training.folders import on_this_disk
from show1.training.learned_from import LEARNED_FROM, check_contents, contents, unchanged
from show1.training.log import Line
from show1.training.loop import SMALLER, describe_task, fit
from show1.training.options import LoopOptions, TaskOptions, TrainingConfig
from show1.training.tasks.base import Task, make_task
from show1.training.tasks.cached_text import STATES, CachedText
from show1.training.tasks.text_conditioner import TextConditioner
from show1.training.validation import Validation, held_out

logger = logging.getLogger(__name__)

_MAY_CHANGE = frozenset(
    ("steps", "log_every", "checkpoint_every", "keep_checkpoints", "sample_every", "workers", "out", "cuda_graphs")
    + ("skip_bad", "val_data", "val_clips", "val_every", "tracker")
)
"""Options that may change when a run resumes."""


def train(
    options: TaskOptions,
    loop: LoopOptions,
    source: ClipSource,
    *,
    validation: ClipSource | None = None,
    on_log: Callable[[Line], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Path:
    """Trains a network, resuming from the last checkpoint in `loop.out` if there is one.

    Args:
        options: What to train: the options of a task, such as `KeyframesOptions`.
        loop: How to train it.
        source: The clips to learn from: a `show1.data.folder.ClipFolder`, or a source of your own.
        validation: Other clips to validate on; `loop.val_share` holds some of `source` out instead.
        on_log: Called by the main process with every line of the log; lines of a validation have only `val_` values.
        stop: Asked after every step, in runs of one process; when it returns True, the run writes a checkpoint and
            stops.

    Returns:
        The folder `export/` with the averaged weights in the layout that inference loads.

    Raises:
        MissingDependencyError: The training extra, or the package of the optimizer, is not installed.
        RunError: The folder holds a run with other options or of other clips, or the loss is not finite.
        InputError: Options do not go together, or the data or the `init` folder cannot be used.
        Cancelled: `stop` returned True.
    """
    located = on_this_disk(options, loop.folder)
    records, view = _checked(options, located, loop, source, validation)
    captions = _captions(source, validation)
    if loop.val_share:
        source, validation = held_out(source, loop.val_share)
    torch.manual_seed(loop.seed)
    with explained_memory("in training", SMALLER):
        task = make_task(located, source)
        _warn_of_captions(task, source)
        if isinstance(text := getattr(task, "text", None), CachedText):
            text.compute(itertools.chain(task.own_texts(), captions), loop.folder / STATES)
    batches = partial(clip_batches, source, view, loop)
    measured = None if validation is None else Validation(validation, view, loop)
    return fit(task, batches, loop, name=options.task, records=records, validation=measured, on_log=on_log, stop=stop)


def describe(
    options: TaskOptions, loop: LoopOptions, source: ClipSource, *, validation: ClipSource | None = None
) -> dict[str, Any]:
    """Says what a run would train, without training: parameter counts and the resolved options (`--dry-run`).

    Raises:
        RunError: The folder holds a run with other options or of other clips.
        InputError: Options do not go together, or a folder cannot be used.
    """
    located = on_this_disk(options, loop.folder)
    records, _ = _checked(options, located, loop, source, validation)
    if loop.val_share:
        held_out(source, loop.val_share)
    task = make_task(located, source)
    _warn_of_captions(task, source)
    return {"config": records[CONFIG], **describe_task(task, loop)}


def _checked(
    options: TaskOptions, located: TaskOptions, loop: LoopOptions, source: ClipSource, validation: ClipSource | None
) -> tuple[dict[str, dict[str, Any]], ClipView]:
    """The records of a run, by file, and what it sees of a clip.

    Refuses what does not go together, another run's folder, and clips that cannot be used.

    Args:
        options: The task's options.
        located: The same, with folders for names on the Hub.
        loop: How to train.
        source: The clips to learn from.
        validation: Other clips to validate on.
    """
    options.check_loop(loop)
    for clips in _both(source, validation):
        if not hasattr(clips, "options"):
            kind = type(clips).__name__
            raise InputError(f"{kind} is not a source of clips; derive it from show1.data.clips.ClipSource")
    if validation is not None:
        loop = dataclasses.replace(loop, val_data=validation.spec)
    elif loop.val_data is not None:
        raise InputError("val_data only names the clips; open them too, and give them as `validation`")
    if source.clips_per_scene > 1 and not options.shares_noise:
        raise InputError(f"data: {source.spec} shows scenes in several motions, which is only for keyframes")
    if loop.part_size % source.clips_per_scene:
        raise InputError(
            f"batch_size / accumulate must be a multiple of the {source.clips_per_scene} motions per scene of "
            f"{source.spec}, got {loop.part_size}"
        )
    view = options.view().of_frames(source.options.frames)
    config = TrainingConfig(options=options, loop=loop, data=source.spec, clips=source.options).to_dict()
    learned_from = contents(located, source)
    check_folder(
        loop.folder,
        config,
        lambda values: _with_absolute_data(TrainingConfig.from_dict(values, [type(options)]).to_dict(), source),
        _MAY_CHANGE | unchanged(loop.folder, learned_from),
        "choose another folder",
    )
    check_contents(loop.folder, learned_from, located, source)
    for clips in _both(source, validation):
        clips.prepare(view, captions=options.reads_captions)
    return {CONFIG: config, LEARNED_FROM: learned_from}, view


def _both(source: ClipSource, validation: ClipSource | None) -> list[ClipSource]:
    """The clips to learn from, and those to validate on if there are any."""
    return [source] if validation is None else [source, validation]


def _captions(source: ClipSource, validation: ClipSource | None) -> Iterator[str]:
    """All captions of the clips."""
    for clips in _both(source, validation):
        if clips.num_clips is None:
            raise InputError(f"cache_text: {clips.spec} has no end; leave it out, so that texts are read as they come")
        for index in range(clips.num_clips):
            yield clips.caption(index)
            yield clips.caption(index, "image")


def _warn_of_captions(task: Task, source: ClipSource) -> None:
    """Says what of the captions the task's text encoder cannot read."""
    text = getattr(task, "text", None)
    if isinstance(text, TextConditioner) and source.num_clips is not None:
        captions = map(source.caption, range(source.num_clips))
        for sentence in unread(text.tokenizer, text.tokenizer.unk_token_id, captions, text.length).sentences():
            logger.warning("%s", sentence)


def _with_absolute_data(saved: dict[str, Any], source: ClipSource) -> dict[str, Any]:
    """Saved options with the clips as they are named now, where earlier versions kept a relative name."""
    same = str(Path(saved["data"]).expanduser().absolute()) == source.spec
    return {**saved, "data": source.spec} if same else saved
