"""Machines that share no folder: what one of them has made is there for the others."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from torch import Tensor

from show1 import GenerationRequest, Video
from show1.errors import InputError, MissingDependencyError
from show1.server import remote_store as store
from show1.server.jobs import DataFolder, JobFolder, new_id
from show1.server.progress import living_workers, read_progress
from show1.server.remote_store import RemoteStore
from show1.server.store import StoreError
from tests.server.processes import POSTGRES, Process, postgres, serve, wait_for, worker

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield f"memory://{tmp_path.name}" if request.param == "memory" else f"file://{tmp_path}/shared"
    fsspec.filesystem("memory").store.clear()


class Machine:
    """A data folder of its own, and a job in it."""

    def __init__(self, path: Path, url: str, job_id: str) -> None:
        self.data = DataFolder(path, store_url=url)
        self.job: JobFolder = self.data.job(job_id)

    def write(self, name: str, text: str) -> Path:
        file = self.job.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def read(self, name: str) -> str | None:
        file = self.job.path / name
        return file.read_text() if file.is_file() else None


@pytest.fixture
def machines(url: str, tmp_path: Path) -> tuple[Machine, Machine]:
    job_id = new_id()
    return Machine(tmp_path / "a", url, job_id), Machine(tmp_path / "b", url, job_id)


def test_what_one_machine_publishes_another_one_fetches(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    for name in ("run/manifest.json", "run/keyframes.safetensors", "keyframes-1.mp4", "run/.lock"):
        one.write(name, name)
    one.data.store.publish(one.job.path)
    two.data.store.fetch_folder(two.job.run)
    assert two.read("run/manifest.json") == "run/manifest.json" and two.read("run/keyframes.safetensors")
    assert two.read("run/.lock") is None and two.read("keyframes-1.mp4") is None, "it was not asked for"
    two.data.store.fetch(two.job.path / "keyframes-1.mp4")
    assert two.read("keyframes-1.mp4") == "keyframes-1.mp4"
    time.sleep(0.02)
    one.write("run/manifest.json", "run/manifest.yaml")  # as long as before
    (one.job.path / "keyframes-1.mp4").unlink()
    one.data.store.publish(one.job.path)
    two.data.store.fetch_folder(two.job.path)
    assert two.read("run/manifest.json") == "run/manifest.yaml" and two.read("keyframes-1.mp4") is None
    one.data.store.remove(one.job.path)
    assert not one.job.path.exists()
    two.data.store.fetch(two.job.path / "run/manifest.json")
    assert two.read("run/manifest.json") is None
    two.data.store.fetch_folder(two.job.path)
    assert two.read("run/keyframes.safetensors") is None


def test_only_what_has_changed_is_moved(machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = machines
    moved: list[str] = []
    files = type(one.data.store._fs)  # type: ignore[attr-defined]
    for move in ("get_file", "put_file"):
        real = getattr(files, move)
        monkeypatch.setattr(files, move, lambda *given, real=real: (real(*given), moved.append(given[1])))
    with one.data.store.working(one.job.path):
        for name in ("run/manifest.json", "run/keyframes.safetensors", "run/interpolation.safetensors"):
            one.write(name, name)
    assert len(moved) == 3
    one.data.store.publish(one.job.path)
    assert len(moved) == 3, "nothing is new"
    with two.data.store.working(two.job.path):
        assert len(moved) == 6
    assert len(moved) == 6, "nothing has changed"
    shutil.rmtree(two.job.path)
    two.data.store.fetch_folder(two.job.path)
    assert len(moved) == 9, "the copies were gone"


def test_what_an_earlier_process_has_left_gives_way(machines: tuple[Machine, Machine]) -> None:
    """A worker was killed before it had published; another machine went on. What the store has counts."""
    one, two = machines
    one.write("run/manifest.json", "old")
    one.write("run/interpolation.safetensors", "old")
    two.write("run/manifest.json", "new")
    two.data.store.publish(two.job.path)
    with one.data.store.working(one.job.path):
        assert one.read("run/manifest.json") == "new" and one.read("run/interpolation.safetensors") is None


def test_no_name_in_the_store_leads_out_of_the_folder(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, two = machines
    one.write("run/manifest.json", "x")
    one.data.store.publish(one.job.path)
    files = two.data.store._fs  # type: ignore[attr-defined]
    start, info = two.data.store._key(two.job.path), {"size": 1, "mtime": 1}  # type: ignore[attr-defined]
    names = [f"{start}/../../../../evil", f"{start}/{tmp_path}/evil", f"{start}/run/manifest.json"]
    monkeypatch.setattr(files, "ls", lambda *a, **k: [{**info, "name": name, "type": "file"} for name in names])
    fetched: list[Path] = []
    monkeypatch.setattr(two.data.store, "_fetch_one", lambda path, info: fetched.append(path))
    two.data.store.fetch_folder(two.job.path)
    assert fetched == [two.job.run / "manifest.json"]


def test_the_manifest_comes_last(machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = machines
    for name in ("run/manifest.json", "run/a.safetensors", "run/z.safetensors"):
        one.write(name, name)
    sent: list[str] = []
    monkeypatch.setattr(one.data.store, "_publish_one", lambda file: sent.append(file.name))
    one.data.store.publish(one.job.path)
    assert sent == ["a.safetensors", "z.safetensors", "manifest.json"]


def test_progress_is_published_while_a_stage_runs(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SECONDS_BETWEEN_NEWS", 0.01)
    one, two = machines
    assert read_progress(two.job) == {}
    with one.data.store.working(one.job.path):
        one.write("run/half.safetensors", "x")
        one.write("progress.json", '{"step": 3}')
        wait_for(lambda: read_progress(two.job) == {"step": 3}, 10)
        two.data.store.fetch_folder(two.job.run)
        assert two.read("run/half.safetensors") is None, "files of a run belong together"
    two.data.store.fetch_folder(two.job.run)
    assert two.read("run/half.safetensors") == "x"


def test_a_server_knows_the_workers_of_other_machines(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    for name, moment in (("lives", time.time()), ("dead", time.time() - 100)):
        file = one.data.workers / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"name": name, "time": moment}))
        one.data.store.publish(file)
    assert [note["name"] for note in living_workers(two.data)] == ["lives"]


def test_a_stage_that_fails_publishes_no_run(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    with pytest.raises(RuntimeError), one.data.store.working(one.job.path):
        one.write("run/manifest.json", "x")
        raise RuntimeError
    two.data.store.fetch_folder(two.job.path)
    assert two.read("run/manifest.json") is None


def test_copies_that_nobody_uses_are_removed(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = machines
    old = one.write("progress.json", "{}").parent
    one.data.store.publish(old)
    os.utime(old, (0, 0))
    other = one.data.job(new_id())
    monkeypatch.setattr(one.data.store, "_swept", time.monotonic() - 1000)
    assert read_progress(other) == {}
    assert not old.exists()
    assert read_progress(one.job) == {} and old.exists(), "it is fetched again"


def test_a_store_that_is_away(machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads hears of it at once; a worker waits, and keeps what it has."""
    one, _ = machines
    file, failures = one.write("run/manifest.json", "x"), 2

    def away(*args: Any, **kwargs: Any) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise ConnectionError("s3://secret@host cannot be reached")

    monkeypatch.setattr(store, "PAUSES", (0.01,) * 3)
    real = one.data.store._fs.put_file  # type: ignore[attr-defined]
    monkeypatch.setattr(one.data.store._fs, "put_file", lambda *a: (away(), real(*a)))  # type: ignore[attr-defined]
    with pytest.raises(StoreError) as error:
        one.data.store.publish(file)
    assert "secret" not in str(error.value)
    with one.data.store.working(one.job.path):
        file = one.write("run/manifest.json", "y")
    assert failures < 0
    monkeypatch.setattr(one.data.store._fs, "ls", lambda *a, **k: away())  # type: ignore[attr-defined]
    failures = 1
    with pytest.raises(StoreError):
        one.data.store.fetch_folder(one.job.path)
    assert file.read_text() == "y", "what cannot be looked at is not gone"


def test_a_folder_that_cannot_be_listed_is_not_gone(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machines
    one.write("run/manifest.json", "x")
    one.data.store.publish(one.job.path)
    two.data.store.fetch_folder(two.job.path)
    files, inner = two.data.store._fs, two.data.store._key(two.job.run)  # type: ignore[attr-defined]
    real = files.ls

    def ls(path: str, **kwargs: Any) -> Any:
        if path.rstrip("/") == inner:
            raise PermissionError("not now")
        return real(path, **kwargs)

    monkeypatch.setattr(files, "ls", ls)
    with pytest.raises(StoreError):
        two.data.store.fetch_folder(two.job.path)
    assert two.read("run/manifest.json") == "x"


def test_whoever_asks_for_what_is_being_fetched_waits(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page asks for parts of a large video at the same time; the second must not hear that there is none."""
    one, two = machines
    one.write("keyframes-1.mp4", "x")
    one.data.store.publish(one.job.path)
    files, begun = two.data.store._fs, threading.Event()  # type: ignore[attr-defined]
    real = files.get_file

    def slow(*given: Any) -> None:
        begun.set()
        time.sleep(0.3)
        real(*given)

    monkeypatch.setattr(files, "get_file", slow)
    file = two.job.path / "keyframes-1.mp4"
    thread = threading.Thread(target=two.data.store.fetch, args=(file,), kwargs={"age": 60.0})
    thread.start()
    assert begun.wait(10)
    two.data.store.fetch(file, age=60.0)
    assert file.is_file()
    thread.join()


def test_a_look_that_failed_is_none(machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is not put off, and it still removes what an earlier process has left."""
    one, two = machines
    one.write("progress.json", "{}")
    one.data.store.publish(one.job.path)
    two.write("run/interpolation.safetensors", "old")
    with monkeypatch.context() as away:
        for name in ("ls", "info"):
            away.setattr(two.data.store._fs, name, lambda *a, **k: 1 / 0)  # type: ignore[attr-defined]
        for look in (two.data.store.fetch_folder, two.data.store.fetch):
            with pytest.raises(StoreError):
                look(two.job.path if look == two.data.store.fetch_folder else two.job.progress, age=60.0)
    two.data.store.fetch(two.job.progress, age=60.0)
    assert two.read("progress.json") == "{}"
    two.data.store.fetch_folder(two.job.path, age=60.0)
    assert two.read("run/interpolation.safetensors") is None


def test_what_a_store_does_not_take_is_not_overlooked(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buckets that are gone are files that are not found, as is a file that somebody has removed here."""
    one, _ = machines
    file = one.write("run/manifest.json", "x")

    def gone(*args: Any) -> None:
        raise FileNotFoundError("no such bucket")

    monkeypatch.setattr(one.data.store._fs, "put_file", gone)  # type: ignore[attr-defined]
    with pytest.raises(StoreError):
        one.data.store.publish(file)


def test_a_long_step_keeps_the_copies(machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SECONDS_BETWEEN_NEWS", 0.01)
    one, _ = machines
    with one.data.store.working(one.job.path):
        folder = one.write("run/manifest.json", "x").parent.parent
        os.utime(folder, (0, 0))
        wait_for(lambda: time.time() - folder.stat().st_mtime < 60, 10)


def test_a_server_beside_a_worker_leaves_what_it_writes(machines: tuple[Machine, Machine], url: str) -> None:
    """`show1 serve` starts a worker, and both have the same copies."""
    one, other = machines
    one.write("run/manifest.json", "old")
    one.data.store.publish(one.job.path)
    server = DataFolder(one.data.path, store_url=url).store
    with one.data.store.working(one.job.path):
        time.sleep(0.02)
        for name in ("run/manifest.json", "run/a.safetensors", "keyframes-1.mp4"):
            one.write(name, "new")
        server.fetch(one.job.path / "keyframes-1.mp4")
        server.fetch(one.job.run / "manifest.json")
        server.fetch_folder(one.job.path)
        assert one.read("run/manifest.json") == one.read("run/a.safetensors") == one.read("keyframes-1.mp4") == "new"
    other.data.store.fetch_folder(other.job.path)
    assert other.read("run/manifest.json") == other.read("keyframes-1.mp4") == "new"
    other.data.store.remove(other.job.path)
    server.fetch_folder(one.job.path)
    assert one.read("run/manifest.json") is None, "the worker has ended"


def test_a_killed_worker_leaves_no_half_file_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged manifest would fail the job. Buckets take a file whole or not at all."""
    url, job_id = f"file://{tmp_path}/shared", new_id()
    one, two = Machine(tmp_path / "a", url, job_id), Machine(tmp_path / "b", url, job_id)
    file = one.write("run/manifest.json", "old, and whole")
    one.data.store.publish(one.job.path)
    time.sleep(0.02)
    file.write_text("new, and whole")

    def killed(here: str, there: str) -> None:
        Path(there).write_text("new, a")
        raise KeyboardInterrupt

    files = one.data.store._fs  # type: ignore[attr-defined]
    with monkeypatch.context() as dying:
        dying.setattr(files, "put_file", killed)
        dying.setattr(files, "rm_file", lambda *a: 1 / 0)  # nothing is removed after SIGKILL
        with pytest.raises(KeyboardInterrupt):
            one.data.store.publish(file)
    two.data.store.fetch_folder(two.job.path)
    assert two.read("run/manifest.json") == "old, and whole"
    assert [each.name for each in two.job.run.iterdir()] == ["manifest.json"], "the rest of the other is not fetched"
    one.data.store.publish(file)
    two.data.store.fetch_folder(two.job.path)
    assert two.read("run/manifest.json") == "new, and whole"


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    for url in ("nothing://x", "s3:/bucket/show1", "", "file:///proc/nobody/x", "file:///proc/nobody/x\0"):
        with pytest.raises(InputError, match="--store"):
            RemoteStore(url, tmp_path).check()
    with pytest.raises(MissingDependencyError, match="--store needs another package"):
        RemoteStore("oci://bucket/x", tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL is installed (apt-get install postgresql)")
def test_workers_and_servers_that_share_no_folder(
    tmp_path: Path, whole: GenerationRequest, undisturbed: Tensor
) -> None:
    run_apart(tmp_path, f"file://{tmp_path}/shared", whole, undisturbed)
    assert not list((tmp_path / "shared" / "jobs").glob("*/*/*")), "what was deleted is gone there too"


@pytest.mark.slow
@pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL is installed (apt-get install postgresql)")
def test_a_bucket_keeps_the_files(
    tmp_path: Path, whole: GenerationRequest, undisturbed: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with S3, as moto serves it (pip install s3fs 'moto[server]')."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", endpoint)
        bucket = boto3.resource("s3", endpoint_url=endpoint).create_bucket(Bucket="videos")
        run_apart(tmp_path, "s3://videos/show1", whole, undisturbed)
        left = [each.key for each in bucket.objects.all()]
        assert not [key for key in left if "/jobs/" in key], "what was deleted is gone there too"
    finally:
        server.stop()


def run_apart(tmp_path: Path, url: str, whole: GenerationRequest, undisturbed: Tensor) -> None:
    """Two servers and two workers, each with a folder of its own; a worker is killed, and another one goes on."""
    with postgres() as database:
        places = [tmp_path / name / "data" for name in ("server-1", "server-2", "worker-1", "worker-2")]
        for place in places:
            place.parent.mkdir()
        where = ["--database", database.url, "--store", url]
        (first, one), (second, two) = (serve(place, "--no-worker", *where) for place in places[:2])
        with first, second, httpx2.Client(base_url=one, timeout=60) as a, httpx2.Client(base_url=two, timeout=60) as b:
            drafts, full = _drafts_by_one_and_the_video_by_another(a, b, places, where, whole)
            _same_video(a, full, undisturbed, tmp_path)
            _same_video(b, full, undisturbed, tmp_path)
            _batch(tmp_path, where, places[3])
            for name in (drafts, full):
                assert a.delete(f"/v1/videos/{name}").json()["deleted"]
                assert b.get(f"/v1/videos/{name}/content").status_code == 404
            for video in a.get("/v1/videos").json()["data"]:
                assert b.delete(f"/v1/videos/{video['id']}").status_code == 200


def _drafts_by_one_and_the_video_by_another(
    a: httpx2.Client, b: httpx2.Client, places: list[Path], where: list[str], whole: GenerationRequest
) -> tuple[str, str]:
    """Drafts that the first worker makes are continued through the other server; the first one dies on the way."""
    settings = whole.settings.to_dict()
    extra = {s: {"num_inference_steps": settings[s]["num_inference_steps"]} for s in whole.stages}
    asked = {"prompt": whole.prompts[0], "seed": 1, "until": "keyframes", "num_frames": 2, "extra_params": extra}
    with worker(places[2], *where) as early:
        wait_for(lambda: b.get("/ready").status_code == 200)
        drafts = a.post("/v1/videos", json=asked).json()["id"]
        wait_for(lambda: b.get(f"/v1/videos/{drafts}").json()["status"] == "completed")
        assert b"ftyp" in b.get(f"/v1/videos/{drafts}/content").content[:16]
        full = b.post(f"/v1/videos/{drafts}/continue", json={}).json()["id"]
        # the servers read a copy of up to a second's age: too late for stages that take less
        wait_for(lambda: "in the stage 'interpolation'" in early.log.read_text(), every=0.02)
        early.kill()
    with worker(places[3], *where):
        wait_for(lambda: a.get(f"/v1/videos/{full}").json()["status"] == "completed")
    ended = b.get(f"/v1/videos/{full}").json()
    assert [stage["finished"] for stage in ended["stages"]] == [True] * 4
    return drafts, full


def _same_video(http: httpx2.Client, name: str, undisturbed: Tensor, folder: Path) -> None:
    artefact = http.get(f"/v1/videos/{name}/stages/translation", params={"variant": "artefact"})
    file = folder / "artefact.safetensors"
    file.write_bytes(artefact.content)
    from safetensors.torch import load_file

    assert torch.equal(load_file(file)["video"], undisturbed)
    part = http.get(f"/v1/videos/{name}/content", headers={"Range": "bytes=0-99"})
    assert part.status_code == 206 and len(part.content) == 100


def _batch(tmp_path: Path, where: list[str], place: Path) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("a cat\na dog\n")
    words = [*where, "--data", str(tmp_path / "batch"), "-o", str(tmp_path / "out"), "--until", "keyframes"]
    with worker(place, *where):
        with Process("batch", str(prompts), *words, log=tmp_path / "batch.log") as batch:
            wait_for(lambda: not batch.runs)
            assert batch.code == 0, batch.log.read_text()
    assert Video.load(tmp_path / "out" / "0002-a-dog.mp4").metadata["prompt"] == "a dog"
