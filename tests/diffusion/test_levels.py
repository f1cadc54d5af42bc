import pytest
import torch
from diffusers import (
    CogVideoXDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from show1.diffusion import begin_at_level, build_scheduler, level_timestep, noised, set_timesteps, started_at
from show1.diffusion.levels import beta_level
from show1.errors import CheckpointError, InputError

LATENT = {
    "_class_name": "DPMSolverMultistepScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
FLOWS = {
    "unipc": UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0),
    "euler": FlowMatchEulerDiscreteScheduler(shift=7.0),
}


def test_levels_of_the_published_schedule():
    scheduler = build_scheduler(LATENT)
    levels = beta_level(scheduler.alphas_cumprod)
    assert [round(float(levels[t]), 3) for t in (90, 300, 799, 900)] == [0.243, 0.454, 0.836, 0.893]
    assert [level_timestep(scheduler, level) for level in (0.5, 0.75, 0.875)] == [354, 673, 866]


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("level", [1.0, 0.875, 0.5, 0.01])
def test_a_flow_begins_at_the_level_and_goes_on_along_its_own_steps(name, level):
    whole = FLOWS[name]
    whole.set_timesteps(10)
    late = started_at(whole, level)
    late.set_timesteps(10)
    assert late.sigmas[0] == pytest.approx(level, abs=1e-5) and late.timesteps[0] == pytest.approx(1000 * level, abs=1)
    assert len(late.sigmas) == len(late.timesteps) + 1 and late.sigmas[-1] == 0
    rest = whole.sigmas[whole.sigmas < level - 1e-4]
    assert torch.equal(late.sigmas[1:], rest)


@pytest.mark.parametrize("name", FLOWS)
def test_a_level_on_the_grid_is_where_the_grid_is_cut(name):
    whole = FLOWS[name]
    whole.set_timesteps(10)
    late = started_at(whole, float(whole.sigmas[4]))
    late.set_timesteps(10)
    assert torch.equal(late.timesteps, whole.timesteps[4:]) and torch.equal(late.sigmas, whole.sigmas[4:])


@pytest.mark.parametrize("name", ["checkpoint", "unipc", "ddim", "ddpm"])
@pytest.mark.parametrize("level", [0.85, 0.5])
def test_a_perfect_network_finds_the_clean_sample_from_any_level(name, level):
    """With the true noise as its prediction, every solver ends at the sample that was noised."""
    scheduler = build_scheduler(LATENT, name, prediction_type="v_prediction")
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    timesteps = set_timesteps(scheduler, 20, level=level)
    assert int(timesteps[0]) == level_timestep(scheduler, level)
    x = noised(scheduler, clean, noise, level)
    for t in timesteps:
        a = scheduler.alphas_cumprod[t]
        found = (x - a.sqrt() * clean) / (1 - a).sqrt()  # the noise that is left in x
        x = scheduler.step(a.sqrt() * found - (1 - a).sqrt() * clean, t, x, return_dict=False)[0]
    assert (x - clean).abs().max() < 0.15  # what these schedules end at is no quite clean sample


@pytest.mark.parametrize("name", ["dpmsolver++", "unipc"])
def test_no_step_is_made_twice(name):
    """A step of no length, from a timestep to itself, made every number of the video infinite."""
    scheduler = build_scheduler(LATENT, name, prediction_type="v_prediction")
    for steps in range(10, 51, 5):
        for hundredths in range(5, 90):
            set_timesteps(scheduler, steps, level=hundredths / 100)
            assert bool((scheduler.timesteps.diff() < 0).all()) and bool((scheduler.sigmas.diff() < 0).all())
    x = torch.ones(1, 4, 2, 2)
    for t in set_timesteps(scheduler, 50, level=0.86):
        x = scheduler.step(torch.zeros_like(x), t, x, return_dict=False)[0]
    assert bool(x.isfinite().all())


def test_a_sampler_whose_samples_grow_with_their_noise_is_refused():
    x = torch.zeros(1, 4, 2, 2)
    with pytest.raises(CheckpointError, match="EulerDiscreteScheduler works on samples whose scale grows"):
        noised(EulerDiscreteScheduler(), x, x, 0.5)


def test_a_schedule_without_sigmas_goes_down_by_its_stride():
    scheduler = CogVideoXDPMScheduler(timestep_spacing="trailing", rescale_betas_zero_snr=True)
    scheduler.set_timesteps(20)
    begin_at_level(scheduler, 0.7)
    first = level_timestep(scheduler, 0.7)
    assert scheduler.timesteps.tolist() == list(range(first, -1, -50)) and scheduler.num_inference_steps == 20
    assert float(beta_level(scheduler.alphas_cumprod)[first]) == pytest.approx(0.7, abs=1e-3)


def test_a_level_above_what_the_network_was_trained_on_is_refused():
    scheduler = build_scheduler(LATENT)
    with pytest.raises(
        InputError, match=r"noise levels up to 0.893 \(max_timestep 900\), and level 0.9 .* at most 0.893"
    ):
        set_timesteps(scheduler, 20, level=0.9, max_timestep=900)
    assert set_timesteps(scheduler, 20, level=0.893, max_timestep=900)[0] <= 900


def test_the_steps_from_a_level_are_those_of_the_strength_that_begins_there():
    by_strength = set_timesteps(build_scheduler(LATENT), 50, strength=0.8, max_timestep=900)
    scheduler = build_scheduler(LATENT)
    level = float(beta_level(scheduler.alphas_cumprod)[by_strength[0]])
    assert torch.equal(set_timesteps(scheduler, 50, level=level, max_timestep=900), by_strength)
