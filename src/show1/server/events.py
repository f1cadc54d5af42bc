"""Server-sent events: a client that watches videos hears of each change at once, and asks nothing."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from show1.server.access import Access, Refused
from show1.server.jobs import Job
from show1.server.keys import Key
from show1.server.service import Busy, Service
from show1.server.store import SECONDS_OF_COPY
from show1.server.views import video_object

SECONDS_BETWEEN_LOOKS = 0.3
"""How often the videos that are watched are looked at."""
SECONDS_BETWEEN_SIGNS = 15.0
"""How often something is sent at least, so that no proxy ends the stream."""
SECONDS_TO_WAIT = 3600.0
"""How long `POST /v1/videos/sync` waits."""


class Streams:
    """The streams of a server."""

    def __init__(self, service: Service, access: Access) -> None:
        """Takes the service, and who may use it."""
        self._service, self._access = service, access
        self._open: Counter[str] = Counter()

    @contextmanager
    def seat(self, client: str) -> Iterator[None]:
        """Counts a stream, or a request that waits, of a client as long as the block lasts.

        It is called by the event loop only, so that no two clients can take the last seat.

        Raises:
            Busy: Too many are open.
        """
        limits = self._service.limits
        if self._open.total() >= limits.max_streams or self._open[client] >= limits.max_streams_per_key:
            raise Busy("too many streams of events are open; ask for GET /v1/videos/{id} instead")
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
            self._open += Counter()  # forgets clients that have none

    async def wait(self, name: str, key: Key, request: Request) -> Job:
        """The job when it has ended.

        Raises:
            Busy: It took too long.
            Refused: The key has been removed.
        """
        end = time.monotonic() + SECONDS_TO_WAIT
        while time.monotonic() < end and not await request.is_disconnected():
            job = await run_in_threadpool(self._job, name, key)
            if job.status not in ("queued", "in_progress"):
                return job
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        raise Busy(f"the video takes longer; ask for it with GET /v1/videos/{name}")

    async def events(self, names: Sequence[str], key: Key) -> AsyncIterator[str]:
        """The events of some videos: `video` with the video object whenever it changes, `deleted` when it is gone.

        The stream ends when all have ended, or when the key is removed.
        """
        known: dict[str, str] = {}
        watched, spoke = list(names), time.monotonic()
        yield "retry: 2000\n\n"
        while watched:
            seen = await run_in_threadpool(self._look, watched, key)
            if seen is None:
                return
            for name, (event, values, ended) in seen.items():
                text = json.dumps(values)
                if known.get(name) != text:
                    known[name], spoke = text, time.monotonic()
                    yield f"event: {event}\ndata: {text}\n\n"
                if ended:
                    watched.remove(name)
            if time.monotonic() - spoke > SECONDS_BETWEEN_SIGNS:
                spoke = time.monotonic()
                yield ": still there\n\n"
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        yield "event: end\ndata: {}\n\n"

    def _job(self, name: str, key: Key) -> Job:
        if not self._access.is_valid(key):
            raise Refused(401, "this API key has been removed", "invalid_api_key")
        return self._service.get(name, key)

    def _look(self, names: Sequence[str], key: Key) -> dict[str, tuple[str, dict[str, Any], bool]] | None:
        """Of each video, an event's name and values, and whether it is the last one; None: the key was removed."""
        if not self._access.is_valid(key):
            return None
        jobs = self._service.get_all(names, key)
        return {name: self._event(jobs[name]) if name in jobs else ("deleted", {"id": name}, True) for name in names}

    def _event(self, job: Job) -> tuple[str, dict[str, Any], bool]:
        folder = self._service.data.job(job.id)
        values = video_object(job, folder, self._service.place(job))
        pictures = {}
        for draft in range(values["count"]) if job.status == "in_progress" else ():
            preview = folder.preview(draft)
            folder.store.fetch(preview, age=SECONDS_OF_COPY)
            if preview.is_file():
                pictures[str(draft + 1)] = preview.stat().st_mtime_ns // 1_000_000
        values["previews"] = pictures
        return "video", values, job.status not in ("queued", "in_progress")
