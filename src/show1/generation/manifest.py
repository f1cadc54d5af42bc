"""The manifest of a run folder: what it holds, checked as a whole when it is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainSerializer, PlainValidator, ValidationError, model_validator

from show1.adapters.record import AdapterRecord, Record, Sha256, explain
from show1.config import STAGES, StageName
from show1.errors import RunError
from show1.files import write_json
from show1.generation.output import OutputFile
from show1.generation.request import GenerationRequest

MANIFEST = "manifest.json"
INPUT_FILE = "input.safetensors"

DtypeName = Literal["float64", "float32", "bfloat16", "float16"]
Text = Annotated[str, Field(min_length=1)]


def artefact_name(stage: StageName) -> str:
    """The file of a finished stage inside a run folder."""
    return f"{stage}.safetensors"


def _read_request(value: Any) -> GenerationRequest:
    return value if isinstance(value, GenerationRequest) else GenerationRequest.from_dict(value)


def _read_output(value: Any) -> OutputFile:
    return value if isinstance(value, OutputFile) else OutputFile.from_dict(value)


Request = Annotated[GenerationRequest, PlainValidator(_read_request), PlainSerializer(GenerationRequest.to_dict)]
Output = Annotated[OutputFile, PlainValidator(_read_output), PlainSerializer(OutputFile.to_dict)]


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

    def differences(self, now: "Environment") -> list[tuple[str, object, object]]:
        """Lists what differs now and changes the last digits, as (name, known, now)."""
        pairs = [(name, getattr(self, name), getattr(now, name)) for name in ("device", "dtype", "threads")]
        return [(name, known, other) for name, known, other in pairs if known is not None and known != other]


class CostRecord(Record):
    """Time and memory that a part of a run took."""

    seconds: Annotated[float, Field(ge=0, le=1e12)] | None = None
    """Wall-clock time."""
    peak_memory_bytes: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """Peak memory."""


class StageRecord(CostRecord):
    """A finished stage."""

    file: str
    """Name of its artefact."""
    sha256: Sha256
    """Hash of the artefact."""
    request_sha256: Sha256 | None = None
    """`GenerationRequest.stage_sha256` of the request that it was computed for; older runs lack it."""


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


class ModelRecord(Record):
    """A model's identity."""

    name: str
    """Name shown to people."""
    model: Text | Annotated[dict[str, Text], Field(min_length=1)]
    """What `Show1Pipeline.from_pretrained` takes: a name, a folder, or a mapping of stage to one of these."""
    stages: Annotated[tuple[StageName, ...], Field(strict=False)]  # JSON has lists only
    """The stages that it has."""
    sources: dict[str, str]
    """Where each stage comes from: a repository with its commit, or a folder."""
    sha256: Sha256
    """Hash of `files`, and of the adapters of their stages."""
    files: dict[str, Sha256]
    """Hash of each weight file, by `stage/component/name`."""
    adapters: Annotated[tuple[AdapterRecord, ...], Field(strict=False)] = ()
    """The adapters in use."""

    def to_dict(self) -> dict[str, Any]:
        """The saved form: JSON types only."""
        return self.model_dump(mode="json", exclude={"adapters"} if not self.adapters else None)


class Manifest(Environment):
    """The record of one generation."""

    format: Literal[1] = 1
    """Version of the manifest's format."""
    created: str
    """When the run began."""
    output: Output | None = None
    """The file to write."""
    request: Request | None = None
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

    @model_validator(mode="before")
    @classmethod
    def _check_format(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            raise ValueError("it holds no JSON object")
        if values.get("format") not in (None, 1):
            raise ValueError(f"it has format {values['format']!r}, this version of show1 reads 1; update show1")
        if "format" not in values:
            raise ValueError("it has no format")
        return values

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        for stage, record in self.stages.items():
            if record.file != artefact_name(stage):
                raise ValueError(f"the artefact of {stage} is {artefact_name(stage)}, not {record.file!r}")
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

    def to_dict(self) -> dict[str, Any]:
        """The saved form: JSON types only."""
        saved = self.model_dump(mode="json", exclude_none=True)
        if self.model is not None:
            saved["model"] = self.model.to_dict()
        return saved


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of a run folder.

    Raises:
        RunError: There is no such folder or manifest, or the manifest is damaged.
    """
    if not folder.is_dir():
        raise RunError(f"there is no run folder {folder}; `show1 generate --run {folder} ...` begins one")
    file = folder / MANIFEST
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{folder} is no run folder: it has no {MANIFEST}") from error
    except ValidationError as error:
        raise RunError(f"{file} is damaged ({explain(error)}); begin a new run") from error
    except OSError as error:
        raise RunError(f"{file} cannot be read ({error.strerror or error}); begin a new run") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest of a run folder, whole or not at all.

    Raises:
        OutputError: No permission, or the disk is full.
    """
    write_json(folder / MANIFEST, manifest.to_dict())
