"""Training objective of diffusion models: what a network is given, its prediction, and the losses.

Tensors are (B, C, F, H, W); `t` is (B,) integer timesteps; `alphas_cumprod` is (T,).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from show1.config import Prediction
from show1.diffusion.predictions import (
    add_noise,
    at_timesteps,
    min_snr_weight,
    noise_scales,
    predicted_x0,
    target,
)

VLB_WEIGHT = 1e-3
"""Weight of the variational bound in the hybrid loss (Eq. 16 of arXiv:2102.09672)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """A batch that a network is to denoise, before noise is added."""

    x0: Tensor
    """(B, C, F, H, W) clean pixels or latents, which the network is to find."""
    text: Tensor
    """(B, L, D) text states."""
    condition: Tensor | None = None
    """(B, C', F, H, W) channels beside the noisy ones."""
    noise_level: Tensor | None = None
    """(B,) timesteps at which the condition is noised."""
    noised: Tensor | None = None
    """(B, C, F, H, W) samples that noise is added to instead of `x0`, at all but low noise levels."""
    noise_from: Tensor | None = None
    """(B,) index of the sample whose noise and noise level each sample gets; None: its own."""

    def frame(self, index: int) -> Self:
        """One frame of the batch, as videos (B, C, 1, H, W)."""
        kept = slice(index, index + 1)
        condition = None if self.condition is None else self.condition[:, :, kept]
        return replace(self, x0=self.x0[:, :, kept], condition=condition)


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """A network's prediction for a noisy batch."""

    out: Tensor
    """(B, C, F, H, W), or (B, 2C, F, H, W) with the learned variance."""
    x0: Tensor
    """(B, C, F, H, W) clean."""
    noise: Tensor
    """(B, C, F, H, W)."""
    t: Tensor
    """(B,) timesteps."""
    alphas_cumprod: Tensor
    """(T,) of the noise schedule."""
    prediction: Prediction
    """What the network predicts."""

    @property
    def mean(self) -> Tensor:
        """The prediction without variance channels, (B, C, F, H, W)."""
        return self.out[:, : self.x0.shape[1]]

    @property
    def wanted(self) -> Tensor:
        """The prediction that would be right, (B, C, F, H, W)."""
        return target(self.x0, self.noise, self.t, self.alphas_cumprod, self.prediction)

    def loss(self, **options: Any) -> Tensor:
        """The loss of a stage's training, a scalar; the options are those of `prediction_loss`."""
        given = (self.out, self.x0, self.noise, self.t, self.alphas_cumprod)
        return prediction_loss(*given, prediction=self.prediction, **options)


def predict(
    network: Callable[..., Tensor],
    inputs: Inputs,
    alphas_cumprod: Tensor,
    prediction: Prediction,
    *,
    max_timestep: int,
    logit: tuple[float, float] | None,
    t: Tensor | None = None,
) -> Predicted:
    """Adds noise of a random level and asks the network. Draws from the global generator.

    Args:
        network: A function of noisy samples (B, C + C', F, H, W), timesteps (B,), text states (B, L, D) and, where the
            condition is noised, its noise levels (B,); see `ask`.
        inputs: The batch.
        alphas_cumprod: (T,) of the noise schedule.
        prediction: What the network predicts.
        max_timestep: See `draw_timesteps`.
        logit: See `draw_timesteps`.
        t: (B,) noise levels; None draws them.
    """

    def draw(count: int) -> Tensor:
        return draw_timesteps(count, max_timestep, logit) if t is None else t

    sample, noise, drawn = noised(inputs, alphas_cumprod, draw)
    if inputs.condition is not None:
        sample = torch.cat([sample, inputs.condition], dim=1)
    levels = () if inputs.noise_level is None else (inputs.noise_level,)
    out = network(sample, drawn, inputs.text, *levels)
    return Predicted(out=out, x0=inputs.x0, noise=noise, t=drawn, alphas_cumprod=alphas_cumprod, prediction=prediction)


def noised(inputs: Inputs, alphas_cumprod: Tensor, draw: Callable[[int], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Adds noise of a random level. Draws from the global generator.

    Args:
        inputs: The batch.
        alphas_cumprod: (T,) of the noise schedule.
        draw: Gives the timesteps (B,) of B samples; asked after the noise is drawn.

    Returns:
        The noisy samples (B, C, F, H, W), without the condition; their noise, of the same shape; their timesteps (B,).
    """
    x0 = inputs.x0
    noise = moved(torch.randn(x0.shape), x0.device)
    t = moved(draw(len(x0)), x0.device)
    if inputs.noise_from is not None:
        noise, t = noise[inputs.noise_from], t[inputs.noise_from]
    if inputs.noised is not None:
        noise = noise + noise_of(inputs.noised - x0, t, alphas_cumprod)
    return add_noise(x0, noise, t, alphas_cumprod), noise, t


def ask(unet: Callable[..., Any], sample: Tensor, t: Tensor, text: Tensor, *noise_level: Tensor) -> Tensor:
    """Runs a UNet on noisy samples (B, C, F, H, W); returns what it predicts, (B, C', F, H, W)."""
    labels = {"class_labels": noise_level[0]} if noise_level else {}
    out: Tensor = unet(sample, t, encoder_hidden_states=text, return_dict=False, **labels)[0]
    return out


def draw_timesteps(count: int, max_timestep: int, logit: tuple[float, float] | None = None) -> Tensor:
    """Draws noise levels.

    Args:
        count: B.
        max_timestep: The highest.
        logit: Mean and deviation of a logit-normal distribution (section 3.1 of arXiv:2403.03206); None: uniform.

    Returns:
        (B,) integers from 0 to `max_timestep`.
    """
    if logit is None:
        return torch.randint(0, max_timestep + 1, (count,))
    mean, deviation = logit
    share = torch.sigmoid(mean + deviation * torch.randn(count))
    return (share * (max_timestep + 1)).long().clamp(max=max_timestep)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Moves a tensor of any shape to a device without waiting for a GPU's pending work."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Moves the tensors of a batch, of any shapes, to a device."""
    return {name: moved(value, device) if isinstance(value, Tensor) else value for name, value in batch.items()}


CORRUPTED_FROM = 100
"""Lowest timestep at which a corruption counts as noise; below, it would be far more than the noise itself."""


def noise_of(corruption: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The noise (B, C, F, H, W) that changes x_t as a corruption of x_0 does, from timestep `CORRUPTED_FROM` on.

    sqrt(a_t) (x_0 + corruption) + sqrt(1 - a_t) noise is sqrt(a_t) x_0 + sqrt(1 - a_t) (noise + this): a network that
    learns the sum removes the corruption along with the noise.
    """
    a = at_timesteps(alphas_cumprod, t)
    return corruption * (a / (1 - a)).sqrt() * (t >= CORRUPTED_FROM).view(-1, 1, 1, 1, 1)


def prediction_loss(
    predicted: Tensor,
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    alphas_cumprod: Tensor,
    *,
    prediction: Prediction,
    min_snr_gamma: float | None = None,
    absolute: bool = False,
) -> Tensor:
    """Mean error of the prediction, weighted; with twice the channels plus the variational bound.

    Args:
        predicted: (B, C, F, H, W), or (B, 2C, F, H, W) with the learned variance in the second half.
        x0: (B, C, F, H, W) clean.
        noise: As x0.
        t: (B,).
        alphas_cumprod: (T,).
        prediction: What the network predicts.
        min_snr_gamma: See `min_snr_weight`.
        absolute: Absolute errors instead of squared ones.

    Returns:
        Scalar.
    """
    channels = x0.shape[1]
    predicted = predicted.float()
    wanted = target(x0, noise, t, alphas_cumprod, prediction)
    difference = predicted[:, :channels] - wanted
    errors = (difference.abs() if absolute else difference.square()).flatten(1).mean(1)
    if min_snr_gamma is not None:
        errors = errors * min_snr_weight(t, alphas_cumprod, min_snr_gamma, prediction)
    loss = errors.mean()
    if predicted.shape[1] == 2 * channels:
        steps = len(alphas_cumprod)
        bound = variational_bound(predicted, x0, noise, t, alphas_cumprod, prediction).mean()
        loss = loss + VLB_WEIGHT * steps * bound
    return loss


def variational_bound(
    predicted: Tensor, x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor, prediction: Prediction
) -> Tensor:
    """One term of the variational bound, in bits per dimension, for the learned range of variances.

    The variance channels v in [-1, 1] interpolate between the posterior's variance and beta_t in the logarithm
    (Eq. 15 of arXiv:2102.09672). The mean gets no gradient from here.

    Returns:
        (B,): KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)); at t = 0 the discretised negative log-likelihood.
    """
    channels = x0.shape[1]
    a = at_timesteps(alphas_cumprod, t)
    previous = torch.where(
        t > 0, alphas_cumprod.to(t.device)[(t - 1).clamp(min=0)].float(), torch.ones_like(t, dtype=torch.float32)
    )
    a_prev = previous.view(-1, 1, 1, 1, 1)
    beta = 1 - a / a_prev
    posterior_variance = beta * (1 - a_prev) / (1 - a)
    # at t = 0 the posterior's variance is 0: take that of t = 1, as in arXiv:2102.09672
    a0, a1 = alphas_cumprod[0].float(), alphas_cumprod[1].float()
    floor = (1 - a1 / a0) * (1 - a0) / (1 - a1)
    min_log = posterior_variance.clamp(min=floor.to(t.device)).log()
    max_log = beta.log()
    fraction = (predicted[:, channels:] + 1) / 2
    log_variance = fraction * max_log + (1 - fraction) * min_log

    x_t = add_noise(x0, noise, t, alphas_cumprod)
    alpha, sigma = noise_scales(t, alphas_cumprod)
    estimate = predicted_x0(x_t, predicted[:, :channels].detach(), alpha, sigma, prediction).clamp(-1, 1)
    weight0 = beta * a_prev.sqrt() / (1 - a)
    weight_t = (1 - a_prev) * (a / a_prev).sqrt() / (1 - a)
    true_mean = weight0 * x0 + weight_t * x_t
    mean = weight0 * estimate + weight_t * x_t

    kl = 0.5 * (
        log_variance
        - min_log
        - 1
        + (min_log - log_variance).exp()
        + (true_mean - mean).square() * (-log_variance).exp()
    )
    likelihood = -discretised_gaussian_log_likelihood(x0, mean, 0.5 * log_variance)
    per_sample = torch.where(t > 0, kl.flatten(1).mean(1), likelihood.flatten(1).mean(1))
    return per_sample / math.log(2.0)


def discretised_gaussian_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-probability of 8-bit values in [-1, 1] under a Gaussian (section 3.3 of arXiv:2006.11239), of x's shape."""
    half = 1 / 255
    inverse = (-log_scale).exp()
    upper = torch.special.ndtr((x - mean + half) * inverse)
    lower = torch.special.ndtr((x - mean - half) * inverse)
    inside = (upper - lower).clamp(min=1e-12).log()
    low_end, high_end = upper.clamp(min=1e-12).log(), (1 - lower).clamp(min=1e-12).log()
    return torch.where(x < -0.999, low_end, torch.where(x > 0.999, high_end, inside))
