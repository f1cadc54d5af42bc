"""Steps of a deterministic sampler, and what a network must predict for one step to replace several.

Progressive distillation (arXiv:2202.00512). A noisy sample is x_t = alpha_t x_0 + sigma_t noise, and a step of DDIM
(Eq. 12 of arXiv:2010.02502 with eta 0) keeps the noise that a prediction of x_0 implies.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Level:
    """A noise level per sample: the factors of clean sample and noise, each (B, 1, 1, 1, 1)."""

    alpha: Tensor
    """Of the clean sample."""
    sigma: Tensor
    """Of the noise."""

    @property
    def weight(self) -> Tensor:
        """The weight max(SNR, 1) of an error in x_0 (section 4 of arXiv:2202.00512), (B, 1, 1, 1, 1)."""
        return (self.alpha / self.sigma).square().clamp(min=1)


def ddim_step(x: Tensor, x0: Tensor, before: Level, after: Level) -> Tensor:
    """Does a step of DDIM.

    Args:
        x: (B, C, F, H, W) noisy samples at the level `before`.
        x0: (B, C, F, H, W) what a network takes them for.
        before: Where they are.
        after: Where they go, less noisy.

    Returns:
        (B, C, F, H, W) at the level `after`.
    """
    kept = after.sigma / before.sigma
    return kept * x + (after.alpha - kept * before.alpha) * x0


def replaced_steps(x: Tensor, y: Tensor, before: Level, after: Level) -> Tensor:
    """Finds the x_0 with which a single step of DDIM leads from x to y, (B, C, F, H, W); arguments as `ddim_step`."""
    kept = after.sigma / before.sigma
    return (y - kept * x) / (after.alpha - kept * before.alpha)
