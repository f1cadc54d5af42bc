"""The two kinds of networks behind the interface of `show1.diffusion.Network`."""

from typing import Any

import torch
from torch import Tensor, nn


class PixelNetwork:
    """The pixel UNet; its text states are prepared once per run."""

    def __init__(self, unet: Any, *, noise_level: int | None = None) -> None:
        """Binds the network to a noise level (a timestep) of its condition, for super-resolution."""
        self._unet = unet
        self._noise_level = noise_level

    def encode_text(self, prompt_embeds: Tensor) -> Any:
        """Prepares text states (N, L, D) once for all steps of a run."""
        return self._unet.encode_text(prompt_embeds.to(self._unet.device, self._unet.dtype))

    def __call__(self, sample: Tensor, timestep: Tensor, text: Any) -> Tensor:
        """Predicts from (N, C, F, H, W); returns float32."""
        labels = None
        if self._noise_level is not None:
            labels = torch.full((len(sample),), self._noise_level, device=sample.device)
        x = sample.to(self._unet.dtype)
        t = timestep.to(sample.device)
        out: Tensor = self._unet(x, t, class_labels=labels, text_cache=text, return_dict=False)[0]
        return out.float()


class LatentNetwork:
    """diffusers' latent video UNet."""

    def __init__(self, unet: nn.Module) -> None:
        self._unet: Any = unet

    def encode_text(self, prompt_embeds: Tensor) -> Any:
        """Moves text states (N, L, D) to the network."""
        return prompt_embeds.to(self._unet.device, self._unet.dtype)

    def __call__(self, sample: Tensor, timestep: Tensor, text: Any) -> Tensor:
        """Predicts from (N, C, F, H, W); returns float32."""
        out: Tensor = self._unet(
            sample.to(self._unet.dtype), timestep.to(sample.device), encoder_hidden_states=text, return_dict=False
        )[0]
        return out.float()
