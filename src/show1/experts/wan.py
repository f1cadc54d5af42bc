"""Wan 2.1 and 2.2, the low-noise network of Wan 2.2 by itself, and FastWan."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from show1.diffusion import few_steps_from
from show1.experts.family import ExpertFamily


class Wan(ExpertFamily):
    """`WanPipeline`: flow matching, latents normalized by the autoencoder's means and deviations."""

    pipeline = "WanPipeline"
    float32 = ("vae",)
    text_length = 512

    def build(self, components: dict[str, Any], options: dict[str, Any]) -> Any:
        """Makes the pipeline; of Wan 2.2, the low-noise network takes the place of both."""
        low_noise = components.pop("transformer_2", None)
        if low_noise is not None:
            components = {**components, "transformer": low_noise}
        return super().build(components, {name: value for name, value in options.items() if name != "boundary_ratio"})

    def normalized(self, pipe: Any, latents: Tensor) -> Tensor:
        """Brings the autoencoder's latents (B, C, f, h, w) to what the network denoises."""
        mean, std = _statistics(pipe, latents)
        return (latents - mean) / std

    def denormalized(self, pipe: Any, latents: Tensor) -> Tensor:
        """Undoes `normalized`: latents (B, C, f, h, w) for the autoencoder."""
        mean, std = _statistics(pipe, latents)
        return latents * std + mean


class FastWan(Wan):
    """Wan distilled to three noise levels, between which the video gets new noise (arXiv:2405.14867)."""

    fixed_levels = (1.0, 0.757, 0.522)

    def schedule(self, scheduler: Any, level: float, generators: Sequence[torch.Generator]) -> Any:
        """The schedule of the levels that the network knows, from one of them or another one on."""
        return few_steps_from(level, self.fixed_levels, generators)


def _statistics(pipe: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    config = pipe.vae.config
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1).to(latents) for v in (config.latents_mean, config.latents_std))
    return mean, std
