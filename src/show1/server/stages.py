"""Computes one stage of a job: what a step of the workflow does. It knows no queue."""

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from show1.config import StageName
from show1.errors import (
    Cancelled,
    CheckpointError,
    InputError,
    MediaError,
    OutputError,
    RunError,
    RunInUseError,
    Show1Error,
)
from show1.files import sha256, write_atomically
from show1.generation.pipeline import Show1Pipeline
from show1.generation.progress import Callbacks
from show1.generation.request import GenerationRequest
from show1.generation.run import Run, opened_run
from show1.media import contact_sheet
from show1.server.adapters import StoredAdapter
from show1.server.jobs import JobFolder
from show1.server.progress import Progress
from show1.server.store import StoreError
from show1.video import Video

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_QUESTIONS = 0.5
"""Whether a job is to stop is asked at most this often, after a step."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def run_stage(
    pipe: Show1Pipeline,
    folder: JobFolder,
    request: GenerationRequest,
    stage: StageName,
    *,
    done: Sequence[dict[str, Any]],
    dtype: torch.dtype,
    stopped: Callable[[], bool],
) -> dict[str, Any]:
    """Computes a stage, unless its artefact is there already, and writes its files.

    Args:
        pipe: The model, whose precision becomes that of the run if another machine began it.
        folder: The job's files.
        request: What the whole job asks for.
        stage: The stage. Those before it are computed too if their artefacts are damaged.
        done: The records of the stages before it.
        dtype: The precision of new runs.
        stopped: Whether the job is to stop.

    Returns:
        A small record: stage, file, hash, seconds, peak memory.

    Raises:
        Cancelled: The job is to stop.
    """
    progress = Progress(folder, request.stages, request.settings.keyframes.fps, done)
    cancel, asked = threading.Event(), time.monotonic()

    def on_step(name: StageName, step: int, steps: int, samples: Any) -> None:
        nonlocal asked
        progress.step(name, step, steps, samples)
        if time.monotonic() - asked >= SECONDS_BETWEEN_QUESTIONS:
            asked = time.monotonic()
            if stopped():
                cancel.set()

    callbacks = Callbacks(on_stage_start=progress.start, on_step_end=on_step, cancel=cancel)
    if stopped():
        raise Cancelled("the job was cancelled before its next stage")
    progress.start(stage)
    with _locked(opened_run(folder.run), stopped) as run:
        wanted = dtype if run.manifest.dtype is None else getattr(torch, run.manifest.dtype)
        if pipe.dtype != wanted:
            pipe.to(dtype=wanted)
        _begin(pipe, run, request, folder)
        part = request.up_to(stage)
        videos = pipe.generate(part, run, video=run.load_input(), callbacks=callbacks)
        result = run.result(stage)
    write_files(folder, stage, videos)
    record = {
        "stage": stage,
        "file": result.path.name,
        "sha256": result.sha256,
        "seconds": result.seconds,
        "peak_memory_bytes": result.peak_memory_bytes,
    }
    progress.finish(record)
    return record


def use_adapters(pipe: Show1Pipeline, wanted: Mapping[str, float], files: Mapping[str, StoredAdapter | None]) -> None:
    """Loads the adapters of a job, and no others; one whose file has changed is loaded again.

    Args:
        pipe: The model.
        wanted: Their weights, by name.
        files: Their files; None for one that is gone.

    Raises:
        InputError: One is no longer there.
        CheckpointError: One is damaged, or was made for another model.
    """
    known = {name: stored for name, stored in files.items() if stored is not None and stored.file.is_file()}
    if gone := [name for name in wanted if name not in known]:
        raise InputError(f"the adapter {gone[0]!r} is no longer there; ask again without it")
    asked = {name: (weight, sha256(known[name].file)) for name, weight in wanted.items()}
    if {a.record.name: (a.record.weight, a.record.sha256) for a in pipe.adapters} != asked:
        pipe.adapters.unload()
        for name, weight in wanted.items():
            pipe.adapters.load(known[name].file, name, weight, stage=known[name].stage)


def write_files(folder: JobFolder, stage: StageName, videos: Sequence[Video]) -> None:
    """Writes the video and a picture of each draft after a stage, and a contact sheet of all."""
    for draft, video in enumerate(videos):
        video.save(folder.video(stage, draft), overwrite=True)
        middle = video.to_pil()[len(video) // 2]
        write_atomically(folder.thumbnail(stage, draft), lambda file, image=middle: image.save(file, format="WEBP"))  # type: ignore[misc]
        folder.preview(draft).unlink(missing_ok=True)
    sheet = contact_sheet([v.frames for v in videos], labels=[v.label for v in videos])
    write_atomically(folder.sheet(stage), lambda file: sheet.convert("RGB").save(file, format="JPEG", quality=90))


def describe_error(error: BaseException, folder: Path) -> dict[str, str]:
    """A code and a message for an error of a stage; paths of the server's folder are left out.

    Args:
        error: What was raised.
        folder: The server's folder.
    """
    cause = error.__cause__ if isinstance(error, OutputError) and error.__cause__ is not None else error
    codes: list[tuple[type[BaseException] | tuple[type[BaseException], ...], str]] = [
        (MemoryError, "out_of_memory"),
        ((InputError, MediaError), "invalid_input"),
        (RunError, "run_damaged"),
        (CheckpointError, "model_damaged"),
        (StoreError, "store_unavailable"),
        (OutputError, "output_failed"),
        (Show1Error, "generation_failed"),
    ]
    if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
        return {"code": "disk_full", "message": "the server has no room left on its disk; ask again when there is"}
    code = next((code for kind, code in codes if isinstance(error, kind)), "internal_error")
    if code == "internal_error":
        return {"code": code, "message": "the server failed; its log says why"}
    message = str(error) or "memory ran out; ask for fewer frames or a smaller size"
    return {"code": code, "message": message.replace(f"{folder.absolute()}/", "").replace(f"{folder}/", "")}


def _begin(pipe: Show1Pipeline, run: Run, request: GenerationRequest, folder: JobFolder) -> None:
    """Records the whole request in the run; later stages then have the settings that belong to it."""
    video = run.load_input()
    if video is None and request.needs_video:
        video = load_file(folder.input)["video"]
    pipe.begin(request, run, video=video)


@contextmanager
def _locked(run: Run, stopped: Callable[[], bool]) -> Iterator[Run]:
    """Holds a run's lock; waits while a worker that has lost its job still writes."""
    while True:
        try:
            run.__enter__()
            break
        except RunInUseError as error:
            if stopped():
                raise Cancelled("the job was cancelled while it waited") from error
            time.sleep(SECONDS_BETWEEN_QUESTIONS)
    try:
        yield run
    finally:
        run.__exit__(None, None, None)
