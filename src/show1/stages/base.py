"""The contract of a stage."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

StepCallback = Callable[[int, int, Tensor], None]
"""Called after every denoising step with (steps done, steps in all of the stage, current noisy samples).
May raise `show1.errors.Cancelled` to stop the run."""


@dataclass(frozen=True, kw_only=True)
class PromptEmbeddings:
    """Text states for a batch of prompts and for the unconditional half of guidance."""

    prompt_embeds: Tensor
    """(B, L, D)."""
    negative_prompt_embeds: Tensor
    """(B, L, D)."""

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "PromptEmbeddings":
        return PromptEmbeddings(
            prompt_embeds=self.prompt_embeds.to(device, dtype),
            negative_prompt_embeds=self.negative_prompt_embeds.to(device, dtype),
        )


class Seeds(Protocol):
    """Where a stage's random numbers come from."""

    @property
    def published(self) -> bool:
        """Whether the published run is repeated: then stages compute in its order, for the same rounding."""
        ...

    def generators(self, stage: str, window: int) -> list[torch.Generator]:
        """Fresh CPU generators, one a sample of the batch, for one window (segment) of one stage."""
        ...
