"""The adapters that a cascade's networks are read with."""

import dataclasses
import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from show1.adapters.adapter import Adapter, check_noise_weight, check_shapes, sum_deltas, unet_hashes, unet_sha256
from show1.checkpoints.locate import Cascade
from show1.checkpoints.weight_files import find_weights, read_shapes
from show1.config import STAGES, StageName
from show1.errors import CheckpointError, InputError
from show1.files import sha256

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadedAdapter:
    """An adapter in use."""

    name: str
    """What it is called here."""
    path: Path
    """Its file, absolute."""
    sha256: str
    """Hash of the file."""
    adapter: Adapter
    """What is in it."""
    weight: float
    """Times its change of the weights; 0: as if it were not there."""
    detail_weight: float
    """The same at low noise levels, where details are drawn."""
    noise_weight: float
    """Share of the start noise's variance that is the adapter's, 0 to 1."""
    fused: bool = False
    """Whether it is a part of the model now."""

    @property
    def stage(self) -> StageName:
        """Whose network it changes."""
        return self.adapter.stage

    def record(self) -> dict[str, Any]:
        """What finds it again, and its effect; JSON types."""
        return {
            "name": self.name,
            "path": str(self.path),
            "sha256": self.sha256,
            "stage": self.stage,
            "weight": self.weight,
            "detail_weight": self.detail_weight,
            "noise_weight": self.noise_weight,
        }


class AdapterSet:
    """Adapters of a cascade in the order in which they were loaded."""

    def __init__(self, cascade: Cascade) -> None:
        """Starts empty."""
        self._cascade = cascade
        self._loaded: dict[str, LoadedAdapter] = {}

    @property
    def loaded(self) -> tuple[LoadedAdapter, ...]:
        """All, in order."""
        return tuple(self._loaded.values())

    def add(
        self,
        path: str | Path,
        *,
        name: str | None,
        weight: float,
        detail_weight: float | None,
        stage: StageName | None,
        noise_weight: float | None,
    ) -> LoadedAdapter:
        """Reads an adapter and makes sure that it fits the cascade. See `Show1Pipeline.load_adapter`."""
        weight, detail_weight = _checked_weights(weight, detail_weight)
        file = Path(path).expanduser().absolute()
        adapter = Adapter.load(file, stage=stage)
        if adapter.stage not in self._cascade.parts:
            has = ", ".join(self._cascade.stages)
            raise InputError(f"{file} is for the stage {adapter.stage!r}; the model {self._cascade.name!r} has {has}")
        try:
            self._check_fits(adapter)
        except CheckpointError as error:
            raise CheckpointError(f"{file}: {error}") from error
        if noise_weight is not None:
            check_noise_weight(noise_weight, adapter.start_noise)
        digest = sha256(file)
        loaded = LoadedAdapter(
            name=self._free_name(file, digest) if name is None else self._checked_name(name),
            path=file,
            sha256=digest,
            adapter=adapter,
            weight=weight,
            detail_weight=detail_weight,
            noise_weight=float(adapter.noise_weight if noise_weight is None else noise_weight),
        )
        self._loaded[loaded.name] = loaded
        return loaded

    def set_weight(self, name: str, weight: float, detail_weight: float | None = None) -> LoadedAdapter:
        """Gives an adapter another weight, and at low noise levels `detail_weight`, or the same.

        Raises:
            InputError: There is no such adapter, it is fused, or the weight is not finite.
        """
        weight, detail_weight = _checked_weights(weight, detail_weight)
        changed = dataclasses.replace(self._changeable(name), weight=weight, detail_weight=detail_weight)
        self._loaded[name] = changed
        return self._loaded[name]

    def remove(self, name: str | None) -> list[LoadedAdapter]:
        """Takes an adapter out, or all that are not fused.

        Raises:
            InputError: There is no such adapter, or it is fused.
        """
        names = [self._changeable(name).name] if name is not None else [a.name for a in self.loaded if not a.fused]
        if name is None and len(names) < len(self._loaded):
            logger.warning("Fused adapters stay: %s.", ", ".join(a.name for a in self.loaded if a.fused))
        return [self._loaded.pop(n) for n in names]

    def fuse(self) -> None:
        """Makes all adapters a part of the model.

        Raises:
            InputError: One has two weights, which a model cannot have.
        """
        for two in (a for a in self.loaded if a.weight != a.detail_weight):
            raise InputError(
                f"the adapter {two.name!r} has the weight {two.weight:g} and in details {two.detail_weight:g}, a model "
                f"has one; give it one weight first (set_adapter_weight({two.name!r}, {two.weight:g}))"
            )
        self._loaded = {name: dataclasses.replace(a, fused=True) for name, a in self._loaded.items()}

    def active(self, stages: Collection[str] = STAGES) -> list[LoadedAdapter]:
        """Those that have an effect on these stages."""
        return [a for a in self.loaded if (a.weight != 0 or a.detail_weight != 0) and a.stage in stages]

    def deltas(self, stage: StageName, *, fused_only: bool = False) -> dict[str, Tensor]:
        """The change of each parameter of a stage's UNet, float32; empty if there is none."""
        chosen = [a for a in self.active((stage,)) if a.fused or not fused_only]
        return sum_deltas((a.adapter, a.weight) for a in chosen)

    def detail_deltas(self, stage: StageName) -> dict[str, Tensor]:
        """As `deltas`, at low noise levels."""
        return sum_deltas((a.adapter, a.detail_weight) for a in self.active((stage,)))

    def has_detail_weights(self, stage: StageName) -> bool:
        """Whether a stage's weights are others at low noise levels."""
        return any(a.weight != a.detail_weight for a in self.active((stage,)))

    def start_noises(self, stage: StageName) -> list[tuple[Tensor, float]]:
        """Inverted clips (N, 3, F, H, W) for a stage's start noise, with their shares of its variance."""
        return [
            (a.adapter.start_noise, a.noise_weight)
            for a in self.active((stage,))
            if a.adapter.start_noise is not None and a.noise_weight > 0
        ]

    def _check_fits(self, adapter: Adapter) -> None:
        folder = self._cascade.parts[adapter.stage].path / "unet"
        variant, base = self._cascade.variant, adapter.base_sha256
        if base and base != unet_sha256(folder, variant) and base not in unet_hashes(folder):
            raise CheckpointError(
                f"the adapter was made for the {adapter.stage} network of {adapter.base_name!r} (sha256 {base[:12]}), "
                f"the model here is {self._cascade.name!r} (sha256 {unet_sha256(folder, variant)[:12]}); use the model "
                "it was made for, or make the adapter again (`show1 customize`)"
            )
        shapes = {name: shape for file in find_weights(folder, variant) for name, shape in read_shapes(file).items()}
        check_shapes(adapter, shapes, f"the {adapter.stage} network of {self._cascade.name!r}")

    def _changeable(self, name: str) -> LoadedAdapter:
        if name not in self._loaded:
            raise InputError(f"no adapter {name!r} is loaded; there are {', '.join(self._loaded) or 'none'}")
        if self._loaded[name].fused:
            raise InputError(f"the adapter {name!r} is fused: it is a part of the model; load the model again")
        return self._loaded[name]

    def _checked_name(self, name: str) -> str:
        if not name:
            raise InputError("an adapter's name must not be empty")
        if name in self._loaded:
            raise InputError(
                f"an adapter {name!r} is loaded already ({self._loaded[name].path}); give another name, or unload it "
                "first (unload_adapter)"
            )
        return name

    def _free_name(self, file: Path, digest: str) -> str:
        for known in self.loaded:
            if known.sha256 == digest:
                raise InputError(
                    f"{file} is loaded already as {known.name!r}; change its weight (set_adapter_weight), or give a "
                    "name to load it twice"
                )
        name, number = file.stem, 1
        while name in self._loaded:
            number += 1
            name = f"{file.stem}-{number}"
        return name


@dataclass(frozen=True, kw_only=True)
class AdapterRecord:
    """An adapter as a run or a video names it."""

    name: str
    """What it was called."""
    path: Path
    """Where its file was."""
    sha256: str
    """Hash of the file."""
    stage: StageName
    """Whose network it changed."""
    weight: float
    """Times its change."""
    detail_weight: float
    """The same at low noise levels."""
    noise_weight: float
    """Share of the start noise."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads `LoadedAdapter.record`.

        Raises:
            InputError: It is damaged.
        """
        try:
            return cls(
                name=str(values["name"]),
                path=Path(values["path"]),
                sha256=str(values["sha256"]),
                stage=values["stage"],
                weight=float(values["weight"]),
                detail_weight=float(values.get("detail_weight", values["weight"])),
                noise_weight=float(values["noise_weight"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the record of an adapter is damaged ({error!r}): {values}") from error

    def check_file(self) -> None:
        """Makes sure that the file is the one that was used.

        Raises:
            InputError: It is not there, or has changed since.
        """
        if not self.path.is_file():
            raise InputError(
                f"the adapter {self.name!r} is not where it was, in {self.path}; put it back, or load it from where it "
                f"is now (`show1 generate --adapter FILE:{self.weight:g}:{self.detail_weight:g}`)"
            )
        if sha256(self.path) != self.sha256:
            raise InputError(
                f"{self.path} has changed since the adapter {self.name!r} was used (its sha256 was "
                f"{self.sha256[:12]}); put the old file back, or generate anew with this one"
            )


def told_weight(record: Mapping[str, Any]) -> str:
    """The weight in `LoadedAdapter.record`, and the one of details if it is another, for people."""
    weight = record.get("weight")
    detail_weight = record.get("detail_weight", weight)
    return str(weight) if detail_weight == weight else f"{weight}, in details {detail_weight}"


def _checked_weights(weight: float, detail_weight: float | None) -> tuple[float, float]:
    """Both weights; that of details is the other one if it is not given."""
    for name, value in (("weight", weight), ("detail_weight", detail_weight)):
        if value is not None and not math.isfinite(value):
            raise InputError(f"an adapter's {name} must be a finite number, got {value!r}")
    return float(weight), float(weight if detail_weight is None else detail_weight)
