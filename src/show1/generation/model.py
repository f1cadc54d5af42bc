"""A cascade as a model: where it comes from, what of it is in memory, and its adapters."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import torch

from show1.adapters.adapter_set import AdapterSet
from show1.checkpoints.convert import save_cascade
from show1.checkpoints.locate import Cascade, ModelLike, resolve
from show1.checkpoints.weight_files import count_parameters
from show1.config import CascadeSettings, StageName
from show1.errors import InputError
from show1.generation.identity import ModelIdentity
from show1.generation.loader import CascadeLoader
from show1.generation.manifest import ModelRecord
from show1.generation.prompts import find_warnings
from show1.runtime import MemoryPolicy, choose_device, choose_dtype, choose_memory
from show1.text.embedding_cache import EmbeddingCache

logger = logging.getLogger(__name__)


class CascadeModel:
    """The part of `Show1Pipeline` that holds the model."""

    def __init__(
        self,
        cascade: Cascade,
        *,
        device: torch.device,
        dtype: torch.dtype,
        memory: Literal["low", "high"],
        embedding_cache: EmbeddingCache | None = None,
    ) -> None:
        """Use `from_pretrained`.

        Args:
            cascade: The files of the stages.
            device: Where to compute.
            dtype: Precision of the networks.
            memory: `low` holds one network at a time, `high` keeps all.
            embedding_cache: Text states on disk; None: none are kept.
        """
        self.cascade = cascade
        self.device = device
        self.dtype = dtype
        self._loader = CascadeLoader(
            cascade, device=device, dtype=dtype, memory=memory, embedding_cache=embedding_cache
        )
        self._identity = ModelIdentity(cascade, self._loader.adapters)

    @classmethod
    def from_pretrained(
        cls,
        model: ModelLike = "mini",
        *,
        stages: Sequence[StageName] | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        memory: MemoryPolicy = "auto",
        variant: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        cache_embeddings: bool = True,
    ) -> Self:
        """Finds (and downloads, where it is on the Hub) a cascade. Weights are read when a call needs them.

        Args:
            model: `mini` (comes with the package); `showlab/show-1` (the published networks, about 40 GB); a folder:
                a cascade folder with `show1.json`, or one that holds the published repositories by name; a Hub
                repository of a cascade; or a mapping of stage (and `first_frame`) to a repository or folder of that
                stage, or to a cascade to take it from.
            stages: Only these are looked for and can be run; None: all.
            device: None: CUDA, else MPS, else the CPU.
            dtype: None: bfloat16 (float16 on older cards) on CUDA, float32 elsewhere.
            memory: `low` holds one network at a time, `high` keeps all, `auto` decides by the device's free memory.
            variant: Weight files to prefer, such as `fp16`; None: `fp16` where the computation is half precision.
            revision: Branch, tag or commit on the Hub.
            local_files_only: Never ask the Hub.
            cache_embeddings: Keep text states on disk (`SHOW1_CACHE`).

        Raises:
            ModelNotFoundError: No such model, or it is neither on this disk nor reachable.
            CheckpointError: A file of it is missing or damaged.
            InputError: No such device, stage or memory policy.
        """
        if memory not in ("auto", "low", "high"):
            raise InputError(f"memory must be 'auto', 'low' or 'high', got {memory!r}")
        place = choose_device(device)
        precision = choose_dtype(dtype, place)
        if variant is None and precision.itemsize == 2:
            variant = "fp16"
        cascade = resolve(model, stages=stages, variant=variant, revision=revision, local_files_only=local_files_only)
        files = set(cascade.weight_files().values()) if memory == "auto" else set()
        policy = choose_memory(memory, place, count_parameters(files) * precision.itemsize)
        cache = EmbeddingCache() if cache_embeddings else None
        return cls(cascade, device=place, dtype=precision, memory=policy, embedding_cache=cache)

    @property
    def settings(self) -> CascadeSettings:
        """The settings that a request starts from."""
        return self.cascade.settings

    @property
    def stages(self) -> tuple[StageName, ...]:
        """The stages that this pipeline can run, in order."""
        return self.cascade.stages

    @property
    def adapters(self) -> AdapterSet:
        """The adapters in use: `pipe.adapters.load(file)`, `set_weight`, `unload`, `fuse`."""
        return self._loader.adapters

    @property
    def model_record(self) -> ModelRecord:
        """The model's identity: name, sources, hashes of the weight files of all stages, adapters."""
        return self._identity.record(self.stages)

    @property
    def memory(self) -> Literal["low", "high"]:
        """The memory policy in effect, after `auto` is resolved."""
        return self._loader.memory

    @property
    def loaded(self) -> tuple[str, ...]:
        """The stages in memory, and `text` if a text encoder is."""
        return self._loader.loaded

    def free(self) -> None:
        """Drops all networks from memory; the next call reads them again."""
        self._loader.free()

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes the cascade as a folder that `from_pretrained` reads: `show1.json` and a folder per stage.

        Fused adapters are in the weights; others, and all start noise, are left out, with a warning.

        Raises:
            OutputError: The folder exists, or cannot be written.
        """
        if left := [a.record.name for a in self.adapters if not a.fused]:
            logger.warning("Not saved because they are not fused: the adapters %s.", ", ".join(left))
        if noisy := [a.record.name for a in self.adapters if a.fused and a.record.noise_weight > 0]:
            logger.warning("Not saved because a saved model holds no start noise: that of %s.", ", ".join(noisy))
        deltas = {stage: self.adapters.deltas(stage, fused_only=True) for stage in self.stages}
        return save_cascade(self.cascade, Path(folder), deltas={stage: d for stage, d in deltas.items() if d})

    def prompt_warnings(
        self, prompt: str, settings: CascadeSettings | None = None, stages: Sequence[StageName] | None = None
    ) -> list[str]:
        """Lists what the user should know about a prompt: words that do not fit, and words that nothing here knows.

        Args:
            prompt: As the user wrote it.
            settings: The settings of the call; None: the pipeline's.
            stages: The stages of the call; None: all.
        """
        wanted = self.stages if stages is None else stages
        return list(find_warnings(prompt, settings or self.settings, wanted, self._loader))
