"""`show1 batch --ray`: a cluster of Ray makes the videos, with a pool of actors for each stage.

Ray Data moves prompts from pool to pool and starts actors again that die. What is finished is in the run folders, so an
actor or this process may be killed at any moment: the same command finds it there.
"""

import json
import logging
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from show1.cli.batch_report import tell_ended
from show1.cli.failures import describe
from show1.cli.jobs import Job
from show1.cli.making import Failed, begin_run
from show1.config import StageName
from show1.errors import MissingDependencyError, RunError, RunInUseError
from show1.generation.output import OutputFile

if TYPE_CHECKING:
    from show1.generation.pipeline import Show1Pipeline
    from show1.generation.request import GenerationRequest

SECONDS_FOR_LOCK = 60
"""How long an actor waits for one that a killed command has left, which ends when it notices."""
MAX_DEATHS = 3
"""So many times a prompt whose actor died is tried again."""


class StageActor:
    """Holds the networks of one stage, and takes prompts through it. Ray makes it in a process of its own."""

    def __init__(self, stage: StageName, model: Any, how: dict[str, Any]) -> None:
        """Takes the stage, and the model with the options of `Show1Pipeline.from_pretrained`."""
        from show1.generation.pipeline import Show1Pipeline

        self._stage, self._pipe = stage, Show1Pipeline.from_pretrained(model, **how)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Takes a prompt through the stage, unless an earlier one has failed; `row` is one of `_row`."""
        if not row["error"]:
            try:
                self._advance(row)
            except Exception as error:
                return {**row, "error": describe(error)}
        return row

    def _advance(self, row: dict[str, Any]) -> None:
        from show1.generation.request import GenerationRequest

        request, output = GenerationRequest.from_dict(json.loads(row["request"])), json.loads(row["output"])
        job = Job(prompt=row["prompt"], output=OutputFile.from_dict(output), run=Path(row["run"]), options={})
        end = time.monotonic() + SECONDS_FOR_LOCK
        while True:
            try:
                videos = self._pipe.generate(request.up_to(self._stage), begin_run(job)[0])
                break
            except RunInUseError:
                if time.monotonic() > end:
                    raise
                time.sleep(1)
        if self._stage == request.stages[-1]:
            job.output.write(videos, keep_same=True)


def make_by_ray(
    pipe: "Show1Pipeline",
    work: "Sequence[tuple[Job, GenerationRequest]]",
    how: dict[str, Any],
    *,
    quiet: bool,
    as_json: bool,
) -> list[Failed]:
    """Lets a cluster of Ray make the videos: the one of `RAY_ADDRESS`, else one of this machine only.

    Args:
        pipe: The model.
        work: The prompts, all with the same stages.
        how: `device` and `memory` of the actors' pipelines.
        quiet: Whether to write the files' names only.
        as_json: Whether to write JSON, an object per prompt.

    Returns:
        Those that failed.

    Raises:
        MissingDependencyError: Ray is not installed.
    """
    for name, value in (("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_BACKEND_LOG_LEVEL", "fatal")):
        os.environ.setdefault(name, value)  # read when it is imported
    try:
        import ray.data
    except ImportError as error:
        raise MissingDependencyError("--ray needs Ray: pip install 'show1[ray]'") from error
    left = {number: each for number, each in enumerate(work) if not _is_made(*each)}
    failed: list[Failed] = []
    began, kept = time.monotonic(), len(work) - len(left)

    def ended(number: int, reason: str | None) -> None:
        job, request = left.pop(number)
        done = len(work) - len(left)
        seconds = (time.monotonic() - began) / (done - kept) * len(left)
        if reason is not None:
            failed.append(Failed(job, reason))
        tell_ended(job, request, reason, (done, len(work), seconds), quiet=quiet, as_json=as_json)

    if left:
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        try:
            rows = [_row(number, *each) for number, each in left.items()]
            for row in _dataset(pipe, rows, work[0][1].stages, how).iter_rows():
                ended(row["number"], row["error"] or None)
        finally:
            ray.shutdown()
    for number in list(left):
        ended(number, f"its process ended {MAX_DEATHS + 1} times, perhaps because memory ran out")
    return failed


def _dataset(pipe: "Show1Pipeline", rows: list[dict[str, Any]], stages: Sequence[StageName], how: Any) -> Any:
    """The rows behind all pools, which Ray computes when it is asked for them."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_errored_blocks = -1  # a prompt that fails does not stop the others
    kind, share, most = _shares(ray.cluster_resources(), len(stages), how["device"])
    how = {**how, "memory": "high" if how["memory"] == "auto" else how["memory"]}  # each holds one stage only
    found = ray.data.from_items(rows, override_num_blocks=len(rows))
    for stage in stages:
        found = found.map(
            StageActor,
            fn_constructor_args=(stage, pipe.cascade.model, how),
            # One prompt at a time, so that one that ends its process costs no other one a try.
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most, max_tasks_in_flight_per_actor=1),
            ray_remote_args_fn=lambda: {"max_task_retries": MAX_DEATHS},
            **{f"num_{kind.lower()}s": share},
        )
    return found


def _shares(resources: dict[str, float], stages: int, device: str | None) -> tuple[str, float, int]:
    """What an actor takes, so that each stage has at least one, and how many of one stage there may be.

    Args:
        resources: Those of the cluster.
        stages: The number of stages.
        device: The device that is asked for.

    Returns:
        `GPU` or `CPU`, its share of one, and the most actors of a stage.
    """
    kind = "GPU" if resources.get("GPU", 0) >= 1 and device != "cpu" else "CPU"
    number = max(1, int(resources.get(kind, 1)))
    slots = math.ceil(stages / number)  # actors that share one
    return kind, math.floor(100 / slots) / 100, max(1, number * slots - stages + 1)


def _row(number: int, job: Job, request: "GenerationRequest") -> dict[str, Any]:
    """A prompt as Ray moves it."""
    assert job.run is not None, "each prompt of a file has a run folder"
    row = {"number": number, "prompt": job.prompt, "run": str(job.run.absolute()), "error": ""}
    return {**row, "request": json.dumps(request.to_dict()), "output": json.dumps(job.output.to_dict())}


def _is_made(job: Job, request: "GenerationRequest") -> bool:
    """Whether the videos of a prompt are there, and are to stay: they are written last."""
    from show1.generation.manifest import read_manifest

    if (
        job.run is None
        or job.output.overwrite
        or not all(Path(file).exists() for file in job.output.files(len(request.prompts)))
    ):
        return False
    with suppress(RunError):
        return read_manifest(job.run).request == request
    return False
