"""`show1 generate`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from show1.cli.console import printable, say, say_fact, say_json, tell
from show1.cli.progress import choose_reporter
from show1.cli.session import keeping, load_pipeline, tell_result
from show1.cli.settings import Change, apply_changes, parse_adapters, parse_change, parse_model
from show1.config import STAGES, CascadeSettings, Numerics, StageName
from show1.errors import InputError
from show1.generation.output import OutputFile, absolute, default_path
from show1.generation.request import check_prompt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from show1.adapters.record import AdapterRecord
    from show1.generation.metadata import VideoRecord
    from show1.generation.pipeline import Show1Pipeline
    from show1.generation.request import GenerationRequest
    from show1.generation.run import Run

Memory = Literal["auto", "low", "high"]


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
            help="Adapter: a motion or style by `show1 customize`, or a LoRA (STAGE=FILE); can be repeated. DETAILS is "
            "its weight at low noise levels. none leaves out the adapters of --from.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Whole number; the same seed gives the same video. By default a random one.")
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="What to avoid, in every stage.")] = None,
    run: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that keeps finished stages. By default a new one in runs/."),
    ] = None,
    until: Annotated[
        StageName | None,
        typer.Option(
            metavar="STAGE", help="Last stage to run: keyframes, interpolation, super_resolution or translation."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="Number of videos of this prompt, with the seeds seed, seed + 1, ...")
    ] = 1,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Repeat a video by show1: prompt, seed, model and settings are read from it; options given here take "
            "precedence.",
        ),
    ] = None,
    memory: Annotated[
        Memory,
        typer.Option(help="low keeps one network in memory at a time, high keeps all; auto decides by the machine."),
    ] = "auto",
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1 or mps. By default the fastest device.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of a stage; can be repeated."),
    ] = None,
    keyframes: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Number of keyframes; N keyframes give (N - 1) * 4 + 1 frames.", show_default=False
        ),
    ] = None,
    numerics: Annotated[
        Numerics | None,
        typer.Option(help="published repeats the random draws and the rounding of the published run (slower)."),
    ] = None,
    sheet: Annotated[
        str | None, typer.Option(metavar="FILE.png", help="Also write a contact sheet: frames side by side.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="Codec: h264, h265 or av1 in .mp4; vp9 or av1 in .webm; ffv1 or any of these in .mkv."),
    ] = None,
    quality: Annotated[int | None, typer.Option(help="Quality of lossy formats, from 0 (worst) to 100 (best).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress, only the file's name.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on stdout: file, run, seed, timings, peak memory.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the resolved settings, but generate nothing.")
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
    began = time.monotonic()
    changes, choices = [parse_change(pair) for pair in set_ or ()], parse_adapters(adapter)
    record = None if from_file is None else _read_record(from_file)
    text = _prompt(prompt, record)
    wanted = parse_model(model) if model is not None else "mini" if record is None else record.model.model
    path = absolute(output) if output is not None else default_path(text, count=count, overwrite=overwrite)
    sheet_path = None if sheet is None else absolute(sheet)
    target = OutputFile(path=path, overwrite=overwrite, codec=codec, quality=quality, sheet=sheet_path)
    target.probe(count)
    pipe = load_pipeline(wanted, quiet=quiet or as_json, device=device, memory=memory)
    for choice in choices or ():
        pipe.adapters.load(**choice)
    if choices is None and record is not None:
        pipe.adapters.load_recorded(record.model.adapters)
    request = _make_request(
        pipe,
        text,
        record,
        changes,
        seed=seed,
        count=count,
        negative_prompt=negative_prompt,
        num_keyframes=keyframes,
        until=until,
        numerics=numerics,
    )
    _, height, width, fps = request.final_shape
    target.probe(count, size=(height, width), fps=fps)
    if dry_run:
        _show_plan(pipe, request, target, as_json=as_json)
        return
    folder, made_here = _begin_run(run, target)
    with keeping(folder, made_here=made_here):
        with choose_reporter(quiet=quiet or as_json) as reporter:
            videos = pipe.generate(request, folder, callbacks=reporter.callbacks())
        if record is not None and model is None and choices is None and request.stages == record.stages:
            if videos[0].metadata["model"]["sha256"] != record.model.sha256:
                warning = f"warning: the model has other weights than that of {from_file}; the video differs"
                tell(warning, style="yellow")
        files = target.write(videos)
    tell_result(folder, videos, files, target, began=began, available=pipe.stages, quiet=quiet, as_json=as_json)


def _read_record(file: Path) -> "VideoRecord":
    """How the video to repeat was made."""
    from show1.generation.metadata import VideoRecord
    from show1.media import read_metadata

    metadata = read_metadata(file)
    if not metadata:
        raise InputError(f"{file} does not say how it was made: only videos by show1 do")
    record = VideoRecord.from_metadata(metadata)
    record.to_request()  # makes sure that it can be repeated
    return record


def _prompt(prompt: str | None, record: "VideoRecord | None") -> str:
    text = record.prompt if prompt is None and record is not None else prompt
    if text is None:
        raise InputError('there is no prompt: say what the video shows, such as "a panda spins over the snow"')
    check_prompt(text)
    return text


def _make_request(
    pipe: "Show1Pipeline",
    prompt: str,
    record: "VideoRecord | None",
    changes: list[Change],
    *,
    count: int,
    negative_prompt: str | None,
    num_keyframes: int | None,
    **given: Any,
) -> "GenerationRequest":
    """The options, and where they say nothing, the video to repeat; `--set` wins over the other options."""
    from show1.generation.arguments import make_request, resolve_settings

    known: dict[str, Any] = {}
    if record is not None:
        known = {"seed": record.seed, "until": record.stages[-1], "numerics": record.numerics}
    base = pipe.settings if record is None else record.settings
    settings = resolve_settings(base, negative_prompt=negative_prompt, num_keyframes=num_keyframes)
    known |= {name: value for name, value in given.items() if value is not None}
    settings = apply_changes(settings, changes)
    return make_request(prompt, model=pipe, count=count, settings=settings, **known)


def _begin_run(directory: Path | None, output: OutputFile) -> "tuple[Run, bool]":
    """The run folder, and whether it was made here. A run that is in the folder already is resumed if it agrees."""
    from show1.generation.run import MANIFEST, Run

    if directory is None or not (directory / MANIFEST).is_file():
        return Run.create(directory, output=output), True
    run = Run.open(directory)
    run.write_to(output)
    return run, False


def _show_plan(pipe: "Show1Pipeline", request: "GenerationRequest", output: OutputFile, *, as_json: bool) -> None:
    frames, height, width, fps = request.final_shape
    for warning in pipe.prompt_warnings(request.prompts[0], request.settings):
        tell(f"warning: {warning}", style="yellow")
    adapters = [adapter.record for adapter in pipe.adapters]
    plan: dict[str, Any] = {
        "files": output.files(len(request.prompts)),
        "sheet": output.sheet,
        "model": pipe.cascade.model,
        "adapters": [record.to_dict() for record in adapters],
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
        say_fact(key, ", ".join(plan[key]) if isinstance(plan[key], list) else _plain(plan[key]))
    say_adapters(adapters)
    say_fact("prompt", request.prompts[0])
    say_fact("seeds", f"{', '.join(str(s) for s in request.seeds)} ({request.numerics} numerics)")
    say_fact("video", f"{frames} frames of {height}x{width} (height x width), {fps:g} frames/s")
    say_settings(request.settings, request.stages)


def say_adapters(records: "Iterable[AdapterRecord]") -> None:
    """Writes a line per adapter."""
    for record in records:
        say_fact("adapter", f"{record.path} (weight {record.shown_weight}, {record.stage})")


def say_settings(settings: CascadeSettings, stages: tuple[StageName, ...]) -> None:
    """Writes settings as `--set` takes them."""
    values = settings.to_dict()
    flat = {f"{stage}.{key}": value for stage in stages for key, value in values[stage].items()}
    flat |= {key: value for key, value in values.items() if key not in STAGES}
    for key, value in flat.items():
        if isinstance(value, dict):
            for inner, inner_value in value.items():
                say(f"  {key}.{inner}={_plain(inner_value)}")
        else:
            say(f"  {key}={_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return "none" if value is None else printable(str(value), keep="")
