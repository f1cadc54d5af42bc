"""`show1 train`: a command for each task, whose options are the fields of `TrainingConfig`."""

import json
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from show1.cli.console import say, say_json, tell
from show1.cli.options import FieldOptions, keyword, with_parameters
from show1.cli.progress import duration
from show1.errors import Cancelled, InputError
from show1.training.config import TASKS, TaskName, TrainingConfig

if TYPE_CHECKING:
    from show1.training.log import Line

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Train a stage. A run goes on where it stopped when its folder is named again.",
)

ABOUT: dict[TaskName, tuple[str, list[str]]] = {
    "text": ("A small text encoder of the sprite world, for all stages to share.", []),
    "keyframe_images": ("Text to single frames: the network that keyframes starts from.", ["--text runs/text/export"]),
    "keyframes": (
        "Text to keyframes: the image network with layers over time.",
        ["--init runs/keyframe_images/export", "--text runs/text/export"],
    ),
    "interpolation": (
        "Two keyframes to the frames between them.",
        ["--init runs/keyframes/export", "--text runs/text/export"],
    ),
    "super_resolution_images": (
        "Small single frames to large ones: the network that super_resolution starts from.",
        ["--text runs/text/export"],
    ),
    "super_resolution": (
        "Windows of small frames to large ones.",
        ["--init runs/super_resolution_images/export", "--text runs/text/export"],
    ),
    "vae": ("The image autoencoder of the translation stage.", []),
    "translation_images": (
        "Text to single latent images: the network that translation starts from.",
        ["--text runs/text/export", "--vae runs/vae/export", "--max-timestep 900"],
    ),
    "translation": (
        "The expert: text to high-resolution latent video, for the noise levels up to --max-timestep.",
        ["--init runs/translation_images/export", "--vae runs/vae/export", "--max-timestep 900"],
    ),
}
"""What a task learns, and the options of an example beside `--out`."""

SECONDS_BETWEEN_LINES = 5.0
"""Least time between two lines of progress."""


def run(task: TaskName, given: dict[str, Any], *, config_file: Path | None, dry_run: bool, quiet: bool) -> None:
    """Trains a task: what every command does.

    Args:
        task: What to train.
        given: The options on the command line; None for those that were not given.
        config_file: JSON file with options, which those on the command line override.
        dry_run: Only tell what would be trained.
        quiet: No progress.

    Raises:
        Cancelled: Ctrl-C.
    """
    from show1.training import describe, last_checkpoint, train

    quiet_libraries()
    config = resolve(task, given, config_file)
    if dry_run:
        say_json(describe(config))
        return
    main_process = int(os.environ.get("RANK", "0")) == 0
    if main_process and not quiet:
        tell(json.dumps(config.to_dict(), indent=2))
    progress = TrainingProgress(config.steps) if main_process and not quiet else None
    with stop_on_interrupt() as stop:
        try:
            export = train(config, on_log=progress, stop=stop)
        except (Cancelled, KeyboardInterrupt) as error:
            stopped = error if isinstance(error, Cancelled) else Cancelled("by Ctrl-C")
            if last_checkpoint(config.folder) is None:
                stopped.add_note("There is no checkpoint yet: the same command begins again.")
            else:
                stopped.add_note(f"To go on: show1 train {task} --out {shlex.quote(config.out)}")
            raise stopped from None
    if main_process:
        say(str(export))


def resolve(task: TaskName, given: dict[str, Any], config_file: Path | None) -> TrainingConfig:
    """The options of a run: defaults, then those of the run that `out` holds or of a file, then those given.

    Raises:
        InputError: An option is unknown, missing, or out of its range; the file is of another task.
    """
    values: dict[str, Any] = {}
    if config_file is not None:
        values = _read(config_file)
    elif given.get("out") is not None and (Path(given["out"]) / "config.json").is_file():
        config_file = Path(given["out"]) / "config.json"
        values = {**_read(config_file), "out": given["out"]}
    if values.get("task", task) != task:
        raise InputError(f"{config_file} is of the task {values['task']!r}, not {task!r}")
    values |= {name: value for name, value in given.items() if value is not None}
    if "out" not in values:
        raise InputError("--out DIR is needed: the folder of the run")
    return TrainingConfig.from_dict({**values, "task": task})


def _read(file: Path) -> dict[str, Any]:
    from show1.files import read_json_object

    try:
        return read_json_object(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as a JSON object with training options: {error}") from error


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool] | None]:
    """Gives a function that tells whether Ctrl-C was pressed; a second Ctrl-C interrupts at once.

    With several processes each has to be stopped alike: then Ctrl-C interrupts at once (and this gives None).
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        yield None
        return
    asked = False
    before = signal.getsignal(signal.SIGINT)

    def ask(*_: Any) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)
        tell("stopping after this step (Ctrl-C again: at once, back to the last checkpoint)")

    signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


class TrainingProgress:
    """A line now and then: step, loss, speed, time left."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._first: tuple[float, float] | None = None
        self._last_line = 0.0

    def __call__(self, line: "Line") -> None:
        now, step = time.monotonic(), line["step"]
        if self._first is None:
            self._first = (now, step)
        began, start = self._first
        if step < self._steps and now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        left = (now - began) / (step - start) * (self._steps - step) if step > start else None
        text = f"step {step:.0f}/{self._steps}, loss {line['loss']:.4f}, {line['samples_per_second']:.1f} samples/s"
        tell(text + (f", {duration(left)} left" if left else ""))


def quiet_libraries() -> None:
    """No bars for the reading and writing of small files."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def _command(task: TaskName) -> Callable[..., None]:
    """The function of a task's command, with a parameter for each option."""

    def command(config: Path | None, dry_run: bool, quiet: bool, **given: Any) -> None:
        run(task, given, config_file=config, dry_run=dry_run, quiet=quiet)

    about, example = ABOUT[task]
    lines = " \\\n    ".join([f"show1 train {task} --out runs/{task}", *example])
    parameters = [*_OPTIONS.parameters(leave_out=["task"]), *_OTHERS]
    with_parameters(command, parameters, f"{about}\n\nExample:\n\n\b\n  {lines}\n")
    return command


_OPTIONS = FieldOptions(
    TrainingConfig,
    metavars={
        "out": "DIR",
        "data": "DIR",
        "init": "DIR",
        "text": "DIR",
        "vae": "DIR",
        "noise_level": "LOW HIGH",
        "size": "H W",
        "low_size": "H W",
        "crop": "H W",
        "subject_share": "NAME:SHARE",
        "timestep_logit": "MEAN STD",
    },
)
_OTHERS = [
    keyword(
        "config",
        Annotated[
            Path | None,
            typer.Option(metavar="FILE.json", help="Options from a file, such as another run's config.json."),
        ],
        None,
    ),
    keyword("dry_run", Annotated[bool, typer.Option("--dry-run", help="Only tell what would be trained.")], False),
    keyword("quiet", Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")], False),
]

for _task in TASKS:
    app.command(_task)(_command(_task))
