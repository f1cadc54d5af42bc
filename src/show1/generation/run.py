"""Run folders: the record of one generation, a lossless artefact per stage, and what is needed to resume after a crash.

::

    runs/20261122-101502-3f2a/
      manifest.json              request, model identity, versions, timings, peak memory, hashes of the artefacts
      input.safetensors          the video the run began with, where it began at a later stage
      keyframes.safetensors      `video` (B, 3, F, H, W) float32 in [-1, 1]; one per finished stage
      pick-5/                    the run that takes draft 5 only through the later stages

Every file is written beside its place and moved there when it is complete, so a run can be killed at any moment.
"""

import secrets
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from torch import Tensor

from show1.adapters.record import AdapterRecord
from show1.config import STAGES, StageName
from show1.errors import OutputError, RunError, RunInUseError
from show1.files import check_no_links, user_path, write_json
from show1.generation.artefacts import is_sound, read_artefact, write_artefact
from show1.generation.manifest import (
    INPUT_FILE,
    MANIFEST,
    CostRecord,
    Environment,
    InputRecord,
    Manifest,
    ModelRecord,
    PickedFrom,
    StageRecord,
    artefact_name,
    check_model,
    check_request,
    combined,
    read_manifest,
)
from show1.generation.output import OutputFile
from show1.generation.request import GenerationRequest
from show1.options import require

__all__ = ["MANIFEST", "FinishedStage", "Run", "existing_run", "holds_run", "opened_run"]


class FinishedStage(StageRecord):
    """A stage's result in a run folder."""

    stage: StageName
    """The stage."""
    path: Path
    """Its artefact: safetensors with `video`, (B, 3, F, H, W) float32 in [-1, 1]."""


class Run:
    """One run folder. Made by `create` or `open`; as a context manager it holds the folder's lock."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Use `create` or `open`."""
        self.path = path
        self._manifest = manifest
        self._new_output: OutputFile | None = None
        self._read_only = False
        self._lock = FileLock(path / ".lock", timeout=0)

    @classmethod
    def create(cls, directory: str | Path | None = None, *, output: OutputFile | None = None) -> Self:
        """Begins a new run.

        Args:
            directory: The folder, new or empty; None: `runs/YYYYMMDD-HHMMSS-xxxx` in the current directory.
            output: The file asked for: recorded, so that `show1 resume` writes it.

        Raises:
            RunError: The folder holds something already.
            OutputError: The folder cannot be made.
        """
        require(isinstance(output, OutputFile | None), "output", output, "an OutputFile")
        new = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        path = Path("runs") / new if directory is None else user_path(directory, "run")
        try:
            path.mkdir(parents=True, exist_ok=True)
            held = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
        except OSError as error:
            raise OutputError(f"the run folder {path} cannot be made: {error.strerror or error}") from error
        if held:
            finish = f", or finish the run in it with `show1 resume {path}`" if MANIFEST in held else ""
            raise RunError(f"{path} is not empty (it holds {held[0]}); name another folder{finish}")
        manifest = Manifest(created=time.strftime("%Y-%m-%dT%H:%M:%S%z"), output=output, format=2)
        write_json(path / MANIFEST, manifest.to_dict())
        return cls(path, manifest)

    @classmethod
    def open(cls, directory: str | Path) -> Self:
        """Opens an existing run.

        Raises:
            RunError: No such folder, no manifest in it, or the manifest is damaged.
        """
        path = user_path(directory, "run")
        return cls(path, read_manifest(path))

    def __enter__(self) -> Self:
        """Takes the lock and reads the manifest again.

        A finished run on a disk that cannot be written is only read, and needs no lock.

        Raises:
            RunInUseError: Another process is writing this run.
            RunError: A file in it is a link, or the manifest is damaged.
            OutputError: The folder cannot be written, and the run is not finished.
        """
        check_no_links(self.path)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise RunInUseError(f"{self.path} is being written by another process; wait for it, or stop it") from error
        except OSError as error:
            if not self.finished:
                raise OutputError(
                    f"{self.path} cannot be written: {error.strerror or error}; copy it to a folder that you may write"
                ) from error
            self._read_only = True
        try:
            self._manifest = read_manifest(self.path)
        except RunError:
            self._lock.release()
            raise
        if not self._read_only:
            for left in self.path.glob(".*.partial"):  # of a process that was killed while writing
                left.unlink(missing_ok=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    @property
    def manifest(self) -> Manifest:
        """Everything that is recorded about the run."""
        return self._manifest

    @property
    def request(self) -> GenerationRequest | None:
        """What was asked for; None until the pipeline has recorded it."""
        return self._manifest.request

    @property
    def begun_request(self) -> GenerationRequest:
        """What was asked for.

        Raises:
            RunError: The pipeline has not recorded it.
        """
        if self.request is None:
            raise RunError(f"{self.path} was stopped before it began; generate again (`show1 generate`)")
        return self.request

    @property
    def model(self) -> str | dict[str, str] | None:
        """What to hand to `Show1Pipeline.from_pretrained`: a name, a folder, or a mapping of stage to one of these."""
        return None if self._manifest.model is None else self._manifest.model.model

    @property
    def adapters(self) -> tuple[AdapterRecord, ...]:
        """The adapters that it was made with, for `Show1Pipeline.adapters.load_recorded`."""
        return () if self._manifest.model is None else self._manifest.model.adapters

    @property
    def output(self) -> OutputFile | None:
        """The file to write."""
        return self._manifest.output

    @property
    def finished_stages(self) -> tuple[StageName, ...]:
        """Stages whose artefact is there and undamaged (its hash is that in the manifest), in order."""
        return tuple(stage for stage in STAGES if self._is_sound(stage))

    @property
    def finished(self) -> bool:
        """Whether every stage asked for is finished."""
        return self.request is not None and set(self.request.stages) <= set(self.finished_stages)

    @property
    def next_stage(self) -> StageName | None:
        """The first stage asked for that is not finished; None if all are, or if nothing was asked for yet."""
        asked = () if self.request is None else self.request.stages
        return next((stage for stage in asked if not self._is_sound(stage)), None)

    def result(self, stage: StageName) -> FinishedStage:
        """Describes a stage's artefact.

        Raises:
            RunError: The stage has not finished.
        """
        record = self._manifest.stages.get(stage)
        if record is None:
            raise RunError(f"{self.path} has not finished {stage}; `show1 resume {self.path}` finishes it")
        return FinishedStage(stage=stage, path=self._file(stage), **dict(record))

    def load(self, stage: StageName) -> Tensor:
        """Reads a finished stage's video, (B, 3, F, H, W) float32 in [-1, 1].

        Raises:
            RunError: The stage has not finished, or its file is damaged.
        """
        if not self._is_sound(stage):
            raise RunError(f"{self._file(stage)} is missing or damaged; `show1 resume {self.path}` makes it again")
        return self._load_video(self._file(stage), stage)

    def load_input(self) -> Tensor | None:
        """Reads the video that the run began with, (B, 3, F, H, W); None if it began with a prompt only.

        Raises:
            RunError: The file is missing or damaged.
        """
        record = self._manifest.input
        if record is None:
            return None
        file = self.path / INPUT_FILE
        if not is_sound(file, record):
            raise RunError(f"{file} is missing or damaged, and nothing can make it again; begin a new run")
        return self._load_video(file)

    def begin(
        self, request: GenerationRequest, *, model: ModelRecord, environment: Environment, video: Tensor | None = None
    ) -> None:
        """Records what is asked for, or makes sure that it agrees with what was asked for before.

        It agrees if prompts, seeds and first stage are the same and so are the settings of every stage that has been
        computed. It may have more stages, or fewer, or other settings of stages to come.

        Args:
            request: The request.
            model: The model's identity, with the weight files of the request's stages.
            environment: Versions, device, precision.
            video: (B, 3, F, H, W), what the first stage works on, if it needs a video.

        Raises:
            RunError: The folder belongs to another request, or to other weights or adapters.
        """
        known = self._manifest
        if known.request is None or known.model is None:
            changes: dict[str, Any] = dict(environment)
            picked = {s: record for s, record in known.stages.items() if s in request.stages}  # and stopped before this
            changes["stages"] = {s: r for s, r in picked.items() if r.request_sha256 == request.stage_sha256(s)}
            if video is not None:
                changes["input"] = InputRecord(sha256=write_artefact(self.path / INPUT_FILE, video))
            self._update(request=request, model=model, **changes)
            return
        check_request(self.path, known, known.request, request)
        self._check_input(video)
        check_model(self.path, known.model, model, request.stages)
        files = {**known.model.files, **model.files}
        identity = model if files == model.files else known.model
        self._update(
            request=combined(known.request, request, computed=known.stages),
            model=identity.model_copy(update={"files": files}),
            output=self._new_output or known.output,
        )

    def keep(self, stage: StageName, video: Tensor, cost: CostRecord | None = None) -> None:
        """Writes a finished stage's artefact, and then its hash into the manifest.

        Args:
            stage: The stage.
            video: (B, 3, F, H, W) float32.
            cost: What it cost.

        Raises:
            OutputError: No permission, or the disk is full.
        """
        self._update(stages={**self._manifest.stages, stage: self._write(stage, video, self.request, cost)})

    def record_text(self, cost: CostRecord) -> None:
        """Records what the encoding of the prompts cost."""
        self._update(text=cost)

    def write_to(self, output: OutputFile) -> None:
        """Asks for another file; recorded when `begin` finds that the request agrees."""
        self._new_output = output

    def pick(
        self,
        index: int,
        *,
        output: OutputFile | None = None,
        directory: str | Path | None = None,
        request: GenerationRequest | None = None,
        keep: Collection[StageName] | None = None,
    ) -> "Run":
        """The run of one sample only, up to the model's last stage.

        It starts from a copy of the sample's artefacts, so it gives what the whole run would give for that sample. Made
        on the first call, opened on later ones.

        Args:
            index: The sample, from 0.
            output: The file asked for; None: that of this run.
            directory: Its folder; None: `pick-<index + 1>` in this one.
            request: Asks for another last stage or other settings of later ones; None: for all stages, as they are.
            keep: The finished stages that it takes over; other stages may then have another model. None: all.

        Raises:
            RunError: Nothing is finished yet, there is no such sample, the folder holds another one, or the request
                differs in what is finished.
        """
        whole, model = self.request, self._manifest.model
        if whole is None or model is None or not (done := self.finished_stages):
            raise RunError(f"{self.path} has no finished stage to pick from; `show1 resume {self.path}` first")
        if not 0 <= index < len(whole.prompts):
            has = f"drafts 1 to {len(whole.prompts)}" if len(whole.prompts) > 1 else "one draft"
            raise RunError(f"{self.path} has {has}, there is no draft {index + 1}")
        path = self.path / f"pick-{index + 1}" if directory is None else user_path(directory, "directory")
        check_no_links(path)
        child = Run.open(path) if (path / MANIFEST).is_file() else Run.create(path, output=output or self.output)
        if child.request is not None:
            one = whole.sample(index, whole.stages)
            if (child.request.prompts, child.request.seeds) != (one.prompts, one.seeds):
                raise RunError(f"{path} holds another draft than {index + 1}; name another folder")
            if request is not None:
                check_request(path, child.manifest, child.request, request)
            return child
        later = model.stages[model.stages.index(whole.stages[0]) :] if request is None else request.stages
        asked, begin, place = whole.sample(index, later), self.load_input(), Environment(**dict(self._manifest))
        taken = [s for s in done if s in later and (keep is None or s in keep)]
        costs = {s: CostRecord(weights=self._manifest.stages[s].weights) for s in taken}
        kept = {s: child._write(s, self.load(s)[index : index + 1], asked, costs[s]) for s in taken}
        model = model if keep is None else model.only(taken)
        child._update(stages=kept, picked_from=PickedFrom(run=str(self.path), index=index))
        for step in (asked, request or asked):  # the second must agree with what is finished
            child.begin(step, model=model, environment=place, video=None if begin is None else begin[index : index + 1])
        return child

    def _update(self, **changes: Any) -> None:
        """Writes changes of the manifest, if there are any."""
        changed = self._manifest.model_copy(update=changes)
        if changed != self._manifest and not self._read_only:
            write_json(self.path / MANIFEST, changed.to_dict())
        self._manifest = changed

    def _write(
        self, stage: StageName, video: Tensor, request: GenerationRequest | None, cost: CostRecord | None = None
    ) -> StageRecord:
        file = self._file(stage)
        made_for, written = None if request is None else request.stage_sha256(stage), write_artefact(file, video)
        return StageRecord(file=file.name, sha256=written, request_sha256=made_for, **dict(cost or CostRecord()))

    def _file(self, stage: StageName) -> Path:
        return self.path / artefact_name(stage)

    def _load_video(self, file: Path, stage: StageName | None = None) -> Tensor:
        """Reads an artefact, of a stage or the run's input: (B, 3, F, H, W) float32, of the request's shape, finite."""
        video = read_artefact(file)
        if not self._fits(video, stage):
            raise RunError(f"{file} holds no video for the request of its run; delete it and resume the run")
        return video

    def _fits(self, video: Tensor, stage: StageName | None) -> bool:
        """Whether an artefact (B, 3, F, H, W) has the shape that the request says; what follows a video may differ."""
        request, (batch, channels, *size) = self.request, video.shape
        if request is None or stage is None or request.needs_video:
            return channels == 3 and 0 not in size and (request is None or batch == len(request.prompts))
        return (batch, channels, *size) == (len(request.prompts), 3, *request.shapes()[stage])

    def _is_sound(self, stage: StageName) -> bool:
        record = self._manifest.stages.get(stage)
        return record is not None and is_sound(self._file(stage), record)

    def _check_input(self, video: Tensor | None) -> None:
        begin = self.load_input()
        if (begin is None) != (video is None) or (begin is not None and video is not None and not begin.equal(video)):
            raise RunError(f"{self.path} began with another video; name another folder")


def existing_run(run: Run | str | Path) -> Run:
    """A run that must exist, by its folder or as it is."""
    return run if isinstance(run, Run) else Run.open(run)


def opened_run(run: Run | str | Path) -> Run:
    """A run by its folder, which may be new, or as it is."""
    return run if isinstance(run, Run) else Run.open(run) if holds_run(run) else Run.create(run)


def holds_run(folder: str | Path) -> bool:
    """Whether a folder is that of a run that has begun."""
    return (user_path(folder, "run") / MANIFEST).is_file()
