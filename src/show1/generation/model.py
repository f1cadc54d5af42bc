"""A cascade as a model: where it comes from, what of it is in memory, and its adapters."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch

from show1.adapters.adapter_set import AdapterSet
from show1.checkpoints.cascade import Cascade
from show1.checkpoints.convert import save_cascade
from show1.checkpoints.locate import ModelLike, resolve
from show1.checkpoints.storage import AS_COMPUTED, Storage
from show1.config import STAGES, CascadeSettings, StageName
from show1.experts import ExpertText, load_expert
from show1.files import cached_sha256, user_path
from show1.generation.arguments import resolve_settings
from show1.generation.manifest import ModelRecord, model_sha256
from show1.generation.memory import Planner, weights_on
from show1.generation.prompts import encoded, told_prompts, warnings_of
from show1.generation.request import GenerationRequest, check_prompt
from show1.options import require
from show1.runtime import (
    PRECISIONS,
    DeviceLike,
    Devices,
    MemoryPolicy,
    Residency,
    choose_devices,
    choose_dtype,
    choose_memory,
)
from show1.runtime.devices import TEXT
from show1.runtime.plan import Need, Way, parse_size
from show1.stage_table import parts_of
from show1.stages import PromptEmbeddings, Stage
from show1.stages.helping import load_in_all_processes
from show1.stages.keyframes import StartNoise
from show1.text.embedding_cache import EmbeddingCache
from show1.text.encoder import PromptEncoder

logger = logging.getLogger(__name__)


class CascadeModel:
    """The part of `Show1Pipeline` that holds the model."""

    def __init__(
        self,
        cascade: Cascade,
        *,
        device: Devices | torch.device,
        dtype: torch.dtype,
        memory: Literal["low", "high"],
        budget: int | None = None,
        embedding_cache: EmbeddingCache | None = None,
        storage: Storage = AS_COMPUTED,
    ) -> None:
        """Use `from_pretrained`.

        Args:
            cascade: The files of the stages.
            device: Where to compute, or where each part does.
            dtype: Precision of the networks.
            memory: `low` holds one network at a time, `high` keeps all.
            budget: Bytes of memory that a generation may take; None: no limit.
            embedding_cache: Text states on disk; None: none are kept.
            storage: How weights are stored.
        """
        self.cascade = cascade
        self.devices = device if isinstance(device, Devices) else Devices(device)
        self.dtype = dtype
        self._cache = embedding_cache
        self._stages: Residency[Stage[Any]] = Residency(memory, self.device)
        self._encoders: dict[Path, PromptEncoder | ExpertText] = {}
        self._hashes: dict[str, str] = {}
        self.adapters = AdapterSet(cascade, on_change=lambda stage: self._stages.discard(stage))
        """The adapters in use: `pipe.adapters.load(file)`, `set_weight`, `unload`, `fuse`."""
        self._planner = Planner(cascade, self.adapters, budget, storage, self._encoder)

    @classmethod
    def from_pretrained(
        cls,
        model: ModelLike = "mini",
        *,
        stages: Sequence[StageName] | None = None,
        device: DeviceLike = None,
        dtype: torch.dtype | str | None = None,
        memory: MemoryPolicy | str | int = "auto",
        variant: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        cache_embeddings: bool = True,
        storage: str | None = None,
    ) -> Self:
        """Finds (and downloads, where it is on the Hub) a cascade. Weights are read when a call needs them.

        Args:
            model: `mini` (comes with the package); `showlab/show-1` (the published networks, about 40 GB); the folder
                of a cascade, or one that holds the published repositories by name; a Hub repository of a cascade;
                NAME:PRESET, such as `mini:fast`; or a mapping of stage (and `first_frame`) to one of that stage.
            stages: Only these are looked for and can be run; None: all.
            device: None: CUDA, else MPS, else the CPU. Stages may be on devices of their own, and so may the text
                encoders: `{"text": "cpu", "translation": "cuda:1"}`, or as text "cuda:0,translation=cuda:1".
            dtype: Precision, such as `torch.float32` or "float32"; None: the fastest of the device: bfloat16 where it
                computes in it, otherwise float16 on CUDA and float32 elsewhere.
            memory: `low` holds one network at a time, `high` keeps all, `auto` decides by the device's free memory. A
                size such as "6GB" (or bytes) is a budget that each generation keeps to: see `plan`.
            variant: Weight files to prefer, such as `fp16`; None: `fp16` where the computation is half precision.
            revision: Branch, tag or commit on the Hub.
            local_files_only: Never ask the Hub.
            cache_embeddings: Keep text states on disk (`SHOW1_CACHE`).
            storage: Weights in fewer bits, an approximation: "fp8" (the stages' networks), "int8" or "int4" (text
                encoders; both need bitsandbytes), or two such as "fp8,int4"; None: as they are computed.

        Raises:
            ModelNotFoundError: No such model, or it is neither on this disk nor reachable.
            CheckpointError: A file of it is missing or damaged.
            InputError: No such device, stage, memory policy or storage.
            MissingDependencyError: bitsandbytes is not installed.
        """
        budget = None if memory in get_args(MemoryPolicy) else parse_size(memory)
        for name, value in (("variant", variant), ("revision", revision)):
            require(isinstance(value, str | None), name, value, "a name")
        named = stages is None or (isinstance(stages, list | tuple) and len(stages) > 0)
        require(named, "stages", stages, f"a list of some of {', '.join(STAGES)}")
        require(isinstance(model, str | Path | Mapping), "model", model, "a name, a folder or a mapping of stages")
        places = choose_devices(device)
        precision = choose_dtype(dtype, places.main)
        stored = Storage.read(storage)
        stored.check([places.of(stage) for stage in STAGES], places.of(TEXT), precision)
        if variant is None and precision.itemsize == 2:
            variant = "fp16"
        cascade = resolve(model, stages=stages, variant=variant, revision=revision, local_files_only=local_files_only)
        asked: Any = "low" if budget is not None else memory
        policy = choose_memory(asked, weights_on(cascade, places, precision) if memory == "auto" else {})
        keeping: dict[str, Any] = {"memory": policy, "budget": budget, "storage": stored}
        keeping["embedding_cache"] = EmbeddingCache() if cache_embeddings else None
        return cls(cascade, device=places, dtype=precision, **keeping)

    @property
    def device(self) -> torch.device:
        """Where all parts compute that have no device of their own."""
        return self.devices.main

    @property
    def settings(self) -> CascadeSettings:
        """The settings that a request starts from."""
        return self.cascade.settings

    @property
    def stages(self) -> tuple[StageName, ...]:
        """The stages that this pipeline can run, in order."""
        return self.cascade.stages

    @property
    def model_record(self) -> ModelRecord:
        """The model's identity: name, sources, hashes of the weight files of all stages, adapters."""
        return self.identify(self.stages)

    @property
    def memory(self) -> Literal["low", "high"]:
        """The memory policy in effect, after `auto` is resolved."""
        return self._stages.policy

    @property
    def budget(self) -> int | None:
        """Bytes of memory that a generation may take; None: no limit."""
        return self._planner.budget

    @property
    def storage(self) -> Storage:
        """How weights are stored."""
        return self._planner.storage

    @property
    def loaded(self) -> tuple[str, ...]:
        """The stages in memory, and `text` if a text encoder is."""
        return (*(["text"] if any(e.loaded for e in self._encoders.values()) else []), *self._stages.loaded)

    def __repr__(self) -> str:
        adapters = "".join(f", adapter {a.record.name} {a.record.shown_weight}" for a in self.adapters)
        precision, stages = str(self.dtype).removeprefix("torch."), ", ".join(self.stages)
        return f"<{type(self).__name__} {self.cascade.name}: {stages}; {self.devices} {precision}{adapters}>"

    def to(
        self,
        *place: str | torch.device | torch.dtype,
        device: DeviceLike = None,
        dtype: str | torch.dtype | None = None,
    ) -> Self:
        """Changes where and how precisely to compute, from the next call on: `pipe.to("cuda")`, `pipe.to("float32")`.

        Networks leave the memory and are read again when they are needed.

        Args:
            *place: A device, a precision, or both.
            device: A device by name, or those of the parts; see `from_pretrained`.
            dtype: A precision, by name.

        Raises:
            InputError: There is no such device or precision, or weights that are stored in fewer bits cannot go there.
        """
        devices, precision = self.devices, self.dtype
        for each in place:
            if isinstance(each, torch.dtype) or (isinstance(each, str) and each in PRECISIONS):
                precision = choose_dtype(each, devices.main)
            else:
                devices = choose_devices(each)
        if device is not None:
            devices = choose_devices(device)
        if dtype is not None:
            precision = choose_dtype(dtype, devices.main)
        self.storage.check([devices.of(stage) for stage in STAGES], devices.of(TEXT), precision)
        self.devices, self.dtype = devices, precision
        self.free()
        self._encoders.clear()
        self._stages = Residency(self.memory, self.device)
        return self

    def needs(
        self, request: GenerationRequest, frames: int | None = None, *, done: Collection[StageName] = ()
    ) -> dict[str, Need]:
        """What stages, and text encoders whose texts are not cached, take of memory; found in seconds, without weights.

        Args:
            request: What is asked for.
            frames: Frames of the video that it begins with, if it begins with one.
            done: Stages that are finished.
        """
        left = [stage for stage in request.stages if stage not in done]
        return self._planner.needs(request, frames, left, dtype=self.dtype, devices=self.devices)

    def plan(
        self, request: GenerationRequest, frames: int | None = None, *, done: Collection[StageName] = ()
    ) -> dict[str, Way]:
        """How a request's parts would be computed within the memory budget, one part in memory at a time.

        Args:
            request: What is asked for.
            frames: Frames of the video that it begins with, if it begins with one.
            done: Stages that are finished.

        Returns:
            By text encoder and stage; nothing without a budget.

        Raises:
            InputError: The budget is not enough.
        """
        return self._planner.plan(request, frames, done, dtype=self.dtype, devices=self.devices)

    def free(self) -> None:
        """Drops all networks from memory; the next call reads them again."""
        for encoder in self._encoders.values():
            encoder.free()
        self._stages.clear()

    def identify(self, stages: Sequence[StageName]) -> ModelRecord:
        """The model's identity, with the weight files of these stages and of their text encoders.

        Its adapters are those of all stages, for runs that get more stages later; its hash counts only those of these
        stages. Each weight file is hashed once.
        """
        files = self.cascade.weight_files(parts_of(stages))
        for name in files.keys() - self._hashes.keys():
            self._hashes[name] = cached_sha256(files[name])
        hashes = {name: self._hashes[name] for name in files}
        adapters = tuple(adapter.record for adapter in self.adapters.active())
        return ModelRecord(
            name=self.cascade.name,
            model=self.cascade.model,
            stages=self.cascade.stages,
            sources={name: part.source for name, part in self.cascade.parts.items()},
            sha256=model_sha256(hashes, adapters),
            files=hashes,
            adapters=adapters,
        )

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

    def encode(
        self, request: GenerationRequest, stages: Sequence[StageName] | None = None
    ) -> dict[StageName, PromptEmbeddings]:
        """Encodes a request's prompts for some stages, one text encoder after another.

        Each encoder is freed before the next one is read if the memory policy is `low`. What this gives may be changed
        and handed to `generate(..., prompt_embeds=...)`.

        Args:
            request: What is asked for.
            stages: The stages; None: all of the request.
        """
        require(isinstance(request, GenerationRequest), "request", request, "one by `show1.make_request`")
        stages = request.stages if stages is None else stages
        encoders = {stage: self._encoder(stage) for stage in stages}
        for stage, encoder in encoders.items():
            encoder.streamed = self._planner.is_streamed(self._planner.text_of(stage))
        texts: dict[StageName, PromptEmbeddings] = {}
        for encoder in dict.fromkeys(encoders.values()):
            try:
                texts |= {s: encoded(request, s, encoder) for s in stages if encoders[s] is encoder}
            finally:
                if self.memory == "low":
                    encoder.free()
        return texts

    def save_pretrained(
        self, folder: str | Path, *, settings: CascadeSettings | Mapping[str, Any] | None = None
    ) -> Path:
        """Writes the cascade as a folder that `from_pretrained` reads: `show1.json` and a folder per stage.

        Fused adapters are in the weights; others, and all start noise, are left out, with a warning.

        Args:
            folder: A new or empty folder.
            settings: What the saved cascade generates with by default: all settings, or changes of those of this one
                (`{"keyframes": {"guidance_scale": 4.0}}`).

        Raises:
            OutputError: The folder exists, or cannot be written.
            InputError: A setting is unknown, or out of its range.
        """
        chosen = resolve_settings(self.settings, settings)
        if left := [a.record.name for a in self.adapters if not a.fused]:
            logger.warning("Not saved because they are not fused: the adapters %s.", ", ".join(left))
        if noisy := [a.record.name for a in self.adapters if a.fused and a.record.noise_weight > 0]:
            logger.warning("Not saved because a saved model holds no start noise: that of %s.", ", ".join(noisy))
        deltas = {stage: self.adapters.deltas(stage, fused_only=True) for stage in self.stages}
        changed = {stage: d for stage, d in deltas.items() if d}
        return save_cascade(self.cascade, user_path(folder), deltas=changed, settings=chosen)

    def prompt_warnings(
        self, prompt: str, settings: CascadeSettings | None = None, stages: Sequence[StageName] | None = None
    ) -> list[str]:
        """Lists what the user should know about a prompt: words that do not fit, and words that nothing here knows.

        Args:
            prompt: As the user wrote it.
            settings: The settings of the call; None: the pipeline's.
            stages: The stages of the call; None: all.
        """
        check_prompt(prompt)
        taught = " ".join(a.adapter.prompt for a in self.adapters.active() if a.adapter is not None)
        encoders = {stage: self._encoder(stage) for stage in (self.stages if stages is None else stages)}
        return warnings_of(prompt, encoders, settings=settings or self.settings, taught=taught, model=self.cascade.name)

    def request_warnings(self, request: GenerationRequest, stages: Sequence[StageName] | None = None) -> list[str]:
        """Lists what the user should know about the prompts of a request: for each stage about those that it is told.

        Args:
            request: What is asked for.
            stages: The stages that count; None: all of the request.
        """
        told = told_prompts(request, request.stages if stages is None else stages)
        found = [w for prompt, where in told.items() for w in self.prompt_warnings(prompt, request.settings, where)]
        return list(dict.fromkeys(found))

    def _place(self, part: str) -> dict[str, Any]:
        """Where and how precisely a stage's networks, or the text encoders, are loaded, and which weight files."""
        return {"dtype": self.dtype, "device": self.devices.of(part), "variant": self.cascade.variant}

    def _encoder(self, stage: StageName) -> PromptEncoder | ExpertText:
        """The text encoder of a stage; pixel stages share one."""
        require(stage in self.stages, "a stage", stage, f"one of this model's: {', '.join(self.stages)}")
        part = self.cascade.parts[stage]
        folder = part.path if part.expert is not None else part.text
        assert folder is not None, "a resolved cascade gives every stage a text encoder"
        if folder not in self._encoders:
            kept: dict[str, Any] = {"cache": self._cache, "stored": self.storage.text, **self._place(TEXT)}
            expert = part.expert is not None
            self._encoders[folder] = ExpertText(part, **kept) if expert else PromptEncoder(folder, **kept)
        return self._encoders[folder]

    def _load(self, name: StageName) -> Stage[Any]:
        part = self.cascade.parts[name]
        if part.expert is not None:
            loras = [(Path(a.record.path), a.record.weight) for a in self.adapters.active((name,))]
            return load_expert(part, **self._place(name), loras=loras, **self._planner.keeping(name))
        options: dict[str, Any] = dict(
            part_folders={part: files.path for part, files in self.cascade.parts.items()},
            **self._place(name),
            deltas=self.adapters.deltas(name),
            detail_deltas=self.adapters.detail_deltas(name) if self.adapters.has_detail_weights(name) else None,
            start_noise=[StartNoise(noise=noise, weight=by) for noise, by in self.adapters.start_noises(name)],
            streamed=bool(self._planner.is_streamed(name)),
            fp8=self.storage.networks == "fp8",
        )
        return load_in_all_processes(name, part.path, kept=self._stages.loaded, **options)
