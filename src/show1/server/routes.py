"""The routes of the API."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from show1.config import StageName
from show1.errors import InputError
from show1.media import read_facts
from show1.server.access import COOKIE, Access, Refused
from show1.server.adapters import Upload
from show1.server.asked import CLIP, BadRequest, Continuation, Creation, Remix
from show1.server.bodies import FORM, body_schema, read_body, read_json
from show1.server.events import Streams
from show1.server.jobs import Job
from show1.server.keys import Key
from show1.server.metrics import Metrics
from show1.server.progress import read_progress
from show1.server.service import Conflict, NotFound, Service
from show1.server.store import SECONDS_OF_COPY, Store
from show1.server.views import finished_stages, model_object, video_object

FILES = CapacityLimiter(1)
"""Threads that read what clients have uploaded."""

Variant = Literal["video", "thumbnail", "spritesheet"]
Draft = Annotated[int, Query(ge=1, le=4096, description="Which draft, from 1.")]


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
    _add_adapters(router, service, access)
    _add_facts(router, service, access, metrics)
    return router


def _add_jobs(router: APIRouter, service: Service, access: Access) -> None:
    """Asking for jobs, and what becomes of them."""
    json_or_form = body_schema("application/json", FORM, model=Creation, file=CLIP)

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
        async with read_body(request) as (body, _):
            asked = body.read(Continuation)
        job = await run_in_threadpool(service.carry_on, video_id, asked, key, client=_client(request))
        return await run_in_threadpool(view, job)

    @router.post("/v1/videos/{video_id}/remix", openapi_extra=body_schema("application/json", model=Remix))
    async def remix_video(video_id: str, request: Request, key: Annotated[Key, Depends(access.key)]) -> Any:
        """Makes a video with another one's settings and seeds, and a new prompt."""
        async with read_body(request) as (body, _):
            asked = body.read(Remix)
        job = await run_in_threadpool(service.remix, video_id, asked, key, client=_client(request))
        return await run_in_threadpool(view, job)


def _add_files(router: APIRouter, service: Service, access: Access) -> None:
    """The files of videos."""
    found = partial(_file, service.data.store)

    def send(video_id: str, key: Key, stage: StageName | None, variant: str, draft: int) -> Response:
        job, folder = service.folder(video_id, key)
        known = stage_or_last(job, stage, finished_stages(job, read_progress(folder)))
        check_draft(job, draft)
        files = {
            "video": (folder.video(known, draft - 1), "video/mp4"),
            "thumbnail": (folder.thumbnail(known, draft - 1), "image/webp"),
            "spritesheet": (folder.sheet(known), "image/jpeg"),
            "artefact": (folder.run / f"{known}.safetensors", "application/octet-stream"),
        }
        return found(*files[variant], name=f"{video_id}-{known}-{draft}")

    @router.head("/v1/videos/{video_id}/content", include_in_schema=False)
    @router.get("/v1/videos/{video_id}/content", response_class=FileResponse)
    def download_video(
        video_id: str, key: Annotated[Key, Depends(access.key)], variant: Variant = "video", draft: Draft = 1
    ) -> Response:
        """The finished video, a picture of it, or a contact sheet of all drafts."""
        return send(video_id, key, None, variant, draft)

    @router.head("/v1/videos/{video_id}/stages/{stage}", include_in_schema=False)
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

    @router.head("/v1/videos/{video_id}/preview", include_in_schema=False)
    @router.get("/v1/videos/{video_id}/preview", response_class=FileResponse)
    def preview_video(video_id: str, key: Annotated[Key, Depends(access.key)], draft: Draft = 1) -> Response:
        """A moving picture of a draft that is being denoised."""
        _, folder = service.folder(video_id, key)
        return found(folder.preview(draft - 1), "image/webp", name=f"{video_id}-preview-{draft}", cached=False)

    @router.post("/v1/inspect")
    async def inspect_video(request: Request, key: Annotated[Key, Depends(access.key)]) -> Any:
        """Reads how a video was made, from a form with the file in `file`."""
        async with read_body(request, file="file") as (_, clip):
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

    @router.post("/v1/videos/sync", openapi_extra=body_schema("application/json", FORM, model=Creation, file=CLIP))
    async def create_video_and_wait(request: Request, key: Annotated[Key, Depends(seated)]) -> Response:
        """Makes a video and answers with the file."""
        job = await _created(service, request, key)
        ended = await streams.wait(job.id, key, request)
        if ended.status != "completed":
            message = "the video was cancelled" if ended.error is None else ended.error.message
            raise InputError(f"{message} ({job.id})")
        _, folder = await run_in_threadpool(service.folder, job.id, key)
        file = folder.video(asked_last(ended), 0)
        return await run_in_threadpool(_file, service.data.store, file, "video/mp4", name=job.id)


async def _created(service: Service, request: Request, key: Key) -> Job:
    """The new job that a request asks for. Clips are decoded one after another: each may need much memory."""
    async with read_body(request) as (body, clip):
        work = partial(service.create, body.read(Creation), key, clip, client=_client(request))
        return await to_thread.run_sync(work, limiter=None if clip is None else FILES)


def stage_or_last(job: Job, stage: StageName | None, done: list[StageName]) -> StageName:
    """The stage whose files are asked for.

    Args:
        job: The job.
        stage: The stage; None: the last one, which must be finished.
        done: The stages that are finished.

    Raises:
        Conflict: It is not finished.
        BadRequest: The job has no such stage.
    """
    assert job.spec is not None, "one job is read whole"
    stages = job.spec.parsed.stages
    wanted = stages[-1] if stage is None else stage
    if wanted not in stages:
        raise BadRequest(f"this video has no stage {wanted}; it has {', '.join(stages)}", "stage", "stage_not_found")
    if wanted not in done:
        raise Conflict(f"the stage {wanted} is not finished" if stage else "the video is not finished")
    return wanted


def check_draft(job: Job, draft: int) -> None:
    """Makes sure that a job has a draft (from 1).

    Raises:
        BadRequest: It has not.
    """
    assert job.spec is not None, "one job is read whole"
    count = len(job.spec.parsed.prompts)
    if draft > count:
        raise BadRequest(
            f"the last draft of this video is {count}, there is no draft {draft}", "draft", "draft_not_found"
        )


def asked_last(job: Job) -> StageName:
    """The last stage of a job."""
    assert job.spec is not None, "one job is read whole"
    return job.spec.parsed.stages[-1]


def _add_adapters(router: APIRouter, service: Service, access: Access) -> None:
    """Adapters that clients may choose."""

    @router.get("/v1/adapters")
    def list_adapters(key: Annotated[Key, Depends(access.key)]) -> Any:
        """The adapters that you may name, with the expert that each is for."""
        return {"object": "list", "data": [adapter.view() for adapter in service.adapters.offered(key.name or None)]}

    @router.post("/v1/adapters", openapi_extra=body_schema(FORM, model=Upload, file="file"))
    async def upload_adapter(request: Request, key: Annotated[Key, Depends(access.key)]) -> Any:
        """Takes an adapter from a form with the safetensors file in `file`, where the operator allows it."""
        if not service.adapters.takes_uploads:
            raise Refused(403, "this server takes no adapters from its clients", "uploads_not_allowed")
        async with read_body(request, file="file") as (body, file):
            if file is None:
                raise BadRequest("the parameter 'file' is missing", "file", "missing_required_parameter")
            work = partial(service.adapters.add, file, body.read(Upload), key.name or None)
            return (await to_thread.run_sync(work, limiter=FILES)).view()

    @router.delete("/v1/adapters/{name}")
    def delete_adapter(name: str, key: Annotated[Key, Depends(access.key)]) -> Any:
        """Removes an adapter that you have uploaded."""
        if not service.adapters.remove(name, key.name or None):
            raise BadRequest(f"you have uploaded no adapter {name[:60]!r}", "name", "adapter_not_found")
        return {"name": name, "object": "adapter.deleted", "deleted": True}


def _add_facts(router: APIRouter, service: Service, access: Access, metrics: Metrics) -> None:
    """What the server is, and how it fares."""

    @router.get("/v1/models")
    def list_models(key: Annotated[Key, Depends(access.key)]) -> Any:
        """The model of this server, with its stages and their settings."""
        return {"object": "list", "data": [model_object(service)]}

    @router.get("/v1/models/{name}")
    def retrieve_model(name: str, key: Annotated[Key, Depends(access.key)]) -> Any:
        """One model."""
        if name != service.model:
            raise BadRequest(f"this server has the model {service.model!r}", "model", "model_not_found")
        return model_object(service)

    @router.post("/v1/session")
    async def begin_session(request: Request) -> Response:
        """Takes an API key (`{"key": ...}`) and keeps it in a cookie that scripts cannot read, for the page."""
        given = (await read_json(request, only=True)).get("key")  # whoever has no key yet cannot send a file
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


def _file(store: Store, path: Path, kind: str, *, name: str, cached: bool = True) -> Response:
    """A file of a job.

    Raises:
        NotFound: It is not there.
        StoreError: It is kept elsewhere, and cannot be fetched.
    """
    store.fetch(path, age=SECONDS_OF_COPY)
    if not path.is_file():
        raise NotFound
    headers = {"Cache-Control": "private, max-age=86400" if cached else "no-store"}
    suffix = path.suffix
    return _JobFile(
        path, media_type=kind, filename=f"{name}{suffix}", headers=headers, content_disposition_type="inline"
    )


def _client(request: Request) -> str:
    return "" if request.client is None else request.client.host
