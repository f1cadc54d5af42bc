"""What `generate` and `resume` share: loading, keeping the run, and telling what came out."""

import os
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from show1.cli.console import ERR, say, say_json, tell
from show1.cli.output import Target
from show1.cli.progress import duration
from show1.config import STAGES, CascadeSettings, StageName
from show1.errors import Cancelled

if TYPE_CHECKING:
    from show1.generation.pipeline import Show1Pipeline
    from show1.generation.run import Run, RunRequest
    from show1.video import Video


def load_pipeline(model: str | dict[str, str], *, quiet: bool, **options: Any) -> "Show1Pipeline":
    """Imports torch, which takes seconds, and finds the model."""
    if quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with ERR.status("starting") if ERR.is_terminal and not quiet else nullcontext():
        from show1.generation.pipeline import Show1Pipeline
    return Show1Pipeline.from_pretrained(model, **options)


@contextmanager
def keeping(run: "Run", *, made_here: bool = False) -> Iterator[None]:
    """Whatever stops the block, says how to go on; a run folder that holds nothing yet is removed.

    Args:
        run: The run.
        made_here: This command made the folder.

    Raises:
        Cancelled: Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise _with_note(Cancelled("by Ctrl-C"), run, made_here) from None
    except Exception as error:
        raise _with_note(error, run, made_here) from error.__cause__


def _with_note(error: Exception, run: "Run", made_here: bool) -> Exception:
    if run.manifest["request"] is not None:
        error.add_note(f"What is finished is kept. To go on: show1 resume {quoted(run.path)}")
    elif made_here:
        from show1.generation.run import MANIFEST

        for name in (MANIFEST, ".lock"):
            (run.path / name).unlink(missing_ok=True)
        with suppress(OSError):
            run.path.rmdir()
            if run.path.parent.name == "runs":
                run.path.parent.rmdir()  # only if it is empty
    return error


def final_shape(request: "RunRequest") -> tuple[int | None, int, int, float]:
    """(frames, height, width, fps) of the finished video; frames are None if it began with another video."""
    settings: CascadeSettings = request.settings
    frames: int | None = settings.keyframes.num_frames if "keyframes" in request.stages else None
    fps = request.fps
    if "interpolation" in request.stages:
        fps *= settings.interpolation.factor
        frames = None if frames is None else (frames - 1) * settings.interpolation.factor + 1
    sized: dict[str, Any] = {
        "keyframes": settings.keyframes,
        "interpolation": settings.keyframes,
        "super_resolution": settings.super_resolution,
        "translation": settings.translation,
    }
    last = sized[request.stages[-1]]
    return frames, last.height, last.width, fps


class Clock:
    """Wall-clock time of a command."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._start, 3)


def tell_result(
    run: "Run",
    videos: "Sequence[Video]",
    files: Sequence[str],
    target: Target,
    *,
    clock: Clock,
    available: Sequence[StageName],
    quiet: bool,
    as_json: bool,
) -> None:
    """Tells what was made: JSON or the files' names on stdout, the rest on stderr."""
    result = _result(run, videos, files, target, clock.seconds)
    if as_json:
        say_json(result)
        return
    for file in files:
        say(_short(file))
    if quiet:
        return
    first = videos[0]
    frames, height, width = first.frames.shape[:3]
    seeds = ", ".join(str(video.metadata["seed"]) for video in videos)
    memory = result["peak_memory_bytes"] / 1e9
    tell(f"{frames} frames of {height}x{width} (height x width), {first.fps:g} frames/s, seed {seeds}")
    tell(f"{duration(clock.seconds)}, peak memory {memory:.2f} GB, run {run.path}")
    last: StageName = first.metadata["stages"][-1]
    if STAGES.index(last) < STAGES.index(available[-1]):
        pick = "N" if len(videos) > 1 else "1"
        tell(f"To carry {'one of them' if pick == 'N' else 'it'} on: show1 resume {quoted(run.path)} --pick {pick}")


def _result(
    run: "Run", videos: "Sequence[Video]", files: Sequence[str], target: Target, seconds: float
) -> dict[str, Any]:
    manifest = run.manifest
    costs: dict[str, Any] = {"text": manifest.get("text")}
    costs |= {stage: manifest["stages"].get(stage) for stage in STAGES}
    stages = {
        name: {"seconds": cost.get("seconds"), "peak_memory_bytes": cost.get("peak_memory_bytes")}
        for name, cost in costs.items()
        if cost is not None
    }
    outputs = [
        {
            "file": file,
            "prompt": video.metadata["prompt"],
            "seed": video.metadata["seed"],
            "frames": len(video),
            "height": video.frames.shape[1],
            "width": video.frames.shape[2],
            "fps": video.fps,
        }
        for file, video in zip(files, videos, strict=True)
    ]
    return {
        "file": files[0],
        "run": str(run.path.absolute()),
        "seed": outputs[0]["seed"],
        "model": videos[0].metadata["model"],
        "videos": outputs,
        "sheet": target.sheet,
        "seconds": seconds,
        "stages": stages,
        "peak_memory_bytes": max((s["peak_memory_bytes"] or 0 for s in stages.values()), default=0),
    }


def _short(file: str) -> str:
    """Relative to the current folder if it lies there."""
    path = Path(file)
    relative = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
    return f"{relative}/" if file.endswith("/") else relative


def quoted(path: Path) -> str:
    """For a shell."""
    return quoted_text(str(path))


def quoted_text(text: str) -> str:
    """For a shell."""
    return shlex.quote(text)
