"""A run's folder: its options, checkpoints, and what it exports."""

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from show1.errors import OutputError, RunError
from show1.files import check_no_links, read_json_object, write_json
from show1.training.state import TrainingState, UnusableFileError
from show1.training.tasks.export import write_card

CONFIG = "config.json"
"""The run's options, in its folder."""


def checkpoints(folder: Path) -> list[Path]:
    """Lists the complete checkpoints of a run, the oldest first."""
    found = [path for path in (folder / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d{1,15}", path.name)]
    return sorted(found, key=step_of)


def last_checkpoint(folder: Path) -> Path | None:
    """Finds the newest complete checkpoint of a run."""
    return next(reversed(checkpoints(folder)), None)


def step_of(checkpoint: Path | None) -> int:
    """Gives the number of steps that were done when a checkpoint was written; 0 without one."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix("step-"))


def exported_step(folder: Path) -> int | None:
    """Gives the step of a run's export; None if there is no whole one."""
    try:
        step = read_json_object(folder / "export" / "training.json")["step"]
    except (OSError, ValueError, KeyError):
        return None
    return step if isinstance(step, int) else None


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
        RunError: The options differ, those in the folder cannot be read, or a file in the folder is a link.
    """
    check_no_links(folder)
    for own in ("checkpoints", "export", "samples", "tensorboard", "text_states"):
        for inside, _, _ in os.walk(folder / own):
            check_no_links(Path(inside))
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


def save_checkpoint(accelerator: Any, state: TrainingState, folder: Path, step: int, *, keep: int) -> None:
    """Writes a checkpoint that is either whole or absent, and removes older ones.

    Args:
        accelerator: Of the processes that train; the main one writes.
        state: What to write.
        folder: The run's folder.
        step: Number of steps done.
        keep: Number of checkpoints to keep.

    Raises:
        OutputError: There is no permission, or no room; the checkpoints before are kept.
    """
    if accelerator.is_main_process:
        target = folder / "checkpoints" / f"step-{step}"
        unfinished = target.parent / f".unfinished-{step}"
        for old in target.parent.glob(".unfinished-*"):
            shutil.rmtree(old)
        with explained_writing(
            target, "free some space: what was written before is kept, and the same command resumes the run"
        ):
            try:
                unfinished.mkdir(parents=True)
                state.save(unfinished, step)
                os.replace(unfinished, target)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
        for old in checkpoints(folder)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load_checkpoint(state: TrainingState, checkpoint: Path) -> None:
    """Puts back what a checkpoint holds.

    Raises:
        RunError: A file is damaged or holds more than numbers, or another number of processes trains now.
    """
    try:
        state.load(checkpoint, step_of(checkpoint))
    except UnusableFileError as error:
        run = checkpoint.parent.parent
        earlier = [each for each in checkpoints(run) if step_of(each) < step_of(checkpoint)]
        then = f"go on from {earlier[-1].name}" if earlier else "start this run over, because it has no earlier one"
        raise RunError(f"{error}; delete the folder {checkpoint} to {then}") from error


@contextmanager
def explained_writing(path: Path, remedy: str) -> Iterator[None]:
    """Says which part of a run's folder cannot be written, and why.

    Raises:
        OutputError: There is no permission, or no room.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        cause = error.__cause__ if isinstance(error, OutputError) and error.__cause__ else error
        if number := re.search(r"\(os error (\d+)\)", str(error)):  # how safetensors reports a full disk
            cause = OSError(int(number[1]), os.strerror(int(number[1])))
        reason = getattr(cause, "strerror", None) or cause
        raise OutputError(f"{path} cannot be written: {reason}; {remedy}") from cause


def save_export(folder: Path, export: Callable[[Path], None], task: str, step: int) -> None:
    """Replaces a run's export by a new one, which appears as a whole.

    Args:
        folder: The run's folder.
        export: Writes the export into a folder.
        task: What was trained, for `training.json`.
        step: Number of steps done.

    Raises:
        OutputError: There is no permission, or no room; the export before is kept.
    """
    unfinished = folder / ".unfinished-export"
    shutil.rmtree(unfinished, ignore_errors=True)
    with explained_writing(
        folder / "export", "free some space: the checkpoints are kept, and the same command resumes the run"
    ):
        try:
            export(unfinished)
            write_json(unfinished / "training.json", {"task": task, "step": step})
            config = read_json_object(folder / CONFIG)
            if "task" in config:  # not a customization, whose adapter says itself what it is
                write_card(unfinished, config, step)
            shutil.rmtree(folder / "export", ignore_errors=True)
            os.replace(unfinished, folder / "export")
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
