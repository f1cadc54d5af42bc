"""`show1 customize`: a command for motions and one for styles, whose options are those of `CustomizationConfig`."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from show1.cli.console import say, say_json, tell
from show1.cli.options import FieldOptions, keyword, with_parameters
from show1.cli.train import TrainingProgress, quiet_libraries, stop_on_interrupt
from show1.errors import Cancelled, InputError
from show1.training.customization import METHODS, CustomizationConfig, Kind

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Let a stage learn a motion or a style from a few clips. The result is a small file for `generate --adapter`.",
)

ABOUT: dict[Kind, tuple[str, list[str]]] = {
    "motion": (
        "A motion, from one clip or a few, for any subject.",
        ["--video clip.mp4", '--prompt "a cat walks"', "-o walk.safetensors"],
    ),
    "style": (
        "A style, from a folder of images or from clips.",
        ["--images drawings", '--name "pencil sketch"', "-o sketch.safetensors"],
    ),
}
"""What a kind learns, and an example's options."""

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
        dry_run: Only tell what would be learned.
        sheet: Where a dry run draws the frames that would be learned from.
        quiet: No progress.

    Raises:
        Cancelled: Ctrl-C.
    """
    from show1.training.customization import customize, describe
    from show1.training.trainer import last_checkpoint

    quiet_libraries()
    config = resolve(kind, given)
    if sheet is not None and not dry_run:
        raise InputError("--sheet is for --dry-run; a run draws reference.png in its folder")
    if dry_run:
        say_json(describe(config, sheet))
        return
    if not quiet:
        tell(json.dumps(config.to_dict(), indent=2))
    with stop_on_interrupt() as stop:
        try:
            file = customize(
                config, on_log=None if quiet else TrainingProgress(config.steps), stop=stop, overwrite=overwrite
            )
        except (Cancelled, KeyboardInterrupt) as error:
            stopped = error if isinstance(error, Cancelled) else Cancelled("by Ctrl-C")
            if last_checkpoint(config.folder) is None:
                stopped.add_note("There is no checkpoint yet: the same command begins again.")
            else:
                again = " --overwrite" if overwrite else ""
                stopped.add_note(f"To go on: show1 customize {kind} --run {shlex.quote(str(config.folder))}{again}")
            raise stopped from None
    if not quiet:
        _tell_result(config)
    say(str(file))


def resolve(kind: Kind, given: dict[str, Any]) -> CustomizationConfig:
    """The options of a run: defaults, then those of the run that the folder holds, then those given.

    Raises:
        InputError: An option is unknown, missing, or out of its range; the folder holds a run of the other kind.
    """
    from show1.files import read_json_object
    from show1.training.trainer import last_checkpoint

    chosen = {name: value for name, value in given.items() if value is not None}
    values: dict[str, Any] = {}
    folder = chosen.get("run") or (str(Path(chosen["output"]).with_suffix(".run")) if "output" in chosen else None)
    if folder is not None and last_checkpoint(Path(folder)) is not None:
        file = Path(folder) / "config.json"
        try:
            values = read_json_object(file)
        except (OSError, ValueError) as error:
            raise InputError(f"{file} cannot be read as a JSON object with options: {error}") from error
        if values.get("kind") != kind:
            raise InputError(f"{folder} holds a run of the kind {values.get('kind')!r}, not {kind!r}")
        values["run"] = folder
    values |= chosen
    if "output" not in values:
        raise InputError("-o FILE.safetensors is needed: where the adapter goes")
    return CustomizationConfig.from_dict({**values, "kind": kind})


def _tell_result(config: CustomizationConfig) -> None:
    """Time, memory, and what to look at."""
    from show1.cli.progress import duration
    from show1.files import read_json_object

    report = config.folder / "report.json"
    if report.is_file():
        cost = read_json_object(report)
        memory = cost["peak_memory_bytes"] / 1e9
        tell(f"{cost['steps']} steps in {duration(cost['seconds'])}, peak memory {memory:.2f} GB")
    sheets = sorted((config.folder / "samples").glob("*.png"))
    if sheets:
        tell(f"samples: {sheets[-1]}")


def _command(kind: Kind) -> Callable[..., None]:
    """The function of a kind's command, with a parameter for each option."""

    def command(overwrite: bool, dry_run: bool, sheet: Path | None, quiet: bool, **given: Any) -> None:
        run(kind, given, overwrite=overwrite, dry_run=dry_run, sheet=sheet, quiet=quiet)

    about, example = ABOUT[kind]
    lines = " \\\n    ".join([f"show1 customize {kind}", *example])
    methods = f"Methods: {', '.join(METHODS[kind])}."
    parameters = [*_OPTIONS.parameters(leave_out=_NOT_FOR[kind]), *_OTHERS]
    with_parameters(command, parameters, f"{about}\n\n{methods}\n\nExample:\n\n\b\n  {lines}\n")
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
    keyword("dry_run", Annotated[bool, typer.Option("--dry-run", help="Only tell what would be learned.")], False),
    keyword(
        "sheet",
        Annotated[
            Path | None,
            typer.Option("--sheet", metavar="FILE", help="With --dry-run: draw what would be learned from, as a PNG."),
        ],
        None,
    ),
    keyword("quiet", Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")], False),
]

for _kind in ABOUT:
    app.command(_kind)(_command(_kind))
