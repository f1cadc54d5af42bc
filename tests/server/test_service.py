"""What a server keeps and refuses, without processes."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from show1 import GenerationRequest, Show1Pipeline, Video, make_request
from show1.errors import OutputError

pytest.importorskip("fastapi")

from show1.server.asked import BadRequest, Continuation, Creation  # noqa: E402
from show1.server.jobs import DataFolder, Job, JobSpec, new_id  # noqa: E402
from show1.server.keys import anonymous  # noqa: E402
from show1.server.limits import ServerLimits  # noqa: E402
from show1.server.queue import JobQueue  # noqa: E402
from show1.server.routes import _JobFile  # noqa: E402
from show1.server.service import NotFound, Service  # noqa: E402
from show1.server.views import video_object  # noqa: E402


@pytest.fixture
def service(data: Path, pipe: Show1Pipeline) -> Iterator[Service]:
    queue = JobQueue(DataFolder(data).database, model="mini")
    yield Service(
        pipe,
        DataFolder(data),
        queue,
        model="mini",
        limits=ServerLimits(),
        policy=lambda t: "no" if "bad" in t else None,
    )
    queue.close()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    import numpy as np

    return Video(frames=np.zeros((5, 40, 64, 3), np.uint8), fps=8.0).save(tmp_path / "clip.mp4")


@pytest.fixture(scope="module")
def keyframes(pipe: Show1Pipeline) -> GenerationRequest:
    return make_request(
        "a cat",
        model=pipe,
        seed=1,
        count=2,
        until="keyframes",
        settings={"keyframes": {"num_inference_steps": 1, "num_frames": 2}},
    )


def refined() -> Creation:
    return Creation(prompt="a cat", start_from="super_resolution", until="super_resolution")


def test_a_job_that_does_not_come_to_be_leaves_no_files(
    service: Service, clip: Path, keyframes: GenerationRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = service.create(refined(), anonymous(), clip)
    assert service.data.job(made.id).input.is_file()
    source = new_id()
    service.queue.submit(source, JobSpec(request=keyframes.to_dict(), model="mini"))
    service.pipe.generate(keyframes, service.data.job(source).run)

    def away(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("insert", {}, Exception("the database is away"))

    before = sorted((service.data.path / "jobs").iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(service.queue, "submit", away)
        with pytest.raises(OperationalError):
            service.create(refined(), anonymous(), clip)
        with pytest.raises(OperationalError):
            service.carry_on(source, Continuation(draft=2), anonymous())
    service.limits = ServerLimits(max_megapixels=1, max_steps=1)
    with pytest.raises(BadRequest, match="are the most"):
        service.carry_on(source, Continuation(draft=2), anonymous())
    assert sorted((service.data.path / "jobs").iterdir()) == before


def test_files_that_cannot_be_removed_keep_their_job(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    job = service.create(Creation(prompt="a cat"), anonymous())
    service.data.job(job.id).run.mkdir(parents=True)

    def refuse(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuse)
        with pytest.raises(OutputError, match="cannot be removed: Permission denied"):
            service.delete(job.id, anonymous())
    assert service.get(job.id, anonymous()).status == "cancelled"
    service.delete(job.id, anonymous())
    assert not service.data.job(job.id).path.exists()
    with pytest.raises(NotFound):
        service.get(job.id, anonymous())


def test_finished_stages_keep_their_settings(service: Service, keyframes: GenerationRequest) -> None:
    source = new_id()
    service.queue.submit(source, JobSpec(request=keyframes.to_dict(), model="mini"))
    service.pipe.generate(keyframes, service.data.job(source).run)
    for change in ({"guidance_scale": 2}, {"num_frames": 3}):
        asked = Continuation(draft=1, extra_params={"keyframes": change})
        with pytest.raises(BadRequest, match="keyframes is finished") as refused:
            service.carry_on(source, asked, anonymous())
        assert refused.value.param == "extra_params"
    later = Continuation(draft=1, guidance_scale=3, extra_params={"translation": {"num_inference_steps": 2}})
    job = service.carry_on(source, later, anonymous())
    assert job.spec is not None and job.spec.parsed.settings.translation.num_inference_steps == 2


def test_the_policy_sees_every_text(service: Service) -> None:
    stage: dict[str, Any] = {"keyframes": {"negative_prompt": "bad", "guidance_scale": 0}}
    for change, param in (
        ({"prompt": "bad"}, "prompt"),
        ({"negative_prompt": "bad"}, "negative_prompt"),
        ({"extra_params": stage}, "negative_prompt"),
    ):
        with pytest.raises(BadRequest) as refused:
            service.create(Creation.model_validate({"prompt": "a cat", **change}), anonymous())
        assert (refused.value.param, refused.value.code) == (param, "content_policy_violation")


def test_the_time_that_is_left_has_one_meaning(service: Service, pipe: Show1Pipeline, tmp_path: Path) -> None:
    from show1.files import write_json

    request = make_request("a cat", model=pipe, seed=1)
    job_id = new_id()
    spec = JobSpec(request=request.to_dict(), model="mini")
    job = Job(
        id=job_id, status="in_progress", created=1, started=2, ended=None, owner=None, priority=1, worker="w", spec=spec
    )
    folder = service.data.job(job_id)
    for stage, whole in (("keyframes", None), ("translation", 4.0)):
        write_json(folder.progress, {"stage": stage, "stage_seconds_left": 4.0})
        shown = video_object(job, folder)
        assert (shown["seconds_left"], shown["stage_seconds_left"]) == (whole, 4.0), stage
        assert "worker" not in shown, "machines of the server are nobody's business"


def test_a_file_that_is_removed_before_it_is_sent_is_not_found(tmp_path: Path) -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError("nothing can be sent")

    scope = {"type": "http", "method": "GET", "headers": []}
    with pytest.raises(NotFound):
        asyncio.run(_JobFile(tmp_path / "gone.mp4")(scope, receive, send))
