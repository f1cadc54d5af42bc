"""`show1 inspect`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from show1.cli.console import say, say_json
from show1.cli.generate import say_adapters, say_settings
from show1.cli.progress import duration
from show1.cli.session import quoted
from show1.errors import InputError

if TYPE_CHECKING:
    from show1.generation.manifest import Environment, VideoModel


def inspect(
    path: Annotated[Path, typer.Argument(metavar="FILE|RUN", help="A video by show1, an adapter, or a run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Show how a video was made (prompt, seed, model, settings), or what is in a run folder or an adapter.

    Examples:

    \b
      show1 inspect panda.mp4
      show1 inspect runs/20261122-101502-3f2a --json
      show1 inspect walk.safetensors
    """
    if (path / "manifest.json").is_file():
        _inspect_run(path, as_json=as_json)
    elif path.suffix == ".safetensors":
        _inspect_adapter(path, as_json=as_json)
    else:
        _inspect_video(path, as_json=as_json)


def _inspect_video(path: Path, *, as_json: bool) -> None:
    from show1.generation.metadata import VideoRecord
    from show1.media import read_metadata
    from show1.video import Video

    metadata = read_metadata(path)
    if not metadata:
        raise InputError(
            f"{path} holds no record of how it was made: it is not by show1, or another program re-wrote it"
        )
    video = Video.load(path)
    frames, height, width = video.frames.shape[:3]
    if as_json:
        facts = {"file": str(path), "frames": frames, "height": height, "width": width, "fps": video.fps}
        say_json({**facts, "metadata": metadata})
        return
    record = VideoRecord.from_metadata(metadata)
    _say("prompt", record.prompt)
    _say("seed", record.seed)
    _say("video", f"{frames} frames of {height}x{width} (height x width), {video.fps:g} frames/s")
    _say_origin(record.model, record)
    _say("stages", ", ".join(record.stages))
    say("settings")
    say_settings(record.settings, record.stages)
    _say("again", f"show1 generate --from {quoted(path)}")


def _inspect_adapter(path: Path, *, as_json: bool) -> None:
    from show1.adapters.adapter import Adapter, is_adapter_file

    ours = is_adapter_file(path)
    adapter = Adapter.load(path, stage=None if ours else "keyframes")  # a LoRA by others does not say its stage
    noise = None if adapter.start_noise is None else list(adapter.start_noise.shape)
    facts = {**adapter.describe(), "parameters": adapter.num_parameters, "start_noise": noise}
    if not ours:
        facts = {"format": "LoRA", "stage": None, "parameters": adapter.num_parameters}
    if as_json:
        say_json({"file": str(path), **facts})
        return
    _say("file", str(path))
    _say("stage", facts["stage"] or "not in the file; give it with --adapter STAGE=FILE")
    if ours:
        _say("prompt", adapter.prompt)
        _say("kind", f"{adapter.kind}, by {adapter.method}")
        _say("model", f"{adapter.base_name} (weights sha256 {adapter.base_sha256[:12]})")
    _say("size", f"{adapter.num_parameters} numbers in {len(adapter.shapes())} parameters")
    if noise is not None:
        _say("noise", f"{noise[0]} inverted clips of {noise[2]}x{noise[3]}x{noise[4]}, weight {adapter.noise_weight}")
    for key, value in adapter.settings.items() if ours else ():
        _say("", f"{key}={value}")
    given = quoted(path) if ours else f"STAGE={quoted(path)}"
    _say("use", f"show1 generate {quoted(adapter.prompt or '...')} --adapter {given}")


def _inspect_run(path: Path, *, as_json: bool) -> None:
    from show1.generation.run import Run

    run = Run.open(path)
    manifest, request, done = run.manifest, run.request, run.finished_stages
    if as_json:
        say_json({"run": str(path), "finished": run.finished, "finished_stages": list(done), **manifest.to_dict()})
        return
    _say("run", str(path))
    _say("created", manifest.created)
    if request is None or manifest.model is None:
        _say("state", "stopped before it began")
        return
    drafts = len(request.prompts)
    for prompt in dict.fromkeys(request.prompts):
        _say("prompt", prompt)
    _say("seeds" if drafts > 1 else "seed", ", ".join(str(seed) for seed in request.seeds))
    _say_origin(manifest.model, manifest)
    for stage in request.stages:
        cost = manifest.stages[stage] if stage in done else None
        state = "to do" if cost is None else f"done in {duration(cost.seconds)}"
        memory = None if cost is None else cost.peak_memory_bytes
        _say("stage", f"{stage:18} {state}" + (f", peak memory {memory / 1e9:.2f} GB" if memory else ""))
    if run.output is not None:
        _say("output", run.output.path)
    say("settings")
    say_settings(request.settings, request.stages)
    if not run.finished:
        _say("resume", f"show1 resume {quoted(path)}")
    elif drafts > 1:
        _say("resume", f"show1 resume {quoted(path)} --pick N   (N from 1 to {drafts})")


def _say_origin(model: "VideoModel", environment: "Environment") -> None:
    _say("model", f"{model.name} (weights sha256 {model.sha256[:12]})")
    say_adapters(model.adapters)
    named = ", ".join(f"{name} {version}" for name, version in (environment.versions or {}).items())
    _say("made by", f"{named}; {environment.device} {environment.dtype}")


def _say(name: str, value: object) -> None:
    say(f"{name:10} {value}")
