"""Limits of a server: none can be passed by asking for much at once, or by another way in."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from show1 import Show1Pipeline, Video

pytest.importorskip("dbos")

from show1.server.access import Access  # noqa: E402
from show1.server.asked import BadRequest, Continuation, Creation  # noqa: E402
from show1.server.events import Streams  # noqa: E402
from show1.server.jobs import DataFolder  # noqa: E402
from show1.server.keys import KeyFile, anonymous  # noqa: E402
from show1.server.limits import ServerLimits  # noqa: E402
from show1.server.queue import JobQueue  # noqa: E402
from show1.server.service import Busy, Service  # noqa: E402

Make = Callable[..., Service]


@pytest.fixture
def service(data: Path, pipe: Show1Pipeline) -> Iterator[Make]:
    """Makes a service without a worker, with some limits."""
    folder = DataFolder(data)
    queue = JobQueue(folder.database, model="mini")
    yield lambda **limits: Service(pipe, folder, queue, model="mini", limits=ServerLimits(**limits))
    queue.close()


def test_requests_at_once_do_not_pass_the_limit_of_the_queue(service: Make) -> None:
    limited, ended = service(max_queue=3), list[str]()

    def ask() -> None:
        try:
            ended.append(limited.create(Creation(prompt="a cat", until="keyframes"), anonymous()).status)
        except Busy:
            ended.append("busy")

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["busy"] * 7 + ["queued"] * 3
    assert len(limited.queue.active()) == 3


def test_streams_are_counted_in_all_and_for_each_client(service: Make, tmp_path: Path) -> None:
    streams = Streams(service(max_streams=3, max_streams_per_key=2), Access(KeyFile(tmp_path / "k"), host="localhost"))
    with ExitStack() as open_ones:
        for _ in range(2):
            open_ones.enter_context(streams.seat("ann"))
        with pytest.raises(Busy):
            open_ones.enter_context(streams.seat("ann"))
        with streams.seat("bob"), pytest.raises(Busy):
            open_ones.enter_context(streams.seat("cid"))
        open_ones.enter_context(streams.seat("cid"))
    with streams.seat("ann"):
        pass


def test_a_removed_key_ends_its_streams(service: Make, tmp_path: Path) -> None:
    keys, serving = KeyFile(tmp_path / "keys.json"), service()
    shown = keys.add("ann")
    streams, ann = Streams(serving, Access(keys, host="127.0.0.1")), keys.find(shown)
    assert ann is not None
    job = serving.create(Creation(prompt="a cat", until="keyframes"), ann)

    async def watch() -> list[str]:
        heard = []
        async for text in streams.events([job.id], ann):
            heard.append(text.partition("\n")[0])
            if len(heard) == 2:
                keys.remove("ann")
        return heard

    assert asyncio.run(asyncio.wait_for(watch(), 20)) == ["retry: 2000", "event: video"]


def test_long_negative_prompts_are_refused_wherever_they_stand(service: Make) -> None:
    limited, long = service(max_prompt=20), "x" * 21
    for body in ({"negative_prompt": long}, {"extra_params": {"translation": {"negative_prompt": long}}}):
        with pytest.raises(BadRequest, match="negative prompt has 21 characters, and 20") as refused:
            limited.create(Creation.model_validate({"prompt": "a cat", "until": "keyframes", **body}), anonymous())
        assert refused.value.param == "negative_prompt"
    job = limited.create(Creation(prompt="a cat", until="keyframes"), anonymous())
    with pytest.raises(BadRequest, match="negative prompt"):
        limited.carry_on(job.id, Continuation(negative_prompt=long), anonymous())


def test_the_frames_of_a_clip_count_wherever_they_are_used(service: Make, data: Path, tmp_path: Path) -> None:
    clip = Video(frames=np.zeros((29, 64, 96, 3), np.uint8), fps=8.0).save(tmp_path / "clip.mp4")
    asked = Creation(prompt="a cat", start_from="super_resolution", until="super_resolution")
    with pytest.raises(BadRequest, match="make it smaller or shorter"):
        service(max_clip_megapixels=1).create(
            asked, anonymous(), Video(frames=np.zeros((5, 640, 960, 3), np.uint8), fps=8.0).save(tmp_path / "big.mp4")
        )
    with pytest.raises(BadRequest, match="million pixels"):
        service(max_megapixels=1).create(asked.model_copy(update={"until": None}), anonymous(), clip)
    assert not list((data / "jobs").iterdir())
    job = service().create(asked, anonymous(), clip)
    with pytest.raises(BadRequest, match="million pixels"):
        service(max_megapixels=1).carry_on(job.id, Continuation(), anonymous())
    assert [folder.name for folder in (data / "jobs").iterdir()] == [job.id]
    assert service().carry_on(job.id, Continuation(), anonymous()).status == "queued"
