"""Expert translation: a low-resolution video to high resolution, in latent space."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from show1.config import Numerics, TranslationSettings
from show1.diffusion import Seeds, StepCallback, fold_frames, randn, sample, unfold_frames
from show1.runtime import computing_device
from show1.stages.denoising import DenoisingStage, SchedulerLike, evaluating, require_video, run_timesteps
from show1.stages.networks import LatentNetwork
from show1.stages.stage import PromptEmbeddings


class TranslationStage(DenoisingStage):
    """Redraws details and removes corruption, but keeps structure and meaning (section 3.4 of arXiv:2309.15818).

    The video is resized, encoded, noised up to the start timestep and denoised with the prompt (SDEdit,
    arXiv:2108.01073) by a network trained only on the noise levels up to `max_timestep`. Long videos are encoded and
    decoded frame by frame, and denoised in windows that are blended at each step.
    """

    name = "translation"

    def __init__(
        self,
        unet: nn.Module,
        vae: nn.Module,
        scheduler: SchedulerLike,
        *,
        details: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Takes diffusers' latent UNet and an autoencoder.

        Args:
            unet: diffusers' `UNet3DConditionModel`.
            vae: diffusers' `AutoencoderKL`, or an `AutoencoderTiny` with the same latents.
            scheduler: The network's scheduler, or the config.
            details: See `DenoisingStage`.
        """
        super().__init__(unet, scheduler, details=details)
        self.vae = vae

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
        """Translates (B, 3, F, h, w) to (B, 3, F, H, W), with prompts by its own encoder; see `Stage.__call__`.

        `numerics` changes nothing here: the published run's expert rounds as diffusers does.
        """
        low = require_video(video, prompts, self.name)
        generators = seeds.generators(self.name, 0)
        scheduler = self.scheduler(settings)
        timesteps = run_timesteps(scheduler, settings)
        with evaluating(self.unet), evaluating(self.vae):
            size = (settings.height, settings.width)
            latents = encode(
                self.vae,
                fold_frames(low),
                draw=lambda shape: randn(shape, generators),
                frames_per_slice=1,
                size=size,
            )
            noise = randn(latents.shape, generators).to(latents)
            start = timesteps[:1].expand(len(latents)).to(latents.device)
            latents = unfold_frames(scheduler.add_noise(latents, noise, start), len(low))
            window, overlap = settings.own_window
            network = LatentNetwork(self.unet, window=window, overlap=overlap)
            guided = self.guided(network, prompts, scheduler, settings=settings)
            latents = sample(guided, scheduler, latents, timesteps=timesteps, generators=generators, on_step=on_step)
            out = low.new_empty(*low.shape[:3], *size)
            for number, frame in enumerate(decode(self.vae, fold_frames(latents))):
                out[number // low.shape[2], :, number % low.shape[2]] = frame
            return out


def encode(
    vae: nn.Module,
    frames: Tensor,
    *,
    draw: Callable[[torch.Size], Tensor] | None,
    frames_per_slice: int | None = None,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """Encodes frames to what the network denoises. Sampling, training and customization all call this.

    Args:
        vae: diffusers' `AutoencoderKL` or `AutoencoderTiny`.
        frames: (N, 3, H, W) in about [-1, 1], on any device.
        draw: Gives standard normal noise of a shape, for the sample from the autoencoder's posterior; None: its mean.
            A tiny autoencoder has no posterior, so that `draw` does not change its latents.
        frames_per_slice: Frames that are encoded at a time, memory against speed; None: all.
        size: The height and width that frames are resized to first, bilinearly; None: they are encoded as they are.

    Returns:
        (N, C, H/8, W/8) scaled latents, float32, on the autoencoder's device.
    """
    autoencoder: Any = vae
    device = computing_device(vae)
    means, stds = [], []
    for part in torch.split(frames, frames_per_slice or len(frames)):
        if size is not None:
            part = F.interpolate(part, size=size, mode="bilinear")
        encoded = autoencoder.encode(laid_out(part.to(device), autoencoder))
        if "latents" in encoded:  # a tiny autoencoder has no posterior
            means.append(encoded.latents.float())
        else:
            means.append(encoded.latent_dist.mean.float())
            stds.append(encoded.latent_dist.std.float())
    latents = torch.cat(means)
    if draw is not None:
        noise = draw(latents.shape).to(latents)  # drawn even if it is not used: what is drawn later stays the same
        latents = latents + torch.cat(stds) * noise if stds else latents
    return latents * float(autoencoder.config.scaling_factor)


def laid_out(x: Tensor, autoencoder: Any) -> Tensor:
    """Puts an autoencoder's input (N, C, H, W) into its precision, and into the layout in which it is fastest."""
    return x.to(autoencoder.dtype, memory_format=torch.channels_last)


def decode(vae: nn.Module, latents: Tensor) -> Iterator[Tensor]:
    """Decodes scaled latents (N, C, H/8, W/8) to frames (3, H, W), float32, on the CPU, one after another.

    Args:
        vae: diffusers' `AutoencoderKL` or `AutoencoderTiny`.
        latents: As `encode` gives them.
    """
    autoencoder: Any = vae
    for one in torch.split(latents / float(autoencoder.config.scaling_factor), 1):
        yield autoencoder.decode(laid_out(one, autoencoder), return_dict=False)[0][0].float().cpu()
