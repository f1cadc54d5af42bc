"""Expert translation: a low-resolution video to high resolution, in latent space."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from show1.config import TranslationSettings
from show1.diffusion import Seeds, StepCallback, fold_frames, randn, sample, set_timesteps, unfold_frames
from show1.stages.denoising import DenoisingStage, SchedulerLike, evaluating, require_video
from show1.stages.networks import LatentNetwork
from show1.stages.stage import PromptEmbeddings


class TranslationStage(DenoisingStage):
    """Repaints detail and removes corruption; structure and meaning stay (section 3.4 of arXiv:2309.15818).

    The video is resized, encoded, noised up to the start timestep and denoised with the prompt (SDEdit,
    arXiv:2108.01073) by a network trained on the noise levels up to `max_timestep` alone.
    """

    name = "translation"

    def __init__(
        self,
        unet: nn.Module,
        vae: nn.Module,
        scheduler: SchedulerLike,
        *,
        frames_per_slice: int = 1,
        details: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Takes diffusers' latent UNet and KL-VAE.

        Args:
            unet: diffusers' `UNet3DConditionModel`.
            vae: diffusers' `AutoencoderKL`.
            scheduler: The network's scheduler, or the config.
            frames_per_slice: Frames that go through the VAE at a time: memory against speed.
            details: See `DenoisingStage`.
        """
        super().__init__(unet, scheduler, details=details)
        self.vae = vae
        self.frames_per_slice = frames_per_slice

    @torch.no_grad()
    def __call__(
        self,
        video: Tensor | None,
        prompts: PromptEmbeddings,
        *,
        seeds: Seeds,
        settings: TranslationSettings,
        on_step: StepCallback | None = None,
    ) -> Tensor:
        """Translates.

        Args:
            video: (B, 3, F, h, w).
            prompts: B prompts, as the expert's own text encoder sees them.
            seeds: Where noise comes from.
            settings: Size, strength and sampling.
            on_step: Called after every step; may raise to stop the run.

        Returns:
            (B, 3, F, H, W) float32 in about [-1, 1], on the CPU.
        """
        low = require_video(video, prompts, self.name)
        generators = seeds.generators(self.name, 0)
        scheduler = self.scheduler(settings)
        timesteps = set_timesteps(
            scheduler,
            settings.num_inference_steps,
            strength=settings.strength,
            max_timestep=settings.max_timestep,
        )
        with evaluating(self.unet), evaluating(self.vae):
            latents = self.encode(low, settings.height, settings.width, generators)
            noise = randn(latents.shape, generators).to(latents)
            start = timesteps[:1].expand(len(latents)).to(latents.device)
            latents = unfold_frames(scheduler.add_noise(latents, noise, start), len(low))
            denoiser = self.denoiser(LatentNetwork(self.unet), prompts, scheduler, settings=settings)
            latents = sample(denoiser, scheduler, latents, timesteps=timesteps, generators=generators, on_step=on_step)
            return self.decode(latents)

    def encode(self, video: Tensor, height: int, width: int, generators: list[torch.Generator]) -> Tensor:
        """Resizes and encodes frames, a slice at a time.

        Args:
            video: (B, 3, F, h, w) in [-1, 1].
            height: Pixels.
            width: Pixels.
            generators: Draw the sample from the VAE's posterior.

        Returns:
            (B*F, C, H/8, W/8) scaled latents, float32.
        """
        vae: Any = self.vae
        means, stds = [], []
        for frames in torch.split(fold_frames(video), self.frames_per_slice):
            resized = F.interpolate(frames, size=(height, width), mode="bilinear")
            posterior = vae.encode(resized.to(self.device, vae.dtype)).latent_dist
            means.append(posterior.mean.float())
            stds.append(posterior.std.float())
        mean = torch.cat(means)
        latents = mean + torch.cat(stds) * randn(mean.shape, generators).to(mean)
        return latents * float(vae.config.scaling_factor)

    def decode(self, latents: Tensor) -> Tensor:
        """Decodes latents (B, C, F, H/8, W/8), a slice at a time, to a video (B, 3, F, H, W) on the CPU."""
        vae: Any = self.vae
        frames = torch.split(fold_frames(latents / float(vae.config.scaling_factor)), self.frames_per_slice)
        images = [vae.decode(x.to(vae.dtype), return_dict=False)[0].float().cpu() for x in frames]
        return unfold_frames(torch.cat(images), len(latents))
