"""The queue of jobs: a table of workflows that DBOS keeps in SQLite or PostgreSQL.

Whoever asks for jobs or looks at them uses this; only `worker.py` runs them.
"""

import datetime
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer

from show1.checkpoints.names import absolute_model
from show1.errors import InputError, Show1Error, reason_of
from show1.server.jobs import Job, JobError, JobSpec, JobStatus
from show1.stage_table import STAGE_TABLE

logger = logging.getLogger(__name__)

APPLICATION = "show1"
WORKFLOW = "generate"
VERSION = "show1-jobs-1"
"""Version of what the workflow does step by step. It changes only when old jobs could no longer be resumed."""
SERIALIZER = DBOSPortableJSONSerializer()
"""JSON, so that nothing in the database can make a program run, as a pickle could."""
LOST = "lost"
"""Attribute of a workflow: how many workers have ended while they computed it since it last finished a stage."""
STOPPED = "stopped"
"""Attribute of a workflow: whether a client has cancelled it, so that nobody puts it back into the queue."""
MAX_LOST = 5
"""Number of these after which a job is given up."""

_STATUS: dict[str, JobStatus] = {
    "DELAYED": "queued",
    "ENQUEUED": "queued",
    "PENDING": "in_progress",
    "SUCCESS": "completed",
    "CANCELLED": "cancelled",
}
ACTIVE = ["DELAYED", "ENQUEUED", "PENDING"]


class JobQueue:
    """The jobs in a database. Its methods may be called from several threads."""

    def __init__(self, database: str, *, model: str | None = None) -> None:
        """Opens the database, and makes its tables if they are missing.

        Args:
            database: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.
            model: The model whose jobs these are; None: those of all models.

        Raises:
            InputError: It is no such URL, or the database cannot be opened.
        """
        check_url(database)
        self.database = database
        self._queue = None if model is None else queue_name(model)
        try:
            DBOS.migrate(database)
            self._client = DBOSClient(
                system_database_url=database,
                serializer=SERIALIZER,
                application_name=APPLICATION,
                retry_connection_errors=False,
                system_database_pool_size=10,
            )
        except Exception as error:
            raise InputError(
                f"the database {shown_url(database)} cannot be opened: {reason_of(error)}; check --database"
            ) from error

    def close(self) -> None:
        """Closes the connections."""
        self._client.destroy()

    def check(self) -> None:
        """Raises whatever the database raises if it cannot be reached."""
        self._client.check_connection()

    def submit(self, job_id: str, spec: JobSpec, *, owner: str | None = None, priority: int = 100) -> None:
        """Adds a job. A job of that name that is there already stays as it is.

        Args:
            job_id: Its name.
            spec: What is asked for.
            owner: Name of the API key that asks.
            priority: 1 is first.
        """
        options: Any = {
            "workflow_name": WORKFLOW,
            "queue_name": queue_name(spec.model),
            "workflow_id": job_id,
            "app_version": VERSION,
            "priority": priority,
        }
        if owner is not None:
            options["authenticated_user"] = owner
        self._client.enqueue(options, spec.model_dump(mode="json"))

    def get(self, job_id: str) -> Job | None:
        """How a job stands; None if there is none of that name."""
        return next(iter(self.get_all([job_id])), None)

    def get_all(self, job_ids: Iterable[str]) -> list[Job]:
        """How several jobs stand, in one query; those that do not exist are left out."""
        wanted = list(job_ids)
        return [_job(row) for row in self._client.list_workflows(workflow_ids=wanted, name=WORKFLOW)] if wanted else []

    def page(
        self, *, owner: str | None = None, after: str | None = None, limit: int = 20, newest_first: bool = True
    ) -> tuple[list[Job], bool]:
        """A page of jobs.

        Args:
            owner: Only the jobs of this key; None: all.
            after: Begin behind this job.
            limit: Most jobs of a page.
            newest_first: Whether the newest comes first.

        Returns:
            The jobs, and whether there are more.

        Raises:
            InputError: There is no job called `after`.
        """
        wanted: dict[str, Any] = {"name": WORKFLOW, "user": owner, "sort_desc": newest_first}
        skipped = 0
        if after is not None:
            edge = self.get(after)
            if edge is None or (owner is not None and edge.owner != owner):
                raise InputError(f"after names the video {after[:60]!r}, which does not exist")
            moment = datetime.datetime.fromtimestamp(edge.created, datetime.UTC).isoformat()
            wanted["end_time" if newest_first else "start_time"] = moment
            skipped = 1
        while True:  # jobs of the same millisecond as `after` may stand before it
            found = [_job(row) for row in self._client.list_workflows(**wanted, limit=limit + 1 + skipped)]
            names = [job.id for job in found]
            if after is None or after in names or len(found) <= limit + skipped:
                break
            skipped *= 2
        rest = found[names.index(after) + 1 :] if after in names else found
        return rest[:limit], len(rest) > limit

    def active(self) -> list[Job]:
        """The jobs that run, then those that wait in the order of the queue, all without what they ask for."""
        rows = self._client.list_workflows(
            status=ACTIVE, name=WORKFLOW, queue_name=self._queue, load_input=False, load_output=False
        )
        return sorted(map(_job, rows), key=lambda job: (job.status == "queued", job.priority, job.created))

    def recent(self, count: int = 20) -> Sequence[Job]:
        """The jobs that were asked for last and are finished, with what each stage took."""
        rows = self._client.list_workflows(
            status="SUCCESS", name=WORKFLOW, queue_name=self._queue, sort_desc=True, limit=count
        )
        return [_job(row) for row in rows]

    def cancel(self, job_id: str) -> None:
        """Stops a job: one that waits at once, one that runs at its next step. One that has ended stays as it is."""
        self._client.update_workflow_attributes(job_id, {STOPPED: True}, merge=True)
        self._client.cancel_workflow(job_id)

    def delete(self, job_id: str) -> None:
        """Forgets a job."""
        self._client.delete_workflow(job_id)

    def put_back(self, job_id: str, worker: str) -> None:
        """Puts a job that a worker runs back into the queue; one that another worker has by now stays as it is."""
        job = self.get(job_id)
        if job is None or job.worker != worker or job.spec is None:
            return
        self._client.resume_workflow(job_id, queue_name=self._queue or queue_name(job.spec.model))
        if self._attributes(job_id).get(STOPPED):  # it was cancelled meanwhile, and is no longer
            self._client.cancel_workflow(job_id)

    def running(self, worker: str | None = None) -> list[Job]:
        """The jobs that run, of one worker or of all."""
        rows = self._client.list_workflows(
            status="PENDING", name=WORKFLOW, queue_name=self._queue, executor_id=worker, load_output=False
        )
        return [_job(row) for row in rows]

    def take_over(self, job_id: str, worker: str) -> bool:
        """Puts a job whose worker is dead back into the queue, unless one stage has cost too many workers their life.

        Args:
            job_id: The job; one that the worker no longer has stays as it is.
            worker: The dead worker.

        Returns:
            Whether it is not given up.
        """
        job = self.get(job_id)
        if job is None or job.worker != worker:
            return True
        lost = int(self._attributes(job_id).get(LOST, 0)) + 1
        self._client.update_workflow_attributes(job_id, {LOST: lost}, merge=True)
        if lost >= MAX_LOST:
            self._client.cancel_workflow(job_id)
            return False
        self.put_back(job_id, worker)
        return True

    def forgive(self, job_id: str) -> None:
        """Forgets the workers that a job has cost: it has finished a stage since."""
        if self._attributes(job_id).get(LOST):
            self._client.update_workflow_attributes(job_id, {LOST: 0}, merge=True)

    def _attributes(self, job_id: str) -> dict[str, Any]:
        rows = self._client.list_workflows(workflow_ids=[job_id], load_input=False, load_output=False)
        return (rows[0].attributes or {}) if rows else {}


def queue_name(model: str) -> str:
    """The name of the queue of a model's jobs, the same however a folder is named: see `absolute_model_option`."""
    return f"show1:{absolute_model_option(model)}"


def absolute_model_option(model: str) -> str:
    """A model as `--model` names it, with absolute paths of the folders on this disk."""
    if model.partition("=")[0].strip() not in STAGE_TABLE:
        return absolute_model(model)
    pairs = (part.partition("=") for part in model.split(","))
    return ",".join(f"{name.strip()}={absolute_model(where.strip())}" for name, _, where in pairs)


def check_url(database: str) -> None:
    """Makes sure that a text is the URL of a database that can hold the queue.

    Raises:
        InputError: It is not.
    """
    if not database.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
        raise InputError(
            f"--database must be sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME, got {shown_url(database)!r}"
        )


def shown_url(database: str) -> str:
    """The URL without its password."""
    before, at, after = database.rpartition("@")
    scheme, slashes, user = before.partition("://")
    return f"{scheme}{slashes}{user.partition(':')[0]}@{after}" if at else database


def _job(row: Any) -> Job:
    """How a workflow stands, as a job."""
    status, error = _STATUS.get(row.status, "failed"), None
    output = row.output if isinstance(row.output, dict) else {}
    if "error" in output:
        status, error = "failed", JobError(code=output["error"]["code"], message=output["error"]["message"])
    elif status == "cancelled" and int((row.attributes or {}).get(LOST, 0)) >= MAX_LOST:
        status = "failed"
        error = JobError(
            code="worker_lost",
            message=f"the worker ended {MAX_LOST} times while it computed this video, perhaps because memory ran out; "
            "ask for fewer frames or a smaller size",
        )
    elif status == "failed":
        error = JobError(code="internal_error", message="the server failed; its log says why")
    inputs = (row.input.get("args") if isinstance(row.input, dict) else None) or ()
    return Job(
        id=row.workflow_id,
        status=status,
        created=(row.created_at or 0) / 1000,
        started=None if row.dequeued_at is None else row.dequeued_at / 1000,
        ended=None if row.completed_at is None else row.completed_at / 1000,
        owner=row.authenticated_user or None,
        priority=row.priority or 0,
        worker=row.executor_id if row.status == "PENDING" else None,
        spec=_spec(_Input(row.workflow_id, inputs[0])) if inputs else None,
        stages=tuple(output.get("stages", ())),
        error=error,
    )


@dataclass(frozen=True)
class _Input:
    """What the database holds of a job's request, which never changes."""

    job_id: str
    values: Any = field(compare=False)


@lru_cache(maxsize=300)
def _spec(read: _Input) -> JobSpec | None:
    """What is asked for, or None if it cannot be read; clients ask for the state of the same jobs again and again."""
    try:
        spec = JobSpec.model_validate(read.values)
        return spec if spec.parsed else None
    except (Show1Error, ValueError, TypeError, LookupError, AttributeError) as error:
        logger.warning("%s cannot be read, and is left out: %s", read.job_id, reason_of(error))
        return None
