"""What a network predicts, and how noise, clean sample and prediction become one another.

A noisy sample is x_t = alpha_t x_0 + sigma_t noise. Shapes: samples and predictions are (B, C, F, H, W); `t` is (B,) or
() integer timesteps; `alphas_cumprod` is (T,), the squares of alpha_t; `alpha` and `sigma` broadcast over samples.
"""

from typing import TypeVar

import torch
from torch import Tensor

from show1.config import Prediction

Scale = TypeVar("Scale", Tensor, float)


def at_timesteps(values: Tensor, t: Tensor) -> Tensor:
    """Picks a value per sample, shaped to broadcast over videos: (T,), (B,) -> (B, 1, 1, 1, 1), float32."""
    return values.to(t.device)[t].float().view(-1, 1, 1, 1, 1)


def noise_scales(t: Tensor, alphas_cumprod: Tensor) -> tuple[Tensor, Tensor]:
    """The factors alpha_t = sqrt(a_t) and sigma_t = sqrt(1 - a_t), each (B, 1, 1, 1, 1)."""
    a = at_timesteps(alphas_cumprod, t)
    return a.sqrt(), (1 - a).sqrt()


def add_noise(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Noises clean samples (B, C, F, H, W): x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise (Eq. 4 of arXiv:2006.11239)."""
    alpha, sigma = noise_scales(t, alphas_cumprod)
    return alpha * x0 + sigma * noise


def target(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor, prediction: Prediction) -> Tensor:
    """What the network should predict, (B, C, F, H, W).

    That is the noise, x_0, or v = sqrt(a_t) noise - sqrt(1 - a_t) x_0 (arXiv:2202.00512).
    """
    if prediction == "epsilon":
        return noise
    if prediction == "sample":
        return x0
    alpha, sigma = noise_scales(t, alphas_cumprod)
    return alpha * noise - sigma * x0


def predicted_x0(x_t: Tensor, predicted: Tensor, alpha: Tensor, sigma: Tensor, prediction: Prediction) -> Tensor:
    """The clean sample that a prediction implies.

    Args:
        x_t: (B, C, F, H, W) noisy samples.
        predicted: (B, C, F, H, W), without variance channels.
        alpha: Factor of the clean sample in x_t; see `noise_scales`.
        sigma: Factor of the noise in x_t.
        prediction: What `predicted` is.

    Returns:
        (B, C, F, H, W).
    """
    if prediction == "sample":
        return predicted
    if prediction == "epsilon":
        return (x_t - sigma * predicted) / alpha
    return alpha * x_t - sigma * predicted


def predicted_v(x_t: Tensor, predicted: Tensor, alpha: Scale, sigma: Scale, prediction: Prediction) -> Tensor:
    """The velocity v = alpha noise - sigma x_0 that a prediction implies. Arguments and shapes as `predicted_x0`."""
    if prediction == "sample":
        return (alpha * x_t - predicted) / sigma
    if prediction == "epsilon":
        return (predicted - sigma * x_t) / alpha
    return predicted


def min_snr_weight(t: Tensor, alphas_cumprod: Tensor, gamma: float, prediction: Prediction) -> Tensor:
    """Loss weights min(SNR, gamma) on x_0, expressed for the prediction (section 3.4 of arXiv:2303.09556).

    Returns:
        (B,).
    """
    a = alphas_cumprod.to(t.device)[t].float()
    snr = a / (1 - a)
    clipped = snr.clamp(max=gamma)
    return clipped / {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones_like(snr)}[prediction]
