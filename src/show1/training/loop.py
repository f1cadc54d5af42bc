"""The training loop, for the stages and for customizations.

Data, noise and dropout depend only on (seed, step, process), so a run that was killed resumes from its last checkpoint
and ends with the same weights, bit for bit.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from show1.errors import Cancelled, InputError, RunError
from show1.files import write_json
from show1.media import contact_sheet, save_sheet
from show1.runtime import explained_memory
from show1.training.batches import last_start
from show1.training.checkpoint import (
    CONFIG,
    exported_step,
    last_checkpoint,
    load_checkpoint,
    save_checkpoint,
    save_export,
    step_of,
)
from show1.training.log import Line, RunLog, check_tensorboard, check_trackers
from show1.training.objective import to_device
from show1.training.optimizer import averaged, check_optimizer, lr_factor, make_optimizer, update_average
from show1.training.options import LoopOptions
from show1.training.state import TrainingState
from show1.training.tasks.base import Batch, Task
from show1.training.validation import Validation
from show1.video import Video

logger = logging.getLogger(__name__)

SMALLER = (
    "a smaller batch_size, or the same one in parts (accumulate), gradient_checkpointing, mixed_precision bf16, or, to "
    "customize, the method lora"
)
"""What to try where a training needs too much memory."""

Batches = Callable[[int, int, int], Iterator[Batch]]
"""Parts of batches for (process, number of processes, first step); the same arguments give the same batches."""


def fit(
    task: Task,
    batches: Batches,
    loop: LoopOptions,
    *,
    name: str,
    records: Mapping[str, Mapping[str, Any]],
    validation: Validation | None = None,
    on_log: Callable[[Line], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Path:
    """Trains a task, resuming from the last checkpoint in the run's folder if there is one.

    Args:
        task: What to train.
        batches: What it learns from.
        loop: How.
        name: Name of the task in the record of the export.
        records: JSON files to write into the run's folder, such as `config.json` with all options.
        validation: What the main process measures now and then.
        on_log: Called by the main process with every line of the log; lines of a validation have only `val_` values.
        stop: Asked after every step, in runs of one process; when it returns True, the run writes a checkpoint and
            stops.

    Returns:
        The folder `export/` with what the task exports with averaged weights.

    Raises:
        InputError: There is no such tracker, or no device for the number format.
        MissingDependencyError: A tracker's package is not installed.
        RunError: The loss is not finite.
        Cancelled: `stop` returned True.
    """
    check_packages(loop)
    accelerator = _make_accelerator(loop)
    if accelerator.is_main_process:
        for file, values in records.items():
            write_json(loop.folder / file, dict(values))
    accelerator.wait_for_everyone()
    checkpoint = last_checkpoint(loop.folder)
    with explained_memory("in training", SMALLER):
        run = _Run(task, loop, accelerator, checkpoint, validation)
        if accelerator.is_main_process:
            accelerator.init_trackers("show1", {key: str(value) for key, value in records[CONFIG].items()})
            with RunLog(loop.folder, step_of(checkpoint), on_log, accelerator.trackers) as log:
                run.train(batches, name, log, stop)
        else:
            run.train(batches, name, None, stop)
        accelerator.end_training()
    return loop.folder / "export"


def _make_accelerator(loop: LoopOptions) -> Any:
    """Makes what knows the devices and processes of a training."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if loop.mixed_precision == "fp16" and not torch.accelerator.is_available():
        raise InputError("mixed_precision: fp16 needs a GPU, whose gradients it scales; use bf16, or leave it out")
    AcceleratorState._reset_state()  # another run of this process may have had another precision
    return Accelerator(
        cpu=not torch.accelerator.is_available(),  # several processes on CPUs talk through gloo
        mixed_precision=loop.mixed_precision,
        gradient_accumulation_steps=loop.accumulate,
        step_scheduler_with_optimizer=False,
        log_with=check_trackers(loop.tracker) or None,
        project_dir=loop.folder,
    )


def check_packages(loop: LoopOptions) -> None:
    """Makes sure, before anything is written, that the packages of the optimizer and of the log are installed.

    Raises:
        MissingDependencyError: One is not.
    """
    check_optimizer(loop)
    check_tensorboard()


def describe_task(task: Task, loop: LoopOptions) -> dict[str, Any]:
    """Says how many parameters a run would train, and from which checkpoint in its folder it would resume.

    Raises:
        MissingDependencyError: A package of the training is not installed.
    """
    check_packages(loop)
    trained = sum(p.numel() for p in task.parameters() if p.requires_grad)
    checkpoint = last_checkpoint(loop.folder)
    return {
        "trained_parameters": trained,
        "frozen_parameters": sum(p.numel() for p in task.parameters()) - trained,
        "resumes_from": checkpoint.name if checkpoint else None,
    }


class _Run:
    """The training of one process."""

    def __init__(
        self, task: Task, loop: LoopOptions, accelerator: Any, checkpoint: Path | None, validation: Validation | None
    ) -> None:
        from diffusers.training_utils import EMAModel

        self.task, self.loop, self.accelerator, self.validation = task, loop, accelerator, validation
        optimizer = make_optimizer(task, loop)
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.trained = [p for p in task.parameters() if p.requires_grad]
        self.ema = EMAModel(self.trained, decay=loop.ema_decay, foreach=True)
        self.model, self.optimizer = accelerator.prepare(task, optimizer)
        self.ema.to(accelerator.device)
        self.state = TrainingState(task, self.ema, self.optimizer, accelerator.scaler, accelerator.num_processes)
        self.start = step_of(checkpoint)
        if checkpoint is not None:
            load_checkpoint(self.state, checkpoint)
            logger.info("resuming from step %d", self.start)
        self._set_rates(self.start)

    def _set_rates(self, step: int) -> None:
        """Sets the learning rates of a step."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * lr_factor(step, self.loop)

    def train(self, batches: Batches, name: str, log: RunLog | None, stop: Callable[[], bool] | None) -> None:
        """Trains to the last step; the main process has the log."""
        loop, accelerator = self.loop, self.accelerator
        parts = batches(accelerator.process_index, accelerator.num_processes, self.start)
        unseen = next(batches(0, 1, last_start(loop.batch_size))) if log is not None else {}

        self.model.train()
        logger.info("training from step %d of %d", self.start, loop.steps)
        began, count = time.monotonic(), 0
        sums: dict[str, torch.Tensor] = {}
        for step in range(self.start, loop.steps):
            norm = self._step(parts, step, sums)
            done, count = step + 1, count + 1
            stopping = stop is not None and stop()
            checkpoint_due = stopping or done == loop.steps or done % loop.checkpoint_every == 0

            # a checkpoint begins a new line, so that a run that resumes from it writes the lines of one never stopped
            if checkpoint_due or done % loop.log_every == 0:
                means = {key: float(accelerator.reduce(v, "mean")) / count for key, v in sums.items()}
                samples = count * loop.batch_size * accelerator.num_processes
                line = {
                    "step": done,
                    **means,
                    **({"grad_norm": float(norm)} if norm.isfinite() else {}),  # float16 skips steps that overflow
                    "lr": max(group["lr"] for group in self.optimizer.param_groups),
                    "samples_per_second": samples / (time.monotonic() - began),
                }
                if log is not None:
                    log.write(line)
                if not math.isfinite(means["loss"]):
                    raise RunError(f"the loss at step {done} is {means['loss']}; lower learning_rate and start again")
                began, count, sums = time.monotonic(), 0, {}
            self._validate(done, log)
            if checkpoint_due:
                save_checkpoint(accelerator, self.state, loop.folder, done, keep=loop.keep_checkpoints)
            if done < loop.steps and loop.sample_every and done % loop.sample_every == 0:
                self._preview_and_export(unseen, name, done, log)
            if stopping and done < loop.steps:
                raise Cancelled(f"{loop.folder} holds step {done} of {loop.steps}")

        # after the last checkpoint, and again in a run that was killed between the two
        if exported_step(loop.folder) != max(self.start, loop.steps):
            self._preview_and_export(unseen, name, max(self.start, loop.steps), log)

    @torch.no_grad()
    def _preview_and_export(self, unseen: Batch, name: str, step: int, log: RunLog | None) -> None:
        """Writes a sheet of samples and the export, with the averaged weights.

        Args:
            unseen: A batch that is not learned from.
            name: Name of the task.
            step: Number of steps done.
            log: The log of the main process; None in the others, which wait.
        """
        if log is not None:
            logger.info("drawing samples and writing the export of step %d", step)
            task, folder, device = self.task, self.loop.folder, self.accelerator.device
            shown = unseen if self.validation is None else self.validation.shown()
            with averaged(self.ema, self.trained):
                task.eval()
                task.calibrate(to_device(unseen, device))
                samples = task.preview(to_device(shown, device))
                if samples:
                    clips = [Video.from_tensor(video, fps=2.0).frames for _, video in samples]
                    sheet = contact_sheet(clips, labels=[caption for caption, _ in samples])
                    (folder / "samples").mkdir(exist_ok=True)
                    save_sheet(sheet, folder / "samples" / f"step-{step:07d}.png", overwrite=True)
                    log.show(sheet, step)
                save_export(folder, task.export, name, step)
                task.train()
            logger.info("training after step %d", step)
        self.accelerator.wait_for_everyone()

    def _validate(self, step: int, log: RunLog | None) -> None:
        """Measures on other clips, where that is due."""
        if self.validation is None or not self.validation.is_due(step):
            return
        if log is not None:
            with averaged(self.ema, self.trained):
                log.write({"step": step, **self.validation.measure(self.task, self.accelerator.device)})
        self.accelerator.wait_for_everyone()

    def _step(self, parts: Iterator[Batch], step: int, sums: dict[str, torch.Tensor]) -> torch.Tensor:
        """Does a step of the optimizer, adds the losses to the sums and returns the norm of the gradients."""
        loop, accelerator = self.loop, self.accelerator
        for part in range(loop.accumulate):
            batch = to_device(next(parts), accelerator.device)
            torch.manual_seed(_seed(loop.seed, step, part, accelerator.process_index))
            with accelerator.accumulate(self.model):
                losses = self.model(batch)
                accelerator.backward(losses["loss"])
                if accelerator.sync_gradients:
                    norm: torch.Tensor = accelerator.clip_grad_norm_(self.trained, loop.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            for key, value in losses.items():
                sums[key] = sums.get(key, 0.0) + value.detach() / loop.accumulate
        self._set_rates(step + 1)
        update_average(self.ema, self.trained)
        return norm


def _seed(seed: int, step: int, part: int, rank: int) -> int:
    digest = hashlib.sha256(f"{seed}/{step}/{part}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
