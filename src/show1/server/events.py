"""Server-sent events: a client that watches videos hears of each change at once, and asks nothing."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from show1.server.jobs import Job
from show1.server.keys import Key
from show1.server.service import Busy, NotFound, Service
from show1.server.views import video_object

SECONDS_BETWEEN_LOOKS = 0.3
"""How often the videos that are watched are looked at."""
SECONDS_BETWEEN_SIGNS = 15.0
"""How often something is sent at least, so that no proxy ends the stream."""
SECONDS_TO_WAIT = 3600.0
"""How long `POST /v1/videos/sync` waits."""


class Streams:
    """The streams of a server."""

    def __init__(self, service: Service) -> None:
        """Takes the service."""
        self._service = service
        self._open = 0

    def open(self, names: Sequence[str], key: Key) -> AsyncIterator[str]:
        """The events of some videos: `video` with the video object whenever it changes, `deleted` when it is gone.

        The stream ends when all have ended.

        Raises:
            Busy: Too many streams are open.
        """
        if self._open >= self._service.limits.max_streams:
            raise Busy("too many streams of events are open; ask for GET /v1/videos/{id} instead")
        return self._events(names, key)

    async def wait(self, name: str, key: Key, request: Request) -> Job:
        """The job when it has ended.

        Raises:
            Busy: It took too long.
        """
        end = time.monotonic() + SECONDS_TO_WAIT
        while time.monotonic() < end and not await request.is_disconnected():
            job = await run_in_threadpool(self._service.get, name, key)
            if job.status not in ("queued", "in_progress"):
                return job
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        raise Busy(f"the video takes longer; ask for it with GET /v1/videos/{name}")

    async def _events(self, names: Sequence[str], key: Key) -> AsyncIterator[str]:
        self._open += 1
        known: dict[str, str] = {}
        watched, spoke = list(names), time.monotonic()
        try:
            yield "retry: 2000\n\n"
            while watched:
                for name in list(watched):
                    event, values, ended = await run_in_threadpool(self._look, name, key)
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
        finally:
            self._open -= 1

    def _look(self, name: str, key: Key) -> tuple[str, dict[str, Any], bool]:
        """An event's name and values, and whether it is the last one of its video."""
        try:
            job = self._service.get(name, key)
        except NotFound:
            return "deleted", {"id": name}, True
        folder = self._service.data.job(name)
        values = video_object(job, folder, self._service.place(job))
        pictures = {}
        for draft in range(values["count"]) if job.status == "in_progress" else ():
            preview = folder.preview(draft)
            if preview.is_file():
                pictures[str(draft + 1)] = preview.stat().st_mtime_ns // 1_000_000
        values["previews"] = pictures
        return "video", values, job.status not in ("queued", "in_progress")
