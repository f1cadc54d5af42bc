"""`show1 batch --database`: the workers of a queue make the videos, and this process waits and fetches them."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from show1.cli.batch_report import tell_ended
from show1.cli.console import tell
from show1.cli.jobs import Job
from show1.cli.making import Failed
from show1.errors import InputError, MediaError, OutputError, reason_of
from show1.generation.manifest import MANIFEST
from show1.generation.metadata import VideoRecord
from show1.media import probe_output, read_metadata
from show1.media.destination import replacing
from show1.server.jobs import DataFolder, JobSpec
from show1.server.jobs import Job as QueuedJob
from show1.server.progress import living_workers
from show1.server.queue import JobQueue, absolute_model_option, queue_name

if TYPE_CHECKING:
    from show1.generation.pipeline import Show1Pipeline
    from show1.generation.request import GenerationRequest

Answer = TypeVar("Answer")
PRIORITY = 500
"""Of batches; whoever waits at a page comes first."""
SECONDS_BETWEEN_LOOKS = 1.0
JOBS_OF_LOOK = 500
"""Jobs that one query asks for."""


def make_by_queue(
    pipe: "Show1Pipeline",
    database: str,
    data: DataFolder,
    model: str,
    work: "Sequence[tuple[Job, GenerationRequest]]",
    *,
    quiet: bool,
    as_json: bool,
) -> list[Failed]:
    """Puts prompts into a queue, and fetches their videos as they are made.

    A prompt whose videos are there is kept, and one that is in the queue already is not asked for again; one that
    failed or was cancelled is.

    Args:
        pipe: The model, of which no weights are loaded.
        database: URL of the queue.
        data: Folder, or store, that is shared with the workers.
        model: The model, as `--model` names it.
        work: The prompts.
        quiet: Whether to write the files' names only.
        as_json: Whether to write JSON, an object per prompt.

    Returns:
        Those that failed.

    Raises:
        OutputError: A file that is no video of its prompt is there, and the prompts do not say `overwrite`.
    """
    made = [_is_made(pipe, *each) for each in work]
    model = absolute_model_option(model)
    queue = JobQueue(database, model=model)
    waiting = {_ask(queue, data, model, *each): each for each, is_made in zip(work, made, strict=True) if not is_made}
    failed: list[Failed] = []
    began, done = time.monotonic(), 0

    def ended(job: Job, request: "GenerationRequest", reason: str | None) -> None:
        nonlocal done
        done += 1
        seconds = (time.monotonic() - began) / done * len(waiting)
        if reason is not None:
            failed.append(Failed(job, reason))
        tell_ended(job, request, reason, (done, len(work), seconds), quiet=quiet, as_json=as_json)

    if waiting:
        _warn_without_worker(data, model)
    for each, is_made in zip(work, made, strict=True):
        if is_made:
            ended(*each, None)
    while waiting:
        states = _states(queue, list(waiting))
        for name in list(waiting):
            queued = states.get(name)
            if queued is None or queued.status not in ("queued", "in_progress"):
                job, request = waiting.pop(name)
                ended(job, request, _fetch(queued, data, pipe, job, request))
        time.sleep(SECONDS_BETWEEN_LOOKS if waiting else 0)
    queue.close()
    return failed


def _is_made(pipe: "Show1Pipeline", job: Job, request: "GenerationRequest") -> bool:
    """Whether all videos of a prompt are there; makes sure that those that are not can be written."""
    _, height, width, fps = request.final_shape
    missing = 0
    for draft, file in enumerate(job.output.files(len(request.prompts))):
        if job.output.overwrite or not _holds(file, draft, pipe, request):
            missing += 1
            probe_output(file, job.output.overwrite, size=(height, width), fps=fps)
    return missing == 0


def _holds(file: str, draft: int, pipe: "Show1Pipeline", request: "GenerationRequest") -> bool:
    """Whether a file carries the record of a draft (from 0) of a request, made by the same model."""
    if not Path(file).exists():
        return False
    try:
        record = VideoRecord.from_metadata(read_metadata(file))
        return record.to_request() == request.sample(draft, request.stages) and record.model.model == pipe.cascade.model
    except (MediaError, InputError):
        return False


def _warn_without_worker(data: DataFolder, model: str) -> None:
    """Says so if no worker lives that has the model."""
    if not any(note.get("queue") == queue_name(model) for note in living_workers(data)):
        tell(
            f"no worker with the model {model} has been heard of in {data.path}: the videos wait until one is started "
            "(`show1 worker --help`)"
        )


def _states(queue: JobQueue, names: Sequence[str]) -> dict[str, QueuedJob]:
    """How jobs stand, by their names."""
    parts = [names[start : start + JOBS_OF_LOOK] for start in range(0, len(names), JOBS_OF_LOOK)]
    return {job.id: job for part in parts for job in _patiently(partial(queue.get_all, part))}


def _patiently(ask: Callable[[], Answer]) -> Answer:
    """What the database answers. While it is away this waits: what the workers make is not lost."""
    told = False
    while True:
        try:
            return ask()
        except SQLAlchemyError as error:
            if not told:
                tell(f"the database cannot be reached ({reason_of(error)}); trying again until it is back")
            told = True
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _ask(queue: JobQueue, data: DataFolder, model: str, job: Job, request: "GenerationRequest") -> str:
    """Puts a prompt into the queue, and returns the name of its job, which follows from the prompt and the file."""
    text = json.dumps([job.output.path, model, request.to_dict()], sort_keys=True)
    name = f"video_{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    known = _patiently(lambda: queue.get(name))
    if known is not None and (known.status in ("failed", "cancelled") or _is_gone(known, data)):
        _patiently(lambda: queue.delete(name))
    spec = JobSpec(request=request.to_dict(), model=model)
    _patiently(lambda: queue.submit(name, spec, priority=PRIORITY))
    return name


def _is_gone(job: QueuedJob, data: DataFolder) -> bool:
    """Whether a finished job's files have been removed."""
    folder = data.job(job.id)
    manifest = folder.run / MANIFEST
    folder.store.fetch(manifest)
    return job.status == "completed" and not manifest.is_file()


def _fetch(
    queued: QueuedJob | None, data: DataFolder, pipe: "Show1Pipeline", job: Job, request: "GenerationRequest"
) -> str | None:
    """Copies the videos of a finished job; returns why there are none."""
    if queued is None or queued.status == "cancelled":
        return "somebody cancelled it"
    if queued.error is not None:
        return queued.error.message
    folder = data.job(queued.id)
    for draft, file in enumerate(job.output.files(len(request.prompts))):
        if not job.output.overwrite and _holds(file, draft, pipe, request):
            continue
        source = folder.video(request.stages[-1], draft)
        try:
            folder.store.fetch(source)
            if not source.is_file():
                return f"its file {source} is not there: --data or --store must be that of the workers"
            with replacing(Path(file), overwrite=job.output.overwrite) as unfinished:
                shutil.copyfile(source, unfinished)
        except OutputError as error:
            return str(error)
    return None
