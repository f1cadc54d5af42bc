"""A network bound to its conditions, with guidance: noisy samples in, what a scheduler's step takes out."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from show1.diffusion.guidance import Guidance, guide

_Half = Literal["unconditional", "conditional", "both"]
"""Which half of guidance a network call computes."""


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
    call, the unconditional one first, or in two.
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
        split: bool = False,
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
            split: Whether the two halves of guidance are two calls, which takes half the memory.
        """
        self._network = network
        self._embeds = (negative_prompt_embeds, prompt_embeds)
        self._guidance = guidance
        self._learned_variance = learned_variance
        self._condition = condition
        self._prompt_index = list(prompt_index) if prompt_index is not None else list(range(len(prompt_embeds)))
        self._max_batch = max_batch
        self._split = split
        self._text: dict[tuple[_Half, tuple[int, ...]], Any] = {}

    def __call__(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """Predicts for noisy samples (N, C, F, H, W) at one timestep ().

        Returns:
            (N, C, F, H, W), or (N, 2C, F, H, W) with learned variance.
        """
        channels, size = latents.shape[1], self._max_batch or len(latents)
        halves: tuple[_Half, ...] = ("conditional",)
        if guided := self._guidance.applies(float(timestep)):
            halves = ("unconditional", "conditional") if self._split else ("both",)
        parts = []
        for first in range(0, len(latents), size):
            rows = slice(first, first + size)
            sample = latents[rows]
            if self._condition is not None:
                sample = torch.cat([sample, self._condition[rows]], dim=1)
            whole = torch.cat([sample, sample]) if halves == ("both",) else sample
            predictions = [self._network(whole, timestep, self._encode(rows, half)) for half in halves]
            prediction = predictions[0]
            if guided:
                uncond, cond = predictions if self._split else prediction.chunk(2)
                prediction = guide(uncond, cond, self._guidance.scale, channels)
            parts.append(prediction if self._learned_variance else prediction[:, :channels])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _encode(self, rows: slice, half: _Half) -> Any:
        prompts = self._prompt_index[rows]
        key = (half, tuple(prompts))
        if key not in self._text:
            negative, positive = (embeds[prompts] for embeds in self._embeds)
            states = {"unconditional": [negative], "conditional": [positive], "both": [negative, positive]}[half]
            self._text[key] = self._network.encode_text(torch.cat(states))
        return self._text[key]
