"""The mathematics of diffusion: predictions, schedules, guidance, windows, seeds and the one sampling loop."""

from show1.diffusion.guidance import Guidance, guide
from show1.diffusion.guided_network import GuidedNetwork, Network
from show1.diffusion.levels import begin_at_level, few_steps_from, level_timestep, noised, started_at
from show1.diffusion.predictions import add_noise, min_snr_weight, noise_scales, predicted_x0, target
from show1.diffusion.sampling import StepCallback, fold_frames, sample, unfold_frames
from show1.diffusion.schedulers import build_scheduler, learns_variance, set_timesteps
from show1.diffusion.seeds import IndependentSeeds, PublishedSeeds, Seeds, randn
from show1.diffusion.windows import Window, blended, segments, sliding_windows

__all__ = [
    "GuidedNetwork",
    "Guidance",
    "IndependentSeeds",
    "Network",
    "PublishedSeeds",
    "Seeds",
    "StepCallback",
    "Window",
    "add_noise",
    "begin_at_level",
    "blended",
    "build_scheduler",
    "few_steps_from",
    "fold_frames",
    "guide",
    "learns_variance",
    "level_timestep",
    "min_snr_weight",
    "noise_scales",
    "noised",
    "predicted_x0",
    "randn",
    "sample",
    "segments",
    "set_timesteps",
    "sliding_windows",
    "started_at",
    "target",
    "unfold_frames",
]
