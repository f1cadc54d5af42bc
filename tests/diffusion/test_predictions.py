"""Noise, targets and what predictions imply, against diffusers and one another."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch.testing import assert_close

from show1.config import Prediction
from show1.diffusion import add_noise, min_snr_weight, noise_scales, predicted_x0, target
from show1.diffusion.predictions import predicted_v
from tests.noisy_samples import PREDICTIONS, T, clean_and_noise, draw


def test_noise_and_velocity_are_those_of_diffusers(scheduler: DDPMScheduler) -> None:
    x0, noise = clean_and_noise()
    a = scheduler.alphas_cumprod
    assert_close(add_noise(x0, noise, T, a), scheduler.add_noise(x0, noise, T))
    assert_close(target(x0, noise, T, a, "v_prediction"), scheduler.get_velocity(x0, noise, T))
    assert target(x0, noise, T, a, "epsilon") is noise


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_exact_prediction_gives_the_clean_video(scheduler: DDPMScheduler, prediction: Prediction) -> None:
    x0, noise = clean_and_noise()
    a = scheduler.alphas_cumprod
    x_t = add_noise(x0, noise, T, a)
    exact = target(x0, noise, T, a, prediction)
    assert_close(predicted_x0(x_t, exact, *noise_scales(T, a), prediction), x0, atol=1e-3, rtol=0)


def test_min_snr_weights(scheduler: DDPMScheduler) -> None:
    snr = compute_snr(scheduler, T)
    clipped = snr.clamp(max=5.0)
    a = scheduler.alphas_cumprod
    assert_close(min_snr_weight(T, a, 5.0, "epsilon"), clipped / snr)
    assert_close(min_snr_weight(T, a, 5.0, "v_prediction"), clipped / (snr + 1))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_exact_prediction_gives_the_velocity(scheduler: DDPMScheduler, prediction: Prediction) -> None:
    x0, noise = clean_and_noise()
    a = scheduler.alphas_cumprod
    x_t = add_noise(x0, noise, T, a)
    exact, velocity = target(x0, noise, T, a, prediction), target(x0, noise, T, a, "v_prediction")
    assert_close(predicted_v(x_t, exact, *noise_scales(T, a), prediction), velocity, atol=2e-3, rtol=0)


def test_all_timesteps_are_noised_to_the_bit_as_by_diffusers(scheduler: DDPMScheduler) -> None:
    """Training and sampling noise super-resolution's condition by different code of the same formula."""
    t = torch.arange(1000)
    x0, noise = draw(1000, 3, 1, 2, 2), draw(1000, 3, 1, 2, 2, seed=1)
    assert add_noise(x0, noise, t, scheduler.alphas_cumprod).equal(scheduler.add_noise(x0, noise, t))
