"""What `show1 train` and `show1 customize` share: clips, saved options, progress, and Ctrl-C."""

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from show1.cli.console import tell
from show1.cli.options import keyword
from show1.cli.progress import Heartbeat, duration
from show1.cli.stopping import Stopped, asked_by_signals, stopped
from show1.data.options import DataOptions
from show1.errors import Cancelled, InputError

if TYPE_CHECKING:
    from show1.data.clips import ClipSource
    from show1.training.log import Line

SECONDS_BETWEEN_LINES = 5.0
"""Least time between two lines of progress."""

LONGEST_SILENCE = 60.0
"""Time without a line, in a log of a training that has been running for a while."""

DRY_RUN = keyword(
    "dry_run",
    Annotated[
        bool, typer.Option("--dry-run", help="Check everything and say what would be learned, but train nothing.")
    ],
    False,
)
QUIET = keyword("quiet", Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")], False)


def open_clips(data: str, options: DataOptions, seed: int, *, quiet: bool) -> "ClipSource":
    """Opens the clips that `--data` names, and looks at each file.

    Args:
        data: The name of a source, followed by its options after a colon, or what `show1.data.open` opens.
        options: How clips are taken from the data.
        seed: Picks the clips, or parts of them.
        quiet: Whether to show no progress.

    Raises:
        InputError: There is no such folder, or it or an option is faulty.
    """
    name = data.partition(":")[0]
    if name in SOURCES:
        if options != DataOptions(skip_bad=options.skip_bad):
            raise InputError(f"frames and fps are for videos, but {name} has its own; leave them out")
        return SOURCES[name](data, seed)
    from show1.data.open import open_clips as open_media

    clips = open_media(data, options, seed=seed)
    clips.probe_all(None if quiet else now_and_then("clips checked"))
    return clips


def now_and_then(what: str) -> Callable[[int, int], None]:
    """Gives a function of what is done and of how much there is that tells it when some seconds have passed."""
    last = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            tell(f"{done}/{total} {what}")

    return on_progress


def _sprites(spec: str, seed: int) -> "ClipSource":
    from show1.sprites.clips import SpriteClips

    return SpriteClips.from_spec(spec, seed)


SOURCES: dict[str, Callable[[str, int], "ClipSource"]] = {"sprites": _sprites}
"""Sources of clips that have a name, and what opens them."""


def read_saved(file: Path, key: str, expected: str) -> dict[str, Any]:
    """Reads the options that a JSON file holds.

    Args:
        file: The file.
        key: The option that says what is learned.
        expected: Its value for this command.

    Raises:
        InputError: The file cannot be read, or is of another command.
    """
    from show1.files import read_json_object

    try:
        values = read_json_object(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as a JSON object with training options: {error}") from error
    if values.get(key, expected) != expected:
        raise InputError(f"{file} holds options for the {key} {values[key]!r}, not for {expected!r}")
    return values


def supervise(
    learn: Callable[[Callable[["Line"], None] | None, Callable[[], bool] | None], Path],
    *,
    steps: int,
    folder: Path,
    resume: str,
    quiet: bool,
) -> Path:
    """Runs a training with progress on the terminal; Ctrl-C, SIGTERM and SIGHUP stop it after a checkpoint.

    Args:
        learn: Runs the training, given what is called with each line of the log and what says whether to stop.
        steps: Steps of the training.
        folder: The run's folder.
        resume: The command that resumes it.
        quiet: Whether to show no progress.

    Raises:
        Cancelled: A signal came; with a note on how to resume.
    """
    from show1.training.checkpoint import last_checkpoint

    progress = TrainingProgress(steps)
    with asked_by_signals() as stop, nullcontext() if quiet else progress:
        try:
            return learn(None if quiet else progress, stop)
        except (Cancelled, KeyboardInterrupt) as error:
            cause: Cancelled = stopped(error) if isinstance(error, KeyboardInterrupt) else error
            if isinstance(error, Cancelled) and stop is not None and stop.number is not None:
                cause = Stopped(stop.number, str(error))
            if last_checkpoint(folder) is None:
                cause.add_note("There is no checkpoint yet: the same command starts over.")
            else:
                cause.add_note(f"To resume: {resume}")
            raise cause from None


class TrainingProgress(logging.Handler):
    """Prints a line now and then: step, loss, speed, time left; and, where none comes for long, what is being done.

    A context manager. What is being done is what the trainer logs.
    """

    def __init__(self, steps: int) -> None:
        super().__init__(logging.INFO)
        self._steps = steps
        self._first: tuple[float, float] | None = None
        self._last_line = 0.0
        self.heartbeat = Heartbeat("preparing", longest=LONGEST_SILENCE)
        self._logger = logging.getLogger("show1.training")

    def emit(self, record: logging.LogRecord) -> None:
        """Notes what is being done; a warning does not say that."""
        if record.levelno == logging.INFO:
            self.heartbeat.note(record.getMessage(), left=getattr(record, "left", None))

    def __enter__(self) -> Self:
        self._level = self._logger.level
        self._logger.addHandler(self)
        self._logger.setLevel(min(logging.INFO, self._logger.getEffectiveLevel()))
        self.heartbeat.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.heartbeat.__exit__()
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)

    def __call__(self, line: "Line") -> None:
        now, step = time.monotonic(), line["step"]
        if "val_loss" in line:
            values = ", ".join(
                f"{name.removeprefix('val_')} {value:.4g}" for name, value in line.items() if name != "step"
            )
            self.heartbeat.tell(f"step {step:.0f}/{self._steps}, validation: {values}")
            self._is_done(step)
            return
        self._is_done(step)
        if self._first is None:
            self._first = (now, step)
        began, start = self._first
        if step < self._steps and now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        left = (now - began) / (step - start) * (self._steps - step) if step > start else None
        text = f"step {step:.0f}/{self._steps}, loss {line['loss']:.4f}, {line['samples_per_second']:.1f} samples/s"
        self.heartbeat.tell(text + (f", {duration(left)} left" if left else ""))

    def _is_done(self, step: float) -> None:
        self.heartbeat.note(f"step {step:.0f}/{self._steps} is done, the next ones are running", new=False)


def example(command: str, options: tuple[str, ...]) -> str:
    """Formats an example for the help of a command, one option per line."""
    lines = " \\\n    ".join([command, *options])
    return f"Example:\n\n\b\n  {lines}\n"
