"""A job: what is asked for, where its files are, and how it stands.

::

    show1-data/
      jobs.sqlite                     the queue, unless a PostgreSQL holds it
      adapters/NAME.safetensors       adapters that clients may name: see `adapters.py`
      copies/                         where another place keeps the files of all machines, what is below: see `store.py`
      uploads/KEY/NAME.safetensors    those that clients have uploaded
      workers/HOST-PID-xxxx.lock      held by a worker as long as it lives (only with SQLite)
      workers/HOST-PID-xxxx.json      what a worker last said of itself
      jobs/video_.../
        run/                          the run folder: manifest and one lossless artefact per stage
        input.safetensors             the clip that it begins with, if it begins with one
        progress.json                 the running stage and its step
        keyframes-1.mp4, .webp        draft 1 after a stage: its video and a thumbnail
        keyframes.jpg                 contact sheet of all drafts
        preview-1.webp                draft 1 while it is denoised
"""

import re
import secrets
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from show1.config import StageName
from show1.generation.request import GenerationRequest
from show1.server.remote_store import RemoteStore
from show1.server.store import Store

JobStatus = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
"""How a job stands."""
Kind = Literal["new", "continue", "remix"]
"""Whether it is made from a prompt, from a draft of another job, or from another job's settings with a new prompt."""

PARENT = "SHOW1_PARENT"
"""Environment variable with the process of the server that a worker ends with."""

_ID = re.compile(r"video_[0-9a-f]{32}")


class JobSpec(BaseModel):
    """What the queue keeps of a job: all that a worker must know."""

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))

    request: dict[str, Any]
    """The saved form of the `GenerationRequest`."""
    model: str
    """Name of the model."""
    kind: Kind = "new"
    """How it came to be."""
    source: str | None = None
    """The job that it continues or remixes."""
    draft: int = 0
    """The draft of the source that it continues, from 0."""
    warnings: tuple[str, ...] = ()
    """What its owner should know, such as words of the prompt that the model does not know."""
    adapters: dict[str, float] = {}
    """Weights of the adapters that it is made with, by the names of their files."""
    owner: str | None = None
    """Name of the API key whose uploads these may be."""
    expert: str | None = None
    """Name of the expert in place of the translation; None: the model's own."""

    @cached_property
    def parsed(self) -> GenerationRequest:
        """The request."""
        return GenerationRequest.from_dict(self.request)


@dataclass(frozen=True, kw_only=True)
class JobError:
    """Why a job failed."""

    code: str
    """For programs, such as `disk_full`."""
    message: str
    """For people."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """How a job stands in the queue."""

    id: str
    """Its name, `video_` and 32 hexadecimal digits."""
    status: JobStatus
    """How it stands."""
    created: float
    """When it was asked for, in seconds since 1970."""
    started: float | None
    """When a worker last took it."""
    ended: float | None
    """When it ended."""
    owner: str | None
    """Name of the API key that asked for it."""
    priority: int
    """1 is first."""
    worker: str | None
    """The worker that has it."""
    spec: JobSpec | None = None
    """What is asked for; None in a list of what is active, and where another version wrote what cannot be read."""
    stages: tuple[dict[str, Any], ...] = ()
    """Of a finished job: name, seconds and peak memory of each stage."""
    error: JobError | None = field(default=None)
    """Why it failed."""


@dataclass(frozen=True)
class DataFolder:
    """The folder of a server and its workers; on several machines a shared one, unless they have a store."""

    path: Path
    """Where it is."""
    adapters_path: Path | None = None
    """Where the operator's adapters are; None: inside."""
    store_url: str | None = None
    """URL of a place that keeps the files of all machines; None: this folder does."""

    @cached_property
    def store(self) -> Store:
        """What brings files from there, and puts them there.

        Raises:
            InputError: The URL cannot be used.
            MissingDependencyError: fsspec needs another package for it.
        """
        return Store() if self.store_url is None else RemoteStore(self.store_url, self.files)

    @property
    def files(self) -> Path:
        """The folder of what all machines must see, or of the copies of it."""
        return self.path if self.store_url is None else self.path / "copies"

    def job(self, job_id: str) -> "JobFolder":
        """The folder of a job.

        Raises:
            ValueError: The name is not one that `new_id` makes.
        """
        if not is_id(job_id):
            raise ValueError(f"no job is called {job_id[:60]!r}")
        return JobFolder(self.files / "jobs" / job_id, self.store)

    @property
    def workers(self) -> Path:
        """The folder in which workers say that they live."""
        return self.files / "workers"

    @property
    def locks(self) -> Path:
        """The folder of the locks of workers with SQLite."""
        return self.path / "workers"

    @property
    def adapters(self) -> Path:
        """The folder of the adapters that every client may use."""
        return self.path / "adapters" if self.adapters_path is None else self.adapters_path

    def uploads(self, owner: str | None) -> Path:
        """The folder of the adapters that an API key, or whoever has none, has uploaded."""
        return self.files / "uploads" / (owner or "_")

    @property
    def database(self) -> str:
        """URL of the queue's default database."""
        return f"sqlite:///{self.path.absolute() / 'jobs.sqlite'}"


@dataclass(frozen=True)
class JobFolder:
    """The files of one job."""

    path: Path
    """Where they are."""
    store: Store
    """Where they come from, if other machines write them."""

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.path / "run"

    @property
    def input(self) -> Path:
        """The clip that the job begins with: safetensors with `video`, (B, 3, F, H, W)."""
        return self.path / "input.safetensors"

    @property
    def progress(self) -> Path:
        """What the worker last said of it."""
        return self.path / "progress.json"

    def video(self, stage: StageName, draft: int) -> Path:
        """The video of a draft (from 0) after a stage."""
        return self.path / f"{stage}-{draft + 1}.mp4"

    def thumbnail(self, stage: StageName, draft: int) -> Path:
        """The picture of a draft (from 0) after a stage."""
        return self.path / f"{stage}-{draft + 1}.webp"

    def sheet(self, stage: StageName) -> Path:
        """The contact sheet of all drafts after a stage."""
        return self.path / f"{stage}.jpg"

    def preview(self, draft: int) -> Path:
        """The moving picture of a draft (from 0) that is being denoised."""
        return self.path / f"preview-{draft + 1}.webp"


def is_id(text: str) -> bool:
    """Whether a text is a name that `new_id` may have made."""
    return _ID.fullmatch(text) is not None


def new_id() -> str:
    """A name for a job that nobody can guess, sorted by time."""
    return f"video_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
