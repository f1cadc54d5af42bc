"""The log of a training run: `log.jsonl` and TensorBoard."""

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from show1.errors import InputError, MissingDependencyError, OutputError
from show1.files import write_text
from show1.training.checkpoint import explained_writing

logger = logging.getLogger(__name__)

Line = dict[str, float]
"""A line of the log: "step", "loss", "grad_norm", "lr", "samples_per_second", and the other values of the task; or of a
validation: "step", "val_loss", and others that begin with "val_"."""


def check_trackers(names: Sequence[str]) -> list[str]:
    """Gives the names of accelerate's trackers as accelerate takes them.

    Raises:
        InputError: There is no such tracker.
        MissingDependencyError: Its package is not installed.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise InputError(f"tracker: unknown tracker {name!r}; the trackers are {', '.join(LOGGER_TYPE_TO_CLASS)}")
        if name not in [kind.value for kind in get_available_trackers()]:
            raise MissingDependencyError(f"tracker: {name} is not installed; pip install {name.replace('_', '-')}")
    return list(names)


def check_tensorboard() -> None:
    """Makes sure that TensorBoard is installed, because every run writes a log for it.

    Raises:
        MissingDependencyError: It is not.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(f"{error}; install the training extra: pip install 'show1[train]'") from error


class RunLog:
    """Writes a run's log; a context manager.

    Args:
        folder: The run's folder.
        start: Step from which the run resumes; later lines of a run that was killed are dropped.
        on_line: Called with every line.
        trackers: Accelerate's trackers that get every line, and the sheets if they take images.
    """

    def __init__(
        self, folder: Path, start: int, on_line: Callable[[Line], None] | None = None, trackers: Sequence[Any] = ()
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        file = folder / "log.jsonl"
        if file.exists():
            kept = [line for line in file.read_text(errors="replace").splitlines() if _step(line) <= start]
            write_text(file, "".join(line + "\n" for line in kept))
        self._file = file.open("a")
        self._tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
        self._on_line, self._trackers = on_line, trackers

    def write(self, line: Line) -> None:
        """Adds a line to the log and to TensorBoard."""
        text = json.dumps(line)
        with self._explained():
            self._file.write(text + "\n")
            self._file.flush()
            for name, number in line.items():
                self._tensorboard.add_scalar(name, number, int(line["step"]))
        for tracker in self._trackers:
            tracker.log({name: number for name, number in line.items() if name != "step"}, step=int(line["step"]))
        logger.debug("%s", text)
        if self._on_line is not None:
            self._on_line(line)

    def show(self, sheet: Any, step: int) -> None:
        """Adds a sheet of samples, a `PIL.Image`, to TensorBoard."""
        pixels = torch.frombuffer(bytearray(sheet.convert("RGB").tobytes()), dtype=torch.uint8)
        with self._explained():
            self._tensorboard.add_image("samples", pixels.view(sheet.height, sheet.width, 3), step, dataformats="HWC")
        for tracker in self._trackers:
            if tracker.name == "wandb":
                tracker.log_images({"samples": [sheet]}, step=step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OutputError) if error is not None else nullcontext(), self._explained():
            self._file.close()
            self._tensorboard.close()

    def _explained(self) -> AbstractContextManager[None]:
        return explained_writing(self._folder, "free some space, and the same command resumes the run")


def _step(line: str) -> float:
    """The step of a line; infinity for a line that was cut off, which is dropped."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")
