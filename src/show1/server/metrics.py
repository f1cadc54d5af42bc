"""What Prometheus may read: of the server and of the worker that it started, or of a worker that serves its own."""

import os
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    start_http_server,
)

from show1.errors import InputError
from show1.server.service import Service

STAGE_SECONDS = Histogram(
    "show1_stage_seconds",
    "Time that a stage took.",
    ["stage"],
    buckets=(0.5, 1, 2, 5, 10, 20, 40, 60, 120, 300, 600, 1200, 3600),
)
STAGE_MEMORY = Gauge(
    "show1_stage_peak_memory_bytes",
    "Peak memory of the stage that was computed last.",
    ["stage"],
    multiprocess_mode="mostrecent",
)
JOBS_FAILED = Counter("show1_jobs_failed_total", "Jobs that failed, by kind of failure.", ["code"])
REQUESTS = Histogram(
    "show1_request_seconds",
    "Time until the server began to answer.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)


def observe_stage(record: dict[str, Any]) -> None:
    """Counts a finished stage, or a failure, as a worker records it."""
    if "error" in record:
        JOBS_FAILED.labels(record["error"]["code"]).inc()
    elif record["seconds"] is not None:
        STAGE_SECONDS.labels(record["stage"]).observe(record["seconds"])
        STAGE_MEMORY.labels(record["stage"]).set(record["peak_memory_bytes"] or 0)


def serve_metrics(address: str) -> None:
    """Lets Prometheus read the numbers of this process's stages.

    Args:
        address: `PORT` of this machine only, or `HOST:PORT`.

    Raises:
        InputError: It is none, or is taken.
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise InputError(f"--metrics must be PORT or HOST:PORT, such as 9000 or 0.0.0.0:9000, got {address!r}")
    try:
        start_http_server(int(port), host.strip("[]") or "127.0.0.1")
    except OSError as error:
        raise InputError(f"--metrics {address} cannot be used: {error.strerror or error}; choose another") from error


class Metrics:
    """The numbers of a server."""

    def __init__(self, service: Service) -> None:
        """Takes the service, whose queue is counted when somebody asks."""
        self._service = service

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts an answer."""
        known = method if method in ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH") else "other"
        REQUESTS.labels(known, route, str(status)).observe(seconds)

    def text(self) -> tuple[bytes, str]:
        """All numbers in Prometheus's form, and its content type."""
        now = CollectorRegistry()
        active = self._service.active()
        running = sum(job.status == "in_progress" for job in active)
        for name, text, value in (
            ("show1_jobs_queued", "Jobs that wait.", len(active) - running),
            ("show1_jobs_running", "Jobs that are computed.", running),
            ("show1_workers", "Workers that have said within 30 seconds that they live.", len(self._service.workers())),
        ):
            Gauge(name, text, registry=now).set(value)
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            multiprocess.MultiProcessCollector(now)  # type: ignore[no-untyped-call]
            return generate_latest(now), CONTENT_TYPE_LATEST
        return generate_latest(now) + generate_latest(REGISTRY), CONTENT_TYPE_LATEST
