"""The translation by a latent video model of diffusers."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from show1.checkpoints.cascade import Part
from show1.config import Numerics, StageName, TranslationSettings
from show1.diffusion import Seeds, StepCallback, noised, randn
from show1.errors import InputError
from show1.expert_table import Expert
from show1.experts.family import ExpertFamily, Texts
from show1.experts.frames import cropped, padded, padded_shape, resized, slowed
from show1.experts.loading import names_of
from show1.experts.packing import check_bits, gguf_of, pack
from show1.experts.placing import add_loras, cast_to_fp8, load_placed
from show1.experts.windows import windowed
from show1.stages import PromptEmbeddings
from show1.stages.denoising import require_video

Weights = Literal["plain", "fp8", "int8", "int4"]
"""How a network keeps its weights."""


class DiffusersExpert:
    """Redraws a video with any latent video model: encodes it, mixes it with noise to a level, and denoises from there.

    What families do alike is done here, once. The noise is drawn by the package for each sample, on the CPU, so that
    results depend neither on the batch nor on the device.
    """

    name: StageName = "translation"
    text_width: int | None = None

    def __init__(self, load: Callable[[Weights], Any], family: ExpertFamily) -> None:
        """Takes what loads a pipeline of a family, without text encoders, with weights that are kept in some way."""
        self.family = family
        self._load = load
        self._pipe: Any = None
        self._weights: Weights = "plain"
        self._scheduler: Any = None

    @property
    def pipe(self) -> Any:
        """The pipeline, which is loaded now unless it was already."""
        return self._prepared(self._weights)

    def _prepared(self, weights: Weights) -> Any:
        """The pipeline with weights that are kept in some way."""
        if self._pipe is None or weights != self._weights:
            self._pipe = None  # before the other one is read
            self._pipe, self._weights = self._load(weights), weights
            self._scheduler = self._pipe.scheduler
        return self._pipe

    @torch.no_grad()
    def __call__(
        self,
        video: Tensor | None,
        prompts: PromptEmbeddings,
        *,
        seeds: Seeds,
        settings: TranslationSettings,
        on_step: StepCallback | None = None,
        numerics: Numerics = "default",
    ) -> Tensor:
        """Translates (B, 3, F, h, w) to (B, 3, F, H, W), with text states by `ExpertText`; see `Stage.__call__`.

        `numerics` changes nothing here.
        """
        low = require_video(video, prompts, self.name)
        generators = seeds.generators(self.name, 0)
        text: Texts = {
            "prompt_embeds": prompts.prompt_embeds,
            "negative_prompt_embeds": prompts.negative_prompt_embeds,
            **prompts.extra,
        }
        size = min(settings.max_batch or len(low), len(low))
        batches = [slice(start, start + size) for start in range(0, len(low), size)]
        parts = []
        for number, rows in enumerate(batches):
            part = {name: states[rows] for name, states in text.items()}
            report = self._reporting(on_step, number, len(batches))
            parts.append(self._translate(low[rows], part, generators[rows], settings, report))
        return torch.cat(parts)

    def _reporting(self, on_step: StepCallback | None, number: int, batches: int) -> Callable[[Tensor], None]:
        """Reports the steps of one of several batches, when it is called with latents (B, ...) after each of them."""
        steps = itertools.count(1)

        def report(latents: Tensor) -> None:
            total = len(self.pipe.scheduler.timesteps)
            if on_step is not None:
                on_step(number * total + next(steps), batches * total, latents)

        return report

    def _translate(
        self,
        video: Tensor,
        text: Texts,
        generators: Sequence[torch.Generator],
        settings: TranslationSettings,
        report: Callable[[Tensor], None],
    ) -> Tensor:
        """Translates some samples (B, 3, F, h, w) at once; returns (B, 3, F, H, W), on the CPU."""
        assert settings.level is not None, "checked by `check_expert_settings`"
        pipe, family = self._prepared(settings.weights), self.family
        device = pipe._execution_device
        shown = resized(video, settings.height, settings.width)
        slow = slowed(shown, settings.time_factor)
        whole = padded(slow, **multiples_of(family, pipe))
        pipe.scheduler = family.schedule(self._scheduler, settings.level, generators)
        try:
            clean = family.encode(pipe, whole.to(device))
            latents = noised(self._scheduler, clean, randn(clean.shape, generators).to(clean), settings.level)
            with self.windowed(settings, whole.shape[2], clean):
                out = family.denoise(
                    pipe,
                    latents,
                    {name: states.to(device) for name, states in text.items()},
                    size=(whole.shape[2], whole.shape[3], whole.shape[4]),
                    steps=settings.num_inference_steps,
                    guidance=settings.guidance_scale,
                    generators=generators,
                    on_step=report,
                )
            drawn = family.decode(pipe, out, generators)
        finally:
            pipe.maybe_free_model_hooks()
        drawn = cropped(drawn, slow.shape[2], settings.height, settings.width)
        return drawn[:, :, :: settings.time_factor].float().cpu().contiguous()

    def windowed(self, settings: TranslationSettings, frames: int, latents: Tensor) -> AbstractContextManager[None]:
        """Lets the network see windows of the latents (B, ...) of so many frames, if the settings ask for it.

        A window is padded as a video of its length is, so that one as long as the video is none.
        """
        axis, window = self.family.frame_axis, settings.window
        if window is None or axis is None:
            return nullcontext()
        multiple = self.family.frame_multiple(self.pipe)
        window, _, _ = padded_shape((window, 1, 1), frame_multiple=multiple, size_multiple=1)
        if window >= frames:
            return nullcontext()
        patch = getattr(self.pipe.transformer.config, "patch_size_t", None) or 1  # latent frames of a token
        ratio = (frames - 1) / max(1, latents.shape[axis] - 1)
        most, least = (int((length - 1) / ratio) + 1 for length in (window, max(1, settings.shared(window))))
        seen, shared = max(2, most // patch) * patch, -(-least // patch) * patch
        return windowed(self.pipe.transformer, window=seen, overlap=min(shared, seen - patch), axis=axis)


def multiples_of(family: ExpertFamily, pipe: Any) -> dict[str, int]:
    """What the frames and sizes of a family's videos have to be multiples of, as `padded` takes it."""
    return {"frame_multiple": family.frame_multiple(pipe), "size_multiple": family.size_multiple(pipe)}


def load_expert(
    part: Part,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    variant: str | None = None,
    loras: Sequence[tuple[Path, float]] = (),
    streamed: bool | None = None,
    tiled: bool = False,
) -> DiffusersExpert:
    """An expert without its text encoders; its networks are loaded by the first call, whose settings say how.

    Args:
        part: Its files.
        dtype: Precision of the networks.
        device: Where they go.
        variant: Weight files to prefer.
        loras: LoRA files of its family, with their weights.
        streamed: Whether layers get their weights when they run; see `load_placed`.
        tiled: Whether its autoencoder works in tiles.

    Raises:
        CheckpointError: A file is missing, damaged, or does not fit the others.
    """
    assert part.expert is not None
    family: ExpertFamily = part.expert.row.family()()
    names = names_of(part.expert, text=False)

    def prepare(pipe: Any, weights: Weights) -> None:
        add_loras(pipe, loras)
        if tiled:
            pipe.vae.enable_tiling()
        if weights == "fp8":
            cast_to_fp8(pipe, dtype)
        elif weights != "plain":
            pack(pipe.transformer, weights)

    def load(weights: Weights) -> Any:
        if weights != "plain" and (file := gguf_of(part.path / "transformer")) is not None:
            raise InputError(f"{file} has few bits already; leave out translation.weights, which is {weights}")
        packed = weights in ("int8", "int4")  # those of bitsandbytes stay where they are
        size = dtype.itemsize if weights == "plain" else 1
        place: dict[str, Any] = {"dtype": dtype, "device": device, "variant": variant, "bytes_per_weight": size}
        place |= {"streamed": False if packed else streamed, "whole_first": packed}
        return load_placed(part, family, names, **place, prepare=lambda pipe: prepare(pipe, weights))

    return DiffusersExpert(load, family)


def check_expert_settings(expert: Expert, settings: TranslationSettings) -> None:
    """Makes sure that an expert can work with some settings; loads nothing.

    Raises:
        InputError: It cannot.
    """
    row, level = expert.row, settings.level
    if level is None:
        raise InputError(f"the expert {row.name!r} needs a noise level to start at; give translation.level")
    if level > row.max_level:
        raise InputError(
            f"the expert {row.name!r} was trained on noise levels up to {row.max_level:g}, and translation.level "
            f"{level:g} is above; give at most {row.max_level:g}"
        )
    if (fixed := row.family().fixed_levels) and settings.num_inference_steps != len(fixed):
        raise InputError(
            f"the expert {row.name!r} was distilled to {len(fixed)} steps, and translation.num_inference_steps is "
            f"{settings.num_inference_steps}; leave it out"
        )
    if settings.weights in ("int8", "int4"):
        check_bits(settings.weights)
    if settings.num_inference_steps < 2:
        raise InputError(f"the expert {row.name!r} needs 2 steps or more in its whole schedule; give more")
    if row.family().frame_axis is None and settings.window is not None:
        raise InputError(
            f"the expert {row.name!r} sees videos whole; leave out translation.window, and cut the video if memory runs"
            " out"
        )
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    for name, remedy in _ONLY_OURS.items():
        if getattr(settings, name) != defaults[name]:
            raise InputError(f"translation.{name} is for the cascade's own expert, not for {row.name!r}; {remedy}")


_ONLY_OURS = {
    "strength": "give translation.level",
    "max_timestep": "leave it out: translation.level says where the expert begins",
    "scheduler": "leave it at 'checkpoint'",
    "guidance_interval": "leave it out",
    "split_guidance": "leave it out",
    "time_grid": "leave it out",
}
"""Settings of the translation that foreign pipelines do not know, and what to do about them."""
