"""Reads a cascade's stages and text encoders when they are needed, and frees them by the memory policy."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from show1.adapters.adapter import unet_sha256
from show1.adapters.adapter_set import AdapterRecord, AdapterSet, LoadedAdapter
from show1.checkpoints.locate import Cascade
from show1.config import StageName
from show1.files import cached_sha256, sha256_of_text
from show1.runtime import Residency
from show1.stage_table import parts_of
from show1.stages import Stage, load_stage
from show1.stages.keyframes import StartNoise
from show1.text.embedding_cache import EmbeddingCache
from show1.text.encoder import PromptEncoder


class CascadeLoader:
    """The cascade's parts, in memory when needed."""

    def __init__(
        self,
        cascade: Cascade,
        *,
        device: torch.device,
        dtype: torch.dtype,
        memory: Literal["low", "high"],
        embedding_cache: EmbeddingCache | None,
    ) -> None:
        """Reads nothing yet.

        Args:
            cascade: The files.
            device: Where the weights go.
            dtype: Their precision.
            memory: `low` holds one network at a time, `high` keeps all.
            embedding_cache: Text states on disk; None: none are kept.
        """
        self.cascade = cascade
        self.device = device
        self.dtype = dtype
        self._cache = embedding_cache
        self._stages: Residency[Stage[Any]] = Residency(memory, device)
        self._encoders: dict[Path, PromptEncoder] = {}
        self._hashes: dict[str, str] = {}
        self.adapters = AdapterSet(cascade)

    @property
    def memory(self) -> Literal["low", "high"]:
        """The policy."""
        return self._stages.policy

    @property
    def loaded(self) -> tuple[str, ...]:
        """What is in memory: stages, and `text` if a text encoder is."""
        text = ("text",) if any(e.loaded for e in self._encoders.values()) else ()
        return (*text, *self._stages.loaded)

    def stage(self, name: StageName) -> Stage[Any]:
        """A stage with its networks.

        Raises:
            CheckpointError: A file is damaged, or the network is one of another stage.
        """
        return self._stages.get(name, lambda: self._load(name))

    def release(self, name: StageName) -> None:
        """Frees a stage if the policy is `low`; the caller must not hold it any more."""
        self._stages.release(name)

    def encoder(self, stage: StageName) -> PromptEncoder:
        """The text encoder of a stage; pixel stages share one."""
        folder = self.cascade.parts[stage].text
        assert folder is not None, "a resolved cascade gives every stage a text encoder"
        if folder not in self._encoders:
            self._encoders[folder] = PromptEncoder.from_folder(
                folder, dtype=self.dtype, device=self.device, variant=self.cascade.variant, cache=self._cache
            )
        return self._encoders[folder]

    def release_text(self, encoder: PromptEncoder) -> None:
        """Frees a text encoder's network if the policy is `low`."""
        if self.memory == "low":
            encoder.free()

    def free(self) -> None:
        """Frees everything."""
        for encoder in self._encoders.values():
            encoder.free()
        self._stages.clear()

    def add_adapter(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        weight: float = 1.0,
        detail_weight: float | None = None,
        stage: StageName | None = None,
        noise_weight: float | None = None,
    ) -> LoadedAdapter:
        """Loads an adapter; its stage is read anew, with it. See `Show1Pipeline.load_adapter`."""
        added = self.adapters.add(
            path, name=name, weight=weight, detail_weight=detail_weight, stage=stage, noise_weight=noise_weight
        )
        self._stages.discard(added.stage)
        return added

    def restore_adapters(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Loads the adapters of a run or a video. See `Show1Pipeline.load_recorded_adapters`."""
        for record in [AdapterRecord.from_dict(r) for r in records]:
            record.check_file()
            self.add_adapter(
                record.path,
                name=record.name,
                weight=record.weight,
                detail_weight=record.detail_weight,
                stage=record.stage,
                noise_weight=record.noise_weight,
            )

    def set_adapter_weight(self, name: str, weight: float, detail_weight: float | None = None) -> None:
        """Gives an adapter another weight; its stage is read anew."""
        self._stages.discard(self.adapters.set_weight(name, weight, detail_weight).stage)

    def remove_adapters(self, name: str | None) -> None:
        """Takes an adapter out, or all that are not fused; their stages are read anew."""
        for removed in self.adapters.remove(name):
            self._stages.discard(removed.stage)

    def unet_sha256(self, stage: StageName) -> str:
        """Hash of the weight files of a stage's UNet."""
        return unet_sha256(self.cascade.parts[stage].path / "unet", self.cascade.variant)

    def model_record(self, stages: Sequence[StageName]) -> dict[str, Any]:
        """The model's identity: hashes of the weight files of these stages and of their text encoders, and adapters.

        `adapters` are those of all stages, for runs that go on later; `sha256` counts those of these stages alone.
        """
        files = self.cascade.weight_files(parts_of(stages))
        for name, file in files.items():
            if name not in self._hashes:
                self._hashes[name] = cached_sha256(file)
        hashes = {name: self._hashes[name] for name in files}
        lines = [f"{name} {value}" for name, value in sorted(hashes.items())]
        lines += [_identity(adapter) for adapter in self.adapters.active(stages)]
        adapters = [a.record() for a in self.adapters.active()]
        return {
            "name": self.cascade.name,
            "model": self.cascade.model,
            "stages": list(self.cascade.stages),
            "sources": {name: part.source for name, part in self.cascade.parts.items()},
            "sha256": sha256_of_text("\n".join(lines)),
            "files": hashes,
            **({"adapters": adapters} if adapters else {}),
        }

    def _load(self, name: StageName) -> Stage[Any]:
        noises = self.adapters.start_noises(name)
        return load_stage(
            name,
            self.cascade.parts[name].path,
            part_folders={part: files.path for part, files in self.cascade.parts.items()},
            dtype=self.dtype,
            device=self.device,
            variant=self.cascade.variant,
            deltas=self.adapters.deltas(name),
            detail_deltas=self.adapters.detail_deltas(name) if self.adapters.has_detail_weights(name) else None,
            start_noise=[StartNoise(noise=noise, weight=weight) for noise, weight in noises],
        )


def _identity(adapter: LoadedAdapter) -> str:
    """What an adapter does to the model, as a line to be hashed."""
    details = "" if adapter.detail_weight == adapter.weight else f" {adapter.detail_weight}"
    return f"{adapter.stage} {adapter.sha256} {adapter.weight} {adapter.noise_weight}{details}"
