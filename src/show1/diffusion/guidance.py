"""Classifier-free guidance (arXiv:2207.12598), on an interval of noise levels (arXiv:2404.07724)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """When and how strongly to guide."""

    scale: float
    """uncond + scale * (cond - uncond); 1.0 is off."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Guide only where timestep / num_train_timesteps lies in this closed interval."""
    num_train_timesteps: int = 1000
    """Timesteps of the training schedule."""

    def applies(self, timestep: float) -> bool:
        """Whether the network must be asked for the unconditional half at this timestep."""
        low, high = self.interval
        return self.scale != 1.0 and low <= timestep / self.num_train_timesteps <= high


def guide(uncond: Tensor, cond: Tensor, scale: float, channels: int) -> Tensor:
    """Guides the first `channels` channels; the others (the learned variance) are the conditional half's.

    Args:
        uncond: (N, C, ...) prediction without the prompt.
        cond: (N, C, ...) prediction with it.
        scale: Guidance scale.
        channels: Channels of the prediction proper.

    Returns:
        (N, C, ...).
    """
    base = uncond[:, :channels]
    guided = base + scale * (cond[:, :channels] - base)
    return torch.cat([guided, cond[:, channels:]], dim=1) if cond.shape[1] > channels else guided
