"""DDIM inversion: sampling takes its noise back to the clip, and it is the noise that theory says."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from show1.config import Prediction
from show1.diffusion import build_scheduler, sample, set_timesteps
from show1.diffusion.inversion import ddim_invert, inversion_timesteps

SCHEDULE = {"_class_name": "DDIMScheduler", "beta_schedule": "squaredcos_cap_v2", "clip_sample": False}
STD = 0.5


def exact(alphas_cumprod: Tensor, prediction: Prediction) -> Any:
    """The exact denoiser of pixels from a normal distribution of standard deviation STD."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        a = alphas_cumprod[t].double()
        x0 = a.sqrt() * STD**2 / (a * STD**2 + 1 - a) * x.double()
        noise = (x.double() - a.sqrt() * x0) / (1 - a).sqrt()
        v = a.sqrt() * noise - (1 - a).sqrt() * x0
        return {"epsilon": noise, "v_prediction": v, "sample": x0}[prediction].float()

    return denoise


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_sampling_gives_the_clip_back(prediction: Prediction) -> None:
    clip = STD * torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    changes = {"prediction_type": prediction, "timestep_spacing": "trailing"}
    if prediction == "epsilon":  # at the end of the cosine schedule, noise tells of x0 only what rounding leaves
        changes["beta_schedule"] = "scaled_linear"
    scheduler = build_scheduler({**SCHEDULE, **changes})
    alphas: Tensor = scheduler.alphas_cumprod
    denoiser = exact(alphas, prediction)
    options: dict[str, Any] = {"alphas_cumprod": alphas, "prediction": prediction, "num_steps": 25}
    errors = []
    for iterations in (1, 2, 8):
        noise = ddim_invert(denoiser, clip, iterations=iterations, **options)
        generators = [torch.Generator()]
        back = sample(denoiser, scheduler, noise, timesteps=set_timesteps(scheduler, 25), generators=generators)
        errors.append(float((back - clip).abs().max()))
    assert errors[2] < 1e-3  # the fixed point is the sampler's own step
    assert errors[2] < errors[1] < errors[0]


def test_the_noise_of_gaussian_clips_is_standard_normal() -> None:
    clip = STD * torch.randn(4, 3, 8, 20, 20, generator=torch.Generator().manual_seed(1))
    alphas: Tensor = build_scheduler(SCHEDULE).alphas_cumprod
    denoiser = exact(alphas, "v_prediction")
    noise = ddim_invert(denoiser, clip, alphas_cumprod=alphas, prediction="v_prediction", num_steps=100, iterations=4)
    # the exact flow scales a normal distribution: x_T = x_0 / STD
    assert float(noise.std()) == pytest.approx(1.0, rel=0.02)
    assert_close(noise / clip, torch.full_like(clip, 1 / STD), rtol=0.02, atol=0.0)


def test_timesteps_end_at_the_last_one() -> None:
    assert inversion_timesteps(1000, 4).tolist() == [249, 499, 749, 999]
    assert len(set(inversion_timesteps(1000, 1000).tolist())) == 1000
