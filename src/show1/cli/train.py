"""`show1 train`: a command for each task, with the options of the task and of the training loop."""

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from show1.cli.console import say, say_json, tell
from show1.cli.options import FieldOptions, WideHelp, keyword, with_parameters
from show1.cli.progress import starting
from show1.cli.training import DRY_RUN, QUIET, example, open_clips, read_saved, supervise
from show1.data.options import DataOptions
from show1.errors import InputError
from show1.files import user_path
from show1.launch import is_first, own_place
from show1.sprites.options import TextOptions
from show1.training.options import FOLDERS, LoopOptions, TaskOptions, TrainingConfig, current_form
from show1.training.tasks.distillation_options import DISTILLATIONS
from show1.training.tasks.options import TASKS

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Train a network of a stage. Naming the folder of a stopped run again resumes it.",
)

distil = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Distil a network into one that samples in fewer steps, without guidance (docs/distil.md). Naming the folder "
    "of a stopped run again resumes it.",
)

ALL_TASKS: tuple[type[TaskOptions], ...] = (TextOptions, *TASKS)
"""The options of every task that has a command."""

DATA_HELP = (
    "Clips to learn from: a folder of videos or pictures with captions, WebDataset shards such as "
    "`shards/{000..010}.tar`, a data set of Hugging Face such as `hf:owner/name` (docs/data.md), or `sprites`, the "
    "synthetic clips of the embedded model (docs/train.md lists what may follow it)."
)


def run(
    kind: type[TaskOptions], given: dict[str, Any], *, config_file: Path | None, dry_run: bool, quiet: bool
) -> None:
    """Trains a task: what every command does.

    Args:
        kind: Options class of the task.
        given: The options on the command line; None for those that were not given.
        config_file: JSON file with options, which those on the command line override.
        dry_run: Whether only to say what would be trained.
        quiet: Whether to show no progress.

    Raises:
        Cancelled: Ctrl-C.
    """
    config = resolve(kind, given, config_file)  # before what takes long to import
    quiet = quiet or not is_first()
    with starting(quiet=quiet):
        from show1.training import describe, train
        from show1.training.validation import SEED

    options, loop = config.options, config.loop
    source = open_clips(config.data, config.clips, loop.seed, quiet=quiet)
    validation = loop.val_data and open_clips(loop.val_data, config.clips, SEED, quiet=quiet) or None
    if dry_run:
        say_json(describe(options, loop, source, validation=validation))
        return
    if not quiet:
        tell(_scale(loop))
        tell(json.dumps(dataclasses.replace(config, data=source.spec).to_dict(), indent=2))
    export = supervise(
        lambda on_log, stop: train(options, loop, source, validation=validation, on_log=on_log, stop=stop),
        steps=loop.steps,
        folder=loop.folder,
        resume=f"show1 {kind.command()} --out {shlex.quote(loop.out)}",
        quiet=quiet,
    )
    if is_first():
        say(str(export))


def _scale(loop: LoopOptions) -> str:
    """Says how many processes train, and what batch they have in all."""
    _, processes = own_place()
    if processes == 1:
        return f"1 process with batches of {loop.batch_size}"
    each = f"{loop.batch_size} in each"
    return f"{processes} processes with batches of {processes * loop.batch_size}: {each}"


def resolve(kind: type[TaskOptions], given: dict[str, Any], config_file: Path | None) -> TrainingConfig:
    """Resolves the options of a run: defaults, then those of the run that `out` holds or of a file, then those given.

    Raises:
        InputError: An option is unknown, missing, or out of its range; the file is of another task.
    """
    values: dict[str, Any] = {}
    given = {name: value for name, value in given.items() if value is not None}
    if config_file is None and "out" in given and (folder := user_path(given["out"], "out")):
        config_file = folder / "config.json" if (folder / "config.json").is_file() else None
    if config_file is not None:
        values = current_form({**read_saved(config_file, "task", kind.task), "task": kind.task}, kind)
    values |= given
    if "out" not in values:
        raise InputError("--out DIR is needed: the folder of the run")
    if "data" not in values:
        raise InputError("--data DIR is needed: a folder with videos and their captions")
    return TrainingConfig.from_dict({**values, "task": kind.task}, [kind])


def _command(kind: type[TaskOptions]) -> Callable[..., None]:
    """Makes the function of a task's command, with a parameter for each option."""

    def command(config: Path | None, dry_run: bool, quiet: bool, **given: Any) -> None:
        run(kind, given, config_file=config, dry_run=dry_run, quiet=quiet)

    shown = example(f"show1 {kind.command()} --out runs/{kind.task}", kind.example)
    own, clips, loop = (
        FieldOptions(options, metavars=_METAVARS).parameters() for options in (kind, DataOptions, LoopOptions)
    )
    options = sorted([*own, *clips, *loop], key=lambda parameter: parameter.name not in _FIRST)
    with_parameters(command, [_DATA, *options, _CONFIG, DRY_RUN, QUIET], f"{kind.about}\n\n{shown}")
    return command


_FIRST = ("out", "network", *FOLDERS)
"""Options that the help shows first: where everything comes from, and goes to."""

_METAVARS = {
    "out": "DIR",
    "val_data": "DIR",
    "tracker": "NAME",
    "init": "DIR|MODEL",
    "temporal_init": "DIR|MODEL",
    "teacher": "MODEL",
    "text": "DIR|MODEL",
    "vae": "DIR|MODEL",
    "noise_level": "LOW HIGH",
    "size": "H W",
    "low_size": "H W",
    "crop": "H W",
    "timestep_logit": "MEAN STD",
}
_DATA = keyword("data", Annotated[str | None, typer.Option(metavar="DIR", help=DATA_HELP)], None)
_CONFIG = keyword(
    "config",
    Annotated[
        Path | None,
        typer.Option(
            parser=user_path, metavar="FILE.json", help="Options from a file, such as another run's config.json."
        ),
    ],
    None,
)

for _kind in ALL_TASKS:
    app.command(_kind.task, cls=WideHelp)(_command(_kind))
for _distillation in DISTILLATIONS:
    distil.command(_distillation.stage, cls=WideHelp)(_command(_distillation))
