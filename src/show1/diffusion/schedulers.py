"""diffusers' schedulers: built from a checkpoint's config, or swapped for another on the same noise schedule."""

import inspect
import math
from collections.abc import Mapping
from typing import Any, get_args

import diffusers
import torch
from diffusers import SchedulerMixin
from torch import Tensor

from show1.config import Numerics, Prediction, SchedulerName, TimeGrid
from show1.diffusion.levels import begin_at_level, beta_level, level_timestep
from show1.diffusion.published_solver import PublishedDPMSolver
from show1.errors import CheckpointError, InputError, reason_of
from show1.limits import MAX_NOISE_TIMESTEPS

_CLASSES: dict[str, str] = {
    "dpmsolver++": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
}


def build_scheduler(
    config: Mapping[str, Any],
    name: SchedulerName = "checkpoint",
    *,
    numerics: Numerics = "default",
    **overrides: Any,
) -> SchedulerMixin:
    """Makes a scheduler on the noise schedule and prediction type of `config`.

    DPM-Solver++ ends at the first training timestep (`final_sigmas_type="sigma_min"`), as it did in the diffusers
    release of the published run, unless the config or `overrides` say otherwise.

    Args:
        config: A saved scheduler config with `_class_name`.
        name: `checkpoint` for the class that the config names, else another sampler.
        numerics: With `published`, DPM-Solver++ rounds as it did in the published run (`PublishedDPMSolver`).
        overrides: Options that take precedence over the config.

    Raises:
        CheckpointError: The config names no scheduler of diffusers.
        InputError: The name is unknown.
    """
    config = dict(config)
    given = set(config) - set(config.pop("_use_default_values", ()))
    class_name = config.get("_class_name") if name == "checkpoint" else _CLASSES.get(name)
    if name != "checkpoint" and class_name is None:
        raise InputError(f"unknown scheduler {name!r}; the schedulers are checkpoint, {', '.join(_CLASSES)}")
    cls = getattr(diffusers, str(class_name), None)
    if not (isinstance(cls, type) and issubclass(cls, SchedulerMixin)):
        raise CheckpointError(
            f"the scheduler config names the class {class_name!r}, which is no scheduler of diffusers "
            f"{diffusers.__version__}; correct `_class_name` in scheduler_config.json or choose another scheduler"
        )
    if class_name == "DPMSolverMultistepScheduler" and "final_sigmas_type" not in given:
        config["final_sigmas_type"] = "sigma_min"
    if class_name != config.get("_class_name"):
        config.update(_swapped_options(str(class_name), config, given))
    scheduler = _checked(cls, {**config, **overrides})
    if numerics == "published" and PublishedDPMSolver.covers(scheduler):
        return PublishedDPMSolver.from_config(scheduler.config)
    return scheduler


def _checked(cls: Any, config: Mapping[str, Any]) -> SchedulerMixin:
    """Makes a scheduler, of a noise schedule that has more noise at later timesteps."""
    try:
        for key, value in config.items():
            if isinstance(value, int) and not abs(value) <= MAX_NOISE_TIMESTEPS:
                raise ValueError(f"{key} is more than {MAX_NOISE_TIMESTEPS}")
            if key in ("beta_start", "beta_end", "dynamic_thresholding_ratio") and not 0 <= value <= 1:
                raise ValueError(f"{key} must be from 0 to 1, got {value}")
        if not config.get("lambda_min_clipped", 0) <= 0:
            raise ValueError("lambda_min_clipped must be at most 0")
        for key, parameter in inspect.signature(cls.__init__).parameters.items():
            number = type(parameter.default) in (int, float)
            if number and not isinstance(config.get(key), int | float | None):
                raise ValueError(f"{key} must be a number, got {config[key]!r}")
        if config.get("prediction_type", "epsilon") not in get_args(Prediction):
            raise ValueError(f"prediction_type must be one of {', '.join(get_args(Prediction))}")
        cls.from_config(config).set_timesteps(1)  # where schedulers look at the rest of a config
        scheduler = cls.from_config(config)
        alphas = getattr(scheduler, "alphas_cumprod", None)
        if alphas is not None and len(alphas) != scheduler.config.num_train_timesteps:
            raise ValueError(f"its trained_betas are {len(alphas)}, but num_train_timesteps says otherwise")
        if alphas is not None and not bool(((alphas >= 0) & (alphas <= 1)).all() and (alphas.diff() <= 0).all()):
            raise ValueError("its betas must be from 0 to 1")
    except Exception as error:  # whatever goes wrong here, the config asked for
        raise CheckpointError(
            f"scheduler_config.json does not describe a {cls.__name__}: {reason_of(error)}; correct it"
        ) from error
    return scheduler  # type: ignore[no-any-return]


def _swapped_options(class_name: str, config: Mapping[str, Any], given: set[str]) -> dict[str, Any]:
    """Options of a sampler that the checkpoint was not published with."""
    if class_name not in ("DDIMScheduler", "DDPMScheduler"):
        return {}
    # these two clip unless told otherwise, which the others do not, and latents must not be clipped
    options: dict[str, Any] = {"clip_sample": config.get("clip_sample", False) if "clip_sample" in given else False}
    # DDIM steps down by a fixed stride: of the spacings that begin at the last timestep, only this one fits
    # (Table 2 of arXiv:2305.08891)
    options["timestep_spacing"] = "trailing"
    if class_name == "DDPMScheduler" and config.get("variance_type") is None:
        options["variance_type"] = "fixed_small"
    return options


def learns_variance(scheduler: SchedulerMixin) -> bool:
    """Whether `scheduler.step` takes the network's variance channels."""
    known = "variance_type" in inspect.signature(type(scheduler).__init__).parameters
    return known and scheduler.config.variance_type in ("learned", "learned_range")


def set_timesteps(
    scheduler: SchedulerMixin,
    num_inference_steps: int,
    *,
    strength: float = 1.0,
    max_timestep: int | None = None,
    level: float | None = None,
    time_grid: TimeGrid = "checkpoint",
) -> Tensor:
    """Prepares the scheduler for a run and returns the run's timesteps, descending.

    Args:
        scheduler: Changed in place.
        num_inference_steps: Steps of the whole schedule.
        strength: Fraction of the steps to run, from the noisy end cut off (SDEdit, arXiv:2108.01073); rounded down
            as in diffusers, but to one step at least.
        max_timestep: No step begins above it.
        level: Noise level at which the first step begins, in place of `strength`.
        time_grid: `logsnr` spreads the steps of the run evenly in the logarithm of the signal-to-noise ratio, from the
            same first one on; the last step is then of first order.

    Raises:
        InputError: All steps lie above `max_timestep`, or the level does; or the sampler has a spacing of its own.
    """
    timesteps = _spaced(scheduler, num_inference_steps, strength, max_timestep, level)
    return timesteps if time_grid == "checkpoint" else _evenly_in_logsnr(scheduler, timesteps)


def _spaced(
    scheduler: SchedulerMixin, num_inference_steps: int, strength: float, max_timestep: int | None, level: float | None
) -> Tensor:
    """The timesteps (T,) of a run in the sampler's own spacing; prepares the scheduler for it."""
    scheduler.set_timesteps(num_inference_steps)
    if level is not None:
        if max_timestep is not None and level_timestep(scheduler, level) > max_timestep:
            highest = float(beta_level(scheduler.alphas_cumprod)[max_timestep])
            raise InputError(
                f"the network was trained on noise levels up to {highest:.3f} (max_timestep {max_timestep}), and level "
                f"{level:g} is above; give at most {math.floor(highest * 1000) / 1000}"
            )
        begin_at_level(scheduler, level)
        return scheduler.timesteps  # type: ignore[no-any-return]
    timesteps: Tensor = scheduler.timesteps
    order = scheduler.order
    steps = max(1, min(int(num_inference_steps * strength), num_inference_steps))
    start = (num_inference_steps - steps) * order
    while max_timestep is not None and start < len(timesteps) and timesteps[start] > max_timestep:
        start += order
    if start >= len(timesteps):
        raise InputError(
            f"all {num_inference_steps} steps begin above timestep {max_timestep}; ask for more num_inference_steps"
        )
    if start and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    return timesteps[start:]


def _evenly_in_logsnr(scheduler: SchedulerMixin, spaced: Tensor) -> Tensor:
    """Gives a solver as many timesteps (T,) as `spaced` has, evenly spaced in log(alpha / sigma) from its first on."""
    first, steps = int(spaced[0]), len(spaced)
    if not isinstance(scheduler, diffusers.DPMSolverMultistepScheduler):
        raise InputError(
            f"time_grid 'logsnr' is for DPM-Solver++, and this sampler is {type(scheduler).__name__}; choose the "
            "scheduler 'dpmsolver++', or leave time_grid out"
        )
    if steps > first:
        raise InputError(f"time_grid 'logsnr' has at most {first} steps from timestep {first} on, got {steps}")
    log_snr = scheduler.lambda_t.double()  # falls from one timestep to the next
    wanted = torch.linspace(float(log_snr[first]), float(log_snr[0]), steps + 1, dtype=torch.float64)[:-1]
    nearest = (log_snr[:, None] - wanted[None]).abs().argmin(0).tolist()
    timesteps: list[int] = []
    for index, t in enumerate(nearest):  # no two steps begin at the same one, and none at the last
        highest = timesteps[-1] - 1 if timesteps else first
        timesteps.append(max(min(t, highest), steps - index))
    scheduler.register_to_config(euler_at_final=True)
    try:
        scheduler.set_timesteps(timesteps=timesteps)
    except ValueError as error:
        raise InputError(f"time_grid 'logsnr' does not go with the model's sampler ({error}); leave it out") from error
    given: Tensor = scheduler.timesteps
    return given
