"""Steps of DDIM on Gaussian data, whose exact denoiser and exact path are known."""

import pytest
import torch
from torch.testing import assert_close

from show1.diffusion import build_scheduler, sample, set_timesteps
from show1.diffusion.distillation import Level, ddim_step, replaced_steps

MEAN, STD = 0.4, 0.3
CONFIG = {
    "_class_name": "DPMSolverMultistepScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "sample",
    "timestep_spacing": "trailing",
    "final_sigmas_type": "zero",
    "lambda_min_clipped": -5.1,
    "solver_order": 1,
}


def level(a: float) -> Level:
    alpha = torch.tensor(a, dtype=torch.float64).sqrt()
    return Level(alpha.view(1, 1, 1, 1, 1), (1 - alpha**2).sqrt().view(1, 1, 1, 1, 1))


def denoised(x: torch.Tensor, at: Level) -> torch.Tensor:
    gain = at.alpha * STD**2 / (at.alpha**2 * STD**2 + at.sigma**2)
    return MEAN + gain * (x - at.alpha * MEAN)


def walk(x: torch.Tensor, levels: list[Level]) -> torch.Tensor:
    for before, after in zip(levels, levels[1:], strict=False):
        x = ddim_step(x, denoised(x, before), before, after)
    return x


def test_a_step_that_replaces_several_leads_where_they_lead() -> None:
    x = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64)
    levels = [level(a) for a in (0.05, 0.2, 0.5, 1.0)]
    y = walk(x, levels)
    x0 = replaced_steps(x, y, levels[0], levels[-1])
    assert_close(ddim_step(x, x0, levels[0], levels[-1]), y)
    assert_close(x0, y)  # after the last step the sample is clean: it is x_0 itself


def test_many_small_steps_follow_the_exact_path() -> None:
    x = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64)
    begin, end = level(0.05), level(0.8)
    spread = [(at.alpha**2 * STD**2 + at.sigma**2).sqrt() for at in (begin, end)]
    exact = end.alpha * MEAN + spread[1] / spread[0] * (x - begin.alpha * MEAN)
    errors = []
    for steps in (2, 20, 200):
        angles = torch.linspace(float(begin.alpha.acos()), float(end.alpha.acos()), steps + 1, dtype=torch.float64)
        errors.append(float((walk(x, [level(float(a)) for a in angles.cos() ** 2]) - exact).abs().max()))
    assert errors[0] > 5 * errors[1] > 25 * errors[2] and errors[2] < 2e-3


def test_the_first_order_sampler_does_these_steps() -> None:
    scheduler = build_scheduler(CONFIG)
    timesteps = set_timesteps(scheduler, 8)
    alphas = [float(scheduler.alphas_cumprod[t]) for t in timesteps] + [1.0]
    noise = torch.randn(1, 3, 2, 4, 4)
    at = {int(t): level(a) for t, a in zip(timesteps, alphas, strict=False)}

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return denoised(x.double(), at[int(t)]).float()

    made = sample(network, scheduler, noise, timesteps=timesteps, generators=[torch.Generator()])
    assert_close(made, walk(noise.double(), [level(a) for a in alphas]).float(), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("a", "weight"), [(0.2, 1.0), (0.5, 1.0), (0.9, 9.0)])
def test_errors_weigh_as_the_signal_does_but_never_less_than_one(a: float, weight: float) -> None:
    assert float(level(a).weight) == pytest.approx(weight)
