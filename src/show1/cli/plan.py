"""What a request would do: its settings as `--set` takes them, its adapters, its files, and what it takes."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from show1.cli.console import printable, say, say_fact, say_json, tell, tell_fact
from show1.config import CascadeSettings, StageName, setting_text
from show1.generation.output import OutputFile
from show1.options import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from show1.adapters.record import AdapterRecord
    from show1.generation.pipeline import Show1Pipeline
    from show1.generation.request import GenerationRequest
    from show1.runtime.plan import Way


def show_plan(
    pipe: "Show1Pipeline",
    request: "GenerationRequest",
    output: OutputFile,
    *,
    clip_frames: int | None,
    as_json: bool,
    count_memory: bool,
    brief: bool = False,
) -> None:
    """Writes what would be done.

    Args:
        pipe: The model.
        request: What is asked for.
        output: The files to write.
        clip_frames: Frames of the video that the first stage works on; None: it works on none.
        as_json: Whether to write JSON.
        count_memory: Whether to predict, without a budget too, what the parts take.
        brief: Whether it is one of many: one line each.
    """
    _, height, width, fps = request.final_shape
    frames = request.shapes(clip_frames)[request.stages[-1]][0]
    assert frames is not None, "known for every stage whose input is known"
    _warn(pipe, request)
    ways = _ways(pipe, request, clip_frames, count_memory=count_memory)
    plan: dict[str, Any] = {
        "files": output.files(len(request.prompts)),
        "sheet": output.sheet,
        "model": pipe.cascade.model,
        "adapters": [adapter.record.to_dict() for adapter in pipe.adapters],
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
    for fact in _facts(pipe, ways, plan["expected_seconds"], request.stages):
        say_fact(*fact)
    say_adapters(adapter.record for adapter in pipe.adapters)
    say_fact("prompt", request.prompts[0])
    say_fact("seeds", f"{', '.join(str(s) for s in request.seeds)} ({request.numerics} numerics)")
    say_fact("video", f"{counted(frames, 'frame')} of {height}x{width} (height x width), {fps:g} frames/s")
    say_settings(request.settings, request.stages)


def tell_plan(
    pipe: "Show1Pipeline",
    request: "GenerationRequest",
    clip_frames: int | None,
    *,
    done: Collection[StageName] = (),
    count_memory: bool = False,
    told: "dict[str, Way] | None" = None,
) -> "dict[str, Way]":
    """Writes to stderr what the parts of a request will take, before they are computed, as `show_plan` writes it.

    Args:
        pipe: The model. Without a budget there is nothing to write, unless `count_memory` asks for it.
        request: What is asked for.
        clip_frames: Frames of the video that the first stage works on; None: it works on none.
        done: Stages that are finished.
        count_memory: Whether to predict, without a budget too, what the parts take.
        told: The ways that were written last; they are not written again.

    Returns:
        The ways that are written now, or were before.
    """
    left = tuple(stage for stage in request.stages if stage not in done)
    if not left or (pipe.budget is None and not count_memory):
        return told or {}
    ways = _ways(pipe, request, clip_frames, done=done, count_memory=count_memory)
    if ways != told:
        expected = {stage: value for stage, value in _expected(pipe, request, clip_frames).items() if stage in left}
        for fact in _facts(pipe, ways, expected, left):
            tell_fact(*fact)
    return ways


def _ways(
    pipe: "Show1Pipeline",
    request: "GenerationRequest",
    frames: int | None,
    *,
    done: Collection[StageName] = (),
    count_memory: bool,
) -> "dict[str, Way]":
    """How the parts will be computed: as a budget asks for it, or else in the fastest way, if that is counted."""
    from show1.runtime.plan import ways

    if pipe.budget is not None:
        return pipe.plan(request, frames, done=done)
    needs = pipe.needs(request, frames, done=done) if count_memory else {}
    return {name: next(ways(need)) for name, need in needs.items()}


def _facts(
    pipe: "Show1Pipeline", ways: "dict[str, Way]", expected: "dict[StageName, float]", stages: tuple[StageName, ...]
) -> list[tuple[str, str]]:
    """A line for each part with the way it is computed and its predicted peak, and one with the time."""
    from show1.runtime import taken_memory

    parts = [("plan", f"{name.removeprefix('the ')}: {way}") for name, way in ways.items()]
    if parts and pipe.device.type == "cpu":  # budgets of other devices are for what is computed there
        parts.append(("plan", f"beside each of these: {taken_memory(pipe.device) / 1e9:.2f} GB of the process itself"))
    return [*parts, ("time", _in_words(expected, stages))]


def _expected(pipe: "Show1Pipeline", request: "GenerationRequest", frames: int | None) -> "dict[StageName, float]":
    """The seconds that the stages will take."""
    from show1.generation.expected_time import expected_seconds
    from show1.generation.metadata import environment

    now = environment(pipe.device, pipe.dtype, str(pipe.storage))
    return expected_seconds(request, frames, model=pipe.cascade.name, now=now)


def _in_words(seconds: "dict[StageName, float]", stages: tuple[StageName, ...]) -> str:
    """Says how long stages will take."""
    unknown = [stage for stage in stages if stage not in seconds]
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
