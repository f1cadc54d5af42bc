"""The adapters that a cascade's networks are read with."""

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from show1.adapters.adapter import Adapter, check_noise_weight, check_shapes, sum_deltas, unet_hashes, unet_sha256
from show1.adapters.record import AdapterRecord
from show1.checkpoints.cascade import Cascade
from show1.checkpoints.weight_files import find_weights, read_shapes
from show1.config import STAGES, StageName
from show1.errors import CheckpointError, InputError
from show1.files import sha256, user_path
from show1.options import plain_number, require

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadedAdapter:
    """An adapter in use."""

    record: AdapterRecord
    """Its name, file and weights."""
    adapter: Adapter | None
    """What is in the file; None for a LoRA of an expert, whose pipeline reads the file by itself."""
    fused: bool = False
    """Whether it has become a part of the model."""


class AdapterSet:
    """The adapters in use, in the order in which they were loaded: `Show1Pipeline.adapters`."""

    def __init__(self, cascade: Cascade, *, on_change: Callable[[StageName], None] = lambda _: None) -> None:
        """Starts empty.

        Args:
            cascade: The model that the adapters must fit.
            on_change: Called with each stage whose adapters change: its network must be read again.
        """
        self._cascade = cascade
        self._on_change = on_change
        self._loaded: dict[str, LoadedAdapter] = {}

    def __iter__(self) -> Iterator[LoadedAdapter]:
        """Goes through the adapters in order."""
        return iter(tuple(self._loaded.values()))

    def __len__(self) -> int:
        """The number of adapters."""
        return len(self._loaded)

    def load(
        self,
        path: str | Path,
        name: str | None = None,
        weight: float = 1.0,
        *,
        detail_weight: float | None = None,
        stage: StageName | None = None,
        noise_weight: float | None = None,
    ) -> str:
        """Uses an adapter from the next call on: a motion or a style by `show1 customize`, or a LoRA.

        Several adapters add up. The stage's network leaves the memory and is read again when it is needed.

        Args:
            path: The file.
            name: Its name here; None: the file's name without its suffix.
            weight: Multiplier of its weight change; 0 leaves the network as it is.
            detail_weight: Multiplier at low noise levels (timesteps below 400 of 1000), where appearance is decided but
                layout no longer is; motions usually need less weight there. None: equal to `weight`.
            stage: The stage to change, for a LoRA of another program; None: as the file says.
            noise_weight: Share of the start noise's variance that comes from the clips the motion was learnt from, 0 to
                1; None: as the adapter advises.

        Returns:
            The name.

        Raises:
            InputError: No such file, a name that is taken, or a value that cannot be used.
            CheckpointError: The file is damaged, or was made for another model.
        """
        weight, detail_weight = _checked_weights(weight, detail_weight)
        file = user_path(path, "an adapter").absolute()
        if stage is not None and self._has_expert(stage):
            return self._load_foreign(file, name, weight, detail_weight, stage, noise_weight)
        known = self._shapes(stage) if stage in self._cascade.parts else {}
        adapter = Adapter.load(file, stage=stage, modules={name.rpartition(".")[0] for name in known})
        if adapter.stage not in self._cascade.parts:
            has = ", ".join(self._cascade.stages)
            raise InputError(f"{file} is for the stage {adapter.stage!r}; the model {self._cascade.name!r} has {has}")
        if self._has_expert(adapter.stage):
            raise InputError(f"{file} is for the cascade's own {adapter.stage}, and the model here has an expert there")
        try:
            self._check_fits(adapter)
        except CheckpointError as error:
            raise CheckpointError(f"{file}: {error}") from error
        if noise_weight is not None:
            check_noise_weight(noise_weight, adapter.start_noise)
        digest = sha256(file)
        record = AdapterRecord(
            name=self._free_name(file, digest) if name is None else self._checked_name(name),
            path=str(file),
            sha256=digest,
            stage=adapter.stage,
            weight=weight,
            detail_weight=detail_weight,
            noise_weight=float(adapter.noise_weight if noise_weight is None else noise_weight),
        )
        return self._add(record, adapter)

    def _load_foreign(
        self,
        file: Path,
        name: str | None,
        weight: float,
        detail_weight: float,
        stage: StageName,
        noise_weight: float | None,
    ) -> str:
        """Uses a LoRA of an expert; what is in it is checked when the expert's pipeline reads it."""
        if weight != detail_weight or noise_weight:
            raise InputError(f"{file}: a LoRA of an expert has one weight, for all noise levels, and no start noise")
        if not any("lora" in tensor.lower() for tensor in read_shapes(file)):
            raise CheckpointError(f"{file} holds no LoRA; give a LoRA for this expert, as diffusers reads it")
        digest = sha256(file)
        record = AdapterRecord(
            name=self._free_name(file, digest) if name is None else self._checked_name(name),
            path=str(file),
            sha256=digest,
            stage=stage,
            weight=weight,
            detail_weight=detail_weight,
            noise_weight=0.0,
        )
        return self._add(record, None)

    def _add(self, record: AdapterRecord, adapter: Adapter | None) -> str:
        self._loaded[record.name] = LoadedAdapter(record=record, adapter=adapter)
        self._on_change(record.stage)
        return record.name

    def _has_expert(self, stage: StageName) -> bool:
        """Whether the networks of a stage are those of an expert."""
        part = self._cascade.parts.get(stage)
        return part is not None and part.expert is not None

    def load_recorded(self, records: Iterable[AdapterRecord | Mapping[str, Any]]) -> None:
        """Loads the adapters that a run (`Run.adapters`) or a video (`metadata["model"]["adapters"]`) was made with.

        Raises:
            InputError: A record is damaged, or a file is not where it was, or has changed since.
            CheckpointError: An adapter was made for another model.
        """
        require(isinstance(records, Iterable), "the adapters", records, "a list of records")
        for record in [AdapterRecord.from_dict(r) for r in records]:
            record.check_file()
            self.load(**record.model_dump(exclude={"sha256"}))

    def set_weight(self, name: str, weight: float, detail_weight: float | None = None) -> None:
        """Changes an adapter's weights; see `load`.

        Raises:
            InputError: There is no such adapter, it is fused, or the weight is not finite.
        """
        weight, detail_weight = _checked_weights(weight, detail_weight)
        known = self._changeable(name)
        record = known.record.model_copy(update={"weight": weight, "detail_weight": detail_weight})
        self._loaded[name] = replace(known, record=record)
        self._on_change(record.stage)

    def unload(self, name: str | None = None) -> None:
        """Takes an adapter out, or all that are not fused: videos are again what they were, to the last bit.

        Raises:
            InputError: There is no such adapter, or it is fused.
        """
        names = [name] if name is not None else [a.record.name for a in self if not a.fused]
        if name is None and len(names) < len(self):
            logger.warning(
                "Fused adapters are part of the model and stay: %s.", ", ".join(a.record.name for a in self if a.fused)
            )
        for each in names:
            stage = self._changeable(each).record.stage
            del self._loaded[each]
            self._on_change(stage)

    def fuse(self) -> None:
        """Makes the adapters a part of the model: `save_pretrained` writes them, and they cannot be taken out.

        Idempotent; output videos do not change.

        Raises:
            InputError: One has two weights, which a model cannot have.
        """
        for record in (a.record for a in self if a.record.weight != a.record.detail_weight):
            raise InputError(
                f"the adapter {record.name!r} has the weight {record.weight:g}, and {record.detail_weight:g} in "
                "details, but a model has only one; give it one weight first "
                f"(set_weight({record.name!r}, {record.weight:g}))"
            )
        for record in (a.record for a in self if a.adapter is None):
            raise InputError(
                f"the adapter {record.name!r} is of an expert, and stays a file of its own; unload it first"
            )
        self._loaded = {name: replace(a, fused=True) for name, a in self._loaded.items()}

    def active(self, stages: Collection[str] = STAGES) -> list[LoadedAdapter]:
        """The adapters that have an effect on these stages."""
        return [a for a in self if a.record.has_effect and a.record.stage in stages]

    def deltas(self, stage: StageName, *, fused_only: bool = False) -> dict[str, Tensor]:
        """The change of each parameter of a stage's UNet, float32 in the parameter's shape; empty if there is none."""
        chosen = [a for a in self.active((stage,)) if a.fused or not fused_only]
        return sum_deltas((a.adapter, a.record.weight) for a in chosen if a.adapter is not None)

    def detail_deltas(self, stage: StageName) -> dict[str, Tensor]:
        """Like `deltas` (same shapes), but for low noise levels."""
        chosen = self.active((stage,))
        return sum_deltas((a.adapter, a.record.detail_weight) for a in chosen if a.adapter is not None)

    def has_detail_weights(self, stage: StageName) -> bool:
        """Whether a stage's weights are others at low noise levels."""
        return any(a.record.weight != a.record.detail_weight for a in self.active((stage,)))

    def count_details(self, stage: StageName) -> int:
        """How many weights a stage holds twice, because they are others at low noise levels."""
        if not self.has_detail_weights(stage):
            return 0
        adapters = [a.adapter for a in self.active((stage,)) if a.adapter is not None]
        shapes = {name: shape for adapter in adapters for name, shape in adapter.shapes().items()}
        return sum(map(math.prod, shapes.values()))

    def start_noises(self, stage: StageName) -> list[tuple[Tensor, float]]:
        """Inverted clips (N, 3, F, H, W) for a stage's start noise, with their shares of its variance."""
        return [
            (a.adapter.start_noise, a.record.noise_weight)
            for a in self.active((stage,))
            if a.adapter is not None and a.adapter.start_noise is not None and a.record.noise_weight > 0
        ]

    def _check_fits(self, adapter: Adapter) -> None:
        folder = self._cascade.parts[adapter.stage].path / "unet"
        variant, base = self._cascade.variant, adapter.base_sha256
        if base and base != unet_sha256(folder, variant) and base not in unet_hashes(folder):
            raise CheckpointError(
                f"the adapter was made for the {adapter.stage} network of {adapter.base_name!r} (sha256 {base[:12]}), "
                f"but the model here is {self._cascade.name!r} (sha256 {unet_sha256(folder, variant)[:12]}); use the "
                "model it was made for, or make the adapter again (`show1 customize`)"
            )
        check_shapes(adapter, self._shapes(adapter.stage), f"the {adapter.stage} network of {self._cascade.name!r}")

    def _shapes(self, stage: str) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters of a stage's UNet, by name."""
        files = find_weights(self._cascade.parts[stage].path / "unet", self._cascade.variant)
        return {name: shape for file in files for name, shape in read_shapes(file).items()}

    def _changeable(self, name: str) -> LoadedAdapter:
        if not isinstance(name, str) or name not in self._loaded:
            raise InputError(f"no adapter {name!r} is loaded; the loaded ones are {', '.join(self._loaded) or 'none'}")
        if self._loaded[name].fused:
            raise InputError(f"the adapter {name!r} is fused: it is a part of the model; load the model again")
        return self._loaded[name]

    def _checked_name(self, name: str) -> str:
        require(isinstance(name, str), "an adapter's name", name, "a text")
        if not name:
            raise InputError("an adapter's name must not be empty")
        if name in self._loaded:
            raise InputError(
                f"an adapter {name!r} is loaded already ({self._loaded[name].record.path}); give another name, or "
                "unload it first (unload)"
            )
        return name

    def _free_name(self, file: Path, digest: str) -> str:
        for known in (a.record for a in self):
            if known.sha256 == digest:
                raise InputError(
                    f"{file} is loaded already as {known.name!r}; change its weight (set_weight), or give a "
                    "name to load it twice"
                )
        name, number = file.stem, 1
        while name in self._loaded:
            number += 1
            name = f"{file.stem}-{number}"
        return name


def _checked_weights(weight: float, detail_weight: float | None) -> tuple[float, float]:
    """Both weights; that of details equals the other one if it is not given."""
    details = weight if detail_weight is None else detail_weight
    for name, value in (("weight", weight), ("detail_weight", details)):
        number = plain_number(value)
        known = isinstance(number, int | float) and not isinstance(number, bool)
        sound = known and abs(number) <= 1e6
        require(sound, f"an adapter's {name}", value, "a finite number (at most a million)")
    return float(weight), float(details)
