"""What `generate` and `resume` share: loading the model, keeping the run, and reporting the result."""

import os
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from show1.checkpoints.names import split_preset
from show1.cli.console import say, say_json, tell
from show1.cli.lean import lean_imports
from show1.cli.progress import duration, starting
from show1.cli.stopping import stopped
from show1.config import StageName
from show1.errors import RunError
from show1.generation.output import OutputFile
from show1.options import counted

if TYPE_CHECKING:
    from show1.generation.pipeline import Show1Pipeline
    from show1.generation.run import Run
    from show1.video import Video


def load_pipeline(model: str | dict[str, str], *, quiet: bool, **options: Any) -> "Show1Pipeline":
    """Imports torch, which takes seconds, and finds the model; each of several processes gets devices of its own."""
    if quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with starting(quiet=quiet):
        if isinstance(model, str) and split_preset(model)[0] == "mini":
            lean_imports()
        from show1.generation.pipeline import Show1Pipeline
        from show1.runtime.processes import own_devices
    return Show1Pipeline.from_pretrained(model, **{**options, "device": own_devices(options.get("device"))})


@contextmanager
def keeping(run: "Run", *, made_here: bool = False) -> Iterator[None]:
    """If the block is interrupted, adds a note on how to resume; a run folder that holds nothing yet is removed.

    Args:
        run: The run.
        made_here: This command made the folder.

    Raises:
        Cancelled: Ctrl-C, SIGTERM or SIGHUP.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise _with_note(stopped(error), run, made_here) from None
    except Exception as error:
        raise _with_note(error, run, made_here) from error.__cause__


def _with_note(error: Exception, run: "Run", made_here: bool) -> Exception:
    if isinstance(error, RunError):
        return error  # which says itself what to do
    if run.request is not None:
        error.add_note(f"What is finished is kept. To resume: show1 resume {quoted(run.path)}")
    elif made_here:
        from show1.generation.run import MANIFEST

        for name in (MANIFEST, ".lock"):
            (run.path / name).unlink(missing_ok=True)
        with suppress(OSError):
            run.path.rmdir()
            if run.path.parent.name == "runs":
                run.path.parent.rmdir()  # only if it is empty
    return error


def tell_result(
    run: "Run",
    videos: "Sequence[Video]",
    files: Sequence[str],
    output: OutputFile,
    *,
    began: float | None,
    available: Sequence[StageName],
    quiet: bool,
    as_json: bool,
    compact: bool = False,
) -> None:
    """Reports what was made: JSON or the files' names on stdout, the rest on stderr.

    Args:
        run: The run.
        videos: Its videos.
        files: The files that hold them.
        output: What was to be written.
        began: When the work began, on the monotonic clock; None: the run was finished already.
        available: The model's stages.
        quiet: Whether to write the files' names only.
        as_json: Whether to write JSON.
        compact: Whether it is one of many: JSON on one line, and nothing about later stages.
    """
    seconds = 0.0 if began is None else round(time.monotonic() - began, 3)
    result = _describe(run, videos, files, output, seconds)
    if as_json:
        say_json(result, compact=compact)
        return
    for file in files:
        say(short(file))
    if quiet:
        return
    first = videos[0]
    frames, height, width = first.frames.shape[:3]
    seeds = ", ".join(str(video.metadata["seed"]) for video in videos)
    memory = result["peak_memory_bytes"] / 1e9
    tell(f"{counted(frames, 'frame')} of {height}x{width} (height x width), {first.fps:g} frames/s, seed {seeds}")
    spent = "already finished" if began is None else f"{duration(seconds)}, peak memory {memory:.2f} GB"
    tell(f"{spent}, run {run.path}")
    if first.metadata["stages"][-1] != available[-1] and not compact:
        tell_later_stages(run.path, *(("one of them", "N") if len(videos) > 1 else ("it", "1")))


def tell_later_stages(run: Path, which: str, number: str) -> None:
    """Says how drafts go through the stages that are left."""
    tell(f"To take {which} through the other stages: show1 resume {quoted(run)} --pick {number}")


def _describe(
    run: "Run", videos: "Sequence[Video]", files: Sequence[str], output: OutputFile, seconds: float
) -> dict[str, Any]:
    """Describes finished videos in JSON types."""
    manifest = run.manifest
    costs: dict[Any, Any] = {"text": manifest.text, **manifest.stages}
    stages = {n: c.model_dump(include={"seconds", "peak_memory_bytes"}) for n, c in costs.items() if c is not None}
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
        "sheet": output.sheet,
        "seconds": seconds,
        "stages": stages,
        "peak_memory_bytes": max((s["peak_memory_bytes"] or 0 for s in stages.values()), default=0),
    }


def short(file: str) -> str:
    """The path relative to the current folder if it is inside."""
    path = Path(file)
    with suppress(OSError, ValueError):  # the current folder is gone, or the path is outside of it
        path = path.relative_to(Path.cwd())
    return f"{path}/" if file.endswith("/") else str(path)


def quoted(text: str | Path) -> str:
    """A path or text as a word for a shell."""
    return shlex.quote(str(text))
