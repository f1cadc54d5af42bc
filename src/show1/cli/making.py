"""Makes the videos of `show1 generate`, one prompt after another."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import typer

from show1.cli.console import say_json, tell
from show1.cli.failures import RUNTIME, describe, report
from show1.cli.jobs import Job
from show1.cli.plan import tell_plan
from show1.cli.progress import duration, shown
from show1.cli.session import keeping, tell_later_stages, tell_result
from show1.errors import Cancelled
from show1.options import shortened

if TYPE_CHECKING:
    from show1.generation.metadata import VideoRecord
    from show1.generation.pipeline import Show1Pipeline
    from show1.generation.request import GenerationRequest
    from show1.generation.run import Run
    from show1.runtime.plan import Way
    from show1.video import Video


class Failed(NamedTuple):
    """A prompt that failed."""

    job: Job
    """The prompt."""
    reason: str
    """Why."""


def make_all(
    pipe: "Show1Pipeline",
    work: "Sequence[tuple[Job, GenerationRequest]]",
    clip: "Video | None",
    *,
    several: bool,
    repeated: "VideoRecord | None",
    quiet: bool,
    as_json: bool,
    count_memory: bool = False,
) -> "list[Failed]":
    """Makes the videos. Of several prompts, one that fails does not stop the others.

    Args:
        pipe: The model.
        work: The jobs with their requests.
        clip: What the first stage works on, if it needs a video.
        several: Whether they are prompts of a file, however many.
        repeated: How the video that is repeated as it is was made, if one is.
        quiet: Whether to show no progress.
        as_json: Whether to write JSON: an object, or of several prompts one per line.
        count_memory: Whether to say, without a budget too, what each part is predicted to take.

    Returns:
        Those of several prompts that failed.
    """
    failed: list[Failed] = []
    took: list[float] = []
    told: dict[str, Way] = {}
    length = None if clip is None else len(clip)
    for number, (job, request) in enumerate(work, start=1):
        if several and not quiet and not as_json:
            left = f", about {duration(sum(took) / len(took) * (len(work) - number + 1))} left" if took else ""
            tell(f"[{number}/{len(work)}] {shortened(job.prompt, 100)}{left}", style="bold")
        with _going_on(job, failed, as_json=as_json) if several else nullcontext():
            began = time.monotonic()
            run, made_here = begin_run(job)
            done = run.finished_stages
            was_finished = set(request.stages) <= set(done)
            with keeping(run, made_here=made_here):
                if not quiet and not as_json:
                    told = tell_plan(pipe, request, length, done=done, count_memory=count_memory, told=told)
                with shown(quiet=quiet or as_json) as callbacks:
                    videos = pipe.generate(request, run, video=clip, callbacks=callbacks)
                _warn_of_other_weights(videos, repeated, request)
                files = job.output.write(videos, keep_same=several)
            took += [] if was_finished else [time.monotonic() - began]
            how = {"quiet": quiet, "as_json": as_json, "compact": several}
            since = None if was_finished else began
            tell_result(run, videos, files, job.output, began=since, available=pipe.stages, **how)
    if several and work and not quiet and not as_json and work[0][1].stages[-1] != pipe.stages[-1]:
        example = next((job.run for job, _ in work if job.is_begun), None)
        if example is not None:
            tell_later_stages(example, "one of them", "1")
    return failed


def end_with(failed: "Sequence[Failed]", count: int) -> None:
    """Ends the command as failed if some of `count` prompts have failed.

    Raises:
        Exit: Some have.
    """
    if failed:
        tell(f"{len(failed)} of {count} prompts failed; the same command tries them again", style="bold red")
        raise typer.Exit(RUNTIME)


@contextmanager
def _going_on(job: Job, failed: "list[Failed]", *, as_json: bool) -> Iterator[None]:
    """Reports what goes wrong with one of several prompts, adds it to those that failed, and lets the others go on."""
    try:
        yield
    except Cancelled as error:
        error.add_note("The same command makes the videos that are left.")
        raise
    except Exception as error:
        failed.append(Failed(job, describe(error)))
        report(error)
        if as_json:
            say_json({"file": job.output.path, "prompt": job.prompt, "error": describe(error)}, compact=True)


def _warn_of_other_weights(
    videos: "Sequence[Video]", repeated: "VideoRecord | None", request: "GenerationRequest"
) -> None:
    """Says so if a video is repeated as it is, but by other weights."""
    if repeated is not None and request.stages == repeated.stages:
        if videos[0].metadata["model"]["sha256"] != repeated.model.sha256:
            tell("warning: the model has other weights than that of --from; the video differs", style="yellow")


def begin_run(job: Job) -> "tuple[Run, bool]":
    """The run folder, and whether it was made here. A run that is in the folder already is resumed if it agrees."""
    from show1.generation.run import Run

    if job.run is None or not job.is_begun:
        return Run.create(job.run, output=job.output), True
    run = Run.open(job.run)
    run.write_to(job.output)
    return run, False
