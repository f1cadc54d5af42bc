"""The loop against Gaussian data, whose exact denoiser is known."""

import pytest
import torch

from show1.diffusion import PublishedSeeds, build_scheduler, randn, sample, set_timesteps
from show1.errors import Cancelled

CONFIG = {
    "_class_name": "DPMSolverMultistepScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "lambda_min_clipped": -5.1,
}
MEAN, STD = 0.4, 0.3


def exact(alphas_cumprod, prediction_type):
    """The optimal prediction for pixels drawn from N(MEAN, STD^2)."""

    def predict(x, t):
        alpha, sigma = alphas_cumprod[int(t)].sqrt(), (1 - alphas_cumprod[int(t)]).sqrt()
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        x0 = MEAN + gain * (x - alpha * MEAN)
        noise = (x - alpha * x0) / sigma
        return noise if prediction_type == "epsilon" else alpha * noise - sigma * x0

    return predict


def run(name, prediction_type, steps=50, on_step=None, samples=4):
    scheduler = build_scheduler({**CONFIG, "prediction_type": prediction_type}, name)
    timesteps = set_timesteps(scheduler, steps)
    generators = PublishedSeeds(7).generators("keyframes", 0)
    noise = randn((samples, 3, 4, 24, 24), generators)
    predict = exact(scheduler.alphas_cumprod, prediction_type)
    return sample(predict, scheduler, noise, timesteps=timesteps, generators=generators, on_step=on_step)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["checkpoint", "dpmsolver++", "unipc", "ddim", "ddpm"])
def test_gaussian_data_is_reached(name, prediction_type):
    out = run(name, prediction_type, steps=200 if name == "ddpm" else 50)
    assert out.mean() == pytest.approx(MEAN, abs=0.01)
    assert out.std() == pytest.approx(STD, rel=0.05)


def test_more_steps_come_closer():
    def error(steps):
        return abs(float(run("dpmsolver++", "v_prediction", steps=steps).std()) - STD)

    assert error(100) < error(25)


def test_groups_of_generators_draw_as_if_alone():
    scheduler = build_scheduler(CONFIG, "ddpm")
    timesteps = set_timesteps(scheduler, 4)
    predict = exact(scheduler.alphas_cumprod, "epsilon")

    def go(seeds):
        generators = [g for s in seeds for g in PublishedSeeds(s).generators("keyframes", 0)]
        noise = randn((2 * len(seeds), 3, 2, 5, 5), generators)
        return sample(predict, scheduler, noise, timesteps=timesteps, generators=generators)

    both = go([1, 2])
    torch.testing.assert_close(both[:2], go([1]))
    torch.testing.assert_close(both[2:], go([2]))


def test_steps_are_reported_and_can_stop_the_run():
    seen = []

    def on_step(done, total, samples):
        seen.append((done, total, tuple(samples.shape)))
        if done == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run("dpmsolver++", "epsilon", steps=10, on_step=on_step, samples=1)
    assert seen == [(i, 10, (1, 3, 4, 24, 24)) for i in (1, 2, 3)]


def test_the_caller_s_scheduler_is_not_changed():
    scheduler = build_scheduler(CONFIG)
    timesteps = set_timesteps(scheduler, 5)
    predict = exact(scheduler.alphas_cumprod, "epsilon")
    noise = torch.randn(1, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    options = {"timesteps": timesteps, "generators": [torch.Generator()]}
    first = sample(predict, scheduler, noise, **options)
    assert torch.equal(first, sample(predict, scheduler, noise, **options))
