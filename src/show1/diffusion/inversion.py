"""DDIM inversion: the noise from which a deterministic sampler makes a given clip."""

from collections.abc import Callable

import torch
from torch import Tensor

from show1.config import Prediction
from show1.diffusion.predictions import predicted_v


@torch.no_grad()
def ddim_invert(
    network: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    *,
    alphas_cumprod: Tensor,
    prediction: Prediction,
    num_steps: int,
    iterations: int = 2,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Runs DDIM (Eq. 12 of arXiv:2010.02502 with eta 0) backwards, from a clean clip to noise.

    A step of the sampler from x' at t' to x at t < t' asks the network at (x', t'), which the way back does not know
    yet. So it is found by fixed-point iteration from x (arXiv:2309.04907); one iteration is the usual inversion.

    Args:
        network: Maps (N, C, F, H, W) and a timestep () to the prediction, without variance channels or guidance.
        x0: (N, C, F, H, W), clean.
        alphas_cumprod: (T,) of the noise schedule.
        prediction: What the network predicts.
        num_steps: Steps, from 1 to T.
        iterations: Predictions per step, 1 or more.
        on_step: Called after each step with the number of steps done; what it raises ends the inversion.

    Returns:
        (N, C, F, H, W) float32 at the last timestep.
    """
    x = x0.float()
    angle = torch.zeros((), dtype=torch.float64)
    for done, t in enumerate(inversion_timesteps(len(alphas_cumprod), num_steps), 1):
        following = torch.acos(alphas_cumprod[t].double().sqrt()).cpu()
        guess = x
        for _ in range(iterations):
            predicted = network(guess, t).float()
            guess = _step_back(x, guess, predicted, angle, following, prediction)
        x, angle = guess, following
        if on_step is not None:
            on_step(done)
    return x


def inversion_timesteps(num_train_timesteps: int, num_steps: int) -> Tensor:
    """Ascending timesteps of shape (num_steps,), evenly spaced up to the last one ("trailing", arXiv:2305.08891)."""
    ends = torch.arange(1, num_steps + 1, dtype=torch.float64) * (num_train_timesteps / num_steps)
    return ends.round().long() - 1


def _step_back(
    x: Tensor, guess: Tensor, predicted: Tensor, angle: Tensor, following: Tensor, prediction: Prediction
) -> Tensor:
    """Steps from x at noise angle `angle` (alpha = cos, sigma = sin) to `following` by a prediction made there."""
    alpha, sigma = float(angle.cos()), float(angle.sin())
    next_alpha, next_sigma = float(following.cos()), float(following.sin())
    if prediction == "epsilon":
        return (x - sigma * predicted) * (next_alpha / alpha) + next_sigma * predicted
    # DDIM turns (x, v) by the difference of the angles (arXiv:2202.00512): x = cos(d) x' - sin(d) v'
    v = predicted_v(guess, predicted, next_alpha, next_sigma, prediction)
    turn = following - angle
    return (x + float(turn.sin()) * v) / float(turn.cos())
