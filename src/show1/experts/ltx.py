"""LTX-Video, and LTX-2 without its sound."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from show1.diffusion import randn
from show1.experts.family import ExpertFamily, Texts


class LTX(ExpertFamily):
    """`LTXPipeline`: flow matching on packed tokens, so that videos are seen whole."""

    pipeline = "LTXPipeline"
    frame_axis = None
    text_length = 256
    text_states = ("prompt_embeds", "prompt_attention_mask")
    frame_rate = 24
    decode_timestep = 0.05
    """Time that the decoder is given, and the share of noise with it, where it was trained to remove some."""
    decode_noise_scale = 0.025

    def text_of(self, pipe: Any, prompt: str) -> Texts:
        """Encodes a text; see `Texts` for the shapes."""
        states, mask, *_ = pipe.encode_prompt(
            prompt=prompt,
            do_classifier_free_guidance=False,
            max_sequence_length=self.text_length,
            device=pipe._execution_device,
        )
        return {"prompt_embeds": states, "prompt_attention_mask": mask.float()}

    def text_arguments(self, text: Texts, guidance: float) -> dict[str, Any]:
        """The text states, (B, ...) each, with masks of whole numbers."""
        chosen = super().text_arguments(text, guidance)
        return {name: states.long() if name.endswith("mask") else states for name, states in chosen.items()}

    def frame_multiple(self, pipe: Any) -> int:
        """M such that the model takes M * k + 1 frames."""
        return int(pipe.vae_temporal_compression_ratio)

    def size_multiple(self, pipe: Any) -> int:
        """32, of which the pipelines want multiples."""
        return 32

    def normalized(self, pipe: Any, latents: Tensor) -> Tensor:
        """Brings the autoencoder's latents (B, C, f, h, w) to what the network denoises."""
        normal: Tensor = pipe._normalize_latents(latents, *_statistics(pipe))
        return normal

    def denormalized(self, pipe: Any, latents: Tensor) -> Tensor:
        """Undoes `normalized`: latents (B, C, f, h, w) for the autoencoder."""
        raw: Tensor = pipe._denormalize_latents(latents, *_statistics(pipe))
        return raw

    def denoise(self, pipe: Any, latents: Tensor, text: Texts, **options: Any) -> Tensor:
        """Runs the pipeline on (B, C, f, h, w), which it takes as tokens; see `ExpertFamily.denoise`."""
        patches = (pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size)
        out = super().denoise(pipe, pipe._pack_latents(latents, *patches), text, **options)
        clean: Tensor = pipe._unpack_latents(out, *latents.shape[2:], *patches)
        return clean

    def arguments(self, pipe: Any) -> dict[str, Any]:
        """The frame rate that the model was trained at: what moves is in the video already."""
        return {"frame_rate": self.frame_rate}

    def decode(self, pipe: Any, latents: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Decodes (B, C, f, h, w), with a little noise where the decoder removes it, to a video (B, 3, F, H, W)."""
        vae, timestep = pipe.vae, None
        raw = self.denormalized(pipe, latents.float())
        if vae.config.timestep_conditioning:
            noise = randn(raw.shape, generators).to(raw)
            raw = (1 - self.decode_noise_scale) * raw + self.decode_noise_scale * noise
            timestep = torch.full((1,), self.decode_timestep, device=raw.device, dtype=vae.dtype)
        return torch.cat([vae.decode(one[None], timestep, return_dict=False)[0].float() for one in raw.to(vae.dtype)])


class LTX2(LTX):
    """`LTX2Pipeline`: its sound begins as noise, is denoised with the video, and is dropped."""

    pipeline = "LTX2Pipeline"
    text_length = 1024

    def denoise(self, pipe: Any, latents: Tensor, text: Texts, **options: Any) -> Tensor:
        """Runs the pipeline on (B, C, f, h, w), which it takes and gives as its autoencoder does."""
        raw = ExpertFamily.denoise(self, pipe, self.denormalized(pipe, latents), text, **options)
        return self.normalized(pipe, raw)

    def arguments(self, pipe: Any) -> dict[str, Any]:
        """The frame rate, and only the usual guidance: the others take two more passes of the network per step."""
        kinds = {"stg_scale": 0.0, "audio_stg_scale": 0.0, "modality_scale": 1.0, "audio_modality_scale": 1.0}
        return {**super().arguments(pipe), **kinds}


def _statistics(pipe: Any) -> tuple[Any, Any, float]:
    return pipe.vae.latents_mean, pipe.vae.latents_std, float(pipe.vae.config.scaling_factor)
