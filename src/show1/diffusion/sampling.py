"""The sampling loop of all stages."""

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from show1.diffusion.seeds import group_size

StepCallback = Callable[[int, int, Tensor], None]
"""Called after every denoising step with (steps done, steps in all, current noisy samples (N, C, F, H, W)).
May raise `show1.errors.Cancelled` to stop the run."""


@torch.no_grad()
def sample(
    network: Callable[[Tensor, Tensor], Tensor],
    scheduler: SchedulerMixin,
    latents: Tensor,
    *,
    timesteps: Tensor,
    generators: Sequence[torch.Generator],
    on_step: StepCallback | None = None,
) -> Tensor:
    """Denoises samples along the timesteps.

    The scheduler sees frames as its batch, as in diffusers' text-to-video pipelines, so dynamic thresholding works per
    frame. Each generator's samples have their own copy of the scheduler, so that their noise is drawn as if they were
    sampled alone.

    Args:
        network: Maps noisy samples (N, C, F, H, W) and a timestep () to the prediction that the scheduler takes.
        scheduler: Prepared by `set_timesteps`; not changed.
        latents: (N, C, F, H, W) float32, at the noise level of the first timestep.
        timesteps: Descending, (T,), the end of the scheduler's own.
        generators: CPU generators of the stochastic schedulers' noise, G of them for N / G samples each.
        on_step: Called after every step; may raise to stop the run.

    Returns:
        (N, C, F, H, W) float32.
    """
    size = group_size(len(latents), generators)
    schedulers = [copy.deepcopy(scheduler) for _ in generators]
    for i, t in enumerate(timesteps):
        groups = zip(schedulers, torch.split(latents, size), strict=True)
        prediction = network(torch.cat([s.scale_model_input(x, t) for s, x in groups]), t)
        parts = zip(schedulers, torch.split(prediction, size), torch.split(latents, size), generators, strict=True)
        latents = torch.cat([_step(s, p, t, x, g) for s, p, x, g in parts])
        if on_step is not None:
            on_step(i + 1, len(timesteps), latents)
    return latents


def _step(scheduler: SchedulerMixin, prediction: Tensor, t: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
    """One scheduler step of (N, C, F, H, W) samples with their frames folded into the batch."""
    options: dict[str, Any] = {"return_dict": False}
    if "generator" in inspect.signature(scheduler.step).parameters:
        options["generator"] = generator
    out: Tensor = scheduler.step(fold_frames(prediction), t, fold_frames(x), **options)[0]
    return unfold_frames(out, len(x))


def fold_frames(video: Tensor) -> Tensor:
    """(B, C, F, H, W) to (B*F, C, H, W)."""
    return video.transpose(1, 2).flatten(0, 1)


def unfold_frames(frames: Tensor, batch: int) -> Tensor:
    """(B*F, C, H, W) to (B, C, F, H, W)."""
    return frames.view(batch, -1, *frames.shape[1:]).transpose(1, 2).contiguous()
