"""Image super-resolution of the first frame by DeepFloyd IF-II, through diffusers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from show1.config import FirstFrameSettings
from show1.diffusion import StepCallback, build_scheduler, learns_variance
from show1.errors import InputError
from show1.options import counted
from show1.runtime import computing_device
from show1.stages.denoising import SchedulerLike, scheduler_config
from show1.stages.networks import as_described
from show1.stages.stage import PromptEmbeddings


class DeepFloydFirstFrame:
    """`IFSuperResolutionPipeline` of diffusers, called with the pixel stages' text states."""

    def __init__(
        self, unet: nn.Module, scheduler: SchedulerLike, image_noising_scheduler: SchedulerLike | None = None
    ) -> None:
        """Takes DeepFloyd IF-II's network.

        Args:
            unet: diffusers' `UNet2DConditionModel`.
            scheduler: Its scheduler, or the config.
            image_noising_scheduler: Noises the low-resolution condition; None: `scheduler` does.
        """
        self.unet = unet
        self.scheduler_config = scheduler_config(scheduler)
        self.noising_config = scheduler_config(image_noising_scheduler or scheduler)

    def __call__(
        self,
        frame: Tensor,
        prompts: PromptEmbeddings,
        *,
        size: tuple[int, int],
        settings: FirstFrameSettings,
        generators: Sequence[torch.Generator],
        on_step: StepCallback | None = None,
    ) -> Tensor:
        """Upscales images (B, 3, h, w) in [-1, 1] to `size` (height, width); returns (B, 3, H, W) on the CPU."""
        pipeline = self._pipeline(settings)
        parameter = next(self.unet.parameters())
        embeds = prompts.to(computing_device(self.unet), parameter.dtype)
        steps = settings.num_inference_steps

        stopped: list[Exception] = []  # by the caller, whose errors are its own

        def callback(i: int, _timestep: Any, samples: Tensor) -> None:
            try:
                if on_step is not None:
                    on_step(i + 1, steps, samples[:, :, None])
            except Exception as error:
                stopped.append(error)
                raise

        with as_described(stopped):
            images: Tensor = pipeline(
                image=frame,
                prompt_embeds=embeds.prompt_embeds,
                negative_prompt_embeds=embeds.negative_prompt_embeds,
                height=size[0],
                width=size[1],
                num_inference_steps=steps,
                guidance_scale=settings.guidance_scale,
                noise_level=settings.noise_level,
                generator=generators[0] if len(generators) == 1 else list(generators),
                output_type="pt",
                return_dict=False,
                callback=callback,
            )[0]
        return images.float().cpu().clamp(-1, 1)

    def _pipeline(self, settings: FirstFrameSettings) -> Any:
        from diffusers import IFSuperResolutionPipeline

        scheduler = build_scheduler(self.scheduler_config, settings.scheduler)
        noising = build_scheduler(self.noising_config)
        if settings.noise_level >= noising.config.num_train_timesteps:
            raise InputError(
                f"first_frame.noise_level is {settings.noise_level}, but the part's scheduler of noise has only "
                f"{counted(noising.config.num_train_timesteps, 'timestep')}; choose a lower one, or correct its "
                "scheduler_config.json"
            )
        if not learns_variance(scheduler):  # the pipeline asks the config, which keeps what another class was told
            scheduler.register_to_config(variance_type=None)
        pipeline = IFSuperResolutionPipeline(
            tokenizer=None,
            text_encoder=None,
            unet=self.unet,
            scheduler=scheduler,
            image_noising_scheduler=noising,
            safety_checker=None,
            feature_extractor=None,
            watermarker=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
