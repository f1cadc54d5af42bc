"""The manifest of a run folder: checked as a whole when it is read, and compared with what is asked for."""

import dataclasses
import os
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer, model_validator

from show1.adapters.record import AdapterRecord, Record, Sha256, explain
from show1.config import STAGES, StageName
from show1.errors import RunError
from show1.files import read_json_object, sha256_of_text
from show1.generation.output import OutputFile
from show1.generation.request import GenerationRequest
from show1.options import shown
from show1.stage_table import STAGE_TABLE, parts_of

MANIFEST = "manifest.json"
INPUT_FILE = "input.safetensors"

DtypeName = Literal["float64", "float32", "bfloat16", "float16"]
Text = Annotated[str, Field(min_length=1)]
FewerBits = Literal["fp8"]


def artefact_name(stage: StageName) -> str:
    """The file of a finished stage inside a run folder."""
    return f"{stage}.safetensors"


class Environment(Record):
    """What a result's last digits depend on."""

    versions: dict[str, str] | None = None
    """Versions of show1 and of the packages it stands on."""
    device: Annotated[str, Field(pattern="^[a-z]+$")] | None = None
    """Kind of the device."""
    dtype: DtypeName | None = None
    """Precision of the networks."""
    threads: Annotated[int, Field(ge=1, le=2**16)] | None = None
    """Threads of the computation, on a CPU."""
    storage: Annotated[str, Field(pattern="^[a-z0-9,]+$")] | None = None
    """How weights were stored in fewer bits, such as `fp8,int4`; None: as they were computed."""

    @property
    def precision(self) -> DtypeName:
        """Precision that repeats it; records of earlier versions that lack one are of float32."""
        return self.dtype or "float32"

    def differences(self, now: "Environment") -> list[tuple[str, object, object]]:
        """Lists what differs now and changes the last digits, as (name, known, now)."""
        pairs = [(name, getattr(self, name), getattr(now, name)) for name in ("device", "dtype", "threads")]
        changed = [(name, known, other) for name, known, other in pairs if known is not None and known != other]
        stored = ("storage", self.storage or "as computed", now.storage or "as computed")
        return changed + ([stored] if self.dtype is not None and self.storage != now.storage else [])


class CostRecord(Record):
    """Time and memory that a part of a run took."""

    seconds: Annotated[float, Field(ge=0, le=1e12)] | None = None
    """Wall-clock time."""
    peak_memory_bytes: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """Peak memory."""
    weights: FewerBits | None = None
    """How its network kept its weights because memory was short, which changes the result; None: as the settings
    say."""


class StageRecord(CostRecord):
    """A finished stage."""

    file: str
    """Name of its artefact."""
    sha256: Sha256
    """Hash of the artefact."""
    request_sha256: Sha256 | None = None
    """`GenerationRequest.stage_sha256` of the request that it was computed for; in format 1 it may be missing."""


class InputRecord(Record):
    """The video that a run began with."""

    file: Literal["input.safetensors"] = "input.safetensors"
    """Its file."""
    sha256: Sha256
    """Hash of the file."""


class PickedFrom(Record):
    """Where a picked run comes from."""

    run: str
    """Folder of the run with all drafts."""
    index: Annotated[int, Field(ge=0)]
    """Index of the draft, from 0."""


class VideoModel(Record):
    """The model that made a video."""

    name: str
    """Name shown to people."""
    model: Text | Annotated[dict[str, Text], Field(min_length=1)]
    """What `Show1Pipeline.from_pretrained` takes: a name, a folder, or a mapping of stage to one of these."""
    sha256: Sha256
    """Hash of the weight files of the video's stages, and of the adapters of these stages."""
    adapters: Annotated[tuple[AdapterRecord, ...], Field(strict=False)] = ()  # JSON has lists only
    """The adapters in use."""

    @model_serializer(mode="wrap")
    def _leave_out_nothing(self, save: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in save(self).items() if name != "adapters" or value}


class ModelRecord(VideoModel):
    """A model's identity."""

    stages: Annotated[tuple[StageName, ...], Field(strict=False)]
    """The stages that it has."""
    sources: dict[str, str]
    """Where each stage comes from: a repository with its commit, or a folder."""
    files: dict[str, Sha256]
    """Hash of each weight file, by `stage/component/name`."""

    @model_validator(mode="after")
    def _check_hash(self) -> Self:
        if self.sha256 != model_sha256(self.files, self.adapters):
            raise ValueError("sha256 is not that of the weight files and adapters")
        return self

    def only(self, stages: Sequence[StageName]) -> "ModelRecord":
        """The identity as far as some stages go; what other stages are computed with is then open."""
        files = {name: value for name, value in self.files.items() if name.partition("/")[0] in parts_of(stages)}
        adapters = tuple(adapter for adapter in self.adapters if adapter.stage in stages)
        changes = {"files": files, "adapters": adapters, "sha256": model_sha256(files, adapters)}
        return self.model_copy(update=changes)


def model_sha256(files: Mapping[str, str], adapters: Sequence[AdapterRecord]) -> str:
    """The hash of a model: of its weight files (hashes by `stage/component/name`), and of their stages' adapters."""
    stages = {name.partition("/")[0] for name in files}
    lines = [f"{name} {value}" for name, value in sorted(files.items())]
    for adapter in adapters:
        if adapter.has_effect and adapter.stage in stages:
            details = "" if adapter.detail_weight == adapter.weight else f" {adapter.detail_weight}"
            lines.append(f"{adapter.stage} {adapter.sha256} {adapter.weight} {adapter.noise_weight}{details}")
    return sha256_of_text("\n".join(lines))


class Manifest(Environment):
    """The record of one generation."""

    format: Literal[1, 2]
    """Version of the manifest's format; `read_manifest` translates 1."""
    created: str
    """When the run began."""
    output: OutputFile | None = None
    """The file asked for."""
    request: GenerationRequest | None = None
    """What was asked for; None until the pipeline has recorded it."""
    input: InputRecord | None = None
    """The video it began with, where it began at a later stage."""
    model: ModelRecord | None = None
    """The model's identity."""
    text: CostRecord | None = None
    """What the encoding of the prompts cost."""
    stages: dict[StageName, StageRecord] = Field(default_factory=dict)
    """The finished stages."""
    picked_from: PickedFrom | None = None
    """The run that this one carries a single draft of."""

    @property
    def weights(self) -> dict[StageName, FewerBits]:
        """The finished stages whose weights were kept otherwise than the settings say; see `CostRecord.weights`."""
        return {stage: record.weights for stage, record in self.stages.items() if record.weights is not None}

    @model_validator(mode="before")
    @classmethod
    def _check_format(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            raise ValueError("it holds no JSON object")
        if values.get("format") not in (None, 1, 2):
            raise ValueError(f"it has format {values['format']!r}, this version of show1 reads 2; update show1")
        return values

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        for stage, record in self.stages.items():
            if record.file != artefact_name(stage):
                raise ValueError(f"the artefact of {stage} is {artefact_name(stage)}, not {record.file!r}")
            if record.request_sha256 is None and self.format != 1:
                raise ValueError(f"it does not say what {record.file} was computed for (request_sha256)")
        for path in () if self.output is None else (self.output.path, self.output.sheet or ""):
            if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path):
                raise ValueError(f"its output {path!r} is no name of a file")
            if not os.path.isabs(path) and ".." in Path(path).parts:
                raise ValueError(f"its output {path!r} would lead out of the folder in which the run is resumed")
        if (self.request is None) != (self.model is None):
            raise ValueError("it must have both a request and a model, or neither")
        if self.request is None or self.model is None:
            return self
        if (self.input is not None) != self.request.needs_video:
            raise ValueError(
                f"a run that begins with {self.request.stages[0]} has {'no' if self.input else 'an'} input"
            )
        for wanted, known in ((self.request.stages, self.model.stages), (self.stages, self.request.stages)):
            if unknown := [stage for stage in wanted if stage not in known]:
                raise ValueError(f"it names the stage {unknown[0]}, where there are only {', '.join(known)}")
        if tuple(sorted(set(self.model.stages), key=STAGES.index)) != self.model.stages:
            raise ValueError("the model's stages are out of order")
        for stage, record in self.stages.items():
            if record.request_sha256 not in (None, self.request.stage_sha256(stage)):
                raise ValueError(f"{record.file} was computed for another request than the one in it")
        return self


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of a run folder.

    Raises:
        RunError: There is no such folder or manifest, or the manifest is damaged.
    """
    if not folder.is_dir():
        raise RunError(f"there is no run folder {folder}; `show1 generate --run {folder} ...` begins one")
    file = folder / MANIFEST
    try:
        return _in_format_2(Manifest.model_validate(read_json_object(file)))
    except FileNotFoundError as error:
        raise RunError(f"{folder} is no run folder: it has no {MANIFEST}; name another one") from error
    except ValidationError as error:
        raise RunError(f"{file} is damaged ({explain(error)}); begin a new run") from error
    except ValueError as error:
        raise RunError(f"{file} is damaged ({error}); begin a new run") from error
    except OSError as error:
        raise RunError(
            f"{file} cannot be read: {error.strerror or error}; change its permissions, or copy it"
        ) from error


def _in_format_2(known: Manifest) -> Manifest:
    """In format 1, artefacts that do not say what they were computed for belong to the request, if there is one."""
    if known.format == 2:
        return known
    stages = {
        stage: record
        if record.request_sha256 is not None
        else record.model_copy(update={"request_sha256": known.request.stage_sha256(stage)})
        for stage, record in known.stages.items()
        if known.request is not None
    }
    return known.model_copy(update={"format": 2, "stages": stages})


def check_request(path: Path, known: Manifest, before: GenerationRequest, asked: GenerationRequest) -> None:
    """Makes sure that a request agrees with what a run has computed.

    Args:
        path: The run's folder.
        known: Its manifest.
        before: The request in it.
        asked: The new request.

    Raises:
        RunError: Prompts, seeds, the first stage, or settings of a computed stage are others.
    """

    def refuse(key: str, known_value: object, value: object) -> None:
        raise RunError(
            f"{path} belongs to another request, with {key} {shown(known_value)} instead of {shown(value)}; name "
            f"another folder, or finish the run in it with `show1 resume {path}`"
        )

    own = ["fps"] if before.needs_video else []  # otherwise it is a setting of the keyframes
    for key in ("prompts", "negative_prompts", "seeds", "numerics", *own):
        if getattr(before, key) != getattr(asked, key):
            refuse(key, getattr(before, key), getattr(asked, key))
    shorter, longer = sorted((before.stages, asked.stages), key=len)
    if longer[: len(shorter)] != shorter:
        refuse("stages", before.stages, asked.stages)
    for stage, record in known.stages.items():
        if stage in asked.stages and record.request_sha256 != asked.stage_sha256(stage):
            saved, wanted = before.settings.to_dict(), asked.settings.to_dict()
            counted = [name for name in saved if name not in STAGES or name in asked.up_to(stage).stages]
            if STAGE_TABLE[stage].takes_experts and before.expert_prompts != asked.expert_prompts:
                refuse("expert_prompts", before.expert_prompts, asked.expert_prompts)
            name = next((name for name in counted if saved[name] != wanted[name]), None)
            if name is None:  # they differ in how a number is written, 9 or 9.0
                continue
            old, new = saved[name], wanted[name]
            if isinstance(old, Mapping):
                option = next(option for option in old if old[option] != new[option])
                name, old, new = f"{name}.{option}", old[option], new[option]
            refuse(name, old, new)


def combined(
    known: GenerationRequest, asked: GenerationRequest, *, computed: Collection[StageName]
) -> GenerationRequest:
    """The request to record when `asked` agrees with the known one: the longer of the two, as far as it is open.

    Computed stages keep their settings, of which only the spelling of a number may differ (9 and 9.0); those that are
    not asked for now keep theirs as well.
    """
    longer = asked if len(asked.stages) >= len(known.stages) else known
    kept = [stage for stage in known.stages if stage in computed or stage not in asked.stages]
    settings = dataclasses.replace(asked.settings, **{stage: getattr(known.settings, stage) for stage in kept})
    return longer.with_settings(settings)


def check_model(path: Path, known: ModelRecord, now: ModelRecord, stages: Sequence[StageName]) -> None:
    """Makes sure that the weights and adapters of some stages are those that a run began with.

    Args:
        path: The run's folder.
        known: The model in its manifest.
        now: The model in use.
        stages: The stages that count.

    Raises:
        RunError: A weight file or an adapter is another one.
    """
    changed = _changed_file(known, now, stages)
    if changed is not None:
        raise RunError(
            f"{path} was made by other weights: {changed} has changed since; use the model it began with "
            f"({known.name}), or begin a new run"
        )
    counted = [stage for stage in stages if stage in _begun(known)]
    if _effects(known.adapters, counted) != _effects(now.adapters, counted):
        raise RunError(
            f"{path} was made with {_named(known.adapters)}, but now there is {_named(now.adapters)}; load those it "
            "began with (pipe.adapters.load_recorded(run.adapters), `show1 resume`), or begin a new run"
        )


def _changed_file(known: ModelRecord, now: ModelRecord, stages: Sequence[StageName]) -> str | None:
    """The first weight file of these stages that is not what it was, is gone, or is new.

    A run that is picked or extended has no files of its later stages yet: those do not count.
    """
    begun = parts_of(_begun(known) & set(stages))
    names = sorted(name for name in known.files.keys() | now.files.keys() if name.partition("/")[0] in begun)
    return next((name for name in names if known.files.get(name) != now.files.get(name)), None)


def _begun(known: ModelRecord) -> set[str]:
    """The rows of the stage table whose weights a run has recorded."""
    return {name.partition("/")[0] for name in known.files}


def _effects(adapters: Sequence[AdapterRecord], stages: Sequence[StageName]) -> list[tuple[Any, ...]]:
    """What the adapters do to these stages, in order."""
    return [(a.stage, a.sha256, a.weight, a.detail_weight, a.noise_weight) for a in adapters if a.stage in stages]


def _named(adapters: Sequence[AdapterRecord]) -> str:
    listed = ", ".join(f"{a.name} (weight {a.shown_weight}, {a.path})" for a in adapters)
    return f"the adapters {listed}" if adapters else "no adapter"
