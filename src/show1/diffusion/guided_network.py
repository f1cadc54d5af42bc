"""A network bound to its conditions, with guidance: noisy samples in, what a scheduler's step takes out."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from show1.diffusion.guidance import Guidance, guide


class Network(Protocol):
    """A network as the sampling loop calls it."""

    def encode_text(self, prompt_embeds: Tensor) -> Any:
        """Prepares text states (N, L, D) once for all steps of a run."""
        ...

    def __call__(self, sample: Tensor, timestep: Tensor, text: Any) -> Tensor:
        """Predicts from (N, C, F, H, W) at one timestep (); returns (N, C', F, H, W), float32."""
        ...


class GuidedNetwork:
    """Guided predictions for a batch of noisy samples.

    The prediction is the network's (epsilon or v, as it was trained): the scheduler knows which. Learned variance
    channels are kept only where the scheduler takes them. Both halves of guidance go through the network in one
    call, the unconditional one first.
    """

    def __init__(
        self,
        network: Network,
        prompt_embeds: Tensor,
        negative_prompt_embeds: Tensor,
        *,
        guidance: Guidance,
        learned_variance: bool = False,
        condition: Tensor | None = None,
        prompt_index: Sequence[int] | None = None,
        max_batch: int | None = None,
    ) -> None:
        """Binds a network to its conditions.

        Args:
            network: The network.
            prompt_embeds: (B, L, D).
            negative_prompt_embeds: (B, L, D), for the unconditional half.
            guidance: When and how strongly to guide.
            learned_variance: Whether the scheduler takes the network's variance channels.
            condition: (N, C', F, H, W) channels appended to the noisy samples, on the network's device.
            prompt_index: Prompt of each of the N samples; None: sample i has prompt i.
            max_batch: Most samples of one network call (each is two rows of it where guidance applies).
        """
        self._network = network
        self._embeds = (negative_prompt_embeds, prompt_embeds)
        self._guidance = guidance
        self._learned_variance = learned_variance
        self._condition = condition
        self._prompt_index = list(prompt_index) if prompt_index is not None else list(range(len(prompt_embeds)))
        self._max_batch = max_batch
        self._text: dict[tuple[bool, tuple[int, ...]], Any] = {}

    def __call__(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """Predicts for noisy samples (N, C, F, H, W) at one timestep ().

        Returns:
            (N, C, F, H, W), or (N, 2C, F, H, W) with learned variance.
        """
        channels, size = latents.shape[1], self._max_batch or len(latents)
        guided, parts = self._guidance.applies(float(timestep)), []
        for first in range(0, len(latents), size):
            rows = slice(first, first + size)
            sample, text = latents[rows], self._encode(rows, guided=guided)
            if self._condition is not None:
                sample = torch.cat([sample, self._condition[rows]], dim=1)
            prediction = self._network(torch.cat([sample, sample]) if guided else sample, timestep, text)
            if guided:
                uncond, cond = prediction.chunk(2)
                prediction = guide(uncond, cond, self._guidance.scale, channels)
            parts.append(prediction if self._learned_variance else prediction[:, :channels])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _encode(self, rows: slice, *, guided: bool) -> Any:
        prompts = self._prompt_index[rows]
        key = (guided, tuple(prompts))
        if key not in self._text:
            negative, positive = self._embeds
            embeds = positive[prompts]
            self._text[key] = self._network.encode_text(torch.cat([negative[prompts], embeds]) if guided else embeds)
        return self._text[key]
