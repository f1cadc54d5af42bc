"""`show1 customize`: a command for motions and one for styles, whose options are those of `CustomizationConfig`."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from show1.cli.console import say, say_json, tell
from show1.cli.options import FieldOptions, WideHelp, keyword, with_parameters
from show1.cli.progress import starting
from show1.cli.session import short
from show1.cli.training import DRY_RUN, QUIET, example, read_saved, supervise
from show1.errors import InputError
from show1.files import user_path
from show1.options import counted
from show1.training.customization import METHODS, CustomizationConfig, Kind

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Let a stage learn a motion or a style from a few clips. The result is a small file for `generate --adapter`.",
)

ABOUT: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "motion": (
        "Learn a motion from one clip or a few, to move any subject in the same way.",
        ("--video clip.mp4", '--prompt "a cat walks"', "-o walk.safetensors"),
    ),
    "style": (
        "Learn a style from a folder of images, or from clips.",
        ("--images drawings", '--name "pencil sketch"', "-o sketch.safetensors"),
    ),
}
"""What a kind learns, and an example's options."""

_NO_OUTPUT = "-o FILE.safetensors is needed: where the adapter goes"

_NOT_FOR: dict[Kind, list[str]] = {
    "motion": ["kind", "images", "name"],
    "style": ["kind", "inversion_steps", "noise_weight", "random_hue"],
}


def run(kind: Kind, given: dict[str, Any], *, overwrite: bool, dry_run: bool, sheet: Path | None, quiet: bool) -> None:
    """Learns a motion or a style: what both commands do.

    Args:
        kind: Which.
        given: The options on the command line; None for those that were not given.
        overwrite: Whether the adapter's file may replace another.
        dry_run: Whether only to say what would be learned.
        sheet: Where a dry run draws the frames that would be learned from.
        quiet: Whether to show no progress.

    Raises:
        Cancelled: Ctrl-C.
    """
    if sheet is not None and not dry_run:
        raise InputError("--sheet is for --dry-run; a run draws reference.png in its folder")
    config = resolve(kind, given)
    with starting(quiet=quiet):
        from show1.training.customization import customize, describe

    if dry_run:
        say_json(describe(config, sheet))
        return
    if not quiet:
        tell(json.dumps(config.to_dict(), indent=2))
    again = " --overwrite" if overwrite else ""
    file = supervise(
        lambda on_log, stop: customize(config, on_log=on_log, stop=stop, overwrite=overwrite),
        steps=config.steps,
        folder=config.folder,
        resume=f"show1 customize {kind} --run {shlex.quote(str(config.folder))}{again}",
        quiet=quiet,
    )
    if not quiet:
        _tell_result(config)
    say(short(str(file)))


def resolve(kind: Kind, given: dict[str, Any]) -> CustomizationConfig:
    """Resolves the options of a run: those given, then those of the run that the folder holds.

    In a new run, those given are followed by what the model advises, then by the defaults.

    Raises:
        InputError: An option is unknown, missing, or out of its range; the folder holds a run of the other kind.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if not {"output", "run"} & chosen.keys():
        raise InputError(_NO_OUTPUT)  # before what takes long to import
    from show1.training.checkpoint import last_checkpoint
    from show1.training.customization import configure

    folder = chosen.get("run")
    if folder is None and "output" in chosen:
        folder = str(user_path(chosen["output"], "output").with_suffix(".run"))
    saved: dict[str, Any] = {}
    if folder is not None and last_checkpoint(user_path(folder, "run")) is not None:
        saved = {**read_saved(user_path(folder, "run") / "config.json", "kind", kind), "run": folder}
    values = {**saved, **chosen, "kind": kind}
    if "output" not in values:
        raise InputError(_NO_OUTPUT)
    return CustomizationConfig.from_dict(values) if saved else configure(**values)


def _tell_result(config: CustomizationConfig) -> None:
    """Time, memory, and what to look at."""
    from show1.cli.progress import duration
    from show1.files import read_json_object

    report = config.folder / "report.json"
    if report.is_file():
        cost = read_json_object(report)
        memory = cost["peak_memory_bytes"] / 1e9
        tell(f"{counted(cost['steps'], 'step')} in {duration(cost['seconds'])}, peak memory {memory:.2f} GB")
    sheets = sorted((config.folder / "samples").glob("*.png"))
    if sheets:
        tell(f"samples: {sheets[-1]}")


def _command(kind: Kind) -> Callable[..., None]:
    """The function of a kind's command, with a parameter for each option."""

    def command(overwrite: bool, dry_run: bool, sheet: Path | None, quiet: bool, **given: Any) -> None:
        run(kind, given, overwrite=overwrite, dry_run=dry_run, sheet=sheet, quiet=quiet)

    about, options = ABOUT[kind]
    shown = example(f"show1 customize {kind}", options)
    methods = f"Methods: {', '.join(METHODS[kind])}."
    parameters = [*_OPTIONS.parameters(leave_out=_NOT_FOR[kind]), *_OTHERS]
    with_parameters(command, parameters, f"{about}\n\n{methods}\n\n{shown}")
    return command


_OPTIONS = FieldOptions(
    CustomizationConfig,
    metavars={
        "output": "FILE",
        "run": "DIR",
        "model": "MODEL",
        "video": "FILE",
        "images": "DIR",
        "prompt": "TEXT",
        "name": "TEXT",
        "preview": "TEXT",
        "timestep_logit": "MEAN STD",
    },
    short={"output": "-o", "model": "-m"},
)
_OTHERS = [
    keyword("overwrite", Annotated[bool, typer.Option("--overwrite", help="Replace the adapter's file.")], False),
    DRY_RUN,
    keyword(
        "sheet",
        Annotated[
            Path | None,
            typer.Option("--sheet", metavar="FILE", help="With --dry-run: draw what would be learned from, as a PNG."),
        ],
        None,
    ),
    QUIET,
]

for _kind in ABOUT:
    app.command(_kind, cls=WideHelp)(_command(_kind))
