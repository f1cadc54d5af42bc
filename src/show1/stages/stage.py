"""The contract of a stage."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from show1.config import Numerics, StageName, StageSettings
from show1.diffusion import Seeds, StepCallback

SettingsT = TypeVar("SettingsT", bound=StageSettings, contravariant=True)


@dataclass(frozen=True, kw_only=True)
class PromptEmbeddings:
    """Text states for a batch of prompts and for the unconditional half of guidance."""

    prompt_embeds: Tensor
    """(B, L, D)."""
    negative_prompt_embeds: Tensor
    """(B, L, D)."""
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """What else an expert's text encoders give, (B, ...) each, such as `prompt_attention_mask`, by the name of the
    argument of its pipeline."""

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "PromptEmbeddings":
        """The same states (B, L, D) on another device or in another precision."""
        return PromptEmbeddings(
            prompt_embeds=self.prompt_embeds.to(device, dtype),
            negative_prompt_embeds=self.negative_prompt_embeds.to(device, dtype),
            extra={name: states.to(device, dtype) for name, states in self.extra.items()},
        )


class Stage(Protocol[SettingsT]):
    """One step of the cascade: from text, and the video of the stage before, to a video.

    What must be known of a stage without loading it is in its row of `show1.stage_table`. A stage runs, resumes and is
    tested alone; stages never import one another.
    """

    name: StageName
    """Its name in the stage table."""

    def __call__(
        self,
        video: Tensor | None,
        prompts: PromptEmbeddings,
        *,
        seeds: Seeds,
        settings: SettingsT,
        on_step: StepCallback | None = None,
        numerics: Numerics = "default",
    ) -> Tensor:
        """Runs the stage.

        Args:
            video: (B, 3, F, h, w) in about [-1, 1], output of the stage before; None for the first stage.
            prompts: Text states of B prompts, (B, L, D).
            seeds: Source of all random numbers.
            settings: This stage's settings.
            on_step: Called after every denoising step; may raise to stop the run.
            numerics: How networks and solvers round.

        Returns:
            (B, 3, F', H, W) float32 in about [-1, 1], on the CPU.

        Raises:
            InputError: The video or the settings cannot be used.
        """
        ...
