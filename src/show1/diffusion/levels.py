"""Noise levels in one unit for all models, and schedules that begin at exactly one.

The level of a noisy sample alpha x_0 + sigma noise is sigma / (alpha + sigma), in [0, 1]. Flow-matching models mix
by it: (1 - level) x_0 + level noise. For models on a schedule of betas, alpha^2 = `alphas_cumprod` and sigma^2 =
1 - alpha^2.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin
from torch import Tensor

from show1.diffusion.seeds import randn
from show1.errors import CheckpointError

_SAME = 1e-4
"""Levels that differ by less are one."""
_HIGHEST = 1 - 1e-6
"""The highest level at which solvers that take logarithms of alpha can start."""


def beta_level(alphas_cumprod: Tensor) -> Tensor:
    """The noise level at each timestep of a schedule of betas, (T,) ascending, from its `alphas_cumprod` (T,)."""
    a = alphas_cumprod.double()
    return (1 - a).sqrt() / (a.sqrt() + (1 - a).sqrt())


def level_timestep(scheduler: SchedulerMixin, level: float) -> int:
    """The timestep of a schedule of betas whose noise level is nearest to `level`."""
    return int((beta_level(scheduler.alphas_cumprod) - level).abs().argmin())


def is_flow(scheduler: SchedulerMixin) -> bool:
    """Whether the sigmas of a scheduler are noise levels, as in flow matching."""
    return "FlowMatch" in type(scheduler).__name__ or bool(scheduler.config.get("use_flow_sigmas"))


def noised(scheduler: SchedulerMixin, clean: Tensor, noise: Tensor, level: float) -> Tensor:
    """Mixes clean samples (N, ...) with noise (N, ...) to a noise level; returns (N, ...).

    Raises:
        CheckpointError: The scheduler works on samples of another scale.
    """
    if is_flow(scheduler):
        return (1 - level) * clean + level * noise
    if float(getattr(scheduler, "init_noise_sigma", 1.0)) != 1:
        raise CheckpointError(
            f"the sampler {type(scheduler).__name__} works on samples whose scale grows with their noise, which cannot "
            "begin at a noise level; name another one in scheduler_config.json, such as DPMSolverMultistepScheduler"
        )
    a = scheduler.alphas_cumprod[level_timestep(scheduler, level)].to(clean)
    mixed: Tensor = a.sqrt() * clean + (1 - a).sqrt() * noise
    return mixed


def begin_at_level(scheduler: SchedulerMixin, level: float) -> None:
    """Drops the steps of a prepared scheduler that begin above a noise level; the first one then begins exactly there.

    A schedule of betas has a level at each timestep of its training; it begins at the nearest one.

    Args:
        scheduler: After `set_timesteps`; changed in place.
        level: In (0, 1].
    """
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is None:  # each step goes down by a fixed stride, wherever it begins
        stride = scheduler.config.num_train_timesteps // scheduler.num_inference_steps
        steps = torch.arange(level_timestep(scheduler, level), -1, -stride)
        scheduler.timesteps = steps.to(scheduler.timesteps)
        return
    flow, upside_down = is_flow(scheduler), bool(scheduler.config.get("invert_sigmas"))
    timesteps = scheduler.timesteps
    if flow:
        known = sigmas[: len(timesteps)].double()
        levels = 1 - known if upside_down else known
        begun = int((levels > level + _SAME).sum())
        on_grid = begun < len(levels) and float((levels[begun] - level).abs()) <= _SAME
        sigma = min(level, _HIGHEST)
        sigma = 1 - sigma if upside_down else sigma
        first = sigma * scheduler.config.num_train_timesteps
    else:  # whole timesteps are compared: a step of no length would divide by zero
        first = level_timestep(scheduler, level)
        begun = int((timesteps > first).sum())
        on_grid = begun < len(timesteps) and int(timesteps[begun]) == first
        a = float(scheduler.alphas_cumprod[first].clamp(min=1e-12))
        sigma = ((1 - a) / a) ** 0.5
    scheduler.timesteps, scheduler.sigmas = timesteps[begun:], sigmas[begun:]
    if not on_grid:
        scheduler.timesteps = torch.cat([timesteps.new_tensor([first]), scheduler.timesteps])
        scheduler.sigmas = torch.cat([sigmas.new_tensor([sigma]), scheduler.sigmas])
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)


def started_at(scheduler: SchedulerMixin, level: float) -> Any:
    """A copy of a scheduler whose runs begin at a noise level, however a pipeline prepares them."""
    base: Any = type(scheduler)

    class Late(base):  # type: ignore[misc]
        @functools.wraps(base.set_timesteps)  # pipelines look at its signature
        def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
            super().set_timesteps(*args, **kwargs)
            begin_at_level(self, level)

    Late.__name__ = base.__name__
    return Late.from_config(scheduler.config)


def few_steps_from(level: float, levels: Sequence[float], generators: Sequence[torch.Generator]) -> Any:
    """A schedule of flow matching for a network that was distilled to a few noise levels.

    Each step finds the clean sample, and mixes it with new noise to the next level.

    Args:
        level: Where it begins, in (0, 1].
        levels: Those of the network, falling; the ones above `level` are left out.
        generators: One per sample, for the noise.
    """

    class FewSteps(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
        def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
            known = torch.tensor([level, *(each for each in levels if each < level - _SAME), 0.0])
            self.sigmas = known
            self.timesteps = (known[:-1] * self.config.num_train_timesteps).to(kwargs.get("device"))
            self.done = 0

        def step(self, model_output: Tensor, timestep: Any, sample: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
            now, following = self.sigmas[self.done : self.done + 2].tolist()
            self.done += 1
            clean = sample - now * model_output
            if following == 0:
                return (clean,)
            return ((1 - following) * clean + following * randn(sample.shape, generators).to(clean),)

    return FewSteps()
