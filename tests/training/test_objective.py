"""The training objective against closed forms and diffusers."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from show1.config import Prediction
from show1.diffusion import add_noise, noise_scales, predicted_x0, target
from show1.training import objective
from show1.training.objective import draw_timesteps
from tests.noisy_samples import PREDICTIONS, T, clean_and_noise, draw


def test_corruption_as_noise(scheduler: DDPMScheduler) -> None:
    """Noise added to a corrupted clip is that clip's clean one with more noise; below timestep 100 nothing changes."""
    x0, noise = clean_and_noise()
    corruption = draw(len(T), 3, 2, 4, 4, seed=2)
    a = scheduler.alphas_cumprod
    x_t = add_noise(x0, noise + objective.noise_of(corruption, T, a), T, a)
    late = objective.CORRUPTED_FROM <= T
    assert late.tolist() == [False, False, False, True, True]
    assert_close(x_t[late], add_noise(x0 + corruption, noise, T, a)[late])
    assert torch.equal(x_t[~late], add_noise(x0, noise, T, a)[~late])


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_min_snr_is_one_loss_on_the_clean_video(scheduler: DDPMScheduler, prediction: Prediction) -> None:
    x0, noise = clean_and_noise()
    a = scheduler.alphas_cumprod
    t = torch.full_like(T, 400)
    predicted = draw(*x0.shape, seed=2)
    loss = objective.prediction_loss(predicted, x0, noise, t, a, prediction=prediction, min_snr_gamma=5.0)
    x_t = add_noise(x0, noise, t, a)
    error = (predicted_x0(x_t, predicted, *noise_scales(t, a), prediction) - x0).square().mean()
    assert_close(loss, error * compute_snr(scheduler, t)[0].clamp(max=5.0))


def test_plain_loss_is_the_mean_squared_error(scheduler: DDPMScheduler) -> None:
    x0, noise = clean_and_noise()
    predicted = draw(*x0.shape, seed=2)
    loss = objective.prediction_loss(predicted, x0, noise, T, scheduler.alphas_cumprod, prediction="epsilon")
    assert_close(loss, torch.nn.functional.mse_loss(predicted, noise))
    a = scheduler.alphas_cumprod
    loss = objective.prediction_loss(predicted, x0, noise, T, a, prediction="sample", absolute=True)
    assert_close(loss, torch.nn.functional.l1_loss(predicted, x0))


def with_variance(predicted: Tensor, value: float) -> Tensor:
    return torch.cat([predicted, torch.full_like(predicted, value)], dim=1)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_bound_is_zero_at_the_posterior(scheduler: DDPMScheduler, prediction: Prediction) -> None:
    x0, noise = clean_and_noise()
    a = scheduler.alphas_cumprod
    exact = target(x0, noise, T, a, prediction)
    bound = objective.variational_bound(with_variance(exact, -1.0), x0, noise, T, a, prediction)
    assert bound.isfinite().all()
    assert_close(bound[1:], torch.zeros(len(T) - 1), atol=1e-3, rtol=0)
    worse = objective.variational_bound(with_variance(exact, 0.5), x0, noise, T, a, prediction)
    assert (worse[1:-1] > bound[1:-1]).all()


def test_bound_is_the_divergence_of_diffusers_step(scheduler: DDPMScheduler) -> None:
    x0, noise = clean_and_noise()
    a = scheduler.alphas_cumprod
    predicted = draw(*x0.shape, seed=2)
    variances = draw(*x0.shape, seed=3).clamp(-1, 1)
    bound = objective.variational_bound(torch.cat([predicted, variances], 1), x0, noise, T, a, "v_prediction")
    x_t = add_noise(x0, noise, T, a)
    for i in (2, 3):
        t = int(T[i])
        ours = posterior_mean(
            scheduler, predicted_x0(x_t, predicted, *noise_scales(T, a), "v_prediction").clamp(-1, 1)[i], x_t[i], t
        )
        true = posterior_mean(scheduler, x0[i], x_t[i], t)
        log_variance = scheduler._get_variance(t, predicted_variance=variances[i])  # learned_range: a logarithm
        smallest = scheduler._get_variance(t, variance_type="fixed_small")
        divergence = kl_divergence(Normal(true, smallest.sqrt()), Normal(ours, (0.5 * log_variance).exp()))
        assert_close(bound[i], divergence.mean() / math.log(2), rtol=2e-3, atol=1e-5)


def posterior_mean(scheduler: DDPMScheduler, x0: Tensor, x_t: Tensor, t: int) -> Tensor:
    """Eq. 7 of arXiv:2006.11239."""
    a, a_prev = scheduler.alphas_cumprod[t], scheduler.alphas_cumprod[t - 1]
    alpha = a / a_prev
    return (a_prev.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - a_prev) * x_t) / (1 - a)


def test_bound_teaches_the_variance_alone(scheduler: DDPMScheduler) -> None:
    x0, noise = clean_and_noise()
    predicted = draw(len(T), 6, 2, 4, 4, seed=2).requires_grad_()
    objective.variational_bound(predicted, x0, noise, T, scheduler.alphas_cumprod, "epsilon").sum().backward()
    assert predicted.grad is not None and predicted.grad.isfinite().all()
    assert not predicted.grad[:, :3].any()
    assert predicted.grad[:, 3:].flatten(1).any(1).all()


def test_hybrid_loss_is_error_plus_bound(scheduler: DDPMScheduler) -> None:
    x0, noise = clean_and_noise()
    a = scheduler.alphas_cumprod
    predicted = draw(len(T), 6, 2, 4, 4, seed=2)
    loss = objective.prediction_loss(predicted, x0, noise, T, a, prediction="v_prediction")
    plain = objective.prediction_loss(predicted[:, :3], x0, noise, T, a, prediction="v_prediction")
    bound = objective.variational_bound(predicted, x0, noise, T, a, "v_prediction").mean()
    assert_close(loss, plain + bound)  # a thousandth, a thousand steps


def test_likelihoods_of_all_values_add_up_to_one() -> None:
    values = torch.linspace(-1, 1, 256)
    for mean, scale in [(0.0, 0.3), (-0.98, 0.01), (0.7, 2.0)]:
        log = objective.discretised_gaussian_log_likelihood(values, torch.tensor(mean), torch.tensor(scale).log())
        assert_close(log.exp().sum(), torch.tensor(1.0), atol=1e-4, rtol=0)


def test_noise_levels_are_uniform_or_logit_normal() -> None:
    torch.manual_seed(0)
    even = draw_timesteps(20_000, 899)
    assert even.min() == 0 and even.max() == 899 and abs(even.float().mean() - 449.5) < 8
    high = draw_timesteps(20_000, 899, (1.0, 0.5))
    # the median of the logit is its mean: sigmoid(1) = 0.731; a deviation of 0.5 puts 84 % below sigmoid(1.5) = 0.818
    assert abs(high.float().median() - 0.731 * 900) < 6
    assert abs((high < 0.818 * 900).float().mean() - 0.841) < 0.01
    assert 0 <= high.min() and high.max() <= 899
