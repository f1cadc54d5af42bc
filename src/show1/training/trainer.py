"""The training loop, for every task.

A run is its config: data, noise and dropout depend on (seed, step, process) alone, so a run that was killed goes on
from its last checkpoint and ends with the same weights, bit for bit.
"""

import dataclasses
import functools
import hashlib
import logging
import math
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from show1.data.clips import MINI_VIEWS, ClipDataset, ClipSource, ClipView
from show1.errors import Cancelled, InputError, MissingDependencyError, RunError, Show1Error
from show1.files import read_json_object, write_json
from show1.networks.layers import set_temporal_dropout
from show1.runtime import explained_memory
from show1.sprites.clips import SpriteClips
from show1.sprites.scenes import SpriteWorld
from show1.training.config import TrainingConfig
from show1.training.job import Job, LoopOptions
from show1.training.log import Line, RunLog
from show1.training.muon import muon
from show1.training.objective import moved
from show1.training.options import SavedOptions
from show1.training.tasks import TASK_CLASSES, Batch, DenoisingTask, Task, VAETask

logger = logging.getLogger(__name__)

SMALLER = (
    "a smaller batch_size, or the same one in parts (accumulate), gradient_checkpointing, mixed_precision bf16, or, to "
    "customize, the method lora"
)
"""What to try where a training needs too much memory."""

_LENGTH = 2**40
"""Samples of the endless data sets."""


def train(
    config: TrainingConfig,
    *,
    on_log: Callable[[Line], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Path:
    """Trains a stage, going on from the last checkpoint in `config.out` if there is one.

    Args:
        config: What to train, and how.
        on_log: Called by the main process with every line of the log.
        stop: Asked after every step, in runs of one process; at the first yes the run writes a checkpoint and ends.

    Returns:
        The folder `export/` with the averaged weights in the layout that inference loads.

    Raises:
        MissingDependencyError: The training extra is not installed.
        RunError: The folder holds a run with other options, or the loss is not finite.
        InputError: The data or the `init` folder cannot be used.
        Cancelled: `stop` said yes.
    """
    return run_job(TrainingJob(config), on_log=on_log, stop=stop)


class TrainingJob(Job):
    """The training of a stage."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config

    @property
    def name(self) -> str:
        """See `Job.name`."""
        return self._config.task

    @property
    def options(self) -> TrainingConfig:
        """See `Job.options`."""
        return self._config

    def claim_folder(self) -> None:
        """See `Job.claim_folder`."""
        _claim_folder(self._config)

    def make_task(self) -> Task:
        """See `Job.make_task`."""
        task = TASK_CLASSES[self._config.task](self._config)
        set_temporal_dropout(task, self._config.temporal_dropout)
        if self._config.gradient_checkpointing and isinstance(task, DenoisingTask):
            task.unet.enable_gradient_checkpointing()  # type: ignore[operator]
        return task

    def make_optimizer(self, task: Task) -> torch.optim.Optimizer:
        """See `Job.make_optimizer`."""
        return _optimizer(task, self._config)

    def batches(self, rank: int, world: int, start: int) -> Iterator[Batch]:
        """See `Job.batches`."""
        return _batches(self._config, rank, world, start)

    def preview_batch(self) -> Batch:
        """See `Job.preview_batch`: clips that no step comes to."""
        return next(_batches(self._config, 0, 1, _LENGTH // self._config.batch_size - 1))


def run_job(job: Job, *, on_log: Callable[[Line], None] | None = None, stop: Callable[[], bool] | None = None) -> Path:
    """Runs the loop, going on from the last checkpoint in the job's folder if there is one. See `train`."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    config = job.options
    AcceleratorState._reset_state()  # another run of this process may have had another precision
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # several processes on CPUs talk through gloo
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.accumulate,
        step_scheduler_with_optimizer=False,
    )
    if accelerator.is_main_process:
        job.claim_folder()
    accelerator.wait_for_everyone()
    checkpoint = last_checkpoint(config.folder)
    with explained_memory("in training", SMALLER):
        if accelerator.is_main_process:
            with RunLog(config.folder, step_of(checkpoint), on_log) as log:
                _train(job, accelerator, checkpoint, log, stop)
        else:
            _train(job, accelerator, checkpoint, None, stop)
    return config.folder / "export"


def _average(ema: Any, trained: Sequence[torch.nn.Parameter]) -> None:
    """A step of diffusers' average, which would copy those that do not learn in this step instead of averaging them."""
    learning = [parameter.requires_grad for parameter in trained]
    for parameter in trained:
        parameter.requires_grad_(True)
    ema.step(trained)
    for parameter, on in zip(trained, learning, strict=True):
        parameter.requires_grad_(on)


def _train(
    job: Job,
    accelerator: Any,
    checkpoint: Path | None,
    log: RunLog | None,
    stop: Callable[[], bool] | None,
) -> None:
    """The training of one process; the main one has the log."""
    from diffusers.training_utils import EMAModel

    # what is trained
    config = job.options
    torch.manual_seed(config.seed)
    task = job.make_task()
    optimizer = job.make_optimizer(task)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_factor(step, config))
    trained = [p for p in task.parameters() if p.requires_grad]
    ema = EMAModel(trained, decay=config.ema_decay, foreach=True)
    model, optimizer = accelerator.prepare(task, optimizer)
    accelerator.register_for_checkpointing(schedule, ema)

    # where it goes on
    start = step_of(checkpoint)
    if checkpoint is not None:
        accelerator.load_state(str(checkpoint))
        logger.info("going on from step %d", start)
    ema.to(accelerator.device)
    batches = job.batches(accelerator.process_index, accelerator.num_processes, start)
    preview = job.preview_batch() if log is not None else {}

    def preview_and_export(step: int) -> None:
        if log is not None:
            with _averaged(ema, trained):
                _preview_and_export(job, task, _to(preview, accelerator.device), step, log)
        accelerator.wait_for_everyone()

    model.train()
    began, count = time.monotonic(), 0
    sums: dict[str, torch.Tensor] = {}
    for step in range(start, config.steps):
        for part in range(config.accumulate):
            batch = _to(next(batches), accelerator.device)
            torch.manual_seed(_seed(config.seed, step, part, accelerator.process_index))
            with accelerator.accumulate(model):
                losses = model(batch)
                accelerator.backward(losses["loss"])
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(trained, config.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach() / config.accumulate
        schedule.step()
        _average(ema, trained)
        done, count = step + 1, count + 1
        stopping = stop is not None and stop()
        checkpoint_due = stopping or done == config.steps or done % config.checkpoint_every == 0

        # a checkpoint begins a new line, so that a run that goes on from it writes the lines of one that never stopped
        if checkpoint_due or done % config.log_every == 0:
            means = {name: float(accelerator.reduce(v, "mean")) / count for name, v in sums.items()}
            seconds = time.monotonic() - began
            line = {
                "step": done,
                **means,
                "grad_norm": float(norm),
                "lr": max(schedule.get_last_lr()),
                "samples_per_second": count * config.batch_size * accelerator.num_processes / seconds,
            }
            if log is not None:
                log.write(line)
            if not math.isfinite(means["loss"]):
                raise RunError(f"the loss at step {done} is {means['loss']}; lower learning_rate and start again")
            began, count, sums = time.monotonic(), 0, {}
        if checkpoint_due:
            _save_checkpoint(accelerator, config.folder, done)
        if done < config.steps and config.sample_every and done % config.sample_every == 0:
            preview_and_export(done)
        if stopping and done < config.steps:
            raise Cancelled(f"{config.folder} holds step {done} of {config.steps}")

    # after the last checkpoint, and again in a run that was killed between the two
    if exported_step(config.folder) != max(start, config.steps):
        preview_and_export(max(start, config.steps))


def describe(config: TrainingConfig) -> dict[str, Any]:
    """What a run would train, without training: parameter counts and the resolved options (`--dry-run`)."""
    _check(config)
    _source(config)  # says what is wrong with the data
    task = TASK_CLASSES[config.task](config)
    trained = sum(p.numel() for p in task.parameters() if p.requires_grad)
    checkpoint = last_checkpoint(config.folder)
    return {
        "config": config.to_dict(),
        "trained_parameters": trained,
        "frozen_parameters": sum(p.numel() for p in task.parameters()) - trained,
        "goes_on_from": checkpoint.name if checkpoint else None,
    }


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    return max((folder / "checkpoints").glob("step-*"), key=step_of, default=None)


def step_of(checkpoint: Path | None) -> int:
    """The steps that were done when a checkpoint was written."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix("step-"))


def exported_step(folder: Path) -> int | None:
    """The step of a run's export; None: there is none."""
    file = folder / "export" / "training.json"
    return int(read_json_object(file)["step"]) if file.is_file() else None


_FREE = {"steps", "log_every", "checkpoint_every", "sample_every", "cuda_graphs", "workers", "out"}
"""Options that may change when a run goes on."""


def check_folder(config: SavedOptions, free: Collection[str], remedy: str) -> None:
    """Refuses a folder with the checkpoints of a run with other options.

    Args:
        config: The options now.
        free: Those that may change when a run goes on.
        remedy: What to do instead, for the message.

    Raises:
        RunError: It is one, or its config.json is damaged.
    """
    file = config.folder / "config.json"
    if last_checkpoint(config.folder) is None or not file.exists():
        return
    try:
        before = type(config).from_dict(read_json_object(file)).to_dict()  # with options newer than the run
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({error}); {remedy}") from error
    for name, value in config.to_dict().items():
        if name not in free and before.get(name) != value:
            raise RunError(
                f"{config.folder} holds a run with another {name} ({before.get(name)!r}, now {value!r}); "
                f"{remedy}, or give the same options to go on"
            )


def _check(config: TrainingConfig) -> None:
    """Refuses what this machine cannot do, and another run's folder."""
    if config.cuda_graphs and not torch.cuda.is_available():
        raise InputError("cuda_graphs needs a CUDA device, and there is none; leave it out (--no-cuda-graphs)")
    if config.cuda_graphs and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("cuda_graphs is for one process; leave it out, or train in one")
    check_folder(config, _FREE, "choose another folder")


def _claim_folder(config: TrainingConfig) -> None:
    """Writes config.json, unless the folder is another run's."""
    _check(config)
    write_json(config.folder / "config.json", config.to_dict())


def _optimizer(task: Task, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW, or Muon for the matrices between the first and the last layer and AdamW for the rest."""
    new = task.new_parameters()
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            hidden = parameter.ndim >= 2 and not re.search(r"conv_in|conv_out|embedding|shared", name)
            groups.setdefault((name in new, hidden and config.optimizer == "muon"), []).append(parameter)
    options = [
        {"params": params, "lr": config.learning_rate * (1.0 if is_new else config.inherited_lr_scale)}
        for (is_new, _), params in groups.items()
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(options, weight_decay=config.weight_decay, fused=True)
    for option, (_, use_muon) in zip(options, groups, strict=True):
        # orthogonal updates scaled to the size of AdamW's (section 2.2 of arXiv:2502.16982): one learning rate for both
        option |= {"use_muon": use_muon, "weight_decay": config.weight_decay}
        option |= {"use_adjusted_lr": True} if use_muon else {"betas": (0.9, 0.999), "eps": 1e-8}
    try:
        return muon(options)
    except ImportError as error:
        raise MissingDependencyError(f"{error}; install the training extra: pip install 'show1[train]'") from error


def _lr_factor(step: int, config: LoopOptions) -> float:
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    left = 1 - step / config.steps
    if config.lr_schedule == "constant":
        return warmup
    return warmup * (left if config.lr_schedule == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left))))


def _source(config: TrainingConfig) -> tuple[ClipSource, int]:
    """The clips, and after how many of them they begin again (0: never)."""
    if config.data == "sprites":
        shares = config.subject_shares
        world = SpriteWorld(seed=config.seed, spins=config.spins, tilts=config.tilts, subject_shares=shares)
        return SpriteClips(world=world, motions_per_scene=config.motions_per_scene, groups=config.groups), 0
    from show1.data.folder import ClipFolder

    folder = ClipFolder(Path(config.data), seed=config.seed)
    return folder, len(folder)


def _shuffled(index: int, count: int, seed: int) -> int:
    """Another order of the same clips each time round."""
    if count == 0:
        return index
    turn, place = divmod(index, count)
    return turn * count + _order(count, seed, turn)[place]


@functools.lru_cache(maxsize=2)
def _order(count: int, seed: int, turn: int) -> list[int]:
    order = list(range(count))
    random.Random(f"order {seed} {turn}").shuffle(order)
    return order


def _view(config: TrainingConfig) -> ClipView:
    """What the task sees of a clip."""
    view = MINI_VIEWS[{"vae": "translation_images"}.get(config.task, config.task)]
    height, width = config.size or (view.height, view.width)
    return dataclasses.replace(view, height=height, width=width, low=config.low_size or view.low)


def _batches(config: TrainingConfig, rank: int, world: int, start: int) -> Iterator[Batch]:
    """Collated parts of batches from step `start` on; which samples a step has does not depend on their parts."""
    view = _view(config)
    source, count = _source(config)
    dataset = ClipDataset(source, view, length=2 * _LENGTH, seed=config.seed)  # the last turn may go beyond
    size = config.batch_size // config.accumulate

    def indices() -> Iterator[list[int]]:
        part = start * config.accumulate
        while True:
            first = (part * world + rank) * size % (_LENGTH - size + 1)
            yield [_shuffled(i, count, config.seed) for i in range(first, first + size)]
            part += 1

    loader = DataLoader(
        _Told(dataset),
        batch_sampler=_Endless(indices()),
        num_workers=config.workers,
        worker_init_fn=_leave_interrupts,
        collate_fn=_collated,
    )
    for batch in loader:
        if isinstance(batch, Show1Error):
            raise batch
        yield batch


class _Told(Dataset[Any]):
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


def _leave_interrupts(_: int) -> None:
    """Lets Ctrl-C reach the training process alone, which then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Endless:
    """An iterator of index lists as a batch sampler."""

    def __init__(self, lists: Iterator[list[int]]) -> None:
        self._lists = lists

    def __iter__(self) -> Iterator[list[int]]:
        return self._lists


def _seed(seed: int, step: int, part: int, rank: int) -> int:
    digest = hashlib.sha256(f"{seed}/{step}/{part}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _to(batch: Batch, device: torch.device) -> Batch:
    return {k: moved(v, device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


def _save_checkpoint(accelerator: Any, folder: Path, step: int) -> None:
    """Writes a checkpoint that is either whole or absent, and removes the older ones."""
    checkpoints = folder / "checkpoints"
    unfinished = checkpoints / f".unfinished-{step}"
    if accelerator.is_main_process:
        checkpoints.mkdir(parents=True, exist_ok=True)
        for old in checkpoints.glob(".unfinished-*"):
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(unfinished), safe_serialization=False)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        os.replace(unfinished, checkpoints / f"step-{step}")
        for old in sorted(checkpoints.glob("step-*"), key=step_of)[:-1]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


@contextmanager
def _averaged(ema: Any, parameters: list[torch.nn.Parameter]) -> Iterator[None]:
    """Puts the averaged weights in place of those that are trained."""
    ema.store(parameters)
    ema.copy_to(parameters)
    try:
        yield
    finally:
        ema.restore(parameters)


@torch.no_grad()
def _preview_and_export(job: Job, task: Task, batch: Batch, step: int, log: RunLog) -> None:
    """Writes a sheet of samples and the export, with the weights as they are now."""
    from show1.media import contact_sheet, save_sheet
    from show1.video import Video

    folder = job.options.folder
    task.eval()
    if isinstance(task, VAETask):
        task.set_scaling_factor(batch["video"][:, :, 0])
    samples = task.preview(batch)
    if samples:
        videos = [Video.from_tensor(video, fps=2.0) for _, video in samples]
        sheet = contact_sheet(videos, labels=[caption for caption, _ in samples])
        (folder / "samples").mkdir(exist_ok=True)
        save_sheet(sheet, folder / "samples" / f"step-{step:07d}.png", overwrite=True)
        log.show(sheet, step)
    export = folder / "export"
    unfinished = folder / ".unfinished-export"
    shutil.rmtree(unfinished, ignore_errors=True)
    task.export(unfinished)
    write_json(unfinished / "training.json", {"task": job.name, "step": step})
    shutil.rmtree(export, ignore_errors=True)
    os.replace(unfinished, export)
    task.train()
