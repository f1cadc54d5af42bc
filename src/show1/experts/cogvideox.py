"""CogVideoX: 2b, 5b and 1.5."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from show1.experts.family import ExpertFamily, Texts


class CogVideoX(ExpertFamily):
    """`CogVideoXPipeline`: a schedule of betas, latents (B, f, C, h, w)."""

    pipeline = "CogVideoXPipeline"
    frame_axis = 1

    def frame_multiple(self, pipe: Any) -> int:
        """8: its autoencoder gives back as many frames as it took only for an odd number of latent frames."""
        return int(pipe.vae_scale_factor_temporal) * 2

    def encode(self, pipe: Any, video: Tensor) -> Tensor:
        """Encodes a video (B, 3, F, H, W) in [-1, 1] to (B, f, C, h, w)."""
        latents = super().encode(pipe, video).transpose(1, 2)
        lacking = -latents.shape[1] % (pipe.transformer.config.patch_size_t or 1)
        return torch.cat([latents[:, :1].expand(-1, lacking, -1, -1, -1), latents], dim=1)

    def denoise(self, pipe: Any, latents: Tensor, text: Texts, **options: Any) -> Tensor:
        """Runs the pipeline on (B, f, C, h, w) in the precision of the text, to which it casts nothing itself."""
        return super().denoise(pipe, latents.to(text["prompt_embeds"].dtype), text, **options)

    def decode(self, pipe: Any, latents: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Decodes (B, f, C, h, w) to a video (B, 3, F, H, W); leaves out what 1.5 has in front."""
        filled = (latents.shape[1] + 1) % 2  # the number without it is odd
        return super().decode(pipe, latents[:, filled:].transpose(1, 2), generators)
