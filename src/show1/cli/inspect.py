"""`show1 inspect`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from show1.cli.console import say, say_fact, say_json
from show1.cli.flags import AsJson
from show1.cli.plan import say_adapters, say_settings
from show1.cli.progress import duration
from show1.cli.session import quoted
from show1.errors import InputError
from show1.files import user_path
from show1.options import counted

if TYPE_CHECKING:
    from show1.generation.manifest import Environment, VideoModel


def inspect(
    name: Annotated[str, typer.Argument(metavar="FILE|RUN", help="A video by show1, an adapter, or a run folder.")],
    as_json: AsJson = False,
) -> None:
    """Show how a video was made (prompt, seed, model, settings), or what is in a run folder or an adapter.

    Examples:

    \b
      show1 inspect panda.mp4
      show1 inspect runs/20261122-101502-3f2a --json
      show1 inspect walk.safetensors
    """
    from show1.checkpoints.index import INDEX, STAGE_NOTES

    path = user_path(name)
    if (path / "manifest.json").exists():
        _inspect_run(path, as_json=as_json)
    elif path.suffix == ".safetensors":
        _inspect_adapter(path, as_json=as_json)
    elif any((path / file).exists() for file in (INDEX, STAGE_NOTES, "unet", "model_index.json")):
        raise InputError(
            f"{path} is a model, or the export of a training, and no video; check it with `show1 models verify "
            f"{quoted(path)}`"
        )
    else:
        _inspect_video(path, as_json=as_json)


def _inspect_video(path: Path, *, as_json: bool) -> None:
    from show1.generation.metadata import VideoRecord
    from show1.media import read_facts

    facts = read_facts(path)
    if not facts.metadata:
        raise InputError(
            f"{path} holds no record of how it was made: it is not by show1, or another program re-wrote it"
        )
    frames, height, width, fps = facts.num_frames, facts.height, facts.width, facts.fps
    if as_json:
        shape = {"frames": frames, "height": height, "width": width, "fps": fps}
        say_json({"file": str(path), **shape, "metadata": facts.metadata})
        return
    record = VideoRecord.from_metadata(facts.metadata)
    say_fact("prompt", record.prompt)
    say_fact("seed", record.seed)
    say_fact("video", f"{counted(frames, 'frame')} of {height}x{width} (height x width), {fps:g} frames/s")
    _say_origin(record.model, record)
    kept = {stage: f" (weights in {weights})" for stage, weights in (record.weights or {}).items()}
    say_fact("stages", ", ".join(f"{stage}{kept.get(stage, '')}" for stage in record.stages))
    say("settings")
    say_settings(record.settings, record.stages)
    if record.from_prompt:
        say_fact("again", f"show1 generate --from {quoted(path)}")
    else:
        say_fact("made from", "another video, which the file does not hold")


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
    say_fact("file", str(path))
    say_fact("stage", facts["stage"] or "not in the file; give it with --adapter STAGE=FILE")
    if ours:
        say_fact("prompt", adapter.prompt)
        say_fact("kind", f"{adapter.kind}, by {adapter.method}")
        say_fact("model", f"{adapter.base_name} (weights sha256 {adapter.base_sha256[:12]})")
    say_fact("size", f"{adapter.num_parameters} numbers in {len(adapter.shapes())} parameters")
    if noise is not None:
        say_fact(
            "noise", f"{noise[0]} inverted clips of {noise[2]}x{noise[3]}x{noise[4]}, weight {adapter.noise_weight}"
        )
    for key, value in adapter.settings.items() if ours else ():
        say_fact("", f"{key}={value}")
    given = quoted(path) if ours else f"STAGE={quoted(path)}"
    say_fact("use", f"show1 generate {quoted(adapter.prompt or '...')} --adapter {given}")


def _inspect_run(path: Path, *, as_json: bool) -> None:
    from show1.generation.run import Run

    run = Run.open(path)
    manifest, request, done = run.manifest, run.request, run.finished_stages
    if as_json:
        say_json({"run": str(path), "finished": run.finished, "finished_stages": list(done), **manifest.to_dict()})
        return
    say_fact("run", str(path))
    say_fact("created", manifest.created)
    if request is None or manifest.model is None:
        say_fact("state", "stopped before it began")
        return
    drafts = len(request.prompts)
    for prompt in dict.fromkeys(request.prompts):
        say_fact("prompt", prompt)
    say_fact("seeds" if drafts > 1 else "seed", ", ".join(str(seed) for seed in request.seeds))
    _say_origin(manifest.model, manifest)
    for stage in request.stages:
        cost = manifest.stages[stage] if stage in done else None
        state = "to do" if cost is None else f"done in {duration(cost.seconds)}"
        memory = None if cost is None else cost.peak_memory_bytes
        kept = "" if cost is None or cost.weights is None else f", weights in {cost.weights}"
        peak = f", peak memory {memory / 1e9:.2f} GB" if memory else ""
        say_fact("stage", f"{stage:18} {state}{peak}{kept}")
    if run.output is not None:
        say_fact("output", run.output.path)
    say("settings")
    say_settings(request.settings, request.stages)
    if not run.finished:
        say_fact("resume", f"show1 resume {quoted(path)}")
    elif drafts > 1:
        say_fact("resume", f"show1 resume {quoted(path)} --pick N   (N from 1 to {drafts})")


def _say_origin(model: "VideoModel", environment: "Environment") -> None:
    say_fact("model", f"{model.name} (weights sha256 {model.sha256[:12]})")
    say_adapters(model.adapters)
    named = ", ".join(f"{name} {version}" for name, version in (environment.versions or {}).items())
    say_fact("made by", f"{named}; {environment.device} {environment.dtype}")
