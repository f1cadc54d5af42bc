"""Training objective of diffusion models: noise levels and losses. Functions of tensors.

Tensors are (B, C, F, H, W); `t` is (B,) integer timesteps; `alphas_cumprod` is (T,).
"""

import math

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
