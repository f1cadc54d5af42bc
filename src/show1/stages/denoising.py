"""What all stages of the cascade share: a network, its scheduler, and the call of the sampling loop."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from diffusers import SchedulerMixin
from torch import Tensor, nn

from show1.checkpoints.components import check_text_width, text_width
from show1.config import Numerics, StageName, StageSettings
from show1.diffusion import (
    Guidance,
    GuidedNetwork,
    Network,
    StepCallback,
    build_scheduler,
    learns_variance,
    sample,
    set_timesteps,
)
from show1.errors import InputError
from show1.runtime import computing_device
from show1.runtime.processes import Helpers
from show1.stages.details import DetailNetwork
from show1.stages.helped_network import HelpedNetwork
from show1.stages.stage import PromptEmbeddings

SchedulerLike: TypeAlias = Mapping[str, Any] | SchedulerMixin
"""A scheduler, or its saved config with `_class_name`."""


class DenoisingStage:
    """A network and the noise schedule that it was trained on."""

    name: StageName

    def __init__(
        self, unet: nn.Module, scheduler: SchedulerLike, *, details: Mapping[str, Tensor] | None = None
    ) -> None:
        """Takes a network and the schedule it was trained on.

        Args:
            unet: The network.
            scheduler: A scheduler, or its config.
            details: Parameters of the network that differ at low noise levels, by name; see `DetailNetwork`.
        """
        self.unet = unet
        self.scheduler_config = scheduler_config(scheduler)
        self.details = details
        self.helpers: Helpers | None = None
        """Other processes that have loaded the stage, and share the calls of its network."""

    @property
    def device(self) -> torch.device:
        """Where the stage computes."""
        return computing_device(self.unet)

    def scheduler(self, settings: StageSettings, *, numerics: Numerics = "default") -> SchedulerMixin:
        """A fresh scheduler of the kind that the settings ask for, rounding by `numerics`."""
        return build_scheduler(self.scheduler_config, settings.scheduler, numerics=numerics)

    def denoise(
        self,
        network: Network,
        noise: Tensor,
        prompts: PromptEmbeddings,
        *,
        settings: StageSettings,
        generators: Sequence[torch.Generator],
        condition: Tensor | None = None,
        prompt_index: Sequence[int] | None = None,
        on_step: StepCallback | None = None,
        numerics: Numerics = "default",
    ) -> Tensor:
        """Samples from pure noise.

        Args:
            network: The stage's network.
            noise: (N, C, F, H, W) on the CPU.
            prompts: B prompts.
            settings: Steps, guidance, scheduler, batch limit.
            generators: Source of the stochastic schedulers' noise.
            condition: (N, C', F, H, W) on the CPU.
            prompt_index: Prompt of each of the N samples; None: sample i has prompt i.
            on_step: Called after every step.
            numerics: How network and solver round.

        Returns:
            (N, C, F, H, W) float32 on the CPU.
        """
        scheduler = self.scheduler(settings, numerics=numerics)
        timesteps = run_timesteps(scheduler, settings)
        options: dict[str, Any] = {"condition": condition, "prompt_index": prompt_index}
        options["alone"] = numerics == "published"
        guided = self.guided(network, prompts, scheduler, settings=settings, **options)
        latents = noise.to(self.device) * scheduler.init_noise_sigma
        with evaluating(self.unet), rounding(self.unet, numerics):
            out = sample(guided, scheduler, latents, timesteps=timesteps, generators=generators, on_step=on_step)
        return out.cpu()

    def guided(
        self,
        network: Network,
        prompts: PromptEmbeddings,
        scheduler: SchedulerMixin,
        *,
        settings: StageSettings,
        condition: Tensor | None = None,
        prompt_index: Sequence[int] | None = None,
        alone: bool = False,
    ) -> GuidedNetwork:
        """Binds the network to the prompts, the guidance and the condition of a run.

        Args:
            network: The stage's network.
            prompts: B prompts, (B, L, D).
            scheduler: Of the run.
            settings: Guidance and batch limit.
            condition: (N, C', F, H, W), on any device.
            prompt_index: Prompt of each of the N samples; None: sample i has prompt i.
            alone: Whether no helpers take part.

        Raises:
            CheckpointError: The text states have another width than the network reads.
        """
        check_text_width(
            f"the network of the stage {self.name!r}", text_width(self.unet.config), prompts.prompt_embeds.shape[-1]
        )
        num_train_timesteps = scheduler.config.num_train_timesteps
        guidance = Guidance(
            scale=settings.guidance_scale,
            interval=settings.guidance_interval,
            num_train_timesteps=num_train_timesteps,
        )
        own = self.detailed(network, num_train_timesteps)
        if self.helpers is not None and not alone:
            bare: Any = network
            task: dict[str, Any] = {"bare": bare.on(None), "stage": self.name}
            own = HelpedNetwork(own, self.helpers, **task, num_train_timesteps=num_train_timesteps)
        return GuidedNetwork(
            own,
            prompts.prompt_embeds,
            prompts.negative_prompt_embeds,
            guidance=guidance,
            learned_variance=learns_variance(scheduler),
            condition=condition.to(self.device) if condition is not None else None,
            prompt_index=prompt_index,
            max_batch=settings.max_batch,
            split=settings.guides_in_two_calls,
        )

    def detailed(self, network: Network, num_train_timesteps: int) -> Network:
        """The stage's network, with other weights at low noise levels where it has them."""
        if not self.details:
            return network
        return DetailNetwork(network, self.unet, self.details, num_train_timesteps=num_train_timesteps)


def run_timesteps(scheduler: SchedulerMixin, settings: StageSettings) -> Tensor:
    """The timesteps (T,) of a run, descending; prepares the scheduler for it.

    Raises:
        InputError: There is none that the network was trained on.
    """
    limits = {
        name: getattr(settings, name) for name in ("strength", "max_timestep", "level") if hasattr(settings, name)
    }
    return set_timesteps(scheduler, settings.num_inference_steps, time_grid=settings.time_grid, **limits)


def scheduler_config(scheduler: SchedulerLike) -> dict[str, Any]:
    """The saved form of a scheduler."""
    if isinstance(scheduler, Mapping):
        return dict(scheduler)
    return {"_class_name": type(scheduler).__name__, **scheduler.config}


def require_video(video: Tensor | None, prompts: PromptEmbeddings, stage: str) -> Tensor:
    """Checks a stage's input video; returns it (B, 3, F, H, W) as float32 on the CPU.

    Raises:
        InputError: There is none, it is not (B, 3, F, H, W), or B is not the number of prompts.
    """
    expected = f"the stage {stage!r} needs a video of shape (B, 3, F, H, W) with one sample per prompt"
    if video is None:
        raise InputError(f"{expected}, got none; run the stage before it first")
    if video.ndim != 5 or video.shape[1] != 3 or video.shape[2] < 1 or len(video) != len(prompts.prompt_embeds):
        raise InputError(f"{expected}, got {tuple(video.shape)} for {len(prompts.prompt_embeds)} prompts")
    return video.float().cpu()


def shifted(on_step: StepCallback | None, done: int, total: int) -> StepCallback | None:
    """Reports the steps of one run as part of the stage's `total`, of which `done` came before."""
    if on_step is None:
        return None
    callback = on_step
    return lambda step, _steps, samples: callback(done + step, total, samples)


@contextmanager
def rounding(unet: Any, numerics: Numerics) -> Iterator[None]:
    """Lets a pixel UNet compute in the published order inside the block, if that is asked for."""
    if numerics != "published":
        yield
        return
    unet.use_published_order(True)
    try:
        yield
    finally:
        unet.use_published_order(False)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switches dropout off inside the block (the published run left it on by accident)."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
