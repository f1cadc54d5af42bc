"""`show1 generate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from show1.checkpoints.names import split_preset
from show1.cli.consent import known_adapters, load_recorded_model
from show1.cli.flags import DeviceFlag, Overwrite, Precision, Quiet, Sheet, ShownMemoryFlag, StorageFlag, VideoAsJson
from show1.cli.jobs import Job, probe_all, read_jobs
from show1.cli.making import end_with, make_all
from show1.cli.plan import show_plan
from show1.cli.session import load_pipeline
from show1.cli.settings import AdapterChoice, parse_adapters, parse_change, parse_model, with_expert, with_preset
from show1.config import PRESETS, Numerics, StageName
from show1.errors import InputError
from show1.files import user_path
from show1.generation.output import OutputFile, absolute, default_path
from show1.generation.request import check_prompt

if TYPE_CHECKING:
    from show1.generation.metadata import VideoRecord
    from show1.generation.pipeline import Show1Pipeline
    from show1.video import Video


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
    expert: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Latent video model for the translation: a Hub repository of diffusers or its folder, such as "
            "THUDM/CogVideoX-2b (docs/experts.md).",
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
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Make a video of each prompt in a file: one per line, or a table (.csv, .jsonl) with the columns "
            "prompt, seed, negative_prompt and expert_prompt. --output is then a folder. The same command resumes.",
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder that keeps finished stages. By default a new one in runs/."),
    ] = None,
    start_from: Annotated[
        StageName | None,
        typer.Option(
            metavar="STAGE", help="First stage to run, on the video that --video names. By default keyframes."
        ),
    ] = None,
    video: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Video for --start-from: it is resized to cover the size that the stage works on, and cropped.",
        ),
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
        str | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Repeat a video by show1: prompt, seed, model and settings are read from it; options given here take "
            "precedence.",
        ),
    ] = None,
    memory: ShownMemoryFlag = None,
    device: DeviceFlag = None,
    storage: StorageFlag = None,
    dtype: Annotated[
        Precision | None,
        typer.Option(
            help="Precision of the networks. By default the fastest that the device has, or that of the run or "
            "video that is repeated."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of a stage; can be repeated."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="fast: distilled keyframes, a smaller expert and fewer steps, of mini (as --model mini:fast does); "
            "compositions fail more often. published or efficient: steps of the published model; efficient takes a "
            "third of the operations.",
        ),
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
    sheet: Sheet = None,
    codec: Annotated[
        str | None,
        typer.Option(help="Codec: h264, h265 or av1 in .mp4; vp9 or av1 in .webm; ffv1 or any of these in .mkv."),
    ] = None,
    quality: Annotated[int | None, typer.Option(help="Quality of lossy formats, from 0 (worst) to 100 (best).")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: VideoAsJson = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the resolved settings, but generate nothing.")
    ] = False,
) -> None:
    """Make a video from a prompt.

    Examples:

    \b
      show1 generate "a panda spins over the snow" -o panda.mp4 --seed 1
      show1 generate "a cat spins over a green field" --keyframes 16 --sheet cat.png
      show1 generate "a panda spins over the snow" --until keyframes --count 8
      show1 generate "a panda" --set keyframes.guidance_scale=5 --dry-run
      show1 generate --from panda.mp4 --seed 2
      show1 generate "a panda walks over the snow" --adapter walk.safetensors:0.8
      show1 generate --prompts prompts.txt -o videos/
      show1 generate "a panda" --start-from super_resolution --video small.mp4 -o large.mp4

    Keys of --set are STAGE.OPTION, for instance keyframes.num_inference_steps; `--dry-run` shows them all.
    """
    changes, choices = [parse_change(pair) for pair in set_ or ()], parse_adapters(adapter)
    source = None if from_file is None else user_path(from_file, "--from")
    record = None if source is None else _read_record(source)
    how: dict[str, Any] = {"overwrite": overwrite, "codec": codec, "quality": quality}
    how["sheet"] = None if sheet is None else absolute(sheet)
    options: dict[str, Any] = {
        "seed": seed,
        "count": count,
        "negative_prompt": negative_prompt,
        "num_keyframes": keyframes,
        "preset": preset if preset in PRESETS else None,
        "start_from": start_from,
        "until": until,
        "numerics": numerics,
    }
    runs = None if run is None else user_path(run, "--run")
    if prompts is not None:
        if prompt is not None:
            raise InputError("give a prompt or --prompts FILE, not both")
        jobs = read_jobs(user_path(prompts, "--prompts"), output=output, run=runs, options=options, how=how)
    else:
        text = _prompt(prompt, record)
        path = absolute(output) if output is not None else default_path(text, count=count, overwrite=overwrite)
        jobs = [Job(prompt=text, output=OutputFile(path=path, **how), run=runs, options=options)]
    probe_all(jobs, resuming=prompts is not None)
    clip = _read_clip(video, start_from)
    chosen = None if model is None and expert is None else parse_model(model or "mini")
    if preset is not None and preset not in PRESETS:
        if record is not None:
            raise InputError(f"--preset {preset} makes another video than that of --from; give its prompt and --seed")
        chosen = with_preset(chosen or "mini", preset)
    if record is not None and _differ_in_preset(chosen, record.model.model):
        raise InputError(
            f"{from_file} was made by {record.model.model}, whose settings do not suit {chosen}; give its prompt and "
            "--seed in place of --from"
        )
    if expert is not None:
        if record is not None:
            raise InputError(f"--expert makes another video than that of --from; use `show1 refine {from_file}`")
        chosen = with_expert(chosen or "mini", expert)
    precision, stored = _known_numbers(jobs, record, device)
    place: dict[str, Any] = {"device": device, "dtype": dtype or precision, "memory": memory or "auto"}
    place["storage"] = stored if storage is None else storage
    pipe = _open_pipeline(chosen, record, source, choices, quiet=quiet or as_json, **place)
    requests = [job.request(pipe, record, changes, clip) for job in jobs]
    probe_all(jobs, requests, resuming=prompts is not None)
    said = {"as_json": as_json, "count_memory": memory is not None}
    if dry_run:
        for job, request in zip(jobs, requests, strict=True):
            frames = None if clip is None else len(clip)
            show_plan(pipe, request, job.output, clip_frames=frames, brief=prompts is not None, **said)
        return
    repeated = record if model is None and choices is None else None
    work, several = list(zip(jobs, requests, strict=True)), prompts is not None
    end_with(make_all(pipe, work, clip, several=several, repeated=repeated, quiet=quiet, **said), len(work))


def _differ_in_preset(chosen: str | dict[str, str] | None, recorded: str | dict[str, str]) -> bool:
    """Whether two models are the same cascade with different presets."""
    if not isinstance(chosen, str) or not isinstance(recorded, str):
        return False
    (name, preset), (other, other_preset) = split_preset(chosen), split_preset(recorded)
    return name == other and preset != other_preset


def _known_numbers(
    jobs: "list[Job]", record: "VideoRecord | None", device: str | None
) -> tuple[str | None, str | None]:
    """Precision and storage of the run that is resumed, or the precision of a repeated video.

    None stands for what is not known.
    """
    from show1.generation.manifest import read_manifest

    begun = next((job.run for job in jobs if job.is_begun), None)
    manifest = None if begun is None else read_manifest(begun)
    storage = None if manifest is None else manifest.storage
    if manifest is not None and manifest.request is not None:
        return manifest.precision, storage
    if record is None:
        return None, storage
    from show1.runtime import choose_devices

    return record.precision if choose_devices(device).main.type == (record.device or "cpu") else None, storage


def _read_clip(video: str | None, start_from: StageName | None) -> "Video | None":
    """The video that the first stage works on."""
    if video is None:
        return None
    if start_from is None:
        raise InputError("--video needs --start-from STAGE, the first stage that works on it")
    from show1.video import Video

    return Video.load(user_path(video, "--video"))


def _open_pipeline(
    model: str | dict[str, str] | None,
    record: "VideoRecord | None",
    source: Path | None,
    choices: list[AdapterChoice] | None,
    *,
    quiet: bool,
    **options: Any,
) -> "Show1Pipeline":
    """Loads the model and the adapters: those of the command, or those that the video to repeat may name."""
    if model is not None or record is None or source is None:
        pipe = load_pipeline("mini" if model is None else model, quiet=quiet, **options)
    else:
        remedy = "--model {model}"
        pipe = load_recorded_model(record.model.model, source, remedy=remedy, quiet=quiet, **options)
    for choice in choices or ():
        pipe.adapters.load(**choice)
    if choices is None and record is not None and source is not None:
        pipe.adapters.load_recorded(known_adapters(record.model.adapters, source))
    return pipe


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
