"""Runs of customizations: the folder, the loop, and the adapter that comes out."""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from show1.checkpoints.cascade import Cascade
from show1.checkpoints.locate import resolve
from show1.errors import InputError, OutputError
from show1.files import read_json_object, sha256, user_path, write_atomically, write_json
from show1.launch import several
from show1.runtime import choose_device, explained_memory, measure
from show1.training.checkpoint import CONFIG, check_folder, last_checkpoint, step_of
from show1.training.customization.config import CustomizationConfig
from show1.training.customization.prepare import (
    FILE,
    make_learner,
    prepare,
    read_clips,
    save_reference_sheet,
)
from show1.training.customization.task import ADAPTER, CustomizationTask
from show1.training.log import Line
from show1.training.loop import SMALLER, describe_task, fit

logger = logging.getLogger(__name__)

REPORT = "report.json"
"""Time and memory of a run, in its folder."""

WRITTEN = "written.json"
"""Hash of the adapter that the run wrote last, in its folder."""

_MAY_CHANGE = frozenset({"steps", "log_every", "checkpoint_every", "keep_checkpoints", "sample_every", "output", "run"})
"""Options that may change when a run resumes."""


def customize(
    config: CustomizationConfig,
    *,
    on_log: Callable[[Line], None] | None = None,
    stop: Callable[[], bool] | None = None,
    overwrite: bool = False,
) -> Path:
    """Learns a motion or a style, resuming from the last checkpoint in the run's folder if there is one.

    Args:
        config: What to learn, and how.
        on_log: Called with every line of the log.
        stop: Asked after every step, also of the inversion before; when it returns True, the run writes a checkpoint,
            if it has learned anything yet, and stops.
        overwrite: Whether another file in the place of `config.output` may be replaced.

    Returns:
        The adapter's file, `config.output`.

    Raises:
        MissingDependencyError: The training extra (or bitsandbytes, for its optimizer) is not installed.
        ModelNotFoundError: There is no such model, or it lacks the stage.
        CheckpointError: A file of the model is damaged.
        InputError: A clip or an option cannot be used.
        MediaError: A clip cannot be read.
        OutputError: The adapter's file is there already, or cannot be written.
        RunError: The folder holds a run with other options, or the loss is not finite.
        Cancelled: `stop` returned True.
    """
    output = user_path(config.output, "output")
    made, written = config.folder / "export" / ADAPTER, config.folder / WRITTEN
    known: list[object] = []
    with suppress(OSError, ValueError):  # it is damaged, or was not written yet
        known.append(read_json_object(written).get("sha256"))
    known += [sha256(made)] if made.is_file() else []
    ours = output.is_file() and sha256(output) in known
    if output.exists() and not (overwrite or ours):
        raise OutputError(f"{output} exists already; name another file, or pass overwrite=True (--overwrite)")
    if several():
        raise InputError("a customization runs in one process; start it without a launcher")
    _check_folder(config)
    cascade, device = resolve(config.model, stages=(config.stage,)), choose_device()
    checkpoint = last_checkpoint(config.folder)
    if checkpoint is None:  # of another run that got nowhere, or of clips that have changed
        (config.folder / FILE).unlink(missing_ok=True)
    with measure(device) as cost:
        with explained_memory("in training", SMALLER):
            task = make_task(config, cascade, device, stop)
        name, saved = f"customize {config.kind}", config.to_dict() | _places(config)
        fit(task, task.batches, config.loop, name=name, records={CONFIG: saved}, on_log=on_log, stop=stop)
    steps_done = config.steps - step_of(checkpoint)
    if steps_done > 0:
        write_json(config.folder / REPORT, {"steps": steps_done, **cost.to_dict()})
        logger.debug("%d steps took %.1f s, peak memory %.2f GB", steps_done, cost.seconds, cost.peak_memory / 1e9)
    else:
        logger.warning("%s has all its %d steps already; nothing more was learned", config.folder, config.steps)
    data = made.read_bytes()
    write_atomically(output, lambda partial: _write_bytes(partial, data))
    write_json(written, {"sha256": sha256(output)})
    return output


def configure(**options: Any) -> CustomizationConfig:
    """Makes the options of a customization: those given, then those that the model advises, then the defaults.

    Args:
        options: Fields of `CustomizationConfig`.

    Raises:
        InputError: An option is unknown, missing or out of its range.
        ModelNotFoundError: There is no such model.
        CheckpointError: A file of the model is missing or damaged.
    """
    plain = CustomizationConfig.from_dict(options)
    return CustomizationConfig.advised(options, resolve(plain.model, stages=(plain.stage,)).customization)


def describe(config: CustomizationConfig, sheet: Path | None = None) -> dict[str, Any]:
    """Says what a run would learn, without learning: options, clips, counts of parameters (`--dry-run`).

    Args:
        config: The run's options.
        sheet: Where the frames that it would learn from are drawn, *.png; None: nowhere.
    """
    _check_folder(config)
    cascade = resolve(config.model, stages=(config.stage,))
    clips = read_clips(config, make_learner(config, cascade))
    if sheet is not None:
        save_reference_sheet(config, clips, sheet)
    return {
        "config": config.to_dict(),
        "method": config.resolved_method,
        "learning_rate": config.resolved_learning_rate,
        "folder": str(config.folder),
        "clips": [{"source": r.source, "times": list(r.times), "warnings": list(r.warnings)} for r in clips.references],
        "clip_shape": list(clips.video.shape),
        "prompts": list(clips.prompts),
        **describe_task(CustomizationTask(config, cascade, None), config.loop),
    }


def make_task(
    config: CustomizationConfig, cascade: Cascade, device: torch.device, stop: Callable[[], bool] | None = None
) -> CustomizationTask:
    """Prepares what is learned from, unless `stop` returns True, and loads the network with what learns."""
    prepared = prepare(config, cascade, device, stop)
    torch.manual_seed(config.seed)
    return CustomizationTask(config, cascade, prepared)


def _places(config: CustomizationConfig) -> dict[str, str]:
    """Where the adapter and the run are, by names that mean the same from any current folder."""
    return {"output": str(user_path(config.output).absolute()), "run": str(config.folder.absolute())}


def _check_folder(config: CustomizationConfig) -> None:
    check_folder(
        config.folder,
        config.to_dict(),
        lambda values: CustomizationConfig.from_dict(values).to_dict(),  # with options newer than the run
        _MAY_CHANGE,
        "choose another folder (--run)",
    )


def _write_bytes(file: Path, data: bytes) -> None:
    file.write_bytes(data)
