"""`show1 resume`."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from show1.cli.consent import load_recorded_model
from show1.cli.console import tell
from show1.cli.flags import Overwrite, Precision, Quiet, Sheet, ShownMemoryFlag, VideoAsJson
from show1.cli.plan import tell_plan
from show1.cli.progress import shown
from show1.cli.session import keeping, quoted, short, tell_result
from show1.cli.settings import apply_changes, parse_change
from show1.errors import RunError
from show1.generation.output import OutputFile, absolute, default_path, free_path, numbered

if TYPE_CHECKING:
    from show1.config import CascadeSettings
    from show1.generation.pipeline import Show1Pipeline
    from show1.generation.run import Run


Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Video to write. By default the one that the run was begun for."
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a setting of a stage that is not finished; can be repeated."
    ),
]


_Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[,STAGE=NAME...]", help="As for `show1 generate`. By default the one that the run began with."
    ),
]


def resume(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="A run folder, such as runs/20261122-101502-3f2a.")],
    pick: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Take only draft N through the model's other stages.")
    ] = None,
    output: Output = None,
    sheet: Sheet = None,
    set_: Changes = None,
    memory: ShownMemoryFlag = None,
    device: _Device = None,
    dtype: Annotated[
        Precision | None, typer.Option(help="Precision of the networks. By default that with which the run began.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: VideoAsJson = False,
) -> None:
    """Finish a run that was stopped, or take one of its drafts through the other stages.

    Finished stages are read, not computed again; the result is the same to the last bit.

    Examples:

    \b
      show1 resume runs/20261122-101502-3f2a
      show1 resume runs/20261122-101502-3f2a --pick 5 -o panda.mp4
      show1 resume runs/20261122-101502-3f2a --set translation.num_inference_steps=20
    """
    from show1.generation.run import Run

    began = time.monotonic()
    changes = [parse_change(pair) for pair in set_ or ()]
    run = Run.open(directory)
    model = run.manifest.model
    if run.request is None or model is None:
        raise RunError(f"{directory} was stopped before it began; begin again with `show1 generate`")
    remedy = f"get it first (`show1 models download {{model}}`), then `show1 resume {quoted(directory)}`"
    place = {"memory": memory or "auto", "stages": model.stages, **_placement(run, device, dtype)}
    pipe = load_recorded_model(model.model, run.path, remedy=remedy, quiet=quiet or as_json, **place)
    pipe.adapters.load_recorded(run.adapters)
    if pick is not None:
        run = _pick(run, pick, output)
    assert run.request is not None, "a picked run has the request of its parent"
    settings = apply_changes(run.request.settings, changes)
    target = _target(run, output=output, sheet=sheet, overwrite=overwrite)
    count = len(run.request.prompts)
    if run.finished:
        target.probe_again(run.output, count)
    else:
        _, height, width, fps = run.request.with_settings(settings).final_shape
        target.probe(count, size=(height, width), fps=fps)
        if output is None and not quiet and not as_json and short(target.path) == target.path:
            tell(f"the video goes to {target.path}, which the run was begun for; --output names another file")
    with keeping(run):
        if memory is not None and not quiet and not as_json:
            _tell_plan(pipe, run, settings)
        with shown(quiet=quiet or as_json) as callbacks:
            videos = pipe.resume(run, settings=settings, callbacks=callbacks)
        files = target.write(videos, keep_same=True)
    tell_result(run, videos, files, target, began=began, available=pipe.stages, quiet=quiet, as_json=as_json)


def _tell_plan(pipe: "Show1Pipeline", run: "Run", settings: "CascadeSettings") -> None:
    """Says what the stages that are left will take."""
    clip = run.load_input()
    frames = None if clip is None else clip.shape[2]
    request = run.begun_request.with_settings(settings)
    tell_plan(pipe, request, frames, done=run.finished_stages, count_memory=True)


def _placement(run: "Run", device: str | None, dtype: str | None) -> dict[str, Any]:
    """Device, precision and threads as when the run began, so that the result is the same to the last bit."""
    import torch

    known = run.manifest
    if device is None and known.threads is not None:
        torch.set_num_threads(known.threads)
    return {"device": device or known.device, "dtype": dtype or known.precision, "storage": known.storage}


def _pick(run: "Run", number: int, output: str | None) -> "Run":
    """The run of one draft; its file is that of the whole run, or one with the draft's number if that is taken."""
    asked = run.output
    if output is not None:
        path = absolute(output)
    elif asked is not None:
        path = free_path(asked.path)
        path = path if path == asked.path else free_path(numbered(asked.path, f"pick-{number}"))
    else:
        assert run.request is not None, "checked by the caller"
        path = default_path(run.request.prompts[0], count=1, overwrite=False)
    asked = asked or OutputFile(path=path)
    return run.pick(number - 1, output=replace(asked, path=path, overwrite=False, sheet=None))


def _target(run: "Run", *, output: str | None, sheet: str | None, overwrite: bool) -> OutputFile:
    """The output file that the run was asked for, with this command's changes.

    A run folder may come from anybody, so that what it says is no permission to replace files: only `--overwrite` is.
    """
    assert run.request is not None, "checked by the caller"
    asked = run.output
    if asked is None:
        count = len(run.request.prompts)
        asked = OutputFile(path=default_path(run.request.prompts[0], count=count, overwrite=overwrite))
    if output is not None:
        asked = OutputFile(path=absolute(output), sheet=asked.sheet)
    sheet = asked.sheet if sheet is None else absolute(sheet)
    return replace(asked, path=absolute(asked.path), overwrite=overwrite, sheet=sheet)
