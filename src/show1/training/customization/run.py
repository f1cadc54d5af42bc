"""Runs of customizations: the folder, the loop, and the adapter that comes out."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from show1.checkpoints.locate import Cascade
from show1.errors import InputError, MissingDependencyError, OutputError
from show1.files import read_json_object, sha256, write_atomically, write_json
from show1.runtime import choose_device, measure
from show1.training.customization.config import CustomizationConfig
from show1.training.customization.prepare import (
    FILE,
    find_cascade,
    make_learner,
    prepare,
    read_clips,
    save_reference_sheet,
)
from show1.training.customization.task import ADAPTER, CustomizationTask
from show1.training.job import Job
from show1.training.log import Line
from show1.training.tasks import Batch, Task
from show1.training.trainer import check_folder, last_checkpoint, run_job

logger = logging.getLogger(__name__)

REPORT = "report.json"
"""Time and memory of a run, in its folder."""

WRITTEN = "written.json"
"""Hash of the adapter that the run wrote last, in its folder."""

_FREE = {"steps", "log_every", "checkpoint_every", "sample_every", "output", "run"}
"""Options that may change when a run goes on."""


def customize(
    config: CustomizationConfig,
    *,
    on_log: Callable[[Line], None] | None = None,
    stop: Callable[[], bool] | None = None,
    overwrite: bool = False,
) -> Path:
    """Learns a motion or a style, going on from the last checkpoint in the run's folder if there is one.

    Args:
        config: What to learn, and how.
        on_log: Called with every line of the log.
        stop: Asked after every step; at the first yes the run writes a checkpoint and ends.
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
        Cancelled: `stop` said yes.
    """
    output = Path(config.output)
    made, written = config.folder / "export" / ADAPTER, config.folder / WRITTEN
    known = [read_json_object(written).get("sha256")] if written.is_file() else []
    known += [sha256(made)] if made.is_file() else []
    ours = output.is_file() and sha256(output) in known
    if output.exists() and not (overwrite or ours):
        raise OutputError(f"{output} exists already; name another file, or say overwrite=True (--overwrite)")
    cascade = find_cascade(config)
    job = CustomizationJob(config, cascade)
    with measure(job.device) as cost:
        run_job(job, on_log=on_log, stop=stop)
    if job.steps_done:
        report = {"steps": job.steps_done, **cost.to_dict()}
        write_json(config.folder / REPORT, report)
        logger.info("%d steps took %.1f s, peak memory %.2f GB", job.steps_done, cost.seconds, cost.peak_memory / 1e9)
    else:
        logger.warning("%s had its %d steps already: nothing more was learned", config.folder, config.steps)
    data = made.read_bytes()
    write_atomically(output, lambda partial: _write_bytes(partial, data))
    write_json(written, {"sha256": sha256(output)})
    return output


def describe(config: CustomizationConfig, sheet: Path | None = None) -> dict[str, Any]:
    """What a run would learn, without learning: options, clips, counts of parameters (`--dry-run`).

    Args:
        config: The run's options.
        sheet: Where the frames that it would learn from are drawn, *.png; None: nowhere.
    """
    _check_folder(config)
    cascade = find_cascade(config)
    clips = read_clips(config, make_learner(config, cascade))
    if sheet is not None:
        save_reference_sheet(config, clips, sheet)
    task = CustomizationTask(config, cascade, None)
    trained = sum(p.numel() for p in task.learning_parameters())
    checkpoint = last_checkpoint(config.folder)
    return {
        "config": config.to_dict(),
        "method": config.resolved_method,
        "learning_rate": config.resolved_learning_rate,
        "folder": str(config.folder),
        "clips": [{"source": r.source, "times": list(r.times), "warnings": list(r.warnings)} for r in clips.references],
        "clip_shape": list(clips.video.shape),
        "prompts": list(clips.prompts),
        "trained_parameters": trained,
        "frozen_parameters": sum(p.numel() for p in task.parameters()) - trained,
        "goes_on_from": checkpoint.name if checkpoint else None,
    }


class CustomizationJob(Job):
    """A customization as the training loop sees it."""

    def __init__(self, config: CustomizationConfig, cascade: Cascade) -> None:
        self._config = config
        self._cascade = cascade
        self._prompts: tuple[str, ...] = ()
        self._clips = 0
        self._start = 0
        self.device = choose_device()

    @property
    def steps_done(self) -> int:
        """Steps of this call, when it has ended."""
        return max(0, self._config.steps - self._start)

    @property
    def name(self) -> str:
        """See `Job.name`."""
        return f"customize {self._config.kind}"

    @property
    def options(self) -> CustomizationConfig:
        """See `Job.options`."""
        return self._config

    def claim_folder(self) -> None:
        """See `Job.claim_folder`."""
        _check_folder(self._config)
        folder = self._config.folder
        if last_checkpoint(folder) is None:  # of another run that got nowhere, or of clips that have changed
            (folder / FILE).unlink(missing_ok=True)
        write_json(folder / "config.json", self._config.to_dict())

    def make_task(self) -> CustomizationTask:
        """See `Job.make_task`."""
        prepared = prepare(self._config, self._cascade, self.device)
        self._clips = len(prepared.clips)
        self._prompts = prepared.prompts
        torch.manual_seed(self._config.seed)
        return CustomizationTask(self._config, self._cascade, prepared)

    def make_optimizer(self, task: Task) -> torch.optim.Optimizer:
        """See `Job.make_optimizer`."""
        assert isinstance(task, CustomizationTask)
        config, parameters = self._config, task.learning_parameters()
        rate = config.resolved_learning_rate
        if config.optimizer == "adamw":
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=config.weight_decay, fused=True)
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError as error:
            raise MissingDependencyError(
                f"optimizer: adamw8bit needs bitsandbytes ({error}); pip install bitsandbytes, or use adamw"
            ) from error
        optimizer: torch.optim.Optimizer = AdamW8bit(parameters, lr=rate, weight_decay=config.weight_decay)
        return optimizer

    def batches(self, rank: int, world: int, start: int) -> Iterator[Batch]:
        """See `Job.batches`: places of clips, one after another."""
        if world > 1:
            raise InputError("a customization runs in one process; start it without a launcher")
        self._start = start
        return self._batches(start * self._config.accumulate)

    def _batches(self, part: int) -> Iterator[Batch]:
        size = self._config.batch_size // self._config.accumulate
        while True:
            yield {"index": (torch.arange(size) + part * size) % self._clips}
            part += 1

    def preview_batch(self) -> Batch:
        """See `Job.preview_batch`: the prompts of the sheet."""
        return {"prompts": list(self._prompts)}


def _check_folder(config: CustomizationConfig) -> None:
    check_folder(config, _FREE, "choose another folder (--run)")


def _write_bytes(file: Path, data: bytes) -> None:
    file.write_bytes(data)
