"""The cascade: the only place that knows all four stages and their order."""

import importlib.metadata
import logging
import platform
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import diffusers
import torch
import transformers
from torch import Tensor

from show1.adapters.adapter_set import LoadedAdapter
from show1.checkpoints.components import check_text_width
from show1.checkpoints.convert import save_cascade
from show1.checkpoints.locate import Cascade, ModelLike, resolve
from show1.checkpoints.weight_files import count_parameters
from show1.config import CascadeSettings, Numerics, Seeding, StageName
from show1.diffusion import IndependentSeeds, PublishedSeeds
from show1.errors import InputError, RunError
from show1.generation.loader import CascadeLoader
from show1.generation.progress import StageEnd, StageStart, StepEnd, Watch
from show1.generation.request import GeneratorLike, PromptLike, SeedLike, VideoLike, make_request, video_tensor
from show1.generation.run import MANIFEST, Run, RunRequest
from show1.runtime import MemoryPolicy, choose_device, choose_dtype, choose_memory, explained_memory, measure
from show1.stage_table import STAGE_TABLE
from show1.stages import PromptEmbeddings, Seeds, Stage
from show1.text.embedding_cache import EmbeddingCache
from show1.video import Video

logger = logging.getLogger(__name__)

OutputType = Literal["video", "np", "pt", "pil"]


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
        """The settings a call starts from."""
        return self.cascade.settings

    @property
    def stages(self) -> tuple[StageName, ...]:
        """The stages this pipeline can run, in order."""
        return self.cascade.stages

    @property
    def model_record(self) -> dict[str, Any]:
        """Name, what `from_pretrained` takes, sources, and hashes of the weight files of all stages."""
        return self._loader.model_record(self.stages)

    @property
    def memory(self) -> Literal["low", "high"]:
        """What became of `auto`."""
        return self._loader.memory

    @property
    def loaded(self) -> tuple[str, ...]:
        """The stages in memory, and `text` if a text encoder is."""
        return self._loader.loaded

    def free(self) -> None:
        """Drops all networks from memory; the next call reads them again."""
        self._loader.free()

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes the cascade as a folder that `from_pretrained` reads: `show1.json` and a folder a stage.

        Fused adapters are in the weights; others, and all start noise, are left out, with a warning.

        Raises:
            OutputError: The folder exists, or cannot be written.
        """
        if left := [a.name for a in self.adapters if not a.fused]:
            logger.warning("Not saved, for they are not fused: the adapters %s.", ", ".join(left))
        if noisy := [a.name for a in self.adapters if a.fused and a.noise_weight > 0]:
            logger.warning("Not saved, for a model has none: the start noise of %s.", ", ".join(noisy))
        deltas = {stage: self._loader.adapters.deltas(stage, fused_only=True) for stage in self.stages}
        return save_cascade(self.cascade, Path(folder), deltas={stage: d for stage, d in deltas.items() if d})

    @property
    def adapters(self) -> tuple[LoadedAdapter, ...]:
        """The adapters in use, in the order in which they were loaded."""
        return self._loader.adapters.loaded

    def load_adapter(
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

        Several add up. Its stage leaves the memory and is read again when it is needed.

        Args:
            path: The file.
            name: What to call it here; None: the file's name without its suffix.
            weight: Times its change of the network; 0: as if it were not there.
            detail_weight: The same at low noise levels (timesteps below 400 of 1000), where it is decided how things
                are drawn, and no more where they are: a motion needs less of it there. None: the same.
            stage: Which network a LoRA by another program is for; None: as the file says.
            noise_weight: Share of the start noise's variance that comes from the clips the motion was learnt from, 0 to
                1; None: as the adapter advises.

        Returns:
            The name.

        Raises:
            InputError: No such file, a name that is taken, or a value that cannot be used.
            CheckpointError: The file is damaged, or was made for another model.
        """
        added = self._loader.add_adapter(
            path, name=name, weight=weight, detail_weight=detail_weight, stage=stage, noise_weight=noise_weight
        )
        return added.name

    def load_recorded_adapters(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Loads the adapters that a run (`Run.adapters`) or a video (`metadata["model"]["adapters"]`) was made with.

        Raises:
            InputError: A file is not where it was, or has changed since.
            CheckpointError: An adapter was made for another model.
        """
        self._loader.restore_adapters(records)

    def set_adapter_weight(self, name: str, weight: float, detail_weight: float | None = None) -> None:
        """Gives an adapter another weight, and in details `detail_weight`, or the same. See `load_adapter`.

        Raises:
            InputError: There is no such adapter, it is fused, or the weight is not finite.
        """
        self._loader.set_adapter_weight(name, weight, detail_weight)

    def unload_adapter(self, name: str | None = None) -> None:
        """Takes an adapter out, or all that are not fused: videos are again what they were, to the last bit.

        Raises:
            InputError: There is no such adapter, or it is fused.
        """
        self._loader.remove_adapters(name)

    def fuse_adapters(self) -> None:
        """Makes the adapters a part of the model: `save_pretrained` writes them, and they cannot be taken out.

        Videos do not change by it, nor by doing it twice.

        Raises:
            InputError: One has a `detail_weight` of its own: a model's weights are the same at all noise levels.
        """
        self._loader.adapters.fuse()

    def unet_sha256(self, stage: StageName) -> str:
        """Hash of the weight files of a stage's UNet, by which an adapter knows its base; adapters do not change it.

        Raises:
            InputError: This model lacks the stage.
        """
        if stage not in self.stages:
            raise InputError(f"this model has no stage {stage!r}; it has {', '.join(self.stages)}")
        return self._loader.unet_sha256(stage)

    def __call__(
        self,
        prompt: PromptLike,
        *,
        negative_prompt: str | None = None,
        seed: SeedLike = None,
        generator: GeneratorLike = None,
        count: int = 1,
        num_keyframes: int | None = None,
        settings: CascadeSettings | Mapping[str, Any] | None = None,
        start_from: StageName | None = None,
        until: StageName | None = None,
        video: VideoLike | None = None,
        seeding: Seeding = "independent",
        run: Run | str | Path | None = None,
        output_type: OutputType = "video",
        callback_on_stage_start: StageStart | None = None,
        callback_on_step_end: StepEnd | None = None,
        callback_on_stage_end: StageEnd | None = None,
        cancel: threading.Event | None = None,
    ) -> Any:
        """Generates.

        Args:
            prompt: What to show; or several, generated as one batch.
            negative_prompt: What to avoid, for every stage; None: as each stage's settings say.
            seed: A whole number: draft i of each prompt uses seed + i. A list: one a sample (with one prompt: as many
                drafts). None: random, and recorded in the video's metadata.
            generator: Instead of a seed: the seeds are drawn from it (or from each of several, one a sample).
            count: Drafts of each prompt.
            num_keyframes: n keyframes become (n - 1) * factor + 1 frames (factor 4: 8 give 29); None: as the settings.
            settings: All settings, or changes: `{"keyframes": {"num_inference_steps": 20}}`.
            start_from: First stage to run; needs `video` if it is not `keyframes`.
            until: Last stage to run; None: the last one there is.
            video: What `start_from` works on: Video(s), or a tensor (3, F, H, W) or (B, 3, F, H, W) in [-1, 1].
            seeding: `published` reproduces the published run's draws (one sample at a time).
            run: A run (or the folder of one, new or begun): finished stages are kept there and not computed again.
            output_type: `video`: `Video`; `np`: uint8 (F, H, W, 3); `pt`: float32 (3, F, H, W) in about
                [-1, 1], not clipped, so that `video=` goes on with it exactly; `pil`: images.
            callback_on_stage_start: See `StageStart`.
            callback_on_step_end: See `StepEnd`.
            callback_on_stage_end: See `StageEnd`.
            cancel: When set, the generation stops at the next step with `Cancelled`.

        Returns:
            One output for one prompt with count 1; else a list, drafts of a prompt side by side.

        Raises:
            InputError: A prompt, size, frame count or option cannot be used.
            RunError: The run folder belongs to another request.
            Cancelled: `cancel` was set.
        """
        _check_output_type(output_type)
        request = make_request(
            prompt,
            defaults=self.settings,
            available=self.stages,
            negative_prompt=negative_prompt,
            seed=seed,
            generator=generator,
            count=count,
            num_keyframes=num_keyframes,
            settings=settings,
            start_from=start_from,
            until=until,
            video=video,
            seeding=seeding,
        )
        begin = None if video is None else video_tensor(video, len(request.prompts))
        watch = Watch(
            stage_start=callback_on_stage_start,
            step_end=callback_on_step_end,
            stage_end=callback_on_stage_end,
            cancel=cancel,
        )
        if run is None:
            outputs = self._generate(request, begin, None, watch, output_type)
        else:
            with _as_run(run) as opened:
                opened.begin(
                    request,
                    model=self._loader.model_record(request.stages),
                    environment=self._environment(),
                    video=begin,
                )
                outputs = self._generate(request, begin, opened, watch, output_type)
        return outputs[0] if isinstance(prompt, str) and len(outputs) == 1 else outputs

    def resume(
        self,
        run: Run | str | Path,
        *,
        output_type: OutputType = "video",
        callback_on_stage_start: StageStart | None = None,
        callback_on_step_end: StepEnd | None = None,
        callback_on_stage_end: StageEnd | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Any]:
        """Finishes a run: stages with a sound artefact are read, the others computed.

        Returns:
            One output a sample.

        Raises:
            RunError: The run is damaged, was made by other weights or adapters, or is being written by another process.
            InputError: This pipeline lacks a stage of the run.
        """
        _check_output_type(output_type)
        watch = Watch(
            stage_start=callback_on_stage_start,
            step_end=callback_on_step_end,
            stage_end=callback_on_stage_end,
            cancel=cancel,
        )
        with run if isinstance(run, Run) else Run.open(run) as opened:
            request = opened.request
            if request is None:
                raise RunError(f"{opened.path} was stopped before it began; generate again (`show1 generate`)")
            lacking = [s for s in request.stages if s not in self.stages]
            if lacking:
                raise InputError(f"the run needs the stage {lacking[0]!r}; this model has {', '.join(self.stages)}")
            begin, environment = opened.load_input(), self._environment()
            opened.begin(request, model=self._loader.model_record(request.stages), environment=environment, video=begin)
            before = opened.manifest
            for key in ("device", "dtype", "threads"):
                if key in before and before[key] != environment.get(key):
                    logger.warning(
                        "The run began with %s %s and goes on with %s: the last digits will differ.",
                        key,
                        before[key],
                        environment.get(key),
                    )
            return self._generate(request, begin, opened, watch, output_type)

    def prompt_warnings(
        self, prompt: str, settings: CascadeSettings | None = None, stages: Sequence[StageName] | None = None
    ) -> list[str]:
        """What the user should know of a prompt: words that do not fit, words that neither model nor adapters know.

        Args:
            prompt: As the user wrote it.
            settings: Of the call; None: the pipeline's.
            stages: Of the call; None: all.
        """
        options = settings or self.settings
        in_use = [a.adapter for a in self.adapters if a.weight or a.detail_weight]
        taught = re.findall(r"[^\s.,;:!?]+", " ".join(adapter.prompt for adapter in in_use).lower())
        found: dict[str, None] = {}
        for stage in self.stages if stages is None else stages:
            encoder = self._loader.encoder(stage)
            text, limit = STAGE_TABLE[stage].prompt(prompt, options)
            limit = limit or encoder.max_tokens
            if (cut := encoder.truncated(text, limit)) is not None:
                found[f"the prompt is longer than {limit} tokens; this part has no effect: {cut!r}"] = None
            if unknown := [word for word in encoder.unknown_words(text) if word.lower() not in taught]:
                words = ", ".join(repr(w) for w in unknown)
                found[f"the model {self.cascade.name!r} does not know {words}; the video will not show it"] = None
        return list(found)

    def _generate(
        self, request: RunRequest, begin: Tensor | None, run: Run | None, watch: Watch, output_type: OutputType
    ) -> list[Any]:
        done = run.finished_stages if run is not None else ()
        pending = [s for s in request.stages if s not in done]
        for prompt in dict.fromkeys(request.prompts) if pending else ():
            for warning in self.prompt_warnings(prompt, request.settings, pending):
                logger.warning("%s", warning)
        texts = self._encode_prompts(request, pending, run, watch) if pending else {}
        video, fps = begin, request.fps
        for i, stage in enumerate(request.stages):
            fps *= STAGE_TABLE[stage].fps_factor(request.settings)
            if stage in pending:
                video = self._run_stage(stage, video, texts.pop(stage), request, run, watch)
                if watch.stage_end is not None:
                    watch.stage_end(stage, self._videos(video, fps, request, request.stages[: i + 1]))
            elif run is not None and (i + 1 == len(request.stages) or request.stages[i + 1] in pending):
                video = run.load(stage)
        assert video is not None, "at least one stage runs"
        videos = self._videos(video, fps, request, request.stages)
        return [_convert(v, frames, output_type) for v, frames in zip(videos, video, strict=True)]

    def _run_stage(
        self,
        stage: StageName,
        video: Tensor | None,
        prompts: PromptEmbeddings,
        request: RunRequest,
        run: Run | None,
        watch: Watch,
    ) -> Tensor:
        """Runs one stage: (B, 3, F, H, W) float32 in [-1, 1], in and out."""
        watch.start(stage)
        seeds: Seeds = IndependentSeeds(request.seeds)
        if request.seeding == "published":
            seeds = PublishedSeeds(request.seeds[0])
        numerics: Numerics = "published" if request.seeding == "published" else "default"
        network: Stage[Any] | None = None
        try:
            with measure(self.device) as cost, explained_memory(f"in the stage {stage!r}"):
                network = self._loader.stage(stage)
                check_text_width(
                    self.cascade.parts[stage].path / "unet",
                    network.text_width,
                    prompts.prompt_embeds.shape[-1],
                )
                out: Tensor = network(
                    video,
                    prompts,
                    seeds=seeds,
                    settings=getattr(request.settings, stage),
                    numerics=numerics,
                    on_step=lambda done, total, samples: watch.step(stage, done, total, samples),
                )
        finally:
            del network  # so that it can be freed
            self._loader.release(stage)
        logger.info("%s took %.1f s, peak memory %.2f GB", stage, cost.seconds, cost.peak_memory / 1e9)
        if run is not None:
            run.keep(stage, out, cost.to_dict())
        return out

    def _encode_prompts(
        self, request: RunRequest, stages: Sequence[StageName], run: Run | None, watch: Watch
    ) -> dict[StageName, PromptEmbeddings]:
        """Encodes all prompts for all stages, one text encoder after another, before any other network is loaded."""
        watch.start("text")
        encoders = {stage: self._loader.encoder(stage) for stage in stages}
        texts: dict[StageName, PromptEmbeddings] = {}
        with measure(self.device) as cost, explained_memory("in the text encoder"):
            for encoder in dict.fromkeys(encoders.values()):
                try:
                    for stage in (s for s in stages if encoders[s] is encoder):
                        as_text = STAGE_TABLE[stage].prompt
                        prompts = [as_text(p, request.settings)[0] for p in request.prompts]
                        negative_prompt = getattr(request.settings, stage).negative_prompt
                        negative, length = as_text(negative_prompt, request.settings)
                        texts[stage] = PromptEmbeddings(
                            prompt_embeds=encoder.encode(prompts, length),
                            negative_prompt_embeds=encoder.encode([negative] * len(prompts), length),
                        )
                finally:
                    self._loader.release_text(encoder)
        if run is not None:
            run.record(text=cost.to_dict())
        return texts

    def _videos(self, video: Tensor, fps: float, request: RunRequest, stages: Sequence[StageName]) -> list[Video]:
        model = self._loader.model_record(request.stages)
        record = {
            "seeding": request.seeding,
            "stages": list(stages),
            "settings": request.settings.to_dict(),
            "model": {key: model[key] for key in ("name", "model", "sha256", "adapters") if key in model},
            **self._environment(),
        }
        return [
            Video.from_tensor(frames, fps=fps, metadata={"prompt": prompt, "seed": seed, **record})
            for frames, prompt, seed in zip(video, request.prompts, request.seeds, strict=True)
        ]

    def _environment(self) -> dict[str, Any]:
        return {
            "versions": {
                "show1": importlib.metadata.version("show1"),
                "torch": torch.__version__,
                "diffusers": diffusers.__version__,
                "transformers": transformers.__version__,
                "python": platform.python_version(),
            },
            "device": self.device.type,
            "dtype": str(self.dtype).removeprefix("torch."),
            **({"threads": torch.get_num_threads()} if self.device.type == "cpu" else {}),
        }


def _check_output_type(output_type: str) -> None:
    if output_type not in ("video", "np", "pt", "pil"):
        raise InputError(f"output_type must be 'video', 'np', 'pt' or 'pil', got {output_type!r}")


def _convert(video: Video, tensor: Tensor, output_type: OutputType) -> Any:
    if output_type == "np":
        return video.frames
    if output_type == "pil":
        return video.to_pil()
    return tensor if output_type == "pt" else video


def _as_run(run: Run | str | Path) -> Run:
    if isinstance(run, Run):
        return run
    return Run.open(run) if (Path(run) / MANIFEST).is_file() else Run.create(run)
