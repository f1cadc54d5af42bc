"""The pipeline: a cascade of stages from prompts to videos."""

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import torch
from torch import Tensor

from show1.config import STAGES, Numerics, StageName
from show1.errors import InputError
from show1.generation.arguments import (
    GeneratorLike,
    PromptLike,
    SeedLike,
    SettingsLike,
    check_options,
    make_request,
    resolve_settings,
)
from show1.generation.checks import Texts, check_call, check_finite, check_memory, check_stage, check_texts
from show1.generation.inputs import VideoLike, read_videos
from show1.generation.manifest import CostRecord, VideoModel
from show1.generation.metadata import environment
from show1.generation.model import CascadeModel
from show1.generation.progress import Callbacks
from show1.generation.request import GenerationRequest
from show1.generation.results import Frames, Images, OutputType, convert, make_seeds, make_videos
from show1.generation.run import FinishedStage, Run, existing_run, opened_run
from show1.options import shown
from show1.runtime import Cost, explained_memory, measure
from show1.runtime.devices import TEXT
from show1.stages import PromptEmbeddings
from show1.video import Video

logger = logging.getLogger(__name__)


class CallOptions(TypedDict, total=False):
    """The optional keywords of a call of the pipeline; `make_request` and `generate` describe them."""

    negative_prompt: PromptLike | None
    seed: SeedLike
    generator: GeneratorLike
    num_keyframes: int | None
    settings: SettingsLike
    start_from: StageName | None
    until: StageName | None
    video: VideoLike | None
    numerics: Numerics
    expert_prompt: PromptLike | None
    prompt_embeds: Texts | None
    run: Run | str | Path | None
    callbacks: Callbacks | None


class Show1Pipeline(CascadeModel):
    """Text to video by the four-stage cascade of arXiv:2309.15818.

    ::

        pipe = Show1Pipeline.from_pretrained("mini")
        video = pipe("a panda spins over the snow", seed=1)
        video.save("panda.mp4")
    """

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
        prompt_embeds: Texts | None = None,
        **options: Any,
    ) -> Any:
        """Makes a request and generates: `make_request` and `generate` in one.

        Args:
            prompt: What to show; or several, generated as one batch.
            count: Drafts of each prompt; None: 1.
            output_type: See `generate`.
            run: See `generate`.
            callbacks: See `generate`.
            prompt_embeds: See `generate`.
            **options: `seed`, `settings`, `until`, ...: see `show1.make_request`.

        Returns:
            One output for one prompt without `count`; else a list, drafts of a prompt side by side.

        Raises:
            InputError: A prompt, size, frame count or option cannot be used.
            RunError: The run folder belongs to another request.
            Cancelled: `callbacks.cancel` was set.
        """
        check_options(options)
        options["video"] = video = read_videos(options.get("video"))
        request = make_request(prompt, model=self, count=count, **options)
        outputs: list[Any] = self.generate(
            request, run, video=video, prompt_embeds=prompt_embeds, output_type=output_type, callbacks=callbacks
        )
        return outputs[0] if isinstance(prompt, str) and count is None else outputs

    # fmt: off
    @overload
    def generate(
        self, request: GenerationRequest, run: Run | str | Path | None = None, *,
        output_type: Literal["video"] = "video", video: VideoLike | None = None, prompt_embeds: Texts | None = None,
        callbacks: Callbacks | None = None,
    ) -> list[Video]: ...
    @overload
    def generate(
        self, request: GenerationRequest, run: Run | str | Path | None = None, *,
        output_type: OutputType, video: VideoLike | None = None, prompt_embeds: Texts | None = None,
        callbacks: Callbacks | None = None,
    ) -> list[Any]: ...
    # fmt: on
    def generate(
        self,
        request: GenerationRequest,
        run: Run | str | Path | None = None,
        *,
        output_type: OutputType = "video",
        video: VideoLike | None = None,
        prompt_embeds: Texts | None = None,
        callbacks: Callbacks | None = None,
    ) -> list[Any]:
        """Generates what a request asks for.

        Args:
            request: By `make_request`.
            run: A run, or the folder of one, new or begun: finished stages are kept there and not computed again.
            output_type: `video`: `Video`; `np`: uint8 (F, H, W, 3); `pt`: float32 (3, F, H, W) in about [-1, 1], not
                clipped, so that `video=` continues from exactly this; `pil`: a list of images.
            video: What the first stage works on, if it needs a video: see `make_request`; None: that of the run.
            prompt_embeds: Text states for all stages, such as changed ones of `encode`; None: the prompts are encoded.
                No record can repeat them, so that they are not for runs.
            callbacks: What to call while it runs, and what cancels it.

        Returns:
            One output per sample.

        Raises:
            InputError: This pipeline lacks a stage, or the video cannot be used.
            RunError: The run folder belongs to another request, other weights or adapters, or another process.
            Cancelled: `callbacks.cancel` was set.
        """
        self.check(request)
        current = check_call(request, run, video, prompt_embeds, output_type, callbacks)
        calls = callbacks or Callbacks()
        frames = None if current is None else current.shape[2]
        with nullcontext() if run is None else opened_run(run) as folder:
            done = () if folder is None else self._begin(request, folder, current).finished_stages
            self.plan(request, frames, done=done)
            texts = dict(prompt_embeds or self._encode(request, done, folder, calls))
            for stage, following in zip(request.stages, (*request.stages[1:], None), strict=True):
                if stage in done:
                    current = current if folder is None or following in done else folder.load(stage)
                    continue
                calls.stage_start(stage)
                for attempt in self._attempts(request, [stage], f"in the stage {stage!r}", frames):
                    with attempt as cost, self.resident(stage) as network:
                        try:
                            current = network(current, texts[stage], **self._stage_options(request, stage, calls))
                        finally:
                            del network  # so that it can be freed
                assert current is not None, "the stage has run"
                self._finish(stage, current, request, folder, cost, calls)
        assert current is not None, "at least one stage has run or been read"
        videos = self._videos(current, request, request.stages, folder)
        return [convert(v, frames, output_type) for v, frames in zip(videos, current, strict=True)]

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
        self.check(request)
        current = check_call(request, run, video)
        with Run.create() if run is None else opened_run(run) as folder:
            return self._begin(request, folder, current)

    def _begin(self, request: GenerationRequest, run: Run, video: Tensor | None) -> Run:
        """Records a request, and the video (B, 3, F, h, w) that it begins with, in a run that is open."""
        now = environment(self.device, self.dtype, str(self.storage))
        run.begin(request, model=self.identify(request.stages), environment=now, video=video)
        for name, known, other in run.manifest.differences(now):
            logger.warning(
                "The run began with %s %s and is resumed with %s: the last digits will differ.", name, known, other
            )
        return run

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
        with existing_run(run) as folder:
            request, stage = folder.begun_request, folder.next_stage
            if stage is None:
                return None
            self.check(request)
            self.generate(request.up_to(stage), folder, callbacks=callbacks)
            return folder.result(stage)

    # fmt: off
    @overload
    def resume(
        self, run: Run | str | Path, *, settings: SettingsLike = None,
        output_type: Literal["video"] = "video", callbacks: Callbacks | None = None,
    ) -> list[Video]: ...
    @overload
    def resume(
        self, run: Run | str | Path, *, settings: SettingsLike = None,
        output_type: OutputType, callbacks: Callbacks | None = None,
    ) -> list[Any]: ...
    # fmt: on
    def resume(
        self,
        run: Run | str | Path,
        *,
        settings: SettingsLike = None,
        output_type: OutputType = "video",
        callbacks: Callbacks | None = None,
    ) -> list[Any]:
        """Finishes a run: `generate` with the request that its folder holds.

        Args:
            run: A run that has begun, or its folder.
            settings: Changes of settings, or all of them, as for `make_request`; only those of stages that are not
                finished may differ from the run's.
            output_type: See `generate`.
            callbacks: See `generate`.

        Returns:
            One output per sample.

        Raises:
            RunError: The run is damaged, was made by other weights or adapters, or is being written by another process.
            InputError: This pipeline lacks a stage of the run.
        """
        with existing_run(run) as folder:
            begun = folder.begun_request
            request = begun.with_settings(resolve_settings(begun.settings, settings))
            return self.generate(request, folder, output_type=output_type, callbacks=callbacks)

    def check(self, request: GenerationRequest) -> None:
        """Makes sure, before any work, that this pipeline can do what a request asks for.

        Raises:
            InputError: It lacks a stage, the settings of one cannot work, or memory does not suffice.
        """
        if not isinstance(request, GenerationRequest):
            raise InputError(
                f"request must be a GenerationRequest, as `show1.make_request` makes, got {shown(request)}"
            )
        for stage in request.stages:
            if stage not in self.stages:
                raise InputError(f"the request needs the stage {stage!r}; this model has {', '.join(self.stages)}")
            check_stage(stage, self.cascade.parts, request.settings)
        check_memory(request)

    def _attempts(
        self, request: GenerationRequest, names: Collection[str], where: str, frames: int | None = None
    ) -> Iterator[AbstractContextManager[Cost]]:
        """Blocks in which some parts are to run: another one while memory runs out."""
        find_needs = partial(self.needs, request, frames)
        part = next((name for name in names if name in STAGES), TEXT)
        measured = partial(self._measured, where, self.devices.of(part))
        return self._planner.attempts(names, measured, find_needs, self.free)

    def _stage_options(self, request: GenerationRequest, stage: StageName, calls: Callbacks) -> dict[str, Any]:
        return {
            "seeds": make_seeds(request),
            "settings": self._planner.settings(request, stage),
            "numerics": request.numerics,
            "on_step": partial(self._step_end, request, stage, calls),
        }

    def _finish(
        self,
        stage: StageName,
        video: Tensor,
        request: GenerationRequest,
        run: Run | None,
        cost: Cost,
        calls: Callbacks,
    ) -> None:
        """Checks, keeps and reports what a stage computed, (B, 3, F, H, W)."""
        self._check_finite(video, stage, request)
        if run is not None:
            known = {**cost.to_dict(), "weights": self._planner.weights.get(stage)}
            run.keep(stage, video, CostRecord.model_validate(known))
        calls.stage_end(stage, partial(self._videos, video, request.up_to(stage), request.stages, run))

    def _check_finite(self, values: Tensor, stage: StageName, request: GenerationRequest) -> None:
        """Makes sure that a stage's numbers, of any shape, are finite."""
        check_finite(values, stage, request, adapters=self.adapters, dtype=self.dtype)

    def _step_end(
        self, request: GenerationRequest, stage: StageName, calls: Callbacks, done: int, total: int, samples: Tensor
    ) -> None:
        """Checks and reports a step with its samples (N, C, F, H, W)."""
        self._check_finite(samples, stage, request)
        calls.step_end(stage, done, total, samples)

    def _videos(
        self, video: Tensor, request: GenerationRequest, stages: Sequence[StageName], run: Run | None
    ) -> list[Video]:
        """Videos of (B, 3, F, H, W) with their records, by the model's identity for `stages`."""
        model = VideoModel(**dict(self.identify(stages)))
        place = environment(self.device, self.dtype, str(self.storage))
        weights = self._planner.weights if run is None else run.manifest.weights
        return make_videos(video, request, model, place, weights)

    @contextmanager
    def _measured(self, where: str, device: torch.device) -> Iterator[Cost]:
        """Measures a part of the work on a device, and explains it when memory runs out there."""
        with measure(device) as cost, explained_memory(where):
            yield cost
        logger.info("%s: %.1f s, peak memory %.2f GB", where, cost.seconds, cost.peak_memory / 1e9)

    def _encode(
        self, request: GenerationRequest, done: Sequence[StageName], run: Run | None, calls: Callbacks
    ) -> dict[StageName, PromptEmbeddings]:
        """Encodes all prompts for the stages to come, before any other network is loaded."""
        stages = [stage for stage in request.stages if stage not in done]
        if not stages:
            return {}
        for warning in self.request_warnings(request, stages):
            logger.warning("%s", warning)
        calls.stage_start("text")
        names = {self._planner.text_of(stage) for stage in stages}
        for attempt in self._attempts(request, names, "in the text encoder"):
            with attempt as cost:
                texts = self.encode(request, stages)
        check_texts(texts, request)
        if run is not None:
            run.record_text(CostRecord.model_validate(cost.to_dict()))
        return texts
