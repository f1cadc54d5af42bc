"""Protocols: everything that a benchmark's figures depend on, beside the model, as a frozen file with an id.

A protocol is a JSON object of the fields of `Protocol`. Two reports with the same id asked the same question.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self, get_args

from show1.errors import InputError
from show1.files import read_json_object

Dataset = Literal["ucf101", "msrvtt", "sprites", "prompts"]
Resize = Literal["squash", "crop"]
Start = Literal["first", "hash"]
PromptRule = Literal["class-distribution", "one-caption", "all"]
MetricName = Literal["fvd", "fid-vid", "kvd", "is", "clipsim", "alignment"]

SPRITE_READER = "sprite-reader"
"""Feature network of the sprite world, which comes with show1."""

NEEDS_REAL = ("fvd", "fid-vid", "kvd")
"""Metrics that compare with real videos."""

_FOLDER = files("show1.evaluation") / "protocols"
_ASSETS = files("show1.evaluation") / "assets"
_REFERENCE = (
    "dataset",
    "split",
    "references",
    "reference_seed",
    "frames",
    "stride",
    "fps",
    "start",
    "height",
    "width",
    "resize",
)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure of a protocol."""

    name: MetricName
    """Which."""

    network: str
    """Feature network: one of `show1.evaluation.features.NETWORKS`, or `sprite-reader`."""

    sha256: str | None = None
    """Of the network's file; None: any, and the report names what was used."""

    splits: int = 10
    """Of the Inception Score."""

    def __post_init__(self) -> None:
        if self.name not in get_args(MetricName):
            raise InputError(f"metrics: there is no {self.name!r}; there are {', '.join(get_args(MetricName))}")
        if self.splits < 1:
            raise InputError(f"splits must be 1 or more, got {self.splits}")

    @property
    def label(self) -> str:
        """In reports and on the command line: `fvd:i3d-stylegan-v`."""
        return f"{self.name}:{self.network}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `NAME` or `NAME:NETWORK`.

        Raises:
            InputError: No such metric.
        """
        name, _, network = text.partition(":")
        usual = {
            "fvd": "i3d-stylegan-v",
            "kvd": "i3d-stylegan-v",
            "fid-vid": "inception-clean-fid",
            "is": "c3d-ucf101",
            "clipsim": "clip-vit-b-32",
            "alignment": SPRITE_READER,
        }
        if name not in usual:
            raise InputError(f"there is no metric {name!r}; write NAME or NAME:NETWORK with one of {', '.join(usual)}")
        return cls(name=name, network=network or usual[name])  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A frozen protocol."""

    name: str
    """In reports."""

    dataset: Dataset
    """What real videos and prompts come from; `prompts` has a file of prompts and no real videos."""

    split: str
    """`train01`, `test02`, `all` of UCF-101; `train`, `validate`, `test`, `all` of MSR-VTT; a set of sprite prompts."""

    videos: int
    """Generated videos; 0: as many as there are prompts."""

    samples_per_prompt: int = 1
    """Videos of each prompt, side by side, where `prompts` is `all`."""

    references: int = 0
    """Real videos, drawn by `reference_seed`; 0: all of the split."""

    reference_seed: int = 0
    """Draws real videos, their first frames, and captions: by hash, so that the draw is the same everywhere."""

    frames: int = 16
    """Frames of a clip, of real and of generated videos."""

    stride: int = 1
    """Every so many-th frame, counted at `fps`."""

    fps: float | None = None
    """Frames per second at which videos are read; None: their own."""

    start: Start = "first"
    """Where a clip begins in a real video: at its first frame, or anywhere. A generated one is read from its start."""

    height: int
    """Of the clips that the networks get, in pixels."""

    width: int
    """Of the clips that the networks get, in pixels."""

    resize: Resize
    """`squash` ignores proportions; `crop` keeps them and cuts what is over, at the centre. Pillow's bicubic."""

    prompts: PromptRule
    """`class-distribution`: of `prompt_file`, each class as often as in the split; `one-caption`: one of each video's
    captions; `all`: every line of `prompt_file`, or every sprite prompt of the split."""

    prompt_file: str | None = None
    """File with the prompts, beside the protocol or shipped with show1."""

    prompt_file_sha256: str | None = None
    """Of that file."""

    seed: int = 0
    """Of the first generated video; video i has seed + i."""

    metrics: tuple[Metric, ...] = ()
    """What is computed."""

    layout: Literal["plain", "vbench"] = "plain"
    """`vbench` also writes PROMPT-INDEX.mp4, as its tool reads them."""

    source: Mapping[str, str] = field(default_factory=dict)
    """Where each choice comes from."""

    def __post_init__(self) -> None:
        for name, values in (
            ("dataset", get_args(Dataset)),
            ("resize", get_args(Resize)),
            ("start", get_args(Start)),
            ("prompts", get_args(PromptRule)),
            ("layout", ("plain", "vbench")),
        ):
            if getattr(self, name) not in values:
                raise InputError(f"{name} must be one of {', '.join(values)}, got {getattr(self, name)!r}")
        for name, least in (
            ("videos", 0),
            ("references", 0),
            ("samples_per_prompt", 1),
            ("frames", 1),
            ("stride", 1),
            ("height", 1),
            ("width", 1),
        ):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be {least} or more, got {getattr(self, name)}")
        if self.fps is not None and self.fps <= 0:
            raise InputError(f"fps must be positive, got {self.fps}")
        if self.prompts == "class-distribution" and self.videos == 0:
            raise InputError("videos must be 1 or more with class-distribution")

    @property
    def id(self) -> str:
        """16 hex digits that change with any field."""
        return _digest(self.to_dict())

    @property
    def reference_id(self) -> str:
        """16 hex digits that change with any field that decides which pixels of real videos are read."""
        fields = self.to_dict()
        return _digest({name: fields[name] for name in _REFERENCE})

    def to_dict(self) -> dict[str, Any]:
        """As JSON saves it."""
        fields = {**dataclasses.asdict(self), "source": dict(self.source)}
        if self.prompt_file is not None:
            fields["prompt_file"] = Path(self.prompt_file).name  # its place on this disk is not part of the protocol
        found: dict[str, Any] = json.loads(json.dumps(fields))
        return found

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` gives.

        Raises:
            InputError: A field is missing, unknown, or cannot be used.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise InputError(f"a protocol has no field {unknown[0]!r}; it has {', '.join(sorted(known))}")
        try:
            metrics = tuple(Metric(**metric) for metric in fields.get("metrics", ()))
            return cls(**{**fields, "metrics": metrics})
        except TypeError as error:
            raise InputError(f"the protocol {fields.get('name', '')!r} cannot be read: {error}") from error

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Loads a protocol that is shipped, or from a JSON file.

        Raises:
            InputError: No such protocol, or its file cannot be used.
        """
        name = str(name_or_path)
        if name in protocol_names():
            return cls.from_dict(json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8")))
        path = Path(name)
        if not path.is_file():
            raise InputError(
                f"there is no protocol {name!r}; there are {', '.join(protocol_names())}, or give a JSON file"
            )
        try:
            fields = read_json_object(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as a protocol: {error}") from error
        protocol = cls.from_dict(fields)
        beside = path.parent / (protocol.prompt_file or "")
        if protocol.prompt_file and beside.is_file():
            protocol = dataclasses.replace(protocol, prompt_file=str(beside))
        return protocol

    def read_prompt_file(self) -> str:
        """The text of the prompt file.

        Raises:
            InputError: There is none, or its hash is another.
        """
        if self.prompt_file is None:
            raise InputError(f"the protocol {self.name} needs a file of prompts, one a line: give it with --data")
        shipped, path = _ASSETS / self.prompt_file, Path(self.prompt_file)
        if path.is_file():
            content = path.read_bytes()
        elif shipped.is_file():
            content = shipped.read_bytes()
        else:
            raise InputError(f"there is no prompt file {self.prompt_file}; check the name")
        digest = hashlib.sha256(content).hexdigest()
        if self.prompt_file_sha256 not in (None, digest):
            raise InputError(
                f"{self.prompt_file} has sha256 {digest}, the protocol {self.name} expects {self.prompt_file_sha256}: "
                "take the file that the protocol was frozen with"
            )
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{self.prompt_file} is not UTF-8 text ({error}); save it as UTF-8") from error


def protocol_names() -> tuple[str, ...]:
    """Names of the protocols that are shipped."""
    return tuple(sorted(file.name.removesuffix(".json") for file in _FOLDER.iterdir() if file.name.endswith(".json")))


def published_figures(dataset: str) -> list[dict[str, Any]]:
    """Published zero-shot figures on a data set: model, figures by metric, source."""
    figures = json.loads((_ASSETS / "published_figures.json").read_text(encoding="utf-8"))
    listed: list[dict[str, Any]] = figures.get(dataset, [])
    return listed


def draw(*parts: object) -> int:
    """A number that depends on nothing but its arguments, on every machine: the first 64 bits of a SHA-256."""
    return int(hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:16], 16)


def _digest(fields: Mapping[str, Any]) -> str:
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
