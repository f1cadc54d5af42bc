"""Jobs survive whatever happens to their workers: real processes, killed as a power cut would."""

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from torch import Tensor

from show1 import GenerationRequest, Run, Show1Pipeline, Video, make_request
from show1.cli.jobs import Job as BatchJob
from show1.generation.output import OutputFile
from show1.server.jobs import DataFolder, Job, JobSpec, new_id
from show1.server.progress import read_progress
from show1.server.queue import JobQueue, queue_name
from tests.full_disk import largest_file
from tests.server.processes import POSTGRES, Process, free_port, postgres, serve, wait_for, worker


class Jobs:
    """A queue and its folder, as the tests use them."""

    def __init__(self, data: Path, database: str | None = None) -> None:
        self.folder = DataFolder(data)
        self.database = database or self.folder.database
        self.queue = JobQueue(self.database, model="mini")

    def submit(self, request: GenerationRequest, **how: Any) -> str:
        job_id = new_id()
        self.queue.submit(job_id, JobSpec(request=request.to_dict(), model="mini"), **how)
        return job_id

    def get(self, job_id: str) -> Job:
        job = self.queue.get(job_id)
        assert job is not None
        return job

    def ended(self, job_id: str, seconds: float = 240) -> Job:
        """The job when it has ended."""
        return wait_for(
            lambda: job if (job := self.get(job_id)).status not in ("queued", "in_progress") else None, seconds
        )

    def computes(self, job_id: str, stage: str) -> bool:
        """Whether a stage runs, its first step done."""
        note = read_progress(self.folder.job(job_id))
        return note.get("stage") == stage and note["step"] >= 1

    def video(self, job_id: str) -> Tensor:
        return Run.open(self.folder.job(job_id).run).load("translation")


@pytest.fixture
def jobs(data: Path) -> Iterator[Jobs]:
    jobs = Jobs(data)
    yield jobs
    jobs.queue.close()


def draft(pipe: Show1Pipeline, steps: int = 2, **how: Any) -> GenerationRequest:
    """A request of keyframes only."""
    return make_request(
        "a cat",
        model=pipe,
        seed=2,
        until="keyframes",
        settings={"keyframes": {"num_inference_steps": steps, "num_frames": 2}},
        **how,
    )


@pytest.mark.slow
def test_a_job_is_computed_stage_by_stage(jobs: Jobs, whole: GenerationRequest, undisturbed: Tensor) -> None:
    job_id = jobs.submit(whole, owner="ann", priority=5)
    assert jobs.get(job_id).status == "queued"
    assert [job.id for job in jobs.queue.active()] == [job_id]
    port = free_port()
    with worker(jobs.folder.path, "--metrics", str(port)) as process:
        job = jobs.ended(job_id)
        numbers = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
        assert process.terminate() == 0
    assert all(f'show1_stage_seconds_count{{stage="{stage}"}} 1.0' in numbers for stage in whole.stages)
    assert (job.status, job.owner, job.priority, job.error) == ("completed", "ann", 5, None)
    assert [record["stage"] for record in job.stages] == list(whole.stages)
    assert all(record["seconds"] > 0 and len(record["sha256"]) == 64 for record in job.stages)
    assert torch.equal(jobs.video(job_id), undisturbed)
    folder = jobs.folder.job(job_id)
    for stage in whole.stages:
        assert folder.video(stage, 0).stat().st_size > 500
        assert folder.thumbnail(stage, 0).is_file() and folder.sheet(stage).is_file()
    assert read_progress(folder)["percent"] == 100
    assert not list(folder.path.glob("preview*"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["keyframes", "interpolation", "super_resolution", "translation"])
def test_a_worker_killed_in_a_stage_is_started_again(
    jobs: Jobs, whole: GenerationRequest, undisturbed: Tensor, stage: str
) -> None:
    job_id = jobs.submit(whole)
    with worker(jobs.folder.path) as first:
        wait_for(lambda: jobs.computes(job_id, stage), every=0.005)
        first.kill()
    before = {file.name: file.stat().st_mtime_ns for file in jobs.folder.job(job_id).run.glob("*.safetensors")}
    assert set(before) == {f"{s}.safetensors" for s in whole.stages[: whole.stages.index(stage)]}
    assert jobs.get(job_id).status == "in_progress"
    with worker(jobs.folder.path):
        job = jobs.ended(job_id)
    assert job.status == "completed"
    assert torch.equal(jobs.video(job_id), undisturbed)
    run = jobs.folder.job(job_id).run
    assert {name: (run / name).stat().st_mtime_ns for name in before} == before, (
        "finished stages are not computed again"
    )


@pytest.mark.slow
@pytest.mark.parametrize("worker_too", [True, False])
def test_a_server_that_is_killed_completes_its_job_when_it_runs_again(
    jobs: Jobs, whole: GenerationRequest, undisturbed: Tensor, worker_too: bool
) -> None:
    """The machine loses its power, or only the process that answers is killed: its worker then ends by itself."""
    server, address = serve(jobs.folder.path)
    with server:
        job_id = jobs.submit(whole)
        wait_for(lambda: jobs.computes(job_id, "interpolation"), every=0.005)
        name = str(jobs.get(job_id).worker)
        server.kill()
        if worker_too:
            os.kill(int(name.split("-")[-2]), signal.SIGKILL)
    assert jobs.get(job_id).status == "in_progress"
    server, address = serve(jobs.folder.path)
    with server, httpx2.Client(base_url=address) as http:
        assert jobs.ended(job_id).status == "completed"
        shown = http.get(f"/v1/videos/{job_id}").json()
        assert shown["status"] == "completed" and http.get(f"/v1/videos/{job_id}/content").status_code == 200
        if not worker_too:
            wait_for(lambda: not (jobs.folder.workers / f"{name}.json").exists(), 60)
        assert server.terminate() == 0
    assert torch.equal(jobs.video(job_id), undisturbed)


@pytest.mark.slow
def test_a_job_that_kills_five_workers_in_a_stage_is_given_up(jobs: Jobs, pipe: Show1Pipeline) -> None:
    job_id, after = jobs.submit(draft(pipe, steps=900)), jobs.submit(draft(pipe))
    for deaths in range(5):
        assert jobs.get(job_id).status in ("queued", "in_progress"), f"it is tried again after {deaths} deaths"
        with worker(jobs.folder.path) as process:
            wait_for(lambda process=process: f"-{process.pid}-" in str(jobs.get(job_id).worker))  # type: ignore[misc]
            wait_for(lambda: jobs.computes(job_id, "keyframes"))
            process.kill()
    assert jobs.get(after).status == "queued", "it stood behind the other one"
    with worker(jobs.folder.path):
        job = jobs.ended(job_id)
        assert job.status == "failed" and job.error is not None
        assert job.error.code == "worker_lost" and "the worker ended 5 times" in job.error.message
        assert jobs.ended(after).status == "completed", "the worker is free for others"
    assert jobs.get(job_id).status == "failed", "nobody takes it up again"


@pytest.mark.slow
def test_another_worker_takes_over_from_a_dead_one(jobs: Jobs, pipe: Show1Pipeline) -> None:
    asked = draft(pipe, steps=100)
    with worker(jobs.folder.path) as one, worker(jobs.folder.path) as two:
        wait_for(lambda: len(list(jobs.folder.workers.glob("*.json"))) == 2)
        job_id = jobs.submit(asked)
        wait_for(lambda: jobs.computes(job_id, "keyframes"))
        name = jobs.get(job_id).worker
        assert name is not None
        time.sleep(1.2)
        assert jobs.get(job_id).worker == name, "a worker that lives keeps its job"
        (one if f"-{one.pid}-" in name else two).kill()
        wait_for(lambda: jobs.get(job_id).worker not in (None, name), 10)
        assert jobs.ended(job_id).status == "completed"
    pipe.generate(asked, jobs.folder.path / "alone")
    again = Run.open(jobs.folder.job(job_id).run).load("keyframes")
    assert torch.equal(again, Run.open(jobs.folder.path / "alone").load("keyframes"))


@pytest.mark.slow
@pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL is installed (apt-get install postgresql)")
def test_two_workers_on_postgresql(
    data: Path, pipe: Show1Pipeline, whole: GenerationRequest, undisturbed: Tensor
) -> None:
    """One of two workers is killed, and the database goes away for 30 seconds: every job is completed."""
    with postgres() as server:
        jobs = Jobs(data, server.url)
        ids = [jobs.submit(whole), *(jobs.submit(draft(pipe, steps=8)) for _ in range(4))]
        with worker(data, "--database", server.url) as one, worker(data, "--database", server.url) as two:
            wait_for(lambda: jobs.computes(ids[0], "interpolation"), every=0.01)
            name = str(jobs.get(ids[0]).worker)
            (one if f"-{one.pid}-" in name else two).kill()
            wait_for(lambda: jobs.get(ids[0]).worker not in (None, name), 60)
            server.stop()
            time.sleep(30)
            server.start()
            finished = [jobs.ended(job_id) for job_id in ids]
        assert [job.status for job in finished] == ["completed"] * 5
        assert torch.equal(jobs.video(ids[0]), undisturbed)
        jobs.queue.close()


@pytest.mark.slow
@pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL is installed (apt-get install postgresql)")
def test_workers_keep_their_jobs_when_postgresql_is_started_again(data: Path, pipe: Show1Pipeline) -> None:
    with postgres() as server:
        jobs = Jobs(data, server.url)
        with worker(data, "--database", server.url), worker(data, "--database", server.url):
            ids = [jobs.submit(draft(pipe, steps=900)) for _ in range(2)]
            wait_for(lambda: all(jobs.computes(job_id, "keyframes") for job_id in ids))
            time.sleep(2)
            owners = [jobs.get(job_id).worker for job_id in ids]
            server.stop()
            time.sleep(1.5)
            server.start()
            time.sleep(6)  # many looks
            assert [jobs.get(job_id).worker for job_id in ids] == owners
            assert [jobs.queue._attributes(job_id) for job_id in ids] == [{}, {}]
            assert len(set(owners)) == 2
        jobs.queue.close()


@pytest.mark.slow
@pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL is installed (apt-get install postgresql)")
def test_what_compose_starts(data: Path) -> None:
    """PostgreSQL, a server without a worker, and a worker, as deploy/compose.yaml has them."""
    with postgres() as database:
        where = ["--database", database.url]
        server, address = serve(data, "--no-worker", *where)
        with server, worker(data, *where), httpx2.Client(base_url=address) as http:
            wait_for(lambda: http.get("/ready").status_code == 200)
            asked = {"prompt": "a cat", "until": "keyframes", "num_inference_steps": 2, "num_frames": 2}
            made = http.post("/v1/videos/sync", json=asked, timeout=120)
            assert made.status_code == 200 and b"ftyp" in made.content[:16]
            database.stop()
            wait_for(lambda: http.get("/v1/videos").status_code == 503, 30)
            assert http.get("/v1/videos").json()["error"]["code"] == "unavailable"
            assert http.get("/health").status_code == 200
            database.start()
            wait_for(lambda: http.get("/v1/videos").status_code == 200, 60)


@pytest.mark.slow
def test_cancelling_stops_at_the_next_step(jobs: Jobs, pipe: Show1Pipeline) -> None:
    running, waiting = jobs.submit(draft(pipe, steps=200)), jobs.submit(draft(pipe, steps=200))
    after = jobs.submit(draft(pipe))
    with worker(jobs.folder.path):
        wait_for(lambda: jobs.computes(running, "keyframes"))
        jobs.queue.cancel(waiting)
        jobs.queue.cancel(running)
        assert jobs.get(running).status == jobs.get(waiting).status == "cancelled"
        assert jobs.ended(after, 60).status == "completed", "the worker is free within a step or two"
    assert not (jobs.folder.job(running).run / "keyframes.safetensors").exists()
    assert not jobs.folder.job(waiting).path.exists()


@pytest.mark.slow
def test_priorities_and_pages(jobs: Jobs, pipe: Show1Pipeline) -> None:
    ids = [
        jobs.submit(draft(pipe), priority=priority, owner=owner) for priority, owner in ((9, "a"), (5, "b"), (1, "a"))
    ]
    assert [job.id for job in jobs.queue.active()] == ids[::-1]
    page, more = jobs.queue.page(limit=2)
    assert ([job.id for job in page], more) == ([ids[2], ids[1]], True)
    assert [job.id for job in jobs.queue.page(after=page[-1].id)[0]] == [ids[0]]
    assert [job.id for job in jobs.queue.page(owner="a", newest_first=False)[0]] == [ids[0], ids[2]]
    assert page[0].spec is not None and page[0].spec.parsed == draft(pipe)
    with worker(jobs.folder.path):
        ended = [jobs.ended(job_id).ended or 0 for job_id in ids]
    assert ended == sorted(ended, reverse=True)
    jobs.queue.delete(ids[0])
    assert jobs.queue.get(ids[0]) is None


@pytest.mark.slow
def test_a_worker_that_is_stopped_gives_its_job_back(jobs: Jobs, pipe: Show1Pipeline) -> None:
    job_id = jobs.submit(draft(pipe, steps=300))
    for name in ("old.json", "old.lock"):  # of a worker that was killed yesterday
        (jobs.folder.workers / name).touch()
        os.utime(jobs.folder.workers / name, (0, 0))
    with worker(jobs.folder.path, "--grace", "0.5") as process:
        wait_for(lambda: jobs.computes(job_id, "keyframes"))
        assert process.terminate(30) == 0
    assert jobs.get(job_id).status == "queued"
    assert not list(jobs.folder.workers.iterdir())


def taken(jobs: Jobs, job_id: str, worker: str = "w") -> None:
    """Lets a worker that does not exist have a job."""
    with closing(sqlite3.connect(jobs.folder.path / "jobs.sqlite")) as database, database:
        how = (worker, job_id)
        database.execute("UPDATE workflow_status SET status='PENDING', executor_id=? WHERE workflow_uuid=?", how)


def test_a_job_that_ends_its_workers_is_given_up(jobs: Jobs, pipe: Show1Pipeline) -> None:
    job_id = jobs.submit(draft(pipe))

    def dies() -> bool:
        taken(jobs, job_id)
        return jobs.queue.take_over(job_id, "w")

    assert [dies() for _ in range(4)] == [True] * 4
    jobs.queue.forgive(job_id)  # it has finished a stage
    assert [dies() for _ in range(5)] == [True] * 4 + [False]
    job = jobs.get(job_id)
    assert job.status == "failed" and job.error is not None and job.error.code == "worker_lost"


def test_a_job_that_was_cancelled_or_taken_is_not_put_back(
    jobs: Jobs, pipe: Show1Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = jobs.submit(draft(pipe))
    taken(jobs, job_id, "another")
    jobs.queue.put_back(job_id, "w")
    assert jobs.queue.take_over(job_id, "w")
    assert jobs.get(job_id).worker == "another"
    before = jobs.get(job_id)
    jobs.queue.cancel(job_id)
    jobs.queue.put_back(job_id, "another")
    assert jobs.get(job_id).status == "cancelled"
    monkeypatch.setattr(jobs.queue, "get", lambda _: before)  # it is cancelled between look and leap
    jobs.queue.put_back(job_id, "another")
    monkeypatch.undo()
    assert jobs.get(job_id).status == "cancelled"


@pytest.mark.slow
def test_a_damaged_artefact_is_computed_again(jobs: Jobs, whole: GenerationRequest, undisturbed: Tensor) -> None:
    job_id = jobs.submit(whole)
    with worker(jobs.folder.path) as first:
        wait_for(lambda: jobs.computes(job_id, "interpolation"), every=0.005)
        first.kill()
    artefact = jobs.folder.job(job_id).run / "keyframes.safetensors"
    artefact.write_bytes(artefact.read_bytes()[:-100] + bytes(100))
    with worker(jobs.folder.path):
        assert jobs.ended(job_id).status == "completed"
    assert torch.equal(jobs.video(job_id), undisturbed)


@pytest.mark.slow
def test_a_full_disk_fails_the_job_and_not_the_worker(jobs: Jobs, pipe: Show1Pipeline) -> None:
    large, small = jobs.submit(draft(pipe, steps=1, count=60)), jobs.submit(draft(pipe))
    with largest_file(500_000), worker(jobs.folder.path):
        job = jobs.ended(large)
        assert jobs.ended(small).status == "completed"
    assert job.status == "failed" and job.error is not None
    assert job.error.code == "disk_full" and "room" in job.error.message


@pytest.mark.slow
def test_a_batch_by_the_queue(jobs: Jobs, tmp_path: Path) -> None:
    """Its prompts are asked for once, whoever waits; a second command only fetches the videos."""
    prompts = tmp_path / "p.txt"
    prompts.write_text("a cat\na dog\n")
    where = ["--data", str(jobs.folder.path), "--database", jobs.database, "-o", str(tmp_path / "out")]
    words = ["batch", str(prompts), *where, "--until", "keyframes", "--set", "keyframes.num_inference_steps=2"]
    with worker(jobs.folder.path):
        for _ in range(2):
            with Process(*words, log=tmp_path / "batch.log") as batch:
                wait_for(lambda: not batch.runs)
                assert batch.code == 0, batch.log.read_text()
    assert len(jobs.queue.page()[0]) == 2
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["made"] == 2
    assert Video.load(tmp_path / "out" / "0002-a-dog.mp4").metadata["prompt"] == "a dog"


def test_a_batch_waits_while_the_database_is_away(
    jobs: Jobs, pipe: Show1Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sqlalchemy.exc import OperationalError

    from show1.cli import batch_queue

    names = [jobs.submit(draft(pipe)) for _ in range(3)]

    def failing(name: str) -> None:
        whole, failures = getattr(jobs.queue, name), [OperationalError("select", {}, Exception("gone"))] * 2

        def failing_at_first(*asked: Any, **how: Any) -> Any:
            if failures:
                raise failures.pop()
            return whole(*asked, **how)

        monkeypatch.setattr(jobs.queue, name, failing_at_first)

    failing("get_all")
    monkeypatch.setattr(batch_queue, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(batch_queue, "JOBS_OF_LOOK", 2)
    assert set(batch_queue._states(jobs.queue, names)) == set(names)
    assert capsys.readouterr().err.count("the database cannot be reached") == 1

    work = BatchJob(prompt="a cat", output=OutputFile(path="cat.mp4"), run=None, options={})
    for name in ("get", "submit"):
        failing(name)
    asked = batch_queue._ask(jobs.queue, jobs.folder, "mini", work, draft(pipe))
    assert jobs.get(asked).status == "queued"
    assert capsys.readouterr().err.count("the database cannot be reached") == 2


def test_a_folder_of_a_model_has_one_queue_however_it_is_named(
    jobs: Jobs, pipe: Show1Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("tiny", "elsewhere", "mini"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    names = ["tiny", "./tiny", "elsewhere/../tiny/", str(tmp_path / "tiny")]
    assert {queue_name(name) for name in names} == {f"show1:{tmp_path}/tiny"}
    parts = ["keyframes=tiny,translation=a/b", f"keyframes = {tmp_path}/tiny, translation=a/b"]
    assert {queue_name(name) for name in parts} == {f"show1:keyframes={tmp_path}/tiny,translation=a/b"}
    assert [queue_name(name) for name in ("mini", "a/b")] == ["show1:mini", "show1:a/b"]

    one, other = JobQueue(jobs.database, model="./tiny"), JobQueue(jobs.database, model=str(tmp_path / "tiny"))
    one.submit(job_id := new_id(), JobSpec(request=draft(pipe).to_dict(), model="./tiny"))
    assert [job.id for job in other.active()] == [job_id] and jobs.queue.active() == []
    one.close()
    other.close()
