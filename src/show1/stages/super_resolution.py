"""Pixel-space super-resolution: an image model for the first frame, the video network for windows of frames."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from show1.config import Numerics, SuperResolutionSettings
from show1.diffusion import (
    Seeds,
    StepCallback,
    add_noise,
    build_scheduler,
    fold_frames,
    randn,
    sliding_windows,
    unfold_frames,
)
from show1.stages.denoising import DenoisingStage, SchedulerLike, require_video, scheduler_config, shifted
from show1.stages.first_frame import DeepFloydFirstFrame
from show1.stages.networks import PixelNetwork
from show1.stages.stage import PromptEmbeddings

logger = logging.getLogger(__name__)

NOISING: dict[str, Any] = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "num_train_timesteps": 1000,
}
"""The schedule on which DeepFloyd IF and the published network noise their low-resolution condition."""


class SuperResolutionStage(DenoisingStage):
    """Upscales windows of frames one after another, each led by a frame that is already in high resolution."""

    name = "super_resolution"

    def __init__(
        self,
        unet: nn.Module,
        scheduler: SchedulerLike,
        image_noising_scheduler: SchedulerLike | None = None,
        first_frame: DeepFloydFirstFrame | None = None,
        *,
        details: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Takes the network and its scheduler.

        Args:
            unet: The video network.
            scheduler: Its scheduler, or the config.
            image_noising_scheduler: Noises the low-resolution condition; None: DeepFloyd IF's cosine schedule.
            first_frame: Image super-resolution of frame 0; None: the video network on that frame only.
            details: See `DenoisingStage`.
        """
        super().__init__(unet, scheduler, details=details)
        self.noising_config = scheduler_config(image_noising_scheduler or NOISING)
        self.first_frame_model = first_frame

    def __call__(
        self,
        video: Tensor | None,
        prompts: PromptEmbeddings,
        *,
        seeds: Seeds,
        settings: SuperResolutionSettings,
        on_step: StepCallback | None = None,
        numerics: Numerics = "default",
    ) -> Tensor:
        """Upscales any number of frames, (B, 3, F, h, w), to (B, 3, F, H, W); see `Stage.__call__`."""
        low = require_video(video, prompts, self.name)
        windows = sliding_windows(low.shape[2], settings.window, settings.stride) if low.shape[2] > 1 else []
        steps = settings.num_inference_steps
        options = settings.first_frame if self.first_frame_model is not None else None
        first_steps = options.num_inference_steps if options is not None else steps
        total = first_steps + len(windows) * steps
        out = low.new_zeros(*low.shape[:3], settings.height, settings.width)
        out[:, :, :1] = self._first_frame(low[:, :, :1], prompts, seeds, settings, shifted(on_step, 0, total), numerics)
        for k, window in enumerate(windows):
            out[:, :, window.start : window.stop] = self._window(
                low[:, :, window.start : window.stop],
                out[:, :, window.start : window.start + 1],
                prompts,
                settings=settings,
                generators=seeds.generators(self.name, k),
                on_step=shifted(on_step, first_steps + k * steps, total),
                numerics=numerics,
            )
        return out

    def _first_frame(
        self,
        frame: Tensor,
        prompts: PromptEmbeddings,
        seeds: Seeds,
        settings: SuperResolutionSettings,
        on_step: StepCallback | None,
        numerics: Numerics,
    ) -> Tensor:
        """Upscales one frame (B, 3, 1, h, w)."""
        generators = seeds.generators("super_resolution/first_frame", 0)
        options, model = settings.first_frame, self.first_frame_model
        if model is None or options is None:
            logger.info("the first frame is made by the video network")
            run: dict[str, Any] = {"generators": generators, "on_step": on_step, "numerics": numerics}
            return self._window(frame, None, prompts, settings=settings, **run)
        size = (settings.height, settings.width)
        image = model(frame[:, :, 0], prompts, size=size, settings=options, generators=generators, on_step=on_step)
        return image[:, :, None]

    def _window(
        self,
        low: Tensor,
        clean: Tensor | None,
        prompts: PromptEmbeddings,
        *,
        settings: SuperResolutionSettings,
        generators: list[torch.Generator],
        on_step: StepCallback | None,
        numerics: Numerics,
    ) -> Tensor:
        """Upscales frames (B, 3, F, h, w) whose first one is known in high resolution (B, 3, 1, H, W), if any is."""
        upsampled = upsample(low, settings.height, settings.width)
        # the published order of draws: initial noise, then the condition's
        noise = randn(upsampled.shape, generators)
        condition = inputs(
            upsampled,
            noise=randn(upsampled.shape, generators),
            noise_level=torch.full((len(low),), settings.noise_level),
            alphas_cumprod=noising_alphas(self.noising_config),
            clean=clean,
        )
        return self.denoise(
            PixelNetwork(self.unet, noise_level=settings.noise_level),
            noise,
            prompts,
            settings=settings,
            generators=generators,
            condition=condition,
            on_step=on_step,
            numerics=numerics,
        )


def noising_alphas(scheduler: SchedulerLike = NOISING) -> Tensor:
    """The `alphas_cumprod` (T,) of the schedule on which the condition is noised.

    Args:
        scheduler: `image_noising_scheduler` of the stage's folder, or its config, where there is one.
    """
    alphas: Tensor = build_scheduler(scheduler_config(scheduler)).alphas_cumprod
    return alphas


def inputs(
    upsampled: Tensor, *, noise: Tensor, noise_level: Tensor, alphas_cumprod: Tensor, clean: Tensor | None = None
) -> Tensor:
    """The condition of the network: its channels beside the noisy ones.

    Sampling, training and customization all call this.

    Args:
        upsampled: (B, 3, F, H, W) the low-resolution frames, upsampled; see `upsample`.
        noise: (B, 3, F, H, W) standard normal.
        noise_level: (B,) timesteps at which `upsampled` is noised, which the network is given as well.
        alphas_cumprod: (T,) of the condition's schedule; see `noising_alphas`.
        clean: (B, 3, 1, H, W) the first frame in high resolution; None: it is not known, as at a video's beginning.

    Returns:
        (B, 3, F, H, W): the noised frames, led by the clean one where it is known.
    """
    noised = add_noise(upsampled, noise, noise_level, alphas_cumprod)
    return noised if clean is None else torch.cat([clean, noised[:, :, 1:]], dim=2)


def upsample(video: Tensor, height: int, width: int) -> Tensor:
    """Resizes frames (B, 3, F, h, w) bilinearly with aligned corners; returns (B, 3, F, H, W)."""
    frames = F.interpolate(fold_frames(video), size=(height, width), mode="bilinear", align_corners=True)
    return unfold_frames(frames, len(video))
