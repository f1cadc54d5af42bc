"""A run's folder: its options, checkpoints, and what it exports."""

import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from show1.errors import RunError
from show1.files import read_json_object, write_json

CONFIG = "config.json"
"""The run's options, in its folder."""


def last_checkpoint(folder: Path) -> Path | None:
    """Finds the newest complete checkpoint of a run."""
    return max((folder / "checkpoints").glob("step-*"), key=step_of, default=None)


def step_of(checkpoint: Path | None) -> int:
    """Gives the number of steps that were done when a checkpoint was written; 0 without one."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix("step-"))


def exported_step(folder: Path) -> int | None:
    """Gives the step of a run's export; None if there is none."""
    file = folder / "export" / "training.json"
    return int(read_json_object(file)["step"]) if file.is_file() else None


def check_folder(
    folder: Path,
    config: Mapping[str, Any],
    read: Callable[[dict[str, Any]], Mapping[str, Any]],
    may_change: Collection[str],
    remedy: str,
) -> None:
    """Refuses a folder with the checkpoints of a run with other options.

    Args:
        folder: The run's folder.
        config: The options now, in their saved form.
        read: Brings what the folder holds into today's saved form.
        may_change: Options that may change when a run resumes.
        remedy: What to do instead, for the message.

    Raises:
        RunError: The options differ, or those in the folder cannot be read.
    """
    file = folder / CONFIG
    if last_checkpoint(folder) is None or not file.exists():
        return
    try:
        before = read(read_json_object(file))
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({error}); {remedy}") from error
    for name, value in config.items():
        if name not in may_change and before.get(name) != value:
            raise RunError(
                f"{folder} holds a run with another {name} ({before.get(name)!r}, now {value!r}); "
                f"{remedy}, or give the same options to resume it"
            )


def save_checkpoint(accelerator: Any, folder: Path, step: int) -> None:
    """Writes a checkpoint that is either whole or absent, and removes older ones."""
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


def save_export(folder: Path, export: Callable[[Path], None], task: str, step: int) -> None:
    """Replaces a run's export by a new one, which appears as a whole.

    Args:
        folder: The run's folder.
        export: Writes the export into a folder.
        task: What was trained, for `training.json`.
        step: Number of steps done.
    """
    unfinished = folder / ".unfinished-export"
    shutil.rmtree(unfinished, ignore_errors=True)
    export(unfinished)
    write_json(unfinished / "training.json", {"task": task, "step": step})
    shutil.rmtree(folder / "export", ignore_errors=True)
    os.replace(unfinished, folder / "export")
