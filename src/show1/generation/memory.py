"""How a pipeline keeps to a memory budget, and what it does when memory runs out."""

import dataclasses
import logging
import math
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from show1.adapters.adapter_set import AdapterSet
from show1.checkpoints.cascade import Cascade
from show1.checkpoints.storage import Storage
from show1.checkpoints.weight_files import count_parameters
from show1.config import STAGES, StageName, StageSettings, TranslationSettings
from show1.errors import OutOfMemory
from show1.experts import ExpertNeeds, ExpertText, expert_needs
from show1.generation.manifest import FewerBits
from show1.generation.prompts import is_cached
from show1.generation.request import GenerationRequest
from show1.runtime import Cost, Devices, give_back_what_is_freed, taken_memory
from show1.runtime.devices import TEXT
from show1.runtime.plan import Need, Way, choose_ways, ways
from show1.runtime.processes import helpers
from show1.runtime.workspaces import Kind, with_workspaces
from show1.stage_table import STAGE_TABLE
from show1.stages.needs import stage_need, text_need
from show1.text.encoder import PromptEncoder

logger = logging.getLogger(__name__)

_Found = TypeVar("_Found")

CPU_SCRATCH = 300_000_000
"""Bytes for what a plan does not count on a CPU: workspaces of kernels, and layers between file and memory."""
_VIDEO_BYTES = 3 * 4
"""Bytes of a pixel of a video that waits in memory: three float32 channels."""
_TOKENS = 77
"""Tokens of a prompt where the settings set no limit."""


class Planner:
    """Chooses how the parts of a cascade are computed: its text encoders and its stages."""

    def __init__(
        self,
        cascade: Cascade,
        adapters: AdapterSet,
        budget: int | None,
        storage: Storage,
        encoder_of: Callable[[StageName], PromptEncoder | ExpertText],
    ) -> None:
        """Plans nothing yet.

        Args:
            cascade: The files of the stages.
            adapters: Those in use.
            budget: Bytes of memory that a generation may take; None: no limit.
            storage: How weights are stored.
            encoder_of: Gives the text encoder of a stage, whose network need not be in memory.
        """
        self.budget = budget
        self.storage = storage
        self._cascade = cascade
        self._adapters = adapters
        self._encoder_of = encoder_of
        self._known: dict[Hashable, Any] = {}
        self._ways: dict[str, Way] = {}

    def plan(
        self,
        request: GenerationRequest,
        frames: int | None,
        done: Collection[StageName],
        *,
        dtype: torch.dtype,
        devices: Devices,
    ) -> dict[str, Way]:
        """Chooses the ways for a request, which hold until the next call; see `CascadeModel.plan`."""
        self._ways = {}
        if self.budget is not None:
            stages = [stage for stage in request.stages if stage not in done]
            needs = self.needs(request, frames, stages, dtype=dtype, devices=devices)
            taken = {name: _taken(devices.of(name if name in stages else TEXT)) for name in needs}
            self._ways = choose_ways(needs, self.budget, taken=taken)
        return dict(self._ways)

    def needs(
        self,
        request: GenerationRequest,
        frames: int | None,
        stages: Collection[StageName],
        *,
        dtype: torch.dtype,
        devices: Devices,
    ) -> dict[str, Need]:
        """What the text encoders and the stages of a request take; found in seconds, without weights.

        Text encoders are left out whose texts are all in the cache of embeddings, and an expert whose pipeline cannot
        be traced, with a warning.

        Args:
            request: What is asked for.
            frames: Frames of the video that it begins with, if it begins with one.
            stages: Those of the request that matter.
            dtype: Precision of the networks.
            devices: Where they compute.
        """
        shapes, prompts, found = request.shapes(frames), len(request.prompts), {}
        texts = {self.text_of(stage) for stage in stages if not self._is_cached(request, stage)}
        experts = [stage for stage in stages if self._cascade.parts[stage].expert is not None]
        stages = [stage for stage in stages if stage not in experts]
        for stage in stages:
            text, limit = self._cascade.parts[stage].text, STAGE_TABLE[stage].prompt("", request.settings)[1]
            assert text is not None, "a resolved cascade gives every stage a text encoder"
            options: dict[str, Any] = {"length": limit or _TOKENS, "dtype": dtype, "stored": self.storage.text}
            found[self.text_of(stage)] = self._once((text, limit, dtype), partial(text_need, text, **options))
        for stage in stages:
            length = shapes[stage][0] or 1
            options = {"frames": length, "prompts": prompts, "dtype": dtype, "fp8": self.storage.networks == "fp8"}
            find = partial(stage_need, stage, self._cascade.parts, request.settings, **options)
            need = self._once((stage, request.settings, length, prompts, dtype), find)
            others = None if request.numerics == "published" else helpers()
            found[stage] = dataclasses.replace(
                need,
                weights=need.weights + self._adapters.count_details(stage) * dtype.itemsize,
                processes=1 if others is None else others.count + 1,
                streamable=not self._adapters.has_detail_weights(stage),
            )
        for stage in experts:
            options = {"frames": shapes[stage][0] or 1, "prompts": prompts, "dtype": dtype}
            if (both := self._expert(stage, getattr(request.settings, stage), devices, options)) is not None:
                found |= {self.text_of(stage): both.text, stage: both.networks}
        videos = _video_bytes(request, frames)
        needed = {name: need for name, need in found.items() if name in texts or name in STAGES}
        return {name: _placed(need, name, devices, videos) for name, need in needed.items()}

    def _is_cached(self, request: GenerationRequest, stage: StageName) -> bool:
        """Whether a stage's texts are all in the cache of embeddings, under the names of a text encoder in memory."""
        encoder = self._encoder_of(stage)
        encoder.streamed = None  # as the pipeline leaves it where no plan holds the text encoder
        return is_cached(request, stage, encoder)

    def _expert(
        self, stage: StageName, settings: TranslationSettings, devices: Devices, options: Mapping[str, Any]
    ) -> ExpertNeeds | None:
        """What the expert takes that is in the place of a stage; None, with a warning, if that cannot be counted."""
        known = {
            **options,
            "device": devices.of(stage),
            "text_device": devices.of(TEXT),
            "loras": bool(self._adapters.active((stage,))),
            "stored": self.storage.text,
        }
        find = partial(expert_needs, self._cascade.parts[stage], settings, **known)
        return self._once((stage, settings, *known.values()), find)

    def text_of(self, stage: StageName) -> str:
        """The name of a stage's text encoder in a plan."""
        parts = self._cascade.parts
        first = next(other for other in self._cascade.stages if parts[other].text == parts[stage].text)
        return f"the text encoder of {first}"

    def is_streamed(self, name: str) -> bool | None:
        """Whether the layers of a part get their weights when they run; None: that was not planned."""
        return self._ways[name].streamed if name in self._ways else None

    def keeping(self, name: str) -> dict[str, Any]:
        """How an expert is to keep its weights and code its frames, as `load_expert` takes it."""
        return {"streamed": self._ways[name].streamed, "tiled": self._ways[name].tiled} if name in self._ways else {}

    def settings(self, request: GenerationRequest, stage: StageName) -> StageSettings:
        """The settings with which a stage is to run."""
        settings: StageSettings = getattr(request.settings, stage)
        way = self._ways.get(stage)
        if way is None:
            return settings
        split = way.split_guidance or settings.split_guidance
        kept: dict[str, Any] = {"weights": self.weights[stage]} if stage in self.weights else {}
        return dataclasses.replace(settings, max_batch=way.samples, split_guidance=split, **kept)

    @property
    def weights(self) -> dict[StageName, FewerBits]:
        """The stages whose weights are kept in fewer bits than the settings say, so that memory suffices."""
        return {stage: "fp8" for stage in STAGES if stage in self._ways and self._ways[stage].fp8}

    def attempts(
        self,
        names: Collection[str],
        measured: Callable[[], AbstractContextManager[Cost]],
        find_needs: Callable[[], Mapping[str, Need]],
        free: Callable[[], None],
    ) -> Iterator[AbstractContextManager[Cost]]:
        """Blocks in which some parts are to run: another one whenever memory ran out and they can do with less.

        Args:
            names: The parts.
            measured: Measures a block, and raises `OutOfMemory` where memory runs out.
            find_needs: Finds what parts take, by name.
            free: Frees all networks.

        Raises:
            OutOfMemory: The parts take as little memory as they can.
        """
        done = False

        @contextmanager
        def attempt() -> Iterator[Cost]:
            nonlocal done
            try:
                with measured() as cost:
                    yield cost
                done = True
            except OutOfMemory as error:
                needs = find_needs()
                known = [name for name in names if name in needs]
                less = {name: way for name in known if (way := self._less(name, needs[name])) is not None}
                if not less:
                    raise
                self._ways |= less
                how = "; ".join(str(way) for way in less.values())
                logger.warning("%s: computed again with less memory (%s)", str(error).partition(";")[0], how)

        yield attempt()
        while not done:
            free()  # here no error holds tensors of the attempt any more
            yield attempt()

    def _less(self, name: str, need: Need) -> Way | None:
        """The next way to compute a part that takes less memory than the present one."""
        known = list(ways(need))
        now = self._ways.get(name, known[0])
        return next((way for way in known if way.peak < now.peak), None)

    def _once(self, key: Hashable, find: Callable[[], _Found]) -> _Found:
        if key not in self._known:
            self._known[key] = find()
        found: _Found = self._known[key]
        return found


def weights_on(cascade: Cascade, devices: Devices, dtype: torch.dtype) -> dict[torch.device, int]:
    """Bytes of a cascade's weights in a precision, by the device that they go to."""
    found: dict[torch.device, set[Path]] = {}
    for name, file in cascade.weight_files().items():
        row, component, _ = name.split("/", 2)
        part = TEXT if component == "text_encoder" else STAGE_TABLE[row].stage
        found.setdefault(devices.of(part), set()).add(file)
    return {device: count_parameters(files) * dtype.itemsize for device, files in found.items()}


def _placed(need: Need, name: str, devices: Devices, videos: Mapping[StageName, int]) -> Need:
    """What a part takes with what is beside its tensors: a GPU's workspaces, or the videos in a process's memory.

    Args:
        need: What its tensors take.
        name: A stage, or a text encoder.
        devices: Where the parts compute.
        videos: Bytes of the videos of each stage.
    """
    stage = next((stage for stage in STAGES if stage == name), None)
    device = devices.of(stage or TEXT)
    if device.type == "cuda":
        kind: Kind = "text"
        if stage is not None:
            kind = "latent" if STAGE_TABLE[stage].unet.kind == "latent_unet" else "pixel"
        return with_workspaces(need, kind)
    if device.type == "cpu" and stage is not None:
        return dataclasses.replace(need, beside=need.beside + videos[stage])
    return need


def _video_bytes(request: GenerationRequest, frames: int | None) -> dict[StageName, int]:
    """Bytes of the input and the output of each stage, which wait in the computer's memory while it runs.

    Args:
        request: What is asked for.
        frames: Frames of the video that it begins with, if it begins with one.
    """
    found: dict[StageName, int] = {}
    before = (frames or 1) * math.prod(request.input_size) if request.needs_video else 0
    for stage, shape in request.shapes(frames).items():
        pixels = math.prod(length or 1 for length in shape)
        found[stage] = (before + pixels) * len(request.prompts) * _VIDEO_BYTES
        before = pixels
    return found


def _taken(device: torch.device) -> int:
    """Bytes of a device that are taken already, whatever is computed there."""
    if device.type != "cpu":
        return taken_memory(device)
    give_back_what_is_freed()
    return taken_memory(device) + CPU_SCRATCH
