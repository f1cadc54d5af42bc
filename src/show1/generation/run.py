"""Run folders: the record of one generation, a lossless artefact a stage, and what is needed to go on after a crash.

::

    runs/20261122-101502-3f2a/
      manifest.json              request, model identity, versions, timings, peak memory, hashes of the artefacts
      input.safetensors          the video the run began with, where it began at a later stage
      keyframes.safetensors      `video` (B, 3, F, H, W) float32 in [-1, 1]; one file a finished stage
      interpolation.safetensors  ...
      pick-5/                    the run that carries draft 5 alone through the later stages

Every file is written beside its place and moved there when it is complete, so a run can be killed at any moment.
"""

import copy
import dataclasses
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from show1.adapters.adapter_set import told_weight
from show1.config import STAGES, CascadeSettings, Seeding, StageName
from show1.errors import InputError, OutputError, RunError, Show1Error
from show1.files import read_json_object, sha256, write_json, write_tensors
from show1.stage_table import STAGE_TABLE

MANIFEST = "manifest.json"
_INPUT = "input.safetensors"


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What was asked for, fully resolved: the same request on the same model gives the same video."""

    prompts: tuple[str, ...]
    """One a sample (a prompt with several drafts is repeated)."""
    seeds: tuple[int, ...]
    """One a sample."""
    settings: CascadeSettings
    """With every override applied."""
    stages: tuple[StageName, ...]
    """The stages to run, in order."""
    seeding: Seeding = "independent"
    """How random numbers follow from the seeds."""
    fps: float
    """Frames per second of the first stage's input, or of the keyframes."""

    def to_dict(self) -> dict[str, Any]:
        """The saved form: JSON types only."""
        return {
            "prompts": list(self.prompts),
            "seeds": list(self.seeds),
            "seeding": self.seeding,
            "stages": list(self.stages),
            "fps": self.fps,
            "settings": self.settings.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads the saved form."""
        return cls(
            prompts=tuple(values["prompts"]),
            seeds=tuple(values["seeds"]),
            seeding=values["seeding"],
            stages=tuple(values["stages"]),
            fps=values["fps"],
            settings=CascadeSettings.from_dict(values["settings"]),
        )

    def sample(self, index: int, stages: tuple[StageName, ...]) -> "RunRequest":
        """The request for one sample alone, with other stages."""
        return dataclasses.replace(self, prompts=(self.prompts[index],), seeds=(self.seeds[index],), stages=stages)


class Run:
    """One run folder. Made by `create` or `open`; as a context manager it holds the folder's lock."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        """Use `create` or `open`."""
        self.path = path
        self._manifest = manifest
        self._new_output: dict[str, Any] | None = None
        self._lock = FileLock(path / ".lock", timeout=0)

    @classmethod
    def create(cls, directory: str | Path | None = None, *, output: Mapping[str, Any] | None = None) -> Self:
        """Begins a new run.

        Args:
            directory: The folder, new or empty; None: `runs/YYYYMMDD-HHMMSS-xxxx` in the current directory.
            output: The file asked for, `{"path": ..., "options": {...}}`: recorded, so that `show1 resume` writes it.

        Raises:
            RunError: The folder holds something already.
            OutputError: The folder cannot be made.
        """
        path = Path(directory) if directory is not None else Path("runs") / _new_name()
        try:
            path.mkdir(parents=True, exist_ok=True)
            held = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
        except OSError as error:
            raise OutputError(f"the run folder {path} cannot be made: {error.strerror or error}") from error
        if held:
            raise RunError(
                f"{path} is not empty (it holds {held[0]}); name another folder, or finish the run in it with "
                f"`show1 resume {path}`"
            )
        created = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        manifest = {"format": 1, "created": created, "output": _plain_output(output), "request": None, "stages": {}}
        write_json(path / MANIFEST, manifest)
        return cls(path, manifest)

    @classmethod
    def open(cls, directory: str | Path) -> Self:
        """Opens an existing run.

        Raises:
            RunError: No such folder, no manifest in it, or the manifest is damaged.
        """
        path = Path(directory)
        return cls(path, _read_manifest(path))

    def __enter__(self) -> Self:
        """Takes the lock and reads the manifest again.

        Raises:
            RunError: Another process is writing this run.
        """
        try:
            self._lock.acquire()
        except Timeout as error:
            raise RunError(f"{self.path} is being written by another process; wait for it, or stop it") from error
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror or error}") from error
        self._manifest = _read_manifest(self.path)
        for left in self.path.glob(".*.partial"):  # of a process that was killed while writing
            left.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def manifest(self) -> dict[str, Any]:
        """A copy of the manifest."""
        return copy.deepcopy(self._manifest)

    @property
    def request(self) -> RunRequest | None:
        """What was asked for; None until the pipeline has recorded it.

        Raises:
            RunError: It cannot be read.
        """
        values = self._manifest["request"]
        try:
            return None if values is None else RunRequest.from_dict(values)
        except (Show1Error, KeyError, TypeError) as error:
            raise RunError(f"{self.path / MANIFEST}: the request cannot be read ({error}); begin a new run") from error

    @property
    def model(self) -> str | dict[str, str] | None:
        """What to hand to `Show1Pipeline.from_pretrained`: a name, a folder, or a mapping of stage to one of these."""
        return cast("str | dict[str, str] | None", self._manifest.get("model", {}).get("model"))

    @property
    def adapters(self) -> list[dict[str, Any]]:
        """The adapters that it was made with, for `Show1Pipeline.load_recorded_adapters`."""
        return copy.deepcopy(_adapters(self._manifest.get("model", {})))

    @property
    def output(self) -> dict[str, Any] | None:
        """The file asked for: `{"path": str, "options": {...}}`."""
        return cast("dict[str, Any] | None", copy.deepcopy(self._manifest.get("output")))

    @property
    def finished_stages(self) -> tuple[StageName, ...]:
        """Stages whose artefact is there and undamaged (its hash is that in the manifest), in order."""
        return tuple(stage for stage in STAGES if self._is_sound(stage))

    @property
    def finished(self) -> bool:
        """Whether every stage asked for is finished."""
        request = self.request
        return request is not None and set(request.stages) <= set(self.finished_stages)

    def load(self, stage: StageName) -> Tensor:
        """Reads a finished stage's video, (B, 3, F, H, W) float32 in [-1, 1].

        Raises:
            RunError: The stage has not finished, or its file is damaged.
        """
        if not self._is_sound(stage):
            raise RunError(f"{self._file(stage)} is missing or damaged; `show1 resume {self.path}` makes it again")
        return _load_video(self._file(stage))

    def load_input(self) -> Tensor | None:
        """Reads the video the run began with; None if it began with the keyframes.

        Raises:
            RunError: The file is missing or damaged.
        """
        record = self._manifest.get("input")
        if record is None:
            return None
        file = self.path / _INPUT
        if not file.is_file() or sha256(file) != record["sha256"]:
            raise RunError(f"{file} is missing or damaged, and nothing can make it again; begin a new run")
        return _load_video(file)

    def begin(
        self,
        request: RunRequest,
        *,
        model: Mapping[str, Any],
        environment: Mapping[str, Any],
        video: Tensor | None = None,
    ) -> None:
        """Records what is asked for, or makes sure that it is what was asked for before.

        Args:
            request: The request.
            model: Name, what `from_pretrained` takes, sources and hashes of the weight files.
            environment: Versions, device, dtype.
            video: What the first stage works on, if it is not `keyframes`.

        Raises:
            RunError: The folder belongs to another request or other weights.
        """
        if self._manifest["request"] is not None:
            self._check_same(request, model, video)
            before = copy.deepcopy(self._manifest)
            for name, digest in model.get("files", {}).items():  # of stages that a picked run adds
                self._manifest["model"].setdefault("files", {}).setdefault(name, digest)
            if self._new_output is not None:
                self._manifest["output"] = self._new_output
            if self._manifest != before:
                write_json(self.path / MANIFEST, self._manifest)
            return
        if video is not None:
            write_tensors(self.path / _INPUT, {"video": video.contiguous()})
            self._manifest["input"] = {"file": _INPUT, "sha256": sha256(self.path / _INPUT)}
        self._manifest.update(request=request.to_dict(), model=dict(model), **environment)
        write_json(self.path / MANIFEST, self._manifest)

    def keep(self, stage: StageName, video: Tensor, cost: Mapping[str, Any] | None = None) -> None:
        """Writes a finished stage's artefact, and then its hash into the manifest.

        Args:
            stage: The stage.
            video: (B, 3, F, H, W) float32.
            cost: Seconds and peak memory.

        Raises:
            OutputError: No permission, or the disk is full.
        """
        file = self._file(stage)
        write_tensors(file, {"video": video.float().cpu().contiguous()})
        self._manifest["stages"][stage] = {"file": file.name, "sha256": sha256(file), **(cost or {})}
        write_json(self.path / MANIFEST, self._manifest)

    def write_to(self, output: Mapping[str, Any]) -> None:
        """Asks for another file, as in `create`; recorded when `begin` finds that the request is the same."""
        self._new_output = _plain_output(output)

    def record(self, **values: Any) -> None:
        """Adds values to the manifest (JSON types)."""
        self._manifest.update(values)
        write_json(self.path / MANIFEST, self._manifest)

    def pick(self, index: int, *, output: Mapping[str, Any] | None = None) -> "Run":
        """The run of one sample alone, in `pick-<index + 1>`, which goes on to the last stage.

        It starts from a copy of the sample's artefacts and has the sample's prompt and seed, so it gives what the whole
        run would give for that sample. Made on the first call, opened on later ones.

        Args:
            index: The sample, from 0.
            output: The file asked for, as in `create`; None: that of this run.

        Raises:
            RunError: Nothing is finished yet, or there is no such sample.
        """
        request = self.request
        done = self.finished_stages
        if request is None or not done:
            raise RunError(f"{self.path} has no finished stage to pick from; `show1 resume {self.path}` first")
        if not 0 <= index < len(request.prompts):
            raise RunError(f"{self.path} has drafts 1 to {len(request.prompts)}, there is no draft {index + 1}")
        path = self.path / f"pick-{index + 1}"
        if (path / MANIFEST).is_file():
            child = Run.open(path)
            if child.request is not None:
                return child
        else:
            child = Run.create(path, output=output or self.output)
        stages = tuple(
            s for s in self._manifest["model"]["stages"] if STAGES.index(s) >= STAGES.index(request.stages[0])
        )
        begin = self.load_input()
        for stage in done:
            child.keep(stage, self.load(stage)[index : index + 1])
        place = ("versions", "device", "dtype", "threads")
        kept: dict[str, Any] = {k: self._manifest[k] for k in place if k in self._manifest}
        child.begin(
            request.sample(index, stages),
            model=self._manifest["model"],
            environment={**kept, "picked_from": {"run": str(self.path), "index": index}},
            video=None if begin is None else begin[index : index + 1],
        )
        return child

    def _file(self, stage: StageName) -> Path:
        return self.path / f"{stage}.safetensors"

    def _is_sound(self, stage: StageName) -> bool:
        record = self._manifest["stages"].get(stage)
        file = self._file(stage)
        return record is not None and file.is_file() and sha256(file) == record.get("sha256")

    def _check_same(self, request: RunRequest, model: Mapping[str, Any], video: Tensor | None) -> None:
        known, asked = (_without_max_batch(r) for r in (self._manifest["request"], request.to_dict()))
        different = [key for key in asked if asked[key] != known.get(key)]
        if different:
            key = different[0]
            raise RunError(
                f"{self.path} belongs to another request: its {key} is {_short(known.get(key))}, asked for was "
                f"{_short(asked[key])}; name another folder, or finish the run in it with `show1 resume {self.path}`"
            )
        begin = self.load_input()
        if (begin is None) != (video is None) or (begin is not None and video is not None and not begin.equal(video)):
            raise RunError(f"{self.path} began with another video; name another folder")
        before, now = self._manifest["model"].get("files", {}), model.get("files", {})
        changed = _changed_file(before, now, request.stages)
        if changed is not None:
            raise RunError(
                f"{self.path} was made by other weights: {changed} has changed since; use the model it began with "
                f"({self._manifest['model'].get('name')}), or begin a new run"
            )
        known_adapters, adapters = _adapters(self._manifest["model"]), _adapters(model)
        if _effects(known_adapters, request.stages) != _effects(adapters, request.stages):
            raise RunError(
                f"{self.path} was made with {_named(known_adapters)}, now there is {_named(adapters)}; load those it "
                "began with (load_recorded_adapters(run.adapters), `show1 resume`), or begin a new run"
            )


def repeat_arguments(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `Show1Pipeline.__call__` that make a video again, from the metadata that it carries.

    The model to make it with is `metadata["model"]["model"]`.

    Raises:
        InputError: The metadata are not of a video that show1 made, or it was made from another video.
    """
    try:
        stages = metadata["stages"]
        needs_video = STAGE_TABLE[stages[0]].needs_video
        arguments = {
            "prompt": metadata["prompt"],
            "seed": [int(metadata["seed"])],
            "seeding": metadata["seeding"],
            "settings": CascadeSettings.from_dict(metadata["settings"]),
            "until": stages[-1],
        }
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"the file does not say how it was made ({type(error).__name__}: {error}); only videos by show1 do"
        ) from error
    if needs_video:
        raise InputError(f"the video was made from another video by {', '.join(stages)}, which the file does not hold")
    return arguments


def _changed_file(before: Mapping[str, str], now: Mapping[str, str], stages: Sequence[str]) -> str | None:
    """The first weight file of these stages that is not what it was, is gone, or is new.

    A picked run begins without the files of its later stages: those do not count yet.
    """
    begun = {name.partition("/")[0] for name in before} & set(stages)

    def counts(name: str) -> bool:
        stage = name.partition("/")[0]
        return stage in STAGE_TABLE and STAGE_TABLE[stage].stage in begun

    names = before.keys() | now.keys()
    return min((name for name in names if counts(name) and before.get(name) != now.get(name)), default=None)


def _without_max_batch(request: Mapping[str, Any]) -> dict[str, Any]:
    """A saved request without what changes memory alone."""

    def bare(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: bare(inner) for key, inner in value.items() if key != "max_batch"}

    return {**request, "settings": bare(request["settings"])}


def _adapters(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", model.get("adapters") or [])


def _effects(adapters: list[dict[str, Any]], stages: tuple[StageName, ...]) -> list[tuple[Any, ...]]:
    """What the adapters do to these stages, in order."""
    keys = ("stage", "sha256", "weight", "noise_weight")
    of_stages = [a for a in adapters if a.get("stage") in stages]
    return [(*(a.get(k) for k in keys), a.get("detail_weight", a.get("weight"))) for a in of_stages]


def _named(adapters: list[dict[str, Any]]) -> str:
    listed = ", ".join(f"{a.get('name')} (weight {told_weight(a)}, {a.get('path')})" for a in adapters)
    return f"the adapters {listed}" if adapters else "no adapter"


def _new_name() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def _plain_output(output: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if output is None:
        return None
    return {"path": str(output["path"]), "options": dict(output.get("options") or {})}


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise RunError(f"there is no run folder {path}; `show1 generate --run {path} ...` begins one")
    try:
        manifest = read_json_object(path / MANIFEST)
    except FileNotFoundError as error:
        raise RunError(f"{path} is no run folder: it has no {MANIFEST}") from error
    except (ValueError, OSError) as error:
        raise RunError(f"{path / MANIFEST} is damaged ({error}); begin a new run") from error
    if manifest.get("format") != 1:
        raise RunError(f"{path / MANIFEST} has format {manifest.get('format')!r}, this version reads 1; update show1")
    if "request" not in manifest or not isinstance(manifest.get("stages"), dict):
        raise RunError(f"{path / MANIFEST} is damaged (no request or stages in it); begin a new run")
    return manifest


def _load_video(file: Path) -> Tensor:
    try:
        video: Tensor = load_file(file)["video"]
    except (SafetensorError, OSError, KeyError) as error:
        raise RunError(f"{file} cannot be read ({error}); delete it and resume the run") from error
    return video


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
