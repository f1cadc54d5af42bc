"""`show1 refine`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from show1.cli.flags import DeviceFlag, Overwrite, Quiet, Sheet, ShownMemoryFlag, StorageFlag, VideoAsJson
from show1.cli.jobs import Job, probe_all
from show1.cli.making import make_all
from show1.cli.plan import show_plan
from show1.cli.session import load_pipeline
from show1.cli.settings import Change, apply_changes, parse_adapters, parse_change, parse_model
from show1.config import StageName
from show1.errors import InputError
from show1.files import user_path
from show1.generation.output import OutputFile, absolute
from show1.generation.request import check_prompt
from show1.stage_table import STAGE_TABLE

if TYPE_CHECKING:
    from show1.generation.pipeline import Show1Pipeline
    from show1.video import Video


_Clip = Annotated[str, typer.Argument(metavar="VIDEO", help="The video: a file of any length and size.")]
_Prompt = Annotated[
    str | None,
    typer.Option("--prompt", "-p", metavar="TEXT", help="What it shows. By default what a video by show1 says."),
]
_Output = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FILE", help="Video to write. By default VIDEO-refined.mp4.")
]
_Expert = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Latent video model of diffusers that redraws it (docs/experts.md).")
]
_Stage = Annotated[
    StageName,
    typer.Option(metavar="STAGE", help="Its stage: translation, super_resolution or interpolation."),
]
_Model = Annotated[
    str, typer.Option("--model", "-m", metavar="MODEL", help="Model whose stage it is, without --expert.")
]
_Level = Annotated[
    float | None,
    typer.Option(help="Noise to start from, above 0 and at most 1: less keeps more of the video. translation only."),
]
_Time = Annotated[
    Literal["keep", "resample"] | None,
    typer.Option(
        help="resample slows the video down for an expert that knows more frames per second, by a whole number of "
        "blended frames, and gives back those of the video, as is usual; keep shows them as they are, in less time."
    ),
]
_Adapter = Annotated[
    list[str] | None, typer.Option(metavar="FILE[:WEIGHT]", help="Adapter of the stage; can be repeated.")
]
_Seed = Annotated[int | None, typer.Option(help="Whole number. By default a random one.")]
_Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of a stage; can be repeated.")
]
_Run = Annotated[str | None, typer.Option(metavar="DIR", help="Run folder. By default a new one in runs/.")]
_Dtype = Annotated[str | None, typer.Option(help="Precision of the networks, such as bfloat16.")]
_Codec = Annotated[str | None, typer.Option(help="Codec, as for `show1 generate`.")]
_Quality = Annotated[int | None, typer.Option(help="Quality of lossy formats, from 0 to 100.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the resolved settings, but make nothing.")]


def refine(
    clip: _Clip,
    prompt: _Prompt = None,
    output: _Output = None,
    expert: _Expert = None,
    stage: _Stage = "translation",
    model: _Model = "mini",
    level: _Level = None,
    time: _Time = None,
    adapter: _Adapter = None,
    seed: _Seed = None,
    set_: _Set = None,
    run: _Run = None,
    memory: ShownMemoryFlag = None,
    device: DeviceFlag = None,
    storage: StorageFlag = None,
    dtype: _Dtype = None,
    sheet: Sheet = None,
    codec: _Codec = None,
    quality: _Quality = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: VideoAsJson = False,
    dry_run: _DryRun = False,
) -> None:
    """Redraw a video of yours: details by the translation, size by the super-resolution, frames by the interpolation.

    Examples:

    \b
      show1 refine clip.mp4 --prompt "a panda spins over the snow"
      show1 refine clip.mp4 --prompt "a dog runs along the beach" --expert THUDM/CogVideoX-2b --level 0.5
      show1 refine small.mp4 --prompt "a panda" --stage super_resolution -o large.mp4

    It is `show1 generate --start-from STAGE --until STAGE --video VIDEO`, in the video's shape, with as many pixels as
    the stage was made for; these may be fewer than the video has.
    """
    from show1.video import Video

    changes = [parse_change(pair) for pair in set_ or ()]
    changes += [] if level is None else [Change((stage, "level"), level)]
    _check_stage(stage, expert)
    video = Video.load(file := user_path(clip, "VIDEO"))
    target = _target(file, output, sheet, overwrite=overwrite, codec=codec, quality=quality)
    options = {"seed": seed, "count": 1, "start_from": stage, "until": stage}
    runs = None if run is None else user_path(run, "--run")
    job = Job(prompt=_prompt(prompt, video), output=target, run=runs, options=options)
    probe_all([job])
    named = parse_model(model if expert is None else f"{stage}={expert}")
    place: dict[str, Any] = {"device": device, "dtype": dtype, "storage": storage, "stages": [stage]}
    pipe = load_pipeline(named, quiet=quiet or as_json, memory=memory or "auto", **place)
    for choice in parse_adapters(adapter) or ():
        pipe.adapters.load(**choice)
    request = job.request(pipe, None, [*suiting(pipe, stage, video, time, changes), *changes], video)
    probe_all([job], [request])
    said = {"as_json": as_json, "count_memory": memory is not None}
    if dry_run:
        show_plan(pipe, request, job.output, clip_frames=len(video), **said)
    else:
        make_all(pipe, [(job, request)], video, several=False, repeated=None, quiet=quiet, **said)


def _check_stage(stage: StageName, expert: str | None) -> None:
    """Makes sure that a stage works on a video, and that an expert can take its place if one is named."""
    if not STAGE_TABLE[stage].needs_video:
        raise InputError(f"the stage {stage!r} works on no video; use `show1 generate`")
    if expert is not None and not STAGE_TABLE[stage].takes_experts:
        raise InputError(f"an expert takes the place of the translation, not of {stage!r}; leave out --expert")


def _target(file: Path, output: str | None, sheet: str | None, **how: Any) -> OutputFile:
    """Where the result goes: by default into the current folder, under a name from the video's."""
    path = absolute(output if output is not None else f"{file.stem}-refined.mp4")
    return OutputFile(path=path, sheet=None if sheet is None else absolute(sheet), **how)


def suiting(
    pipe: "Show1Pipeline", stage: StageName, video: "Video", time: str | None, changes: Sequence[Change]
) -> list[Change]:
    """Changes that suit a video's size and pace, to be made before those that the user asks for."""
    from show1.generation.refining import refine_settings, sized_by

    usual = time is None and pipe.cascade.parts[stage].expert is not None
    fps = video.fps if usual or time == "resample" else None
    sizes = {(sized_by(stage), side) for side in ("height", "width")}
    settings = apply_changes(pipe.settings, changes) if sizes & {change.path for change in changes} else None
    height, width = video.frames.shape[1:3]
    found = refine_settings(pipe, stage, (height, width), settings=settings, fps=fps, asked=not usual)
    return [Change((name, option), value) for name, options in found.items() for option, value in options.items()]


def _prompt(prompt: str | None, video: "Video") -> str:
    text = prompt if prompt is not None else video.metadata.get("prompt")
    if not isinstance(text, str):
        raise InputError("the video does not say what it shows; give --prompt TEXT")
    check_prompt(text)
    return text
