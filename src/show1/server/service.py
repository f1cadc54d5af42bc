"""What a server does for its clients, whatever the protocol: asks for jobs, shows them, ends them."""

import contextlib
import shutil
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from show1.config import StageName
from show1.errors import InputError, OutputError, RunError
from show1.files import write_tensors
from show1.generation.inputs import video_tensor
from show1.generation.pipeline import Show1Pipeline
from show1.generation.request import GenerationRequest
from show1.generation.run import Run
from show1.server.adapters import EXPERT_STAGE, Adapters
from show1.server.asked import (
    BadRequest,
    Continuation,
    Creation,
    Remix,
    check_prompt_length,
    check_work,
    continued,
    to_request,
)
from show1.server.clips import clip_frames, read_clip
from show1.server.jobs import DataFolder, Job, JobFolder, JobSpec, is_id, new_id
from show1.server.keys import Key
from show1.server.limits import ServerLimits
from show1.server.models import OWN, Models
from show1.server.progress import living_workers
from show1.server.queue import JobQueue
from show1.server.store import StoreError

Policy = Callable[[str], str | None]
"""Says why a prompt is refused; None: it is not."""

SECONDS_OF_SNAPSHOT = 1.0
"""How old the picture of the queue may be that places and times are read from."""
SECONDS_FOR_STOP = 10.0
"""How long the deletion of a running job waits for its worker."""


class NotFound(Exception):
    """There is no such video, or it belongs to somebody else."""


class Busy(Exception):
    """There is too much to do: the queue or a quota is full, or a client asks too often."""


class Conflict(Exception):
    """It cannot be done as things are, such as downloading what is not finished."""


class Service:
    """The jobs of one server. Its methods may be called from several threads."""

    def __init__(
        self,
        pipe: Show1Pipeline,
        data: DataFolder,
        queue: JobQueue,
        *,
        model: str,
        limits: ServerLimits,
        policy: Policy | None = None,
        experts: Mapping[str, Show1Pipeline] | None = None,
        takes_adapters: bool = False,
    ) -> None:
        """Takes what to work with.

        Args:
            pipe: The model, of which no weights are loaded: it only checks requests.
            data: The folder, shared with the workers.
            queue: The queue.
            model: The model's name in the queue.
            limits: What clients may ask for.
            policy: Refuses prompts.
            experts: The same model with each expert that clients may choose, by name.
            takes_adapters: Whether clients may upload adapters.
        """
        self.pipe, self.data, self.queue, self.model, self.limits = pipe, data, queue, model, limits
        self._policy = policy
        self.models = Models(pipe, experts or {})
        most = limits.max_adapters_per_key
        self.adapters = Adapters(data, self.models, most=most, takes_uploads=takes_adapters)
        self._asking, self._submitting = threading.Lock(), threading.Lock()
        self._asked: dict[str, deque[float]] = defaultdict(deque)
        self._snapshot: tuple[float, list[Job]] = (0.0, [])
        self._seconds: tuple[float, float | None] = (0.0, None)

    def create(self, asked: Creation, key: Key, clip: Path | None = None, *, client: str = "") -> Job:
        """Asks for a new video, or for several drafts.

        Args:
            asked: What the client wants.
            key: The client's key.
            clip: A file with the video that `start_from` works on.
            client: The client's address, for the limit of requests per minute where there are no keys.

        Raises:
            InputError: It cannot be made.
            Busy: There is too much to do.
        """
        self._check_model(asked.model)
        expert, pipe = self._expert(asked.expert, None)
        self.adapters.chosen(asked.adapters, key.name or None, expert)
        self._check_policy(asked.prompt)
        self._check_room(key, client)
        video = None if clip is None else read_clip(clip, self.limits)
        request = to_request(asked, pipe, self.limits, video)
        self._check_texts(request, pipe)
        if video is not None:
            check_work(request, self.limits, len(video))
        told = tuple(pipe.request_warnings(request))
        how = {"adapters": asked.adapters, "owner": key.name or None, "expert": expert, "warnings": told}
        spec = JobSpec.model_validate({"request": request.to_dict(), "model": self.model, **how})
        with self._new_folder() as folder:
            if video is not None:
                write_tensors(folder.input, {"video": video_tensor(video, request)})
            return self._submit(folder.path.name, spec, key)

    def carry_on(self, job_id: str, asked: Continuation, key: Key, *, client: str = "") -> Job:
        """Asks for the later stages of a draft; of a job that failed or was cancelled, for what is left.

        Raises:
            NotFound: There is no such video.
            Conflict: Nothing of it is finished, or all is.
            InputError: There is no such draft, or a setting cannot be used.
            Busy: There is too much to do.
        """
        source = self.get(job_id, key)
        assert source.spec is not None, "one job is read whole"
        self._check_room(key, client)
        folder, begun = self.data.job(job_id), source.spec.parsed
        self.data.store.fetch_folder(folder.path)
        expert, pipe = self._expert(asked.expert, source.spec.expert)
        fresh = () if expert == source.spec.expert else (EXPERT_STAGE,)
        try:
            run = Run.open(folder.run)
            done = run.finished_stages
        except RunError:
            run, done = None, ()
        finished = tuple(stage for stage in done if stage not in fresh)
        request = continued(asked, begun, finished, pipe, fresh)
        if set(request.stages) <= set(finished):
            raise Conflict("all its stages are finished; download it, or ask for a later stage in `until`")
        self._check_texts(request, pipe)
        frames = clip_frames(folder)
        if request.needs_video and frames is None:
            raise Conflict("the clip that this video began with is gone, or damaged; upload it again as a new video")
        check_work(request, self.limits, frames if request.needs_video else None)
        owner = key.name or None
        how = {"adapters": self._adapters_of(source.spec, asked, owner, expert, finished), "owner": owner}
        changes = {"request": request.to_dict(), "kind": "continue", "source": job_id, "draft": asked.draft - 1}
        spec = JobSpec.model_validate({**source.spec.model_dump(), **changes, **how, "expert": expert})
        with self._new_folder() as new:
            if run is not None and done:
                run.pick(asked.draft - 1, directory=new.run, request=request, keep=finished)
            elif request.needs_video:
                new.path.mkdir(parents=True)
                shutil.copyfile(folder.input, new.input)
            return self._submit(new.path.name, spec, key)

    def remix(self, job_id: str, asked: Remix, key: Key, *, client: str = "") -> Job:
        """Asks for a video with the settings and seeds of another one and a new prompt.

        Raises:
            NotFound: There is no such video.
            InputError: The prompt cannot be used.
            Busy: There is too much to do.
        """
        source = self.get(job_id, key)
        assert source.spec is not None, "one job is read whole"
        self._check_policy(asked.prompt)
        check_prompt_length(asked.prompt, self.limits)
        self._check_room(key, client)
        begun = source.spec.parsed
        if begun.needs_video:
            raise BadRequest("this video was made from a clip: upload the clip again with the new prompt")
        settings = begun.settings.without_own_prompts()  # they describe the other video
        request = replace(begun, prompts=(asked.prompt,) * len(begun.prompts), expert_prompts=(), settings=settings)
        _, pipe = self._expert(None, source.spec.expert)
        pipe.check(request)
        told = pipe.request_warnings(request)
        changes = {"request": request.to_dict(), "kind": "remix", "source": job_id, "draft": 0, "warnings": told}
        spec = JobSpec.model_validate({**source.spec.model_dump(), **changes})
        return self._submit(new_id(), spec, key)

    def get(self, job_id: str, key: Key) -> Job:
        """How a job stands.

        Raises:
            NotFound: There is none of that name, or it belongs to another key.
            Conflict: It was asked for in a form that this version cannot read.
        """
        job = self._known(job_id, key)
        if job.spec is None:
            raise Conflict("another version of show1 made this video, and this one cannot read how; delete it")
        return job

    def get_all(self, job_ids: Iterable[str], key: Key) -> dict[str, Job]:
        """How several jobs stand, by their names; those that `get` would refuse are left out."""
        return {job.id: job for job in self._visible(job_ids, key) if job.spec is not None}

    def _visible(self, job_ids: Iterable[str], key: Key) -> list[Job]:
        found = self.queue.get_all(filter(is_id, job_ids))
        return [job for job in found if not key.name or job.owner == key.name]

    def _known(self, job_id: str, key: Key) -> Job:
        """A job, even if what it asks for cannot be read."""
        for job in self._visible([job_id], key):
            return job
        raise NotFound

    def folder(self, job_id: str, key: Key) -> tuple[Job, JobFolder]:
        """A job and its files.

        Raises:
            NotFound: See `get`.
        """
        return self.get(job_id, key), self.data.job(job_id)

    def cancel(self, job_id: str, key: Key) -> Job:
        """Stops a job, which is kept with the stages that are finished.

        Raises:
            NotFound: See `get`.
        """
        if self.get(job_id, key).status in ("queued", "in_progress"):
            self.queue.cancel(job_id)
        return self.get(job_id, key)

    def delete(self, job_id: str, key: Key) -> None:
        """Stops a job and removes all of it.

        Raises:
            NotFound: See `get`.
            Conflict: Its worker still writes; it is cancelled, and can be deleted in a moment.
            OutputError: Its files cannot be removed; it is cancelled, and is still there.
        """
        if self._known(job_id, key).status in ("queued", "in_progress"):
            self.queue.cancel(job_id)
        folder = self.data.job(job_id)
        try:
            if folder.run.is_dir():
                with FileLock(folder.run / ".lock", timeout=SECONDS_FOR_STOP):
                    pass
            self.data.store.remove(folder.path)
        except Timeout as error:
            raise Conflict("the video is being stopped; delete it again in a few seconds") from error
        except StoreError:
            raise
        except OSError as error:
            raise OutputError(f"{folder.path} cannot be removed: {error.strerror or error}") from error
        self.queue.delete(job_id)
        with contextlib.suppress(OSError):  # a worker may have written what it had begun
            self.data.store.remove(folder.path)

    def place(self, job: Job) -> tuple[int | None, float | None]:
        """The place of a waiting job in the queue (1 is next), and about how many seconds until it is finished."""
        if job.status != "queued":
            return None, None
        active = self.active()
        waiting = [other.id for other in active if other.status == "queued"]
        if job.id not in waiting:
            return None, None
        place = waiting.index(job.id) + 1
        each = self._job_seconds()
        workers = max(1, len(self.workers()))
        return place, None if each is None else round(
            (place - 1 + len(active) - len(waiting)) / workers * each + each, 1
        )

    def active(self) -> list[Job]:
        """The jobs that run or wait, at most a second old."""
        now = time.monotonic()
        if now - self._snapshot[0] > SECONDS_OF_SNAPSHOT:
            self._snapshot = (now, self.queue.active())
        return self._snapshot[1]

    def workers(self) -> list[dict[str, object]]:
        """What the workers that live last said of themselves."""
        return living_workers(self.data)

    def _job_seconds(self) -> float | None:
        """What a job took lately, on average."""
        now = time.monotonic()
        if now - self._seconds[0] > 10 * SECONDS_OF_SNAPSHOT:
            took = [job.ended - job.started for job in self.queue.recent() if job.ended and job.started]
            self._seconds = (now, sum(took) / len(took) if took else None)
        return self._seconds[1]

    @contextlib.contextmanager
    def _new_folder(self) -> Iterator[JobFolder]:
        """The folder of a new job, which is removed if the job does not come to be.

        Raises:
            OutputError: It cannot be written.
        """
        folder = self.data.job(new_id())
        try:
            yield folder
        except BaseException as error:
            with contextlib.suppress(OSError):
                self.data.store.remove(folder.path)
            if isinstance(error, OSError) and not isinstance(error, OutputError):
                raise OutputError(f"{folder.path} cannot be written: {error.strerror or error}") from error
            raise

    def _submit(self, job_id: str, spec: JobSpec, key: Key) -> Job:
        with self._submitting:  # so that requests at the same time do not pass a limit together
            self._check_queue(key, self.queue.active())
            self.data.store.publish(self.data.job(job_id).path)
            self.queue.submit(job_id, spec, owner=key.name or None, priority=key.priority)
            self._snapshot = (0.0, [])
        job = self.queue.get(job_id)
        assert job is not None, "it has just been added"
        return job

    def _check_model(self, name: str | None) -> None:
        if name is not None and name != self.model:
            raise BadRequest(
                f"there is no model {name[:60]!r}; this server has {self.model!r}", "model", "model_not_found"
            )

    def _expert(self, asked: str | None, before: str | None) -> tuple[str | None, Show1Pipeline]:
        """The expert that is asked for, or that a video had before, and the model with it."""
        name = before if asked is None else None if asked == OWN else asked
        try:
            return name, self.models.get(name)
        except InputError as error:
            raise BadRequest(str(error), "expert") from error

    def _adapters_of(
        self, spec: JobSpec, asked: Continuation, owner: str | None, expert: str | None, finished: Collection[StageName]
    ) -> dict[str, float]:
        """The adapters of a continuation: those of before, but for what another expert does, or those asked for."""
        if asked.adapters is None and expert == spec.expert:
            return spec.adapters
        offered = [a for a in self.adapters.offered(owner) if a.expert in (None, spec.expert, expert)]
        stages = {adapter.name: adapter.stage for adapter in offered}
        if asked.adapters is None:
            return {name: weight for name, weight in spec.adapters.items() if stages.get(name) != EXPERT_STAGE}
        self.adapters.chosen(asked.adapters, owner, expert)

        def of_finished(adapters: Mapping[str, float]) -> dict[str, float]:
            return {name: weight for name, weight in adapters.items() if stages.get(name) in finished}

        if of_finished(spec.adapters) != of_finished(asked.adapters):
            raise BadRequest(
                f"{', '.join(finished)}: what these were made with stays; change adapters of later stages only",
                "adapters",
            )
        return asked.adapters

    def _check_policy(self, text: str, param: str = "prompt") -> None:
        reason = None if self._policy is None else self._policy(text)
        if reason is not None:
            raise BadRequest(reason, param, "content_policy_violation")

    def _check_texts(self, request: GenerationRequest, pipe: Show1Pipeline) -> None:
        """Checks the other texts of a request: at a small scale of guidance a video shows what is to be avoided."""
        for stage in request.stages:
            own = getattr(request.settings, stage)
            for param in ("prompt", "negative_prompt"):
                text = getattr(own, param, "")
                if text and text != getattr(getattr(pipe.settings, stage), param, ""):
                    self._check_policy(text, param)

    def _check_room(self, key: Key, client: str) -> None:
        """Makes sure that a client may ask for one more job."""
        with self._asking:
            now, asked = time.monotonic(), self._asked[key.name or client]
            while asked and now - asked[0] > 60:
                asked.popleft()
            if len(asked) >= self.limits.max_per_minute:
                raise Busy(f"you may ask for {self.limits.max_per_minute} videos in a minute; wait a little")
            asked.append(now)
            for name in [name for name, times in self._asked.items() if times and now - times[-1] > 60]:
                del self._asked[name]
        self._check_queue(key, self.active())

    def _check_queue(self, key: Key, active: list[Job]) -> None:
        """Makes sure that there is room for one more job."""
        if len(active) >= self.limits.max_queue:
            raise Busy(f"the queue is full: {len(active)} videos wait or are made; try again in a minute")
        most = self.limits.max_jobs_per_key if key.max_jobs is None else key.max_jobs
        if key.name and sum(job.owner == key.name for job in active) >= most:
            raise Busy(f"{most} of your videos wait or are made already; wait until one is finished, or cancel one")
