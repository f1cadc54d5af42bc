"""Protocols of benchmarks: everything that the figures depend on besides the model, as a frozen file with an id.

A protocol is a JSON object of the fields of `BenchmarkProtocol`. Two reports with the same id asked the same question.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from show1.errors import InputError
from show1.options import Options

Resize = Literal["squash", "crop"]
Start = Literal["first", "hash"]
PromptRule = Literal["class-distribution", "one-caption", "all"]
MetricName = Literal["fvd", "fid-vid", "kvd", "is", "clipsim", "alignment"]

NEEDS_REAL: tuple[MetricName, ...] = ("fvd", "fid-vid", "kvd")
"""Metrics that compare with real videos."""

NEEDS_PROMPTS: tuple[MetricName, ...] = ("clipsim", "alignment")
"""Metrics that compare videos with their prompts."""

HIGHER_IS_BETTER: tuple[MetricName, ...] = ("is", "clipsim", "alignment")
"""For the other metrics, lower is better."""

ASSETS = files("show1.evaluation") / "assets"
"""Files of the package: prompts and published figures."""

_READING = (
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
"""Fields that decide which pixels of real videos are read."""


@dataclass(frozen=True, kw_only=True)
class Metric(Options):
    """One figure of a protocol."""

    options_of: ClassVar[str] = "metric"

    name: MetricName
    """The metric's name."""

    network: str
    """Feature network: one of `show1.evaluation.feature_networks.NETWORKS`, or one that a plug-in brings."""

    sha256: str | None = None
    """Hash of the network's file; None accepts any, and the report names the one that was used."""

    splits: int = 10
    """Number of splits of the Inception Score."""

    def __post_init__(self) -> None:
        if self.name not in get_args(MetricName):
            raise InputError(f"metrics: there is no {self.name!r}; there are {', '.join(get_args(MetricName))}")
        super().__post_init__()
        self.check_range("splits", least=1)

    @property
    def label(self) -> str:
        """The name in reports and on the command line: `fvd:i3d-stylegan-v`."""
        return f"{self.name}:{self.network}"


@dataclass(frozen=True, kw_only=True)
class BenchmarkProtocol(Options):
    """A frozen protocol."""

    options_of: ClassVar[str] = "protocol"

    name: str
    """Name shown in reports."""

    dataset: str
    """Data set that real videos and prompts come from, such as `ucf101`; `prompts` is a file of prompts only."""

    split: str
    """Part of the data set: `train01`, `test02`, `all` of UCF-101; `train`, `validate`, `test`, `all` of MSR-VTT."""

    videos: int
    """Number of generated videos; 0: as many as there are prompts."""

    samples_per_prompt: int = 1
    """Videos per prompt, side by side, where `prompts` is `all`."""

    references: int = 0
    """Number of real videos, drawn by `reference_seed`; 0: all of the split."""

    reference_seed: int = 0
    """Draws real videos, their first frames, and captions: by hash, so that the draw is the same everywhere."""

    frames: int = 16
    """Frames per clip, of real and of generated videos."""

    stride: int = 1
    """Frame stride at `fps`."""

    fps: float | None = None
    """Frames per second at which videos are read; None: their own."""

    start: Start = "first"
    """Where a clip begins in a real video: at its first frame, or anywhere. A generated one is read from its start."""

    height: int
    """Height of the clips that the networks get, in pixels."""

    width: int
    """Width of the clips that the networks get, in pixels."""

    resize: Resize
    """`squash` ignores proportions; `crop` keeps them and cuts off the excess around the centre. Pillow's bicubic."""

    prompts: PromptRule
    """`class-distribution`: of `prompt_file`, each class as often as in the split; `one-caption`: one of each video's
    captions; `all`: every prompt of the data set, or every line of `prompt_file`."""

    prompt_file: str | None = None
    """File with the prompts, beside the protocol or shipped with show1."""

    prompt_file_sha256: str | None = None
    """Hash of that file."""

    seed: int = 0
    """Seed of the first generated video; video i has seed + i."""

    metrics: tuple[Metric, ...] = ()
    """Metrics that are computed."""

    layout: Literal["plain", "vbench"] = "plain"
    """`vbench` also writes PROMPT-INDEX.mp4, as its tool reads them."""

    source: Mapping[str, str] = field(default_factory=dict)
    """Where each choice comes from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("videos", "references", least=0)
        self.check_range("samples_per_prompt", "frames", "stride", "height", "width", least=1)
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
        return _digest({name: fields[name] for name in _READING})

    @property
    def compared(self) -> tuple[Metric, ...]:
        """The metrics that compare with real videos."""
        return tuple(metric for metric in self.metrics if metric.name in NEEDS_REAL)

    def to_dict(self) -> dict[str, Any]:
        """Returns the saved form, which has JSON types only."""
        fields = super().to_dict()
        if self.prompt_file is not None:
            fields["prompt_file"] = Path(self.prompt_file).name  # its place on this disk is not part of the protocol
        return fields

    def read_prompt_file(self, shipped: Traversable = ASSETS) -> str:
        """Reads the text of the prompt file.

        Args:
            shipped: Folder of a package where the file is looked for if it is not on the disk.

        Raises:
            InputError: There is none, or its hash differs from the protocol's.
        """
        if self.prompt_file is None:
            raise InputError(f"the protocol {self.name} needs a file of prompts, one per line: give it with --data")
        path, inside = Path(self.prompt_file), shipped / self.prompt_file
        if path.is_file():
            content = path.read_bytes()
        elif inside.is_file():
            content = inside.read_bytes()
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


def published_figures(dataset: str) -> list[dict[str, Any]]:
    """Returns published zero-shot figures on a data set: model, figures by metric, source."""
    figures = json.loads((ASSETS / "published_figures.json").read_text(encoding="utf-8"))
    listed: list[dict[str, Any]] = figures.get(dataset, [])
    return listed


def draw(*parts: object) -> int:
    """Returns the first 64 bits of a SHA-256 of the arguments: a random number that is the same on every machine."""
    return int(hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:16], 16)


def _digest(fields: Mapping[str, Any]) -> str:
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
