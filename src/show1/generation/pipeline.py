"""The pipeline: a cascade of stages from prompts to videos."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, Unpack, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from show1.adapters.adapter_set import AdapterSet
from show1.checkpoints.components import check_text_width
from show1.checkpoints.convert import save_cascade
from show1.checkpoints.locate import Cascade, ModelLike, resolve
from show1.checkpoints.weight_files import count_parameters
from show1.config import CascadeSettings, StageName
from show1.diffusion import IndependentSeeds, PublishedSeeds, Seeds
from show1.errors import InputError, RunError
from show1.generation.arguments import PromptLike, RequestOptions, VideoLike, make_request, video_tensor
from show1.generation.identity import ModelIdentity
from show1.generation.loader import CascadeLoader
from show1.generation.manifest import MANIFEST, CostRecord, ModelRecord
from show1.generation.metadata import VideoModel, VideoRecord, environment
from show1.generation.progress import Callbacks
from show1.generation.prompts import encode_prompts, find_warnings
from show1.generation.request import GenerationRequest
from show1.generation.result import final_shape
from show1.generation.run import FinishedStage, Run
from show1.options import require
from show1.runtime import Cost, MemoryPolicy, choose_device, choose_dtype, choose_memory, explained_memory, measure
from show1.stages import PromptEmbeddings, Stage
from show1.text.embedding_cache import EmbeddingCache
from show1.video import Video

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

OutputType = Literal["video", "np", "pt", "pil"]
Frames: TypeAlias = NDArray[np.uint8]
Images: TypeAlias = "list[Image.Image]"


class CallOptions(RequestOptions, total=False):
    """The optional keywords of a call of the pipeline."""

    run: Run | str | Path | None
    callbacks: Callbacks | None


class Show1Pipeline:
    """Text to video by the four-stage cascade of arXiv:2309.15818.

    ::

        pipe = Show1Pipeline.from_pretrained("mini")
        video = pipe("a panda spins over the snow", seed=1)
        video.save("panda.mp4")
    """

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
            logger.warning("Not saved because a model has no start noise: that of %s.", ", ".join(noisy))
        deltas = {stage: self.adapters.deltas(stage, fused_only=True) for stage in self.stages}
        return save_cascade(self.cascade, Path(folder), deltas={stage: d for stage, d in deltas.items() if d})

    def prompt_warnings(
        self, prompt: str, settings: CascadeSettings | None = None, stages: Sequence[StageName] | None = None
    ) -> list[str]:
        """What the user should know of a prompt: words that do not fit, words that neither model nor adapters know.

        Args:
            prompt: As the user wrote it.
            settings: The settings of the call; None: the pipeline's.
            stages: The stages of the call; None: all.
        """
        wanted = self.stages if stages is None else stages
        return list(find_warnings(prompt, settings or self.settings, wanted, self._loader))

    # fmt: off
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, prompt: str, *, output_type: Literal["video"] = "video", **options: Unpack[CallOptions]
    ) -> Video: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, prompt: str, *, output_type: Literal["np"], **options: Unpack[CallOptions]
    ) -> Frames: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, prompt: str, *, output_type: Literal["pt"], **options: Unpack[CallOptions]
    ) -> Tensor: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, prompt: str, *, output_type: Literal["pil"], **options: Unpack[CallOptions]
    ) -> Images: ...
    @overload
    def __call__(
        self, prompt: PromptLike, *, count: int | None = None, output_type: Literal["video"] = "video",
        **options: Unpack[CallOptions],
    ) -> list[Video]: ...
    @overload
    def __call__(
        self, prompt: PromptLike, *, output_type: Literal["np"], count: int | None = None,
        **options: Unpack[CallOptions],
    ) -> list[Frames]: ...
    @overload
    def __call__(
        self, prompt: PromptLike, *, output_type: Literal["pt"], count: int | None = None,
        **options: Unpack[CallOptions],
    ) -> list[Tensor]: ...
    @overload
    def __call__(
        self, prompt: PromptLike, *, output_type: Literal["pil"], count: int | None = None,
        **options: Unpack[CallOptions],
    ) -> list[Images]: ...
    # fmt: on
    def __call__(
        self,
        prompt: PromptLike,
        *,
        count: int | None = None,
        output_type: OutputType = "video",
        run: Run | str | Path | None = None,
        callbacks: Callbacks | None = None,
        **options: Unpack[RequestOptions],
    ) -> Any:
        """Makes a request and generates: `make_request` and `generate` in one.

        Args:
            prompt: What to show; or several, generated as one batch.
            count: Drafts of each prompt; None: 1.
            output_type: See `generate`.
            run: See `generate`.
            callbacks: See `generate`.
            **options: `seed`, `settings`, `until`, ...: see `show1.make_request`.

        Returns:
            One output for one prompt without `count`; else a list, drafts of a prompt side by side.

        Raises:
            InputError: A prompt, size, frame count or option cannot be used.
            RunError: The run folder belongs to another request.
            Cancelled: `callbacks.cancel` was set.
        """
        request = make_request(prompt, model=self, count=count, **options)
        outputs: list[Any] = self.generate(
            request, run, video=options.get("video"), output_type=output_type, callbacks=callbacks
        )
        return outputs[0] if isinstance(prompt, str) and count is None else outputs

    # fmt: off
    @overload
    def generate(
        self, request: GenerationRequest, run: Run | str | Path | None = None, *,
        output_type: Literal["video"] = "video", video: VideoLike | None = None, callbacks: Callbacks | None = None,
    ) -> list[Video]: ...
    @overload
    def generate(
        self, request: GenerationRequest, run: Run | str | Path | None = None, *,
        output_type: OutputType, video: VideoLike | None = None, callbacks: Callbacks | None = None,
    ) -> list[Any]: ...
    # fmt: on
    def generate(
        self,
        request: GenerationRequest,
        run: Run | str | Path | None = None,
        *,
        output_type: OutputType = "video",
        video: VideoLike | None = None,
        callbacks: Callbacks | None = None,
    ) -> list[Any]:
        """Generates what a request asks for.

        Args:
            request: By `make_request`.
            run: A run, or the folder of one, new or begun: finished stages are kept there and not computed again.
            output_type: `video`: `Video`; `np`: uint8 (F, H, W, 3); `pt`: float32 (3, F, H, W) in about [-1, 1], not
                clipped, so that `video=` continues from exactly this; `pil`: a list of images.
            video: What the request's first stage works on, if it needs a video: see `make_request`.
            callbacks: What to call while it runs, and what cancels it.

        Returns:
            One output per sample.

        Raises:
            InputError: This pipeline lacks a stage, or the video cannot be used.
            RunError: The run folder belongs to another request, other weights or adapters, or another process.
            Cancelled: `callbacks.cancel` was set.
        """
        self._check(request, output_type)
        calls = callbacks or Callbacks()
        current = None if video is None else video_tensor(video, len(request.prompts))
        with nullcontext() if run is None else _opened(run) as folder:
            done: tuple[StageName, ...] = ()
            if folder is not None:
                self.begin(request, folder, video=current)
                done = folder.finished_stages
            pending = [stage for stage in request.stages if stage not in done]
            texts = self._encode(request, pending, folder, calls)
            for number, stage in enumerate(request.stages, 1):
                following = request.stages[number : number + 1]
                if stage in done:
                    if folder is not None and (not following or following[0] in pending):
                        current = folder.load(stage)
                    continue
                calls.stage_start(stage)
                with self._measured(f"in the stage {stage!r}") as cost, self._loader.resident(stage) as network:
                    try:
                        self._check_text(stage, network, texts[stage])
                        current = network(
                            current,
                            texts.pop(stage),
                            seeds=_seeds(request),
                            settings=getattr(request.settings, stage),
                            numerics=request.numerics,
                            on_step=partial(calls.step_end, stage),
                        )
                    finally:
                        del network  # so that it can be freed
                if folder is not None:
                    folder.keep(stage, current, cost_record(cost))
                calls.stage_end(stage, partial(self._videos, current, request.up_to(stage), request.stages))
        assert current is not None, "at least one stage has run or been read"
        videos = self._videos(current, request, request.stages)
        return [_convert(v, frames, output_type) for v, frames in zip(videos, current, strict=True)]

    def begin(
        self, request: GenerationRequest, run: Run | str | Path | None = None, *, video: VideoLike | None = None
    ) -> Run:
        """Records a request in a run folder and computes nothing: `advance` then runs one stage after another.

        Args:
            request: By `make_request`.
            run: A run, or the folder of one, new or begun; None: a new one in `runs/`.
            video: What the request's first stage works on, if it needs a video: see `make_request`.

        Raises:
            InputError: This pipeline lacks a stage, or the video cannot be used.
            RunError: The run folder belongs to another request, other weights or adapters, or another process.
        """
        self._check(request, "video")
        with Run.create() if run is None else _opened(run) as folder:
            now = environment(self.device, self.dtype)
            folder.begin(
                request,
                model=self._identity.record(request.stages),
                environment=now,
                video=None if video is None else video_tensor(video, len(request.prompts)),
            )
            for name, known, other in folder.manifest.differences(now):
                logger.warning(
                    "The run began with %s %s and is resumed with %s: the last digits will differ.", name, known, other
                )
        return folder

    def advance(self, run: Run | str | Path, *, callbacks: Callbacks | None = None) -> FinishedStage | None:
        """Runs the next stage of a run, and no other.

        Args:
            run: A run that `begin` or `generate` has begun, or its folder.
            callbacks: What to call while it runs, and what cancels it.

        Returns:
            The stage's artefact; None if all stages were finished.

        Raises:
            RunError: The run is damaged, was made by other weights or adapters, or is being written by another process.
            InputError: This pipeline lacks a stage of the run.
        """
        with _opened(run) as folder:
            request, stage = _begun_request(folder), folder.next_stage
            if stage is None:
                return None
            self.generate(request.up_to(stage), folder, video=folder.load_input(), callbacks=callbacks)
            return folder.result(stage)

    # fmt: off
    @overload
    def resume(
        self, run: Run | str | Path, *, output_type: Literal["video"] = "video", callbacks: Callbacks | None = None
    ) -> list[Video]: ...
    @overload
    def resume(
        self, run: Run | str | Path, *, output_type: OutputType, callbacks: Callbacks | None = None
    ) -> list[Any]: ...
    # fmt: on
    def resume(
        self, run: Run | str | Path, *, output_type: OutputType = "video", callbacks: Callbacks | None = None
    ) -> list[Any]:
        """Finishes a run: `generate` with the request that its folder holds.

        Args:
            run: A run that has begun, or its folder.
            output_type: See `generate`.
            callbacks: See `generate`.

        Returns:
            One output per sample.

        Raises:
            RunError: The run is damaged, was made by other weights or adapters, or is being written by another process.
            InputError: This pipeline lacks a stage of the run.
        """
        with run if isinstance(run, Run) else Run.open(run) as folder:
            request = _begun_request(folder)
            return self.generate(
                request, folder, video=folder.load_input(), output_type=output_type, callbacks=callbacks
            )

    def _check(self, request: GenerationRequest, output_type: str) -> None:
        require(output_type in get_args(OutputType), "output_type", output_type, "'video', 'np', 'pt' or 'pil'")
        for stage in request.stages:
            if stage not in self.stages:
                raise InputError(f"the request needs the stage {stage!r}; this model has {', '.join(self.stages)}")

    @contextmanager
    def _measured(self, where: str) -> Iterator[Cost]:
        """Measures a part of the work, and explains it when memory runs out there."""
        with measure(self.device) as cost, explained_memory(where):
            yield cost
        logger.info("%s: %.1f s, peak memory %.2f GB", where, cost.seconds, cost.peak_memory / 1e9)

    def _encode(
        self, request: GenerationRequest, stages: Sequence[StageName], run: Run | None, calls: Callbacks
    ) -> dict[StageName, PromptEmbeddings]:
        """Encodes all prompts for the stages to come, before any other network is loaded."""
        if not stages:
            return {}
        for prompt in dict.fromkeys(request.prompts):
            for warning in self.prompt_warnings(prompt, request.settings, stages):
                logger.warning("%s", warning)
        calls.stage_start("text")
        with self._measured("in the text encoder") as cost:
            texts = encode_prompts(request, stages, self._loader)
        if run is not None:
            run.record_text(cost_record(cost))
        return texts

    def _check_text(self, stage: StageName, network: Stage[Any], prompts: PromptEmbeddings) -> None:
        folder = self.cascade.parts[stage].path / "unet"
        check_text_width(folder, network.text_width, prompts.prompt_embeds.shape[-1])

    def _videos(self, video: Tensor, request: GenerationRequest, stages: Sequence[StageName]) -> list[Video]:
        """Frames with the record of how they were made, by the model's identity for `stages`."""
        *_, fps = final_shape(request)
        model = self._identity.record(stages)
        place = environment(self.device, self.dtype)
        out = []
        for frames, prompt, seed in zip(video, request.prompts, request.seeds, strict=True):
            record = VideoRecord(
                prompt=prompt,
                seed=seed,
                numerics=request.numerics,
                stages=list(request.stages),
                settings=request.settings,
                model=VideoModel(
                    name=model.name, model=model.model, sha256=model.sha256, adapters=list(model.adapters)
                ),
                **dict(place),
            )
            out.append(Video.from_tensor(frames, fps=fps, metadata=record.to_metadata()))
        return out


def _seeds(request: GenerationRequest) -> Seeds:
    if request.numerics == "published":
        return PublishedSeeds(request.seeds[0])
    return IndependentSeeds(request.seeds)


def cost_record(cost: Cost) -> CostRecord:
    """The saved form of a cost."""
    return CostRecord.model_validate(cost.to_dict())


def _begun_request(run: Run) -> GenerationRequest:
    if run.request is None:
        raise RunError(f"{run.path} was stopped before it began; generate again (`show1 generate`)")
    return run.request


def _convert(video: Video, tensor: Tensor, output_type: OutputType) -> Any:
    if output_type == "np":
        return video.frames
    if output_type == "pil":
        return video.to_pil()
    return tensor if output_type == "pt" else video


def _opened(run: Run | str | Path) -> Run:
    if isinstance(run, Run):
        return run
    return Run.open(run) if (Path(run) / MANIFEST).is_file() else Run.create(run)
