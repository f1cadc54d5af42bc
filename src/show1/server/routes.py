"""The routes of the API."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.datastructures import UploadFile
from starlette.types import Receive, Scope, Send

from show1.config import StageName
from show1.errors import InputError
from show1.files import parse_json
from show1.media import read_facts
from show1.server.access import COOKIE, Access, Refused
from show1.server.asked import BadRequest, Body, Continuation, Creation, Remix, form_values
from show1.server.events import Streams
from show1.server.jobs import Job
from show1.server.keys import Key
from show1.server.metrics import Metrics
from show1.server.progress import read_progress
from show1.server.service import Conflict, NotFound, Service
from show1.server.views import finished_stages, video_object
from show1.stage_table import STAGE_TABLE

CLIPS = CapacityLimiter(1)
"""Threads that decode clips."""

Variant = Literal["video", "thumbnail", "spritesheet"]
Draft = Annotated[int, Query(ge=1, le=4096, description="Which draft, from 1.")]


def body_schema(*kinds: str, model: type[Any]) -> dict[str, Any]:
    """The part of the OpenAPI document that describes a body."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema} for kind in kinds}}}


def make_routes(service: Service, access: Access, metrics: Metrics) -> APIRouter:
    """The routes.

    Args:
        service: What they do.
        access: Who may use them.
        metrics: What is counted.
    """
    router = APIRouter()
    _add_jobs(router, service, access)
    _add_files(router, service, access)
    _add_streams(router, service, access)
    _add_facts(router, service, access, metrics)
    return router


def _add_jobs(router: APIRouter, service: Service, access: Access) -> None:
    """Asking for jobs, and what becomes of them."""
    json_or_form = body_schema("application/json", "multipart/form-data", model=Creation)

    def view(job: Job) -> dict[str, Any]:
        return video_object(job, service.data.job(job.id), service.place(job))

    @router.post("/v1/videos", openapi_extra=json_or_form)
    async def create_video(request: Request, key: Annotated[Key, Depends(access.key)]) -> Any:
        """Asks for a video, or for several drafts of it."""
        job = await _created(service, request, key)
        return await run_in_threadpool(view, job)

    @router.get("/v1/videos")
    def list_videos(
        key: Annotated[Key, Depends(access.key)],
        after: Annotated[str | None, Query(max_length=60)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> Any:
        """A page of the videos, the newest first."""
        owner = key.name or None
        jobs, more = service.queue.page(owner=owner, after=after, limit=limit, newest_first=order == "desc")
        ends = {"first_id": jobs[0].id if jobs else None, "last_id": jobs[-1].id if jobs else None}
        return {"object": "list", "data": [view(job) for job in jobs if job.spec], **ends, "has_more": more}

    @router.get("/v1/videos/{video_id}")
    def retrieve_video(video_id: str, key: Annotated[Key, Depends(access.key)]) -> Any:
        """How a video stands."""
        return view(service.get(video_id, key))

    @router.delete("/v1/videos/{video_id}")
    def delete_video(video_id: str, key: Annotated[Key, Depends(access.key)]) -> Any:
        """Stops a video and removes it."""
        service.delete(video_id, key)
        return {"id": video_id, "object": "video.deleted", "deleted": True}

    @router.post("/v1/videos/{video_id}/cancel")
    def cancel_video(video_id: str, key: Annotated[Key, Depends(access.key)]) -> Any:
        """Stops a video at its next step; its finished stages are kept."""
        return view(service.cancel(video_id, key))

    @router.post("/v1/videos/{video_id}/continue", openapi_extra=body_schema("application/json", model=Continuation))
    async def continue_video(video_id: str, request: Request, key: Annotated[Key, Depends(access.key)]) -> Any:
        """Takes a draft through the later stages, as a new video."""
        async with _body(request) as (body, _):
            asked = body.read(Continuation)
        job = await run_in_threadpool(service.carry_on, video_id, asked, key, client=_client(request))
        return await run_in_threadpool(view, job)

    @router.post("/v1/videos/{video_id}/remix", openapi_extra=body_schema("application/json", model=Remix))
    async def remix_video(video_id: str, request: Request, key: Annotated[Key, Depends(access.key)]) -> Any:
        """Makes a video with another one's settings and seeds, and a new prompt."""
        async with _body(request) as (body, _):
            asked = body.read(Remix)
        job = await run_in_threadpool(service.remix, video_id, asked, key, client=_client(request))
        return await run_in_threadpool(view, job)


def _add_files(router: APIRouter, service: Service, access: Access) -> None:
    """The files of videos."""

    def send(video_id: str, key: Key, stage: StageName | None, variant: str, draft: int) -> Response:
        job, folder = service.folder(video_id, key)
        known = stage_or_last(job, stage, finished_stages(job, read_progress(folder)))
        files = {
            "video": (folder.video(known, draft - 1), "video/mp4"),
            "thumbnail": (folder.thumbnail(known, draft - 1), "image/webp"),
            "spritesheet": (folder.sheet(known), "image/jpeg"),
            "artefact": (folder.run / f"{known}.safetensors", "application/octet-stream"),
        }
        return _file(*files[variant], name=f"{video_id}-{known}-{draft}")

    @router.get("/v1/videos/{video_id}/content", response_class=FileResponse)
    def download_video(
        video_id: str, key: Annotated[Key, Depends(access.key)], variant: Variant = "video", draft: Draft = 1
    ) -> Response:
        """The finished video, a picture of it, or a contact sheet of all drafts."""
        return send(video_id, key, None, variant, draft)

    @router.get("/v1/videos/{video_id}/stages/{stage}", response_class=FileResponse)
    def download_stage(
        video_id: str,
        stage: StageName,
        key: Annotated[Key, Depends(access.key)],
        variant: Variant | Literal["artefact"] = "video",
        draft: Draft = 1,
    ) -> Response:
        """What a finished stage gave; `artefact` is the lossless tensor of all drafts, as safetensors."""
        return send(video_id, key, stage, variant, draft)

    @router.get("/v1/videos/{video_id}/preview", response_class=FileResponse)
    def preview_video(video_id: str, key: Annotated[Key, Depends(access.key)], draft: Draft = 1) -> Response:
        """A moving picture of a draft that is being denoised."""
        _, folder = service.folder(video_id, key)
        return _file(folder.preview(draft - 1), "image/webp", name=f"{video_id}-preview-{draft}", cached=False)

    @router.post("/v1/inspect")
    async def inspect_video(request: Request, key: Annotated[Key, Depends(access.key)]) -> Any:
        """Reads how a video was made, from a form with the file in `file`."""
        async with _body(request, file="file") as (_, clip):
            if clip is None:
                raise BadRequest("the parameter 'file' is missing", "file", "missing_required_parameter")
            facts = await run_in_threadpool(read_facts, clip)
        shape = {"num_frames": facts.num_frames, "height": facts.height, "width": facts.width, "fps": facts.fps}
        return {"object": "video.facts", **shape, "metadata": facts.metadata or None}


def _add_streams(router: APIRouter, service: Service, access: Access) -> None:
    """Events while videos are made."""
    streams = Streams(service, access)

    async def seated(request: Request, key: Annotated[Key, Depends(access.key)]) -> AsyncIterator[Key]:
        with streams.seat(key.name or _client(request)):  # until the answer has been sent
            yield key

    def answer(names: list[str], key: Key) -> Response:
        return StreamingResponse(
            streams.events(names, key), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    @router.get("/v1/events", response_class=StreamingResponse)
    def stream_events(
        key: Annotated[Key, Depends(seated)], ids: Annotated[str, Query(min_length=1, max_length=5000)]
    ) -> Response:
        """Events of several videos (`ids`, with commas between them): `video` at each change, `deleted` at the end."""
        return answer(list(dict.fromkeys(ids.split(",")))[:100], key)

    @router.get("/v1/videos/{video_id}/events", response_class=StreamingResponse)
    def stream_video_events(video_id: str, key: Annotated[Key, Depends(seated)]) -> Response:
        """Events of one video."""
        service.get(video_id, key)
        return answer([video_id], key)

    @router.post("/v1/videos/sync", openapi_extra=body_schema("application/json", model=Creation))
    async def create_video_and_wait(request: Request, key: Annotated[Key, Depends(seated)]) -> Response:
        """Makes a video and answers with the file."""
        job = await _created(service, request, key)
        ended = await streams.wait(job.id, key, request)
        if ended.status != "completed":
            message = "the video was cancelled" if ended.error is None else ended.error.message
            raise InputError(f"{message} ({job.id})")
        _, folder = await run_in_threadpool(service.folder, job.id, key)
        return _file(folder.video(asked_last(ended), 0), "video/mp4", name=job.id)


async def _created(service: Service, request: Request, key: Key) -> Job:
    """The new job that a request asks for. Clips are decoded one after another: each may need much memory."""
    async with _body(request) as (body, clip):
        work = partial(service.create, body.read(Creation), key, clip, client=_client(request))
        return await to_thread.run_sync(work, limiter=None if clip is None else CLIPS)


def stage_or_last(job: Job, stage: StageName | None, done: list[StageName]) -> StageName:
    """The stage whose files are asked for.

    Args:
        job: The job.
        stage: The stage; None: the last one, which must be finished.
        done: The stages that are finished.

    Raises:
        Conflict: It is not finished.
        NotFound: The job has no such stage.
    """
    assert job.spec is not None, "one job is read whole"
    stages = job.spec.parsed.stages
    wanted = stages[-1] if stage is None else stage
    if wanted not in stages:
        raise NotFound
    if wanted not in done:
        raise Conflict(f"the stage {wanted} is not finished" if stage else "the video is not finished")
    return wanted


def asked_last(job: Job) -> StageName:
    """The last stage of a job."""
    assert job.spec is not None, "one job is read whole"
    return job.spec.parsed.stages[-1]


def _add_facts(router: APIRouter, service: Service, access: Access, metrics: Metrics) -> None:
    """What the server is, and how it fares."""

    def model() -> dict[str, Any]:
        settings = service.pipe.settings
        _, height, width = STAGE_TABLE[service.pipe.stages[-1]].output_shape(None, settings)
        return {
            "id": service.model,
            "object": "model",
            "created": 0,
            "owned_by": "show1",
            "stages": list(service.pipe.stages),
            "size": f"{width}x{height}",
            "settings": settings.to_dict(),
            "adapters": service.adapters(),
            "max_count": service.limits.max_count,
        }

    @router.get("/v1/models")
    def list_models(key: Annotated[Key, Depends(access.key)]) -> Any:
        """The model of this server, with its stages and their settings."""
        return {"object": "list", "data": [model()]}

    @router.get("/v1/models/{name}")
    def retrieve_model(name: str, key: Annotated[Key, Depends(access.key)]) -> Any:
        """One model."""
        if name != service.model:
            raise BadRequest(f"this server has the model {service.model!r}", "model", "model_not_found")
        return model()

    @router.post("/v1/session")
    async def begin_session(request: Request) -> Response:
        """Takes an API key (`{"key": ...}`) and keeps it in a cookie that scripts cannot read, for the page."""
        given = (await _json(request, only=True)).get("key")  # whoever has no key yet cannot send a file
        if not isinstance(given, str) or access.known(given) is None:
            raise Refused(401, "this API key is not known here", "invalid_api_key")
        answer = JSONResponse({"object": "session"})
        where: dict[str, Any] = {"samesite": "strict", "secure": request.url.scheme == "https"}
        answer.set_cookie(COOKIE, given, httponly=True, max_age=30 * 86400, **where)
        return answer

    @router.get("/health")
    async def health() -> Any:
        """Whether the server runs; it needs no thread, of which a database that hangs may hold all."""
        return {"status": "ok"}

    @router.get("/ready")
    def ready() -> Response:
        """Whether jobs are being taken: the database answers, and a worker lives."""
        service.queue.check()
        count = len(service.workers())
        said = "ready" if count else "no worker lives"
        return JSONResponse({"status": said, "workers": count}, 200 if count else 503)

    @router.get("/metrics")
    def read_metrics(key: Annotated[Key, Depends(access.key)]) -> Response:
        """The numbers of the server for Prometheus."""
        text, kind = metrics.text()
        return Response(text, media_type=kind)


@asynccontextmanager
async def _body(request: Request, *, file: str = "input_reference") -> AsyncIterator[tuple[Body, Path | None]]:
    """The values of a body, in JSON or a form, and a file in it, which is removed at the end of the block.

    Raises:
        BadRequest: It is neither, or cannot be read.
    """
    if _kind(request) in ("multipart/form-data", "application/x-www-form-urlencoded"):
        async with request.form(max_files=1, max_fields=100) as form:
            upload = form.get(file)
            if any(isinstance(value, UploadFile) and name != file for name, value in form.multi_items()):
                raise BadRequest(f"a file may only be given in {file!r}")
            fields = [(name, value) for name, value in form.multi_items() if not isinstance(value, UploadFile)]
            body = Body(form_values(fields))
            if not isinstance(upload, UploadFile):
                yield body, None
                return
            with tempfile.TemporaryDirectory(prefix="show1-upload-") as folder:
                clip = Path(folder) / "clip"
                with clip.open("wb") as written:
                    while part := await upload.read(1 << 20):
                        written.write(part)
                yield body, clip
        return
    yield Body(await _json(request)), None


def _kind(request: Request) -> str:
    """The type of a request's body."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _json(request: Request, *, only: bool = False) -> dict[str, Any]:
    """The values of a body in JSON.

    Args:
        request: The request.
        only: Whether it must say that it is JSON, before it is read.

    Raises:
        BadRequest: It is no JSON object.
    """
    if only and _kind(request) != "application/json":
        raise BadRequest("the body must be JSON, with Content-Type: application/json", code="invalid_json")
    text = await request.body()
    try:
        values = parse_json(text.decode("utf-8")) if text.strip() else {}
    except ValueError as error:
        raise BadRequest("the body is no JSON, and no form", code="invalid_json") from error
    if not isinstance(values, dict):
        raise BadRequest("the body must be a JSON object, or a form", code="invalid_json")
    return values


class _JobFile(FileResponse):
    """A file that may be removed, with its job, before it is sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        try:
            await super().__call__(scope, receive, send)
        except (RuntimeError, FileNotFoundError) as error:
            if Path(self.path).exists():
                raise
            raise NotFound from error


def _file(path: Path, kind: str, *, name: str, cached: bool = True) -> Response:
    """A file of a job.

    Raises:
        NotFound: It is not there.
    """
    if not path.is_file():
        raise NotFound
    headers = {"Cache-Control": "private, max-age=86400" if cached else "no-store"}
    suffix = path.suffix
    return _JobFile(
        path, media_type=kind, filename=f"{name}{suffix}", headers=headers, content_disposition_type="inline"
    )


def _client(request: Request) -> str:
    return "" if request.client is None else request.client.host
