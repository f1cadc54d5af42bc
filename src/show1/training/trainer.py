"""The training loop, for every task.

A run is its config: data, noise and dropout depend on (seed, step, process) alone, so a run that was killed goes on
from its last checkpoint and ends with the same weights, bit for bit.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from show1.data.clips import MINI_VIEWS, ClipDataset, ClipSource, SpriteClips
from show1.errors import MissingDependencyError, RunError
from show1.training.config import TrainingConfig
from show1.training.tasks import TASK_CLASSES, Batch, Task, VAETask

logger = logging.getLogger(__name__)

_LENGTH = 2**40
"""Samples of the endless data sets."""


def train(config: TrainingConfig) -> Path:
    """Trains a stage, going on from the last checkpoint in `config.out` if there is one.

    Returns:
        The folder `export/` with the averaged weights in the layout that inference loads.

    Raises:
        MissingDependencyError: The training extra is not installed.
        RunError: The folder holds a run with other options.
        InputError: The data or the `init` folder cannot be used.
    """
    try:
        from accelerate import Accelerator
        from diffusers.training_utils import EMAModel
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError(f"{error}; install the training extra: pip install 'show1[train]'") from error

    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.accumulate,
        step_scheduler_with_optimizer=False,
    )
    main = accelerator.is_main_process
    if main:
        _claim_folder(config)
    accelerator.wait_for_everyone()

    # what is trained
    torch.manual_seed(config.seed)
    task = TASK_CLASSES[config.task](config)
    if config.gradient_checkpointing and hasattr(task, "unet"):
        task.unet.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(
        _parameter_groups(task, config), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_factor(step, config))
    trained = [p for p in task.parameters() if p.requires_grad]
    ema = EMAModel(trained, decay=config.ema_decay, foreach=True)
    ema.to(accelerator.device)
    model, optimizer = accelerator.prepare(task, optimizer)
    accelerator.register_for_checkpointing(schedule, ema)

    # where it goes on
    checkpoint = last_checkpoint(config.folder)
    start = 0
    if checkpoint is not None:
        accelerator.load_state(str(checkpoint))
        start = int(checkpoint.name.removeprefix("step-"))
        logger.info("going on from step %d", start)
    batches = _batches(config, accelerator.process_index, accelerator.num_processes, start)
    preview = next(_batches(config, 0, 1, _LENGTH // config.batch_size - 1)) if main else {}
    writer = SummaryWriter(str(config.folder / "tensorboard"), purge_step=start) if main else None
    log = _open_log(config.folder / "log.jsonl", start) if main else None

    model.train()
    began, sums = time.monotonic(), {}  # type: tuple[float, dict[str, torch.Tensor]]
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
        ema.step(trained)
        done = step + 1

        if done % config.log_every == 0 or done == config.steps:
            count = (done - start) % config.log_every or min(config.log_every, done - start)
            means = {name: float(accelerator.reduce(v, "mean")) / count for name, v in sums.items()}
            seconds = time.monotonic() - began
            line = {
                "step": done,
                **means,
                "grad_norm": float(norm),
                "lr": schedule.get_last_lr()[-1],
                "samples_per_second": count * config.batch_size * accelerator.num_processes / seconds,
            }
            if log is not None and writer is not None:
                log.write(json.dumps(line) + "\n")
                log.flush()
                for name, number in line.items():
                    writer.add_scalar(name, number, done)
                logger.info("%s", json.dumps(line))
            if not math.isfinite(means["loss"]):
                raise RunError(f"the loss at step {done} is {means['loss']}; lower learning_rate and start again")
            began, sums = time.monotonic(), {}
        if done % config.checkpoint_every == 0 or done == config.steps:
            _save_checkpoint(accelerator, config.folder, done)
        if done == config.steps or (config.sample_every and done % config.sample_every == 0):
            if main and writer is not None:
                ema.store(trained)
                ema.copy_to(trained)
                _preview_and_export(task, _to(preview, accelerator.device), config.folder, done, writer)
                ema.restore(trained)
            accelerator.wait_for_everyone()
    if writer is not None:
        writer.close()
    accelerator.wait_for_everyone()
    return config.folder / "export"


def describe(config: TrainingConfig) -> dict[str, Any]:
    """What a run would train, without training: parameter counts and the resolved options (`--dry-run`)."""
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
    found = sorted((folder / "checkpoints").glob("step-*"), key=lambda p: int(p.name.removeprefix("step-")))
    return found[-1] if found else None


def _claim_folder(config: TrainingConfig) -> None:
    """Writes config.json, or checks that the one there is of this run (only `steps` and the like may change)."""
    file = config.folder / "config.json"
    free = {"steps", "log_every", "checkpoint_every", "sample_every", "workers", "out"}
    if file.exists():
        before = json.loads(file.read_text())
        changed = [k for k, v in config.to_dict().items() if k not in free and before.get(k) != v]
        if changed:
            raise RunError(
                f"{config.folder} holds a run with another {changed[0]} ({before.get(changed[0])!r}, now "
                f"{getattr(config, changed[0])!r}); choose another folder, or give the same options to go on"
            )
    config.folder.mkdir(parents=True, exist_ok=True)
    _write_text(file, json.dumps(config.to_dict(), indent=2) + "\n")


def _parameter_groups(task: Task, config: TrainingConfig) -> list[dict[str, Any]]:
    new = task.new_parameters()
    groups: list[dict[str, Any]] = [
        {"params": [], "lr": config.learning_rate * config.inherited_lr_scale},
        {"params": [], "lr": config.learning_rate},
    ]
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            groups[name in new]["params"].append(parameter)
    return [group for group in groups if group["params"]]


def _lr_factor(step: int, config: TrainingConfig) -> float:
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    left = 1 - step / config.steps
    if config.lr_schedule == "constant":
        return warmup
    return warmup * (left if config.lr_schedule == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left))))


def _source(config: TrainingConfig, frames: int) -> ClipSource:
    if config.data == "sprites":
        return SpriteClips()
    from show1.data.folder import ClipFolder

    return ClipFolder(Path(config.data), num_frames=frames)


def _batches(config: TrainingConfig, rank: int, world: int, start: int) -> Iterator[Batch]:
    """Collated parts of batches from step `start` on; sample i of the run is sample i of the data set."""
    view = MINI_VIEWS[{"vae": "translation_images"}.get(config.task, config.task)]
    dataset = ClipDataset(_source(config, view.num_frames), view, length=_LENGTH, seed=config.seed)
    size = config.batch_size // config.accumulate

    def indices() -> Iterator[list[int]]:
        part = start * config.accumulate
        while True:
            first = (part * world + rank) * size % (_LENGTH - size)
            yield list(range(first, first + size))
            part += 1

    loader = DataLoader(dataset, batch_sampler=_Endless(indices()), num_workers=config.workers)
    return iter(loader)


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
    return {k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


def _open_log(file: Path, start: int) -> Any:
    """Opens the log for more lines, dropping those after the checkpoint that the run goes on from."""
    if file.exists():
        kept = [line for line in file.read_text().splitlines() if line and json.loads(line)["step"] <= start]
        _write_text(file, "".join(line + "\n" for line in kept))
    return file.open("a")


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
        for old in sorted(checkpoints.glob("step-*"), key=lambda p: int(p.name.removeprefix("step-")))[:-1]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


@torch.no_grad()
def _preview_and_export(task: Task, batch: Batch, folder: Path, step: int, writer: Any) -> None:
    """Writes a sheet of samples and the export, with the weights as they are now."""
    from show1.media import contact_sheet, save_sheet
    from show1.video import Video

    task.eval()
    if isinstance(task, VAETask):
        task.set_scaling_factor(batch["video"][:, :, 0])
    videos = [Video.from_tensor(v, fps=2.0) for v in task.preview(batch)]
    if videos:
        per = max(1, len(videos) // len(batch["caption"]))
        labels = [batch["caption"][min(i // per, len(batch["caption"]) - 1)] for i in range(len(videos))]
        sheet = contact_sheet(videos, labels=labels)
        (folder / "samples").mkdir(exist_ok=True)
        save_sheet(sheet, folder / "samples" / f"step-{step:07d}.png", overwrite=True)
        pixels = torch.frombuffer(bytearray(sheet.convert("RGB").tobytes()), dtype=torch.uint8)
        writer.add_image("samples", pixels.view(sheet.height, sheet.width, 3), step, dataformats="HWC")
    export = folder / "export"
    unfinished = folder / ".unfinished-export"
    shutil.rmtree(unfinished, ignore_errors=True)
    task.export(unfinished)
    shutil.rmtree(export, ignore_errors=True)
    os.replace(unfinished, export)
    task.train()


def _write_text(file: Path, text: str) -> None:
    part = file.with_suffix(file.suffix + ".part")
    part.write_text(text)
    os.replace(part, file)
