"""Schedulers of diffusers in settings: their class names the sampler."""

import re

import pytest
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

from show1.config import PUBLISHED
from show1.errors import InputError
from show1.generation.arguments import resolve_settings


def test_a_scheduler_may_be_an_object_of_diffusers() -> None:
    objects: dict[str, SchedulerMixin] = {
        "dpmsolver++": DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2"),
        "unipc": UniPCMultistepScheduler(),
        "ddim": DDIMScheduler(clip_sample=False),
        "ddpm": DDPMScheduler(variance_type="learned_range"),
    }
    for name, given in objects.items():
        settings = resolve_settings(PUBLISHED, {"keyframes": {"scheduler": given, "num_inference_steps": 7}})
        assert settings == PUBLISHED.replace(keyframes={"scheduler": name, "num_inference_steps": 7})


def test_a_scheduler_object_that_cannot_be_followed_is_refused() -> None:
    for given, said in (
        (DPMSolverMultistepScheduler(use_karras_sigmas=True), "sets use_karras_sigmas=True"),
        (UniPCMultistepScheduler(solver_order=3), "sets solver_order=3"),
        (EulerDiscreteScheduler(), "must be one of 'dpmsolver"),
        (DDIMScheduler, "must be one of 'dpmsolver"),
        (3, "must be one of 'dpmsolver"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            resolve_settings(PUBLISHED, {"keyframes": {"scheduler": given}})
