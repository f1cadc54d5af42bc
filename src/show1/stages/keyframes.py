"""Text to keyframes in pixel space."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from show1.config import KeyframesSettings, Numerics
from show1.diffusion import Seeds, StepCallback, randn
from show1.diffusion.seeds import group_size
from show1.errors import InputError
from show1.stages.denoising import DenoisingStage, SchedulerLike
from show1.stages.networks import PixelNetwork
from show1.stages.stage import PromptEmbeddings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class StartNoise:
    """Noise from which the sampler makes reference clips (found by DDIM inversion): it carries their motion."""

    noise: Tensor
    """(N, 3, F, H, W), one per clip; each sample takes one of them at random."""
    weight: float
    """Share of the start noise's variance that comes from this noise, 0 to 1; the rest is fresh noise."""


class KeyframesStage(DenoisingStage):
    """Samples a few frames from a prompt (section 3.1 of arXiv:2309.15818)."""

    name = "keyframes"

    def __init__(
        self,
        unet: nn.Module,
        scheduler: SchedulerLike,
        *,
        start_noise: Sequence[StartNoise] = (),
        details: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Takes the network and its scheduler.

        Args:
            unet: The network.
            scheduler: Its scheduler, or the config.
            start_noise: Blended with fresh noise, sqrt(w) * given + sqrt(1 - w) * fresh.
            details: See `DenoisingStage`.
        """
        super().__init__(unet, scheduler, details=details)
        self.start_noise = tuple(start_noise)

    def __call__(
        self,
        video: Tensor | None,
        prompts: PromptEmbeddings,
        *,
        seeds: Seeds,
        settings: KeyframesSettings,
        on_step: StepCallback | None = None,
        numerics: Numerics = "default",
    ) -> Tensor:
        """Generates keyframes (B, 3, F, H, W) from noise, whatever `video` is; see `Stage.__call__`.

        Raises:
            InputError: The weights of the start noise add up to more than 1.
        """
        start_noise = fitting_start_noise(self.start_noise, settings)
        generators = seeds.generators(self.name, 0)
        shape = (len(prompts.prompt_embeds), 3, settings.num_frames, settings.height, settings.width)
        noise = randn(shape, generators)
        if start_noise:
            noise = blend(noise, start_noise, seeds.generators("keyframes/start_noise", 0))
        return self.denoise(
            PixelNetwork(self.unet),
            noise,
            prompts,
            settings=settings,
            generators=generators,
            on_step=on_step,
            numerics=numerics,
        )


def fitting_start_noise(start_noise: Sequence[StartNoise], settings: KeyframesSettings) -> list[StartNoise]:
    """Selects the start noise (N, 3, F, H, W) of the keyframes' size; leaves the rest out with a warning.

    Raises:
        InputError: The weights add up to more than 1.
    """
    asked = (settings.num_frames, settings.height, settings.width)
    fitting = []
    for given in start_noise:
        size = tuple(given.noise.shape[2:])
        if size == asked:
            fitting.append(given)
        else:
            logger.warning(
                "The start noise of an adapter is for %s (frames x height x width), but the keyframes have %s: it is "
                "not used.",
                _times(size),
                _times(asked),
            )
    total = sum(given.weight for given in fitting)
    if total > 1 + 1e-6:
        raise InputError(f"the adapters' noise weights add up to {total:g}; load them so that it is at most 1")
    return fitting


def blend(fresh: Tensor, start_noise: Sequence[StartNoise], generators: Sequence[torch.Generator]) -> Tensor:
    """Blends noises so that the variance stays 1: the sum of sqrt(w) * given, and sqrt(1 - sum of w) * fresh.

    Args:
        fresh: (B, 3, F, H, W).
        start_noise: Each of the same size as `fresh`; the weights add up to at most 1.
        generators: Choose a clip for each sample.

    Returns:
        (B, 3, F, H, W).
    """
    group = group_size(len(fresh), generators)
    out: Tensor = fresh * max(0.0, 1.0 - sum(given.weight for given in start_noise)) ** 0.5
    for given in start_noise:
        count = len(given.noise)
        index = torch.cat([torch.randint(count, (group,), generator=g) for g in generators])
        out = out + given.weight**0.5 * given.noise[index].to(fresh)
    return out


def _times(size: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in size)
