"""A worker: takes jobs from the queue one after another, and those of workers that died.

A job is a durable workflow of DBOS, each of its stages a step whose small result is recorded in the database. A process
that is killed at any moment costs at most the stage that ran.
"""

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from dbos import DBOS
from dbos import error as dbos_error

from show1.config import StageName
from show1.errors import Cancelled, OutputError, reason_of
from show1.files import write_text
from show1.generation.pipeline import Show1Pipeline
from show1.server.adapters import find_adapter
from show1.server.jobs import PARENT, DataFolder, JobSpec
from show1.server.locks import open_locks
from show1.server.metrics import observe_stage
from show1.server.models import Models
from show1.server.queue import APPLICATION, SERIALIZER, VERSION, WORKFLOW, JobQueue, queue_name
from show1.server.stages import describe_error, run_stage, use_adapters

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 5.0
"""How often a worker looks for jobs of dead ones, and says that it lives."""
SECONDS_UNTIL_FORGOTTEN = 86400.0
"""Files of workers that have said nothing for so long are removed."""
SECONDS_BETWEEN_FORGETTING = 600.0
"""How often those of other machines are looked at for that."""
LOOKS_TO_SETTLE = 3
"""For so many looks after a PostgreSQL was away, nobody counts as dead: all workers take their locks again."""
SECONDS_BETWEEN_POLLS = 0.2
"""How often it asks for a new job."""


class Worker:
    """One process that computes jobs with one model."""

    def __init__(
        self,
        pipe: Show1Pipeline,
        data: DataFolder,
        database: str,
        *,
        model: str,
        experts: Mapping[str, Show1Pipeline] | None = None,
        look_seconds: float = SECONDS_BETWEEN_LOOKS,
    ) -> None:
        """Takes what to work with; `run` works.

        Args:
            pipe: The model.
            data: The folder of files, shared with the server and with the other workers.
            database: URL of the queue.
            model: The model's name in the queue.
            experts: The same model with each expert that clients may choose, by name.
            look_seconds: How often to look for jobs of dead workers.
        """
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._models = Models(pipe, experts or {})
        self._data, self._model, self._database = data, model, database
        self._queue_name = queue_name(model)
        self._look_seconds, self._dtype = look_seconds, pipe.dtype
        self._queue = JobQueue(database, model=model)
        self._locks = open_locks(database, data.locks, self.name, LOOKS_TO_SETTLE * look_seconds)
        self._one_at_a_time = threading.Lock()
        self._leaving = threading.Event()
        self._began = time.time()

    def run(self, grace: float = 30.0) -> None:
        """Works until the process is asked to stop (`KeyboardInterrupt`): then the running stage may finish.

        Args:
            grace: Seconds that the running stage may take; after them its job goes back into the queue as it is.
        """
        try:
            self._locks.hold()
            self._launch()
            logger.info("worker %s computes with %s", self.name, self._model)
            parent = os.environ.get(PARENT)
            while parent in (None, str(os.getppid())):  # the server that started it may have been killed
                self._look()
                time.sleep(self._look_seconds)
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            self._leave(grace)

    def _launch(self) -> None:
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": self._database,
                "application_version": VERSION,
                "executor_id": self.name,
                "serializer": SERIALIZER,
                "log_level": "WARNING",
            }
        )

        def generate(values: dict[str, Any]) -> dict[str, Any]:
            return self._generate(values)

        # No limit of DBOS's own, which would count workers that were only stopped: `take_over` counts those that died.
        DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)(generate)
        DBOS.listen_queues([self._queue_name])
        DBOS.launch()
        DBOS.register_queue(self._queue_name, worker_concurrency=1, polling_interval_sec=SECONDS_BETWEEN_POLLS)

    def _generate(self, values: dict[str, Any]) -> dict[str, Any]:
        """The workflow: one step per stage."""
        spec, job_id = JobSpec.model_validate(values), str(DBOS.workflow_id)
        records: list[dict[str, Any]] = []
        for stage in spec.parsed.stages:
            record = DBOS.run_step({"name": stage}, self._stage, job_id, spec, stage, list(records))
            if "error" in record:
                return {"error": record["error"], "stages": records}
            records.append(record)
        return {"stages": records}

    def _stage(self, job_id: str, spec: JobSpec, stage: StageName, done: list[dict[str, Any]]) -> dict[str, Any]:
        """A step of the workflow."""
        with self._one_at_a_time:
            if not self._leaving.is_set():
                try:
                    pipe = self._models.take(spec.expert)
                    files = {name: find_adapter(self._data, name, spec.owner, spec.expert) for name in spec.adapters}
                    use_adapters(pipe, spec.adapters, files)
                    folder, lost = self._data.job(job_id), partial(self._is_lost, job_id)
                    with self._data.store.working(folder.path):
                        record = run_stage(pipe, folder, spec.parsed, stage, done=done, dtype=self._dtype, stopped=lost)
                    self._forgive(job_id)
                    self._tidy(job_id)
                except Cancelled as error:
                    self._tidy(job_id)
                    raise dbos_error.DBOSWorkflowCancelledError(str(error)) from error
                except Exception as error:
                    logger.exception("%s failed in %s", job_id, stage)
                    record = {"error": describe_error(error, self._data.path)}
                observe_stage(record)
                return record
        threading.Event().wait()  # the process ends, and the job is in the queue again
        raise AssertionError("the process has ended")

    def _tidy(self, job_id: str) -> None:
        """Removes what was written for a job while somebody deleted it."""
        with suppress(Exception):  # the database may be away
            if self._queue.get(job_id) is None:
                self._data.store.remove(self._data.job(job_id).path)

    def _forgive(self, job_id: str) -> None:
        """Notes that a job has finished a stage: what ended other workers before is over."""
        try:
            self._queue.forgive(job_id)
        except Exception as error:
            logger.warning("the database cannot be reached: %s", reason_of(error))

    def _is_lost(self, job_id: str) -> bool:
        """Whether a job is no longer this worker's: cancelled, forgotten, or taken over while the database was away."""
        try:
            job = self._queue.get(job_id)
        except Exception as error:  # the database is away: what is computed is kept until it is back
            logger.warning("the database cannot be reached: %s", reason_of(error))
            return False
        return job is None or job.worker != self.name

    def _look(self) -> None:
        """Makes sure that the lock is held, says that the worker lives, and takes over the jobs of dead ones."""
        try:
            self._locks.hold()
            self._say()
            others = {job.worker for job in self._queue.running() if job.worker not in (None, self.name)}
            for worker in sorted(name for name in others if name is not None):
                with self._locks.freed(worker) as dead:
                    for job in self._queue.running(worker) if dead else ():
                        kept = self._queue.take_over(job.id, worker)
                        logger.warning(
                            "%s of the dead worker %s %s", job.id, worker, "resumes" if kept else "is given up"
                        )
        except Exception as error:
            logger.warning("the queue cannot be looked at: %s", reason_of(error))

    def _say(self) -> None:
        """Writes what the server shows of its workers; removes what those have left that died long ago."""
        folder, store, now = self._data.workers, self._data.store, time.time()
        note = {"name": self.name, "model": self._model, "queue": self._queue_name, "time": now}
        note |= {"device": self._models.own.device.type, "began": self._began}
        try:
            write_text(folder / f"{self.name}.json", json.dumps(note))
            store.publish(folder / f"{self.name}.json")
            store.fetch_folder(folder, age=SECONDS_BETWEEN_FORGETTING)
        except OutputError as error:
            logger.warning("%s", error)
        for left in folder.glob("*.json"):
            with suppress(OSError):
                if now - left.stat().st_mtime > SECONDS_UNTIL_FORGOTTEN:
                    store.remove(left)
                    (self._data.locks / f"{left.stem}.lock").unlink()

    def _leave(self, grace: float) -> None:
        """Lets the running stage finish, puts the job back and ends the process, whatever its threads still do."""
        logger.info("stopping: the running stage has %g seconds, then its job goes back into the queue", grace)
        self._leaving.set()
        # It asks for no more jobs at once, and waits longer than this process lives for those that it has.
        last: dict[str, Any] = {"workflow_completion_timeout_sec": round(grace) + 60}
        threading.Thread(target=DBOS.destroy, kwargs=last, daemon=True).start()
        try:
            self._one_at_a_time.acquire(timeout=grace)
            time.sleep(0.1)  # the result of the stage is being recorded
            for job in self._queue.running(self.name):
                self._queue.put_back(job.id, self.name)
            self._locks.close()
            self._data.store.remove(self._data.workers / f"{self.name}.json")
        except KeyboardInterrupt:
            logger.warning("stopping at once")
        except Exception as error:
            logger.warning("the job could not be put back (%s); another worker takes it over", reason_of(error))
        finally:
            logging.shutdown()
            os._exit(0)
