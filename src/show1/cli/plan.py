"""What a request would do: its settings as `--set` takes them, its adapters, its files."""

from typing import TYPE_CHECKING, Any

from show1.cli.console import printable, say, say_fact, say_json, tell
from show1.config import CascadeSettings, StageName, setting_text
from show1.generation.output import OutputFile
from show1.options import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from show1.adapters.record import AdapterRecord
    from show1.generation.pipeline import Show1Pipeline
    from show1.generation.request import GenerationRequest


def show_plan(
    pipe: "Show1Pipeline",
    request: "GenerationRequest",
    output: OutputFile,
    *,
    clip_frames: int | None,
    as_json: bool,
    brief: bool = False,
) -> None:
    """Writes what would be done.

    Args:
        pipe: The model.
        request: What is asked for.
        output: The files to write.
        clip_frames: Frames of the video that the first stage works on; None: it works on none.
        as_json: Whether to write JSON.
        brief: Whether it is one of many: one line each.
    """
    _, height, width, fps = request.final_shape
    frames = request.shapes(clip_frames)[request.stages[-1]][0]
    assert frames is not None, "known for every stage whose input is known"
    _warn(pipe, request)
    ways = pipe.plan(request, clip_frames)
    adapters = [adapter.record for adapter in pipe.adapters]
    plan: dict[str, Any] = {
        "files": output.files(len(request.prompts)),
        "sheet": output.sheet,
        "model": pipe.cascade.model,
        "adapters": [record.to_dict() for record in adapters],
        "device": str(pipe.devices),
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "storage": str(pipe.storage) or "as computed",
        "memory": pipe.memory,
        "budget_bytes": pipe.budget,
        "plan": {name: vars(way) for name, way in ways.items()},
        "expected_seconds": _expected(pipe, request, clip_frames),
        "frames": frames,
        "height": height,
        "width": width,
        "fps": fps,
        "request": request.to_dict(),
    }
    if as_json:
        say_json(plan, compact=brief)
        return
    if brief:
        say_fact(", ".join(plan["files"]), f"seed {request.seeds[0]}: {request.prompts[0]}")
        return
    say_fact("files", ", ".join(plan["files"]))
    for key in ("sheet", "model", "device", "dtype", "storage", "memory"):
        say_fact(key, printable(setting_text(plan[key]), keep=""))
    for name, way in ways.items():
        say_fact("plan", f"{name.removeprefix('the ')}: {way}")
    say_fact("time", _in_words(plan["expected_seconds"], request))
    say_adapters(adapters)
    say_fact("prompt", request.prompts[0])
    say_fact("seeds", f"{', '.join(str(s) for s in request.seeds)} ({request.numerics} numerics)")
    say_fact("video", f"{counted(frames, 'frame')} of {height}x{width} (height x width), {fps:g} frames/s")
    say_settings(request.settings, request.stages)


def _expected(pipe: "Show1Pipeline", request: "GenerationRequest", frames: int | None) -> "dict[StageName, float]":
    """The seconds that the stages will take."""
    from show1.generation.expected_time import expected_seconds
    from show1.generation.metadata import environment

    now = environment(pipe.device, pipe.dtype, str(pipe.storage))
    return expected_seconds(request, frames, model=pipe.cascade.name, now=now)


def _in_words(seconds: "dict[StageName, float]", request: "GenerationRequest") -> str:
    """Says how long the stages will take."""
    unknown = [stage for stage in request.stages if stage not in seconds]
    if not seconds:
        return "unknown, until a run in runs/ has been made with this model, device and precision"
    known = ", ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items())
    more = f"; {', '.join(unknown)}: unknown" if unknown else ""
    return f"about {sum(seconds.values()):.0f} s by earlier runs ({known}{more})"


def _warn(pipe: "Show1Pipeline", request: "GenerationRequest") -> None:
    """Writes what of the prompt has no effect."""
    for warning in pipe.request_warnings(request):
        tell(f"warning: {warning}", style="yellow")


def say_adapters(records: "Iterable[AdapterRecord]") -> None:
    """Writes a line per adapter."""
    for record in records:
        say_fact("adapter", f"{record.path} (weight {record.shown_weight}, {record.stage})")


def say_settings(settings: CascadeSettings, stages: tuple[StageName, ...]) -> None:
    """Writes settings as `--set` takes them."""
    for line in settings.assignments(stages):
        say(f"  {printable(line, keep='')}")
