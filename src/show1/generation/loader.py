"""Reads a cascade's stages and text encoders when they are needed, and frees them by the memory policy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from show1.adapters.adapter_set import AdapterSet
from show1.checkpoints.locate import Cascade
from show1.config import StageName
from show1.runtime import Residency
from show1.stages import Stage, load_stage
from show1.stages.keyframes import StartNoise
from show1.text.embedding_cache import EmbeddingCache
from show1.text.encoder import PromptEncoder


class CascadeLoader:
    """The cascade's stages and text encoders, in memory while they are needed."""

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
        self.adapters = AdapterSet(cascade, on_change=self._stages.discard)

    @property
    def memory(self) -> Literal["low", "high"]:
        """The memory policy."""
        return self._stages.policy

    @property
    def loaded(self) -> tuple[str, ...]:
        """What is in memory: stages, and `text` if a text encoder is."""
        text = ("text",) if any(e.loaded for e in self._encoders.values()) else ()
        return (*text, *self._stages.loaded)

    @contextmanager
    def resident(self, name: StageName) -> Iterator[Stage[Any]]:
        """Holds a stage with its networks in memory for a while; the caller must drop it before the end.

        Raises:
            CheckpointError: A file is damaged, or the network is one of another stage.
        """
        try:
            yield self._stages.get(name, lambda: self._load(name))
        finally:
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
