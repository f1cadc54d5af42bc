"""How jobs and the model look to a client: the video object and the model object of the API."""

from collections.abc import Sequence
from typing import Any

from show1.config import STAGES, StageName
from show1.generation.pipeline import Show1Pipeline
from show1.server.adapters import EXPERT_STAGE
from show1.server.jobs import Job, JobFolder
from show1.server.progress import read_progress
from show1.server.service import Service
from show1.stage_table import STAGE_TABLE

_STATUS = {"cancelled": "failed"}
"""The API knows four states; a cancelled video failed, with the code `cancelled`."""


def finished_stages(job: Job, note: dict[str, Any]) -> list[StageName]:
    """The stages of a job that are finished.

    Args:
        job: The job.
        note: What its worker last noted.
    """
    records = job.stages or note.get("stages", ())
    return [record["stage"] for record in records]


def video_object(job: Job, folder: JobFolder, place: tuple[int | None, float | None] = (None, None)) -> dict[str, Any]:
    """The video object: the fields of the videos API, and those of a cascade.

    Args:
        job: The job.
        folder: Its files.
        place: Its place in the queue, and about how many seconds until it is finished.
    """
    assert job.spec is not None, "listed jobs are read whole"
    request, note = job.spec.parsed, read_progress(folder) if job.status not in ("queued", "completed") else {}
    frames, height, width, fps = request.final_shape
    records = job.stages or tuple(note.get("stages", ()))
    running = job.status == "in_progress"
    percent = 100 if job.status == "completed" else int(note.get("percent", 0))
    left = note.get("stage_seconds_left") if running else None
    settings = request.settings.to_dict()
    error = None if job.error is None else {"code": job.error.code, "message": job.error.message}
    if job.status == "cancelled":
        error = {"code": "cancelled", "message": "the video was cancelled; its finished stages are kept"}
    return {
        "id": job.id,
        "object": "video",
        "created_at": int(job.created),
        "completed_at": int(job.ended) if job.ended and job.status == "completed" else None,
        "expires_at": None,
        "status": _STATUS.get(job.status, job.status),
        "progress": percent,
        "model": job.spec.model,
        "prompt": request.prompts[0],
        "seconds": "" if frames is None else f"{frames / fps:g}",
        "size": f"{width}x{height}",
        "remixed_from_video_id": job.spec.source if job.spec.kind == "remix" else None,
        "error": error,
        "continued_from_video_id": job.spec.source if job.spec.kind == "continue" else None,
        "draft": job.spec.draft + 1 if job.spec.kind == "continue" else None,
        "count": len(request.prompts),
        "seed": request.seeds[0],
        "seeds": list(request.seeds),
        "num_frames": frames,
        "fps": fps,
        "warnings": list(job.spec.warnings),
        "adapters": job.spec.adapters,
        "expert": job.spec.expert,
        "until": request.stages[-1],
        "stage": note.get("stage") or None if running else None,
        "step": note.get("step") if running else None,
        "steps": note.get("steps") if running else None,
        "stages": [_stage(stage, records) for stage in request.stages],
        "queue_position": place[0],
        "seconds_left": left if running and note.get("stage") == request.stages[-1] else place[1],
        "stage_seconds_left": left,
        "settings": {name: value for name, value in settings.items() if name in request.stages or name not in STAGES},
    }


def _stage(stage: StageName, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How a stage of a job stands."""
    record = next((r for r in records if r["stage"] == stage), None)
    costs = {name: None if record is None else record[name] for name in ("seconds", "peak_memory_bytes")}
    return {"name": stage, "finished": record is not None, **costs}


def model_object(service: Service) -> dict[str, Any]:
    """The model object of the API: the model of a server, and the experts that clients may choose."""
    pipe = service.pipe
    experts = [
        {
            "name": name,
            "model": each.cascade.name,  # as the records of its videos have it
            "size": _final_size(each),
            "settings": each.settings.to_dict()[EXPERT_STAGE],
        }
        for name, each in service.models.experts.items()
    ]
    return {
        "id": service.model,
        "object": "model",
        "created": 0,
        "owned_by": "show1",
        "stages": list(pipe.stages),
        "size": _final_size(pipe),
        "settings": pipe.settings.to_dict(),
        "experts": experts,
        "takes_adapters": service.adapters.takes_uploads,
        "max_count": service.limits.max_count,
    }


def _final_size(pipe: Show1Pipeline) -> str:
    """The size of a model's videos, `WIDTHxHEIGHT`."""
    _, height, width = STAGE_TABLE[pipe.stages[-1]].output_shape(None, pipe.settings)
    return f"{width}x{height}"
