"""`show1 models`."""

import logging
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from show1.cli.console import say, say_json, tell
from show1.cli.failures import RUNTIME
from show1.cli.flags import AsJson
from show1.cli.settings import apply_changes, parse_change, parse_model
from show1.config import STAGES, CascadeSettings, StageName
from show1.errors import CheckpointError, InputError, Show1Error
from show1.expert_table import EXPERTS
from show1.files import user_path
from show1.options import counted
from show1.stage_table import STAGE_TABLE

if TYPE_CHECKING:
    from show1.checkpoints.cascade import Cascade

models = typer.Typer(no_args_is_help=True, help="List, download, check and convert models.")

_ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A name, a folder, a Hub repository, or STAGE=WHERE,STAGE=WHERE.")
]
_Stages = Annotated[
    list[str] | None, typer.Option("--stage", metavar="STAGE", help="Only this stage; can be repeated.")
]
_Variant = Annotated[
    str | None, typer.Option(metavar="NAME", help="Weight files to prefer, such as fp16 (half the size).")
]


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the known models, and whether they are on this disk.

    Example:

    \b
      show1 models list
    """
    from show1.checkpoints.names import KNOWN_MODELS

    known: dict[str, tuple[str, Any]] = {name: (about, name) for name, about in KNOWN_MODELS.items()}
    for expert in EXPERTS.values():
        if expert.repository:
            known[expert.repository] = (f"expert ({expert.name}): {expert.about}", _model_or_stage(expert.repository))
    rows = [{"name": name, "about": about, **_local_state(model)} for name, (about, model) in known.items()]
    if as_json:
        say_json(rows)
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        say(f"{row['name']:{width}} {row['about']}")
        say(f"{'':{width}} {_state_line(row)}")


@models.command()
def download(
    model: _ModelArgument,
    stage: _Stages = None,
    variant: _Variant = None,
    revision: Annotated[str | None, typer.Option(metavar="NAME", help="Branch, tag or commit on the Hub.")] = None,
) -> None:
    """Download a model ahead, so that it can be used without a connection.

    Examples:

    \b
      show1 models download showlab/show-1
      show1 models download showlab/show-1 --variant fp16
      show1 models download showlab/show-1-base
      show1 models download THUDM/CogVideoX-2b
    """
    from show1.checkpoints.locate import resolve

    cascade = resolve(
        _model_or_stage(model), stages=cast("list[StageName] | None", stage), variant=variant, revision=revision
    )
    for name, part in cascade.parts.items():
        say(f"{name:18} {part.source}")
    size = sum(file.stat().st_size for file in set(cascade.weight_files().values()))
    tell(f"{size / 1e9:.2f} GB of weights are on this disk")


def _model_or_stage(model: str) -> Any:
    """The model that `from_pretrained` takes; a published repository, of an expert too, is one stage of it."""
    of_stage = {row.repository: name for name, row in STAGE_TABLE.items()}
    takers = [name for name, row in STAGE_TABLE.items() if row.takes_experts]
    of_stage |= {row.repository: name for row in EXPERTS.values() for name in takers if row.repository}
    return {of_stage[model]: model} if model in of_stage else parse_model(model)


@models.command()
def verify(
    model: _ModelArgument = "mini",
    stage: _Stages = None,
    variant: _Variant = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also read every weight, and check the Hub's hashes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check that a model's files on this disk are complete, readable, and of the right shapes. If not, exit with 1.

    Examples:

    \b
      show1 models verify mini
      show1 models verify showlab/show-1 --deep
      show1 models verify my-cascade/
    """
    from show1.generation.verify import verify as find_problems

    problems = find_problems(
        _model_or_stage(model), stages=cast("list[StageName] | None", stage), variant=variant, deep=deep
    )
    if as_json:
        listed = [{"file": str(problem.file), "message": problem.message} for problem in problems]
        say_json({"model": model, "sound": not problems, "problems": listed})
    elif problems:
        for problem in problems:
            say(str(problem))
        tell(f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in {model}", style="bold red")
    else:
        say(f"{model}: all is well")
    if problems:
        raise typer.Exit(RUNTIME)


@models.command()
def assemble(
    stages: Annotated[
        list[str], typer.Argument(metavar="STAGE=WHERE...", help="Folder, model or Hub repository of each stage.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="New folder of the cascade.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a default setting of the cascade; can be repeated."),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Link weight files (hard links) instead of copying them, which saves space.")
    ] = False,
    variant: _Variant = None,
) -> None:
    """Put stages together to a cascade, in a folder of its own, with the settings that suit them.

    Exports of trainings say which settings suit them: these become the defaults of the cascade, and --set changes them.

    Examples:

    \b
      show1 models assemble keyframes=runs/keyframes/export interpolation=runs/interpolation/export -o my-cascade
      show1 models assemble keyframes=runs/keyframes/export translation=mini -o mine --set keyframes.guidance_scale=4
      show1 generate "a dog runs along the beach" --model my-cascade
    """
    from show1.checkpoints.convert import save_cascade
    from show1.checkpoints.locate import resolve
    from show1.generation.verify import verify as find_problems

    model: dict[str, str] = {}
    for text in stages:
        name, _, where = (piece.strip() for piece in text.partition("="))
        if name not in STAGE_TABLE or not where:
            raise InputError(f"{text}: expected STAGE=WHERE, and the stages are {', '.join(STAGE_TABLE)}")
        model[name] = where
    cascade = resolve(model, variant=variant)
    settings = apply_changes(cascade.settings, [parse_change(pair) for pair in changes or ()])
    if problems := find_problems(model, variant=variant):
        raise CheckpointError("; ".join(str(problem) for problem in problems[:3]))
    folder = save_cascade(cascade, user_path(output), settings=settings, link=link)
    for name in cascade.stages:
        frames, height, width = STAGE_TABLE[name].output_shape(None, settings)
        chosen = getattr(settings, name)
        size = f"{height}x{width}" if frames is None else f"{frames}x{height}x{width}"
        tell(f"{name}: {size}, {counted(chosen.num_inference_steps, 'step')}, guidance {chosen.guidance_scale:g}")
    _warn_of_limits(cascade.stages, settings)
    say(str(folder))


def _warn_of_limits(stages: tuple[StageName, ...], settings: CascadeSettings) -> None:
    """Says what a cascade of these stages cannot do."""
    lacking = [stage for stage in STAGES[STAGES.index(stages[0]) : STAGES.index(stages[-1])] if stage not in stages]
    if lacking:
        tell(
            f"warning: between its stages the cascade lacks {', '.join(lacking)}; each part is used on its own, with "
            "--until and with --start-from STAGE --video FILE",
            style="yellow",
        )
    if "keyframes" in stages and settings.keyframes.num_frames == 1:
        tell(
            "warning: the keyframes network makes single images: train one for videos from it (`show1 train keyframes "
            "--init FOLDER`), or give --set keyframes.num_frames=N if it can make more",
            style="yellow",
        )


@models.command()
def convert(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A model's folder, or one of its components.")],
) -> None:
    """Write a safetensors file beside every pickled weight file (.bin). Code in pickles is never run.

    Example:

    \b
      show1 models convert show-1-base/
    """
    from show1.checkpoints.convert import convert_to_safetensors

    written = convert_to_safetensors(user_path(folder))
    for file in written:
        say(str(file))
    if not written:
        tell(f"nothing to do: {folder} holds no pickled weights without a safetensors file beside them")


def _local_state(name: Any) -> dict[str, Any]:
    """Whether a known model can be used without a connection."""
    from show1.checkpoints.locate import resolve

    logger = logging.getLogger("show1.checkpoints.locate")
    level = logger.level
    logger.setLevel(logging.ERROR)  # the optional network of the first frame may be missing
    try:
        cascade: Cascade = resolve(name, local_files_only=True)
    except Show1Error as error:
        return {"on_disk": False, "reason": str(error)}
    finally:
        logger.setLevel(level)
    size = sum(file.stat().st_size for file in set(cascade.weight_files().values()))
    folder = str(next(iter(cascade.parts.values())).path)
    return {"on_disk": True, "bytes": size, "stages": list(cascade.parts), "folder": folder}


def _state_line(row: dict[str, Any]) -> str:
    if not row["on_disk"]:
        return "not on this disk"
    return f"on this disk, {row['bytes'] / 1e6:.0f} MB: {', '.join(row['stages'])}"
