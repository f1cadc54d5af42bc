"""`show1 batch --database`, with a queue whose jobs are computed when they are asked for."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dbos")

from show1 import Show1Pipeline, Video
from show1.cli import batch_queue
from show1.server.jobs import DataFolder, Job, JobSpec
from show1.server.queue import queue_name
from show1.server.stages import write_files
from tests.cli.conftest import Result, Show1


class ComputingQueue:
    """Stands in for `JobQueue` and a worker."""

    data = DataFolder(Path("show1-data"))
    jobs: dict[str, Job]
    """All jobs, by their names; tests make a new one each."""

    def __init__(self, database: str, *, model: str) -> None:
        pass

    def close(self) -> None:
        pass

    def get(self, name: str) -> Job | None:
        return self.jobs.get(name)

    def get_all(self, names: Iterable[str]) -> list[Job]:
        return [self.jobs[name] for name in names if name in self.jobs]

    def submit(self, name: str, spec: JobSpec, *, priority: int) -> None:
        if name not in self.jobs:
            folder = self.data.job(name)
            folder.path.mkdir(parents=True, exist_ok=True)
            videos = Show1Pipeline.from_pretrained(spec.model).generate(spec.parsed, folder.run)
            write_files(folder, spec.parsed.stages[-1], videos)
            how: dict[str, Any] = dict.fromkeys(("started", "ended", "owner", "worker"))
            self.jobs[name] = Job(id=name, status="completed", created=0, priority=priority, spec=spec, **how)


@pytest.fixture(autouse=True)
def _computing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ComputingQueue, "jobs", {}, raising=False)
    monkeypatch.setattr(batch_queue, "JobQueue", ComputingQueue)


class Batch:
    """The command with two prompts."""

    def __init__(self, show1: Show1, model: Path) -> None:
        Path("p.txt").write_text("a panda\na cat\n")
        self._show1, self._words = show1, ["batch", "p.txt", "--until", "keyframes", "-o", "out", "--model", model]

    def __call__(self, *options: object) -> Result:
        return self._show1(*self._words, "--database", "sqlite:///none", *options)


@pytest.fixture
def batch(show1: Show1, cascade: Path) -> Batch:
    return Batch(show1, cascade)


PANDA, CAT = Path("out/0001-a-panda.mp4"), Path("out/0002-a-cat.mp4")


def test_a_file_of_the_user_is_not_replaced(batch: Batch) -> None:
    PANDA.parent.mkdir()
    PANDA.write_text("mine")
    refused = batch()
    assert refused.code == 2 and "0001-a-panda.mp4 exists already" in refused.err
    assert PANDA.read_text() == "mine" and not CAT.exists() and ComputingQueue.jobs == {}
    assert batch("--overwrite").code == 0 and Video.load(PANDA).metadata["prompt"] == "a panda"


def test_nor_is_one_that_came_while_the_videos_were_made(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = ComputingQueue.submit

    def submit(*job: Any, **how: Any) -> None:
        computed(*job, **how)
        CAT.parent.mkdir(exist_ok=True)
        CAT.write_text("mine")

    monkeypatch.setattr(ComputingQueue, "submit", submit)
    failed = batch()
    assert failed.code == 1 and "0002-a-cat.mp4 exists already" in failed.err and "1 of 2 prompts failed" in failed.err
    assert CAT.read_text() == "mine" and Video.load(PANDA).metadata["prompt"] == "a panda"


def test_the_same_command_keeps_what_is_made(batch: Batch) -> None:
    assert batch().code == 0 and len(ComputingQueue.jobs) == 2
    before = PANDA.stat().st_mtime_ns
    CAT.unlink()
    again = batch("--json")
    assert again.code == 0 and len(again.out.splitlines()) == 2 and len(ComputingQueue.jobs) == 2
    assert PANDA.stat().st_mtime_ns == before and Video.load(CAT).metadata["prompt"] == "a cat"
    other = batch("--seed", 5)
    assert other.code == 2 and "exists already" in other.err and PANDA.stat().st_mtime_ns == before
    assert batch("--overwrite").code == 0 and PANDA.stat().st_mtime_ns != before


def test_a_model_without_a_worker_is_told(batch: Batch, cascade: Path) -> None:
    note = Path("show1-data/workers/w.json")
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"queue": queue_name("mini"), "time": time.time()}))
    made = batch()
    assert made.code == 0 and f"no worker with the model {cascade} has been heard of" in made.err
    note.write_text(json.dumps({"queue": queue_name(str(cascade)), "time": time.time()}))
    assert "no worker" not in batch("--overwrite").err
