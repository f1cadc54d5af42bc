from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

from show1.diffusion import build_scheduler, learns_variance, sample, set_timesteps
from show1.diffusion.published_solver import PublishedDPMSolver
from show1.errors import CheckpointError, InputError

PUBLISHED = {
    "_class_name": "DPMSolverMultistepScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "dynamic_thresholding_ratio": 0.95,
    "lambda_min_clipped": -5.1,
    "sample_max_value": 1.5,
    "thresholding": True,
    "timestep_spacing": "linspace",
    "variance_type": "fixed_small",
}
LATENT = {
    "_class_name": "DPMSolverMultistepScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def test_the_published_scheduler_ends_at_the_first_training_timestep():
    scheduler = build_scheduler(PUBLISHED)
    assert isinstance(scheduler, DPMSolverMultistepScheduler)
    timesteps = set_timesteps(scheduler, 75)
    assert len(timesteps) == 75 and timesteps[0] < 999  # lambda_min_clipped
    alpha = scheduler.alphas_cumprod[0]
    torch.testing.assert_close(scheduler.sigmas[-1], ((1 - alpha) / alpha) ** 0.5)


def test_a_default_that_diffusers_filled_in_is_not_taken_for_the_checkpoint_s_word():
    loaded = DPMSolverMultistepScheduler.from_config(PUBLISHED)
    config = {"_class_name": "DPMSolverMultistepScheduler", **loaded.config}
    assert config["final_sigmas_type"] == "zero"
    assert build_scheduler(config).config.final_sigmas_type == "sigma_min"
    assert build_scheduler({**PUBLISHED, "final_sigmas_type": "zero"}).config.final_sigmas_type == "zero"
    assert build_scheduler(PUBLISHED, final_sigmas_type="zero").config.final_sigmas_type == "zero"


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("dpmsolver++", DPMSolverMultistepScheduler),
        ("unipc", UniPCMultistepScheduler),
        ("ddim", DDIMScheduler),
        ("ddpm", DDPMScheduler),
    ],
)
def test_samplers_are_swapped_on_the_same_noise_schedule(name, cls):
    for config in (PUBLISHED, LATENT, {**LATENT, "prediction_type": "v_prediction"}):
        scheduler = build_scheduler(config, name)
        assert type(scheduler) is cls
        torch.testing.assert_close(scheduler.alphas_cumprod, build_scheduler(config).alphas_cumprod)
        assert scheduler.config.prediction_type == config.get("prediction_type", "epsilon")
        # latents are not clipped to [-1, 1], pixels are thresholded
        assert not scheduler.config.get("clip_sample", False)
        assert scheduler.config.thresholding == config.get("thresholding", False)


SOLVERS = [
    PUBLISHED,
    {**PUBLISHED, "solver_order": 1},
    {**PUBLISHED, "prediction_type": "v_prediction"},
    {**LATENT, "prediction_type": "sample"},
    {**PUBLISHED, "variance_type": "learned_range"},
]


@pytest.mark.parametrize("config", SOLVERS)
def test_the_published_solver_is_diffusers_but_for_rounding(config):
    torch.manual_seed(0)
    published, current = build_scheduler(config, numerics="published"), build_scheduler(config)
    assert type(published) is PublishedDPMSolver and type(current) is DPMSolverMultistepScheduler
    assert set_timesteps(published, 20).equal(set_timesteps(current, 20))
    channels = 6 if config.get("variance_type") == "learned_range" else 3
    a = b = torch.randn(2, 3, 5, 5)
    for t in current.timesteps:
        prediction = torch.randn(2, channels, 5, 5)
        a = published.step(prediction, t, a, return_dict=False)[0]
        b = current.step(prediction, t, b, return_dict=False)[0]
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        {**PUBLISHED, "final_sigmas_type": "zero"},
        {**PUBLISHED, "use_karras_sigmas": True},
        {**PUBLISHED, "solver_order": 3},
        {**PUBLISHED, "solver_type": "heun"},
        {**PUBLISHED, "algorithm_type": "sde-dpmsolver++"},
        {**PUBLISHED, "_class_name": "DDIMScheduler"},
    ],
)
def test_what_the_published_solver_does_not_cover_stays_diffusers(config):
    assert type(build_scheduler(config, numerics="published")) is type(build_scheduler(config))


def test_learned_variance_is_for_schedulers_that_take_it():
    learned = {**PUBLISHED, "_class_name": "DDPMScheduler", "variance_type": "learned_range"}
    assert learns_variance(build_scheduler(learned))
    assert not learns_variance(build_scheduler(learned, "ddim"))
    assert not learns_variance(build_scheduler(PUBLISHED))


def test_an_unknown_scheduler_is_refused():
    with pytest.raises(CheckpointError, match="NoSuchScheduler"):
        build_scheduler({"_class_name": "NoSuchScheduler"})
    with pytest.raises(CheckpointError, match="None"):
        build_scheduler({})
    with pytest.raises(InputError, match="unknown scheduler 'euler'"):
        build_scheduler(PUBLISHED, "euler")


def test_strength_cuts_the_noisy_end():
    scheduler = build_scheduler(LATENT)
    whole = set_timesteps(scheduler, 50)
    part = set_timesteps(scheduler, 50, strength=0.8)
    assert torch.equal(part, whole[10:]) and scheduler.begin_index == 10
    assert len(set_timesteps(scheduler, 50, strength=0.001)) == 1


def test_no_step_begins_above_the_highest_timestep():
    scheduler = build_scheduler(LATENT)
    timesteps = set_timesteps(scheduler, 50, max_timestep=900)
    assert timesteps[0] <= 900 < set_timesteps(scheduler, 50)[50 - len(timesteps) - 1]
    with pytest.raises(InputError, match="num_inference_steps"):
        set_timesteps(scheduler, 1, max_timestep=900)


PUBLISHED_PIXELS = {
    "_class_name": "DPMSolverMultistepScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "lambda_min_clipped": -5.1,
    "prediction_type": "epsilon",
}


@pytest.mark.parametrize("steps", [1, 2, 13, 25, 41, 125, 900])
@pytest.mark.parametrize("numerics", ["default", "published"])
def test_steps_even_in_logsnr(steps: int, numerics: str) -> None:
    scheduler = build_scheduler(PUBLISHED_PIXELS, numerics=numerics)
    usual = set_timesteps(scheduler, steps)
    even = set_timesteps(scheduler, steps, time_grid="logsnr")
    assert len(even) == steps and even[0] == usual[0]
    assert bool((even.diff() < 0).all()) and even[-1] >= 1  # the last step goes to timestep 0
    if steps in (13, 25):
        distances = scheduler.lambda_t[torch.tensor([*even.tolist(), 0])].diff()
        assert float(distances.min()) > 0.6 * float(distances.max())
    assert bool(torch.equal(set_timesteps(scheduler, steps), usual))


def test_steps_even_in_logsnr_begin_where_the_usual_ones_do() -> None:
    config = {**PUBLISHED_PIXELS, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    scheduler = build_scheduler(config)
    for limits, count in (({"strength": 0.8, "max_timestep": 900}, 8), ({"level": 0.5}, None)):
        usual = set_timesteps(scheduler, 10, **limits).tolist()
        even = set_timesteps(scheduler, 10, **limits, time_grid="logsnr").tolist()
        assert even[0] == usual[0] and len(even) == len(usual) and count in (None, len(even))
        assert even != usual


def test_a_third_of_the_steps_comes_as_close() -> None:
    """Pixels drawn from a Gaussian, whose exact path is known."""
    noise, mean, std = torch.linspace(-2, 2, 64).view(1, 1, 1, 8, 8).repeat(1, 3, 1, 1, 1), 0.4, 0.1

    def error(steps: int, grid: str) -> float:
        scheduler = build_scheduler({**PUBLISHED_PIXELS, "prediction_type": "sample"})
        timesteps = set_timesteps(scheduler, steps, time_grid=grid)
        alphas = scheduler.alphas_cumprod.double()

        def spread(a: torch.Tensor) -> torch.Tensor:
            return (a * std**2 + 1 - a).sqrt()

        def denoised(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            a = alphas[int(t)]
            return (mean + a.sqrt() * std**2 / spread(a) ** 2 * (x - a.sqrt() * mean)).float()

        made = sample(denoised, scheduler, noise, timesteps=timesteps, generators=[torch.Generator()])
        first = alphas[int(timesteps[0])]
        exact = alphas[0].sqrt() * mean + spread(alphas[0]) / spread(first) * (noise - first.sqrt() * mean)
        return float((made - exact).abs().max())

    assert error(25, "logsnr") < 0.6 * error(75, "checkpoint")
    assert error(41, "logsnr") < 0.6 * error(125, "checkpoint")


@pytest.mark.parametrize(
    ("config", "name", "steps", "message"),
    [
        ({}, "ddim", 10, "time_grid 'logsnr' is for DPM-Solver.., and this sampler is DDIMScheduler"),
        ({}, "checkpoint", 1000, "time_grid 'logsnr' has at most 995 steps"),
        ({"use_karras_sigmas": True}, "checkpoint", 10, "time_grid 'logsnr' does not go with the model's sampler"),
    ],
)
def test_where_steps_cannot_be_even_in_logsnr(config: dict[str, Any], name: Any, steps: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        set_timesteps(build_scheduler({**PUBLISHED_PIXELS, **config}, name), steps, time_grid="logsnr")
