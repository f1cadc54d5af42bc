"""`show1 generate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from show1.cli.console import say, say_json, tell
from show1.cli.output import Target, absolute, default_path
from show1.cli.progress import choose_reporter
from show1.cli.session import Clock, final_shape, keeping, load_pipeline, tell_result
from show1.cli.settings import AdapterChoice, Change, as_mapping, parse_adapters, parse_changes, parse_model
from show1.config import CascadeSettings, Seeding, StageName
from show1.errors import InputError

if TYPE_CHECKING:
    from show1.generation.pipeline import Show1Pipeline
    from show1.generation.run import Run, RunRequest

Memory = Literal["auto", "low", "high"]


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What is asked for, before the model is known."""

    prompt: str
    model: str | dict[str, str]
    seed: int | None
    seeding: Seeding
    until: StageName | None
    base: CascadeSettings | None
    """Settings of a video to repeat; None: the model's."""
    sha256: str | None
    """Hash of the weights of a video to repeat."""
    recorded_adapters: tuple[dict[str, Any], ...] = ()
    """Of a video to repeat."""


def generate(
    prompt: Annotated[str | None, typer.Argument(help="What the video shows, in English.", show_default=False)] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Video to write: .mp4, .webm, .mkv (lossless), .gif, .webp, or a folder of PNG frames (a name that "
            "ends in /). By default a name from the prompt.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="mini (the default), showlab/show-1, a folder, a Hub repository, or STAGE=WHERE,STAGE=WHERE.",
        ),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:WEIGHT[:DETAILS]]",
            help="Motion or style by `show1 customize` (or a LoRA: STAGE=FILE); can be repeated. DETAILS: its weight "
            "at low noise levels. none: leave out those of --from.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Whole number; the same seed gives the same video. By default random.")
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="What to avoid, in every stage.")] = None,
    run: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that keeps finished stages. By default a new one in runs/."),
    ] = None,
    until: Annotated[
        StageName | None,
        typer.Option(metavar="STAGE", help="Last stage: keyframes, interpolation, super_resolution or translation."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Videos of this prompt, with the seeds seed, seed + 1, ...")] = 1,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Repeat a video by show1: prompt, seed, model and settings are read from it; options given here win.",
        ),
    ] = None,
    memory: Annotated[
        Memory, typer.Option(help="low holds one network at a time, high keeps all; auto looks at the machine.")
    ] = "auto",
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1 or mps. By default the fastest there is.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of a stage; can be repeated."),
    ] = None,
    keyframes: Annotated[
        int | None, typer.Option(metavar="N", help="Keyframes: N give (N - 1) * 4 + 1 frames.", show_default=False)
    ] = None,
    seeding: Annotated[
        Seeding | None, typer.Option(help="published: draw random numbers as the published run does.")
    ] = None,
    sheet: Annotated[
        str | None, typer.Option(metavar="FILE.png", help="Also write a contact sheet: frames side by side.")
    ] = None,
    codec: Annotated[
        str | None, typer.Option(help="h264, h265 or av1 in .mp4; vp9 or av1 in .webm; ffv1 and all these in .mkv.")
    ] = None,
    quality: Annotated[int | None, typer.Option(help="0 (worst) to 100 (best), for lossy formats.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only the file's name.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON on stdout: file, run, seed, timings, peak memory.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the resolved settings; make nothing.")
    ] = False,
) -> None:
    """Make a video from a prompt.

    Examples:

    \b
      show1 generate "a panda spins over the snow" -o panda.mp4 --seed 1
      show1 generate "a cat jumps in the forest" --keyframes 16 --sheet cat.png
      show1 generate "a panda spins over the snow" --until keyframes --count 8
      show1 generate "a panda" --set keyframes.guidance_scale=5 --dry-run
      show1 generate --from panda.mp4 --seed 2
      show1 generate "a panda walks over the snow" --adapter walk.safetensors:0.8

    Keys of --set are STAGE.OPTION, for instance keyframes.num_inference_steps; `--dry-run` shows them all.
    """
    clock = Clock()
    changes = parse_changes(set_ or ())
    adapters = parse_adapters(adapter)
    wish = _wish(prompt, from_file, model=model, seed=seed, seeding=seeding, until=until)
    path = absolute(output) if output is not None else default_path(wish.prompt, count=count, overwrite=overwrite)
    target = Target(
        path=path,
        overwrite=overwrite,
        codec=codec,
        quality=quality,
        sheet=None if sheet is None else absolute(sheet),
    )
    target.probe(count)
    pipe = load_pipeline(wish.model, quiet=quiet or as_json, device=device, memory=memory)
    _load_adapters(pipe, adapters, wish)
    request = _resolve(pipe, wish, changes, count=count, negative_prompt=negative_prompt, keyframes=keyframes)
    _, height, width, fps = final_shape(request)
    target.probe(count, size=(height, width), fps=fps)
    if dry_run:
        _show_plan(pipe, request, target, as_json=as_json)
        return
    begun, made_here = _begin_run(run, target)
    with keeping(begun, made_here=made_here):
        with choose_reporter(quiet=quiet or as_json) as reporter:
            videos = pipe(
                [wish.prompt],
                seed=list(request.seeds),
                count=count,
                settings=request.settings,
                until=request.stages[-1],
                seeding=request.seeding,
                run=begun,
                callback_on_stage_start=reporter.stage_start,
                callback_on_step_end=reporter.step_end,
                callback_on_stage_end=reporter.stage_end,
            )
        if adapters is None and wish.sha256 not in (None, videos[0].metadata["model"]["sha256"]):
            tell(f"warning: the model has other weights than that of {from_file}; the video differs", style="yellow")
        files = target.write(videos)
    tell_result(begun, videos, files, target, clock=clock, available=pipe.stages, quiet=quiet, as_json=as_json)


def _wish(
    prompt: str | None,
    from_file: Path | None,
    *,
    model: str | None,
    seed: int | None,
    seeding: Seeding | None,
    until: StageName | None,
) -> _Wish:
    """Options, and where they say nothing, the video to repeat."""
    if from_file is None:
        if prompt is None:
            raise InputError('there is no prompt: say what the video shows, such as "a panda spins over the snow"')
        known = _Wish(prompt=prompt, model="mini", seed=None, seeding="independent", until=None, base=None, sha256=None)
    else:
        known = _read_wish(from_file)
    wish = _Wish(
        prompt=known.prompt if prompt is None else prompt,
        model=known.model if model is None else parse_model(model),
        seed=known.seed if seed is None else seed,
        seeding=seeding or known.seeding,
        until=until or known.until,
        base=known.base,
        sha256=known.sha256 if model is None and until in (None, known.until) else None,
        recorded_adapters=known.recorded_adapters,
    )
    if not wish.prompt.strip():
        raise InputError('the prompt is empty: say what the video shows, such as "a panda spins over the snow"')
    return wish


def _read_wish(file: Path) -> _Wish:
    from show1.generation.run import repeat_arguments
    from show1.media import read_metadata

    metadata = read_metadata(file)
    if not metadata:
        raise InputError(f"{file} does not say how it was made: only videos by show1 do")
    arguments = repeat_arguments(metadata)
    model = metadata.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("model"), str | dict):
        raise InputError(f"{file} does not say which model made it; give one (--model)")
    return _Wish(
        prompt=arguments["prompt"],
        model=model["model"],
        seed=arguments["seed"][0],
        seeding=arguments["seeding"],
        until=arguments["until"],
        base=arguments["settings"],
        sha256=model.get("sha256"),
        recorded_adapters=tuple(model.get("adapters") or ()),
    )


def _load_adapters(pipe: "Show1Pipeline", chosen: list[AdapterChoice] | None, wish: _Wish) -> None:
    """The adapters of the command line, else those of the video to repeat."""
    if chosen is None:
        pipe.load_recorded_adapters(wish.recorded_adapters)
    for choice in chosen or ():
        pipe.load_adapter(choice.path, weight=choice.weight, detail_weight=choice.detail_weight, stage=choice.stage)


def _resolve(
    pipe: "Show1Pipeline",
    wish: _Wish,
    changes: list[Change],
    *,
    count: int,
    negative_prompt: str | None,
    keyframes: int | None,
) -> "RunRequest":
    from show1.generation.request import make_request, resolve_settings

    base = wish.base or pipe.settings
    settings = resolve_settings(base, negative_prompt=negative_prompt, num_keyframes=keyframes)
    settings = resolve_settings(settings, as_mapping(changes, settings))
    return make_request(
        wish.prompt,
        defaults=pipe.settings,
        available=pipe.stages,
        seed=wish.seed,
        count=count,
        settings=settings,
        until=wish.until,
        seeding=wish.seeding,
    )


def _begin_run(directory: Path | None, target: Target) -> "tuple[Run, bool]":
    """The run folder, and whether it was made here. A folder with a run in it goes on, if it is of this request."""
    from show1.generation.run import MANIFEST, Run

    if directory is None or not (directory / MANIFEST).is_file():
        return Run.create(directory, output=target.to_output()), True
    run = Run.open(directory)
    run.write_to(target.to_output())
    return run, False


def _show_plan(pipe: "Show1Pipeline", request: "RunRequest", target: Target, *, as_json: bool) -> None:
    frames, height, width, fps = final_shape(request)
    for warning in pipe.prompt_warnings(request.prompts[0], request.settings):
        tell(f"warning: {warning}", style="yellow")
    plan: dict[str, Any] = {
        "files": target.files(len(request.prompts)),
        "sheet": target.sheet,
        "model": pipe.cascade.model,
        "adapters": [a.record() for a in pipe.adapters],
        "device": str(pipe.device),
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "memory": pipe.memory,
        "frames": frames,
        "height": height,
        "width": width,
        "fps": fps,
        "request": request.to_dict(),
    }
    if as_json:
        say_json(plan)
        return
    for key in ("files", "sheet", "model", "device", "dtype", "memory"):
        say(f"{key:10} {', '.join(plan[key]) if isinstance(plan[key], list) else plan[key]}")
    say_adapters(plan["adapters"])
    say(f"{'prompt':10} {request.prompts[0]}")
    say(f"{'seeds':10} {', '.join(str(s) for s in request.seeds)} ({request.seeding})")
    say(f"{'video':10} {frames} frames of {height}x{width} (height x width), {fps:g} frames/s")
    say_settings(request.settings, request.stages)


def say_adapters(records: list[dict[str, Any]]) -> None:
    """Writes a line an adapter."""
    from show1.adapters.adapter_set import told_weight

    for record in records:
        say(f"{'adapter':10} {record.get('path')} (weight {told_weight(record)}, {record.get('stage')})")


def say_settings(settings: CascadeSettings, stages: tuple[StageName, ...]) -> None:
    """Writes settings as `--set` takes them."""
    values = settings.to_dict()
    flat = {f"{stage}.{key}": value for stage in stages for key, value in values[stage].items()}
    flat |= {key: values[key] for key in ("clean_prompt", "max_text_tokens")}
    for key, value in flat.items():
        if isinstance(value, dict):
            for inner, inner_value in value.items():
                say(f"  {key}.{inner}={_plain(inner_value)}")
        else:
            say(f"  {key}={_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return "none" if value is None else str(value)
