"""Keyframes to a smooth video, in pixel space."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from show1.config import InterpolationSettings, Numerics
from show1.diffusion import Seeds, StepCallback, randn, segments
from show1.stage_table import MOST_SEGMENTS, interpolated_length
from show1.stages.denoising import DenoisingStage, require_video
from show1.stages.networks import PixelNetwork
from show1.stages.stage import PromptEmbeddings


class InterpolationStage(DenoisingStage):
    """Fills in the frames between neighbouring keyframes.

    Segments go through the network in batches, which is exact: each has its own generators.
    """

    name = "interpolation"

    def __call__(
        self,
        video: Tensor | None,
        prompts: PromptEmbeddings,
        *,
        seeds: Seeds,
        settings: InterpolationSettings,
        on_step: StepCallback | None = None,
        numerics: Numerics = "default",
    ) -> Tensor:
        """Interpolates keyframes (B, 3, F, H, W) to (B, 3, (F - 1) * factor + 1, H, W); see `Stage.__call__`.

        A single keyframe is given back.
        """
        keyframes = require_video(video, prompts, self.name)
        batch, channels, num_keyframes, height, width = keyframes.shape
        parts = segments(num_keyframes, settings.factor)
        if not parts:
            return keyframes
        # samples are ordered by segment, then by prompt
        shape = (batch, channels, settings.factor + 1, height, width)
        # initial and step noise are streams of their own: the published run starts both from the same seed
        initial = [randn(shape, seeds.generators("interpolation/initial", k)) for k in range(len(parts))]
        samples = self.denoise(
            PixelNetwork(self.unet),
            torch.cat(initial),
            prompts,
            settings=replace(settings, max_batch=settings.max_batch or MOST_SEGMENTS * batch),
            generators=[g for k in range(len(parts)) for g in seeds.generators(self.name, k)],
            condition=inputs(keyframes, settings.factor),
            prompt_index=list(range(batch)) * len(parts),
            on_step=on_step,
            numerics=numerics,
        )
        out = keyframes.new_empty(batch, channels, interpolated_length(num_keyframes, settings.factor), height, width)
        for part, segment in zip(parts, torch.split(samples, batch), strict=True):
            out[:, :, part.start : part.stop] = segment  # a shared keyframe is the later segment's
        if settings.keep_keyframes:
            out[:, :, :: settings.factor] = keyframes
        return out


def inputs(keyframes: Tensor, factor: int) -> Tensor:
    """The condition of the network: its channels beside the noisy ones, for all segments.

    Sampling, training and customization all call this.

    Args:
        keyframes: (B, 3, F, H, W) in about [-1, 1].
        factor: Frames from one keyframe to the next.

    Returns:
        (S*B, 4, factor + 1, H, W) with S = F - 1 segments, ordered by segment: the linear blend of the segment's two
        keyframes, and a mask that is 1 on the keyframes.
    """
    size = (factor + 1, *keyframes.shape[-2:])
    pairs = [keyframes[:, :, k : k + 2] for k in range(keyframes.shape[2] - 1)]
    blend = F.interpolate(torch.cat(pairs), size=size, mode="trilinear", align_corners=True)
    mask = torch.zeros_like(blend[:, :1])
    mask[:, :, [0, -1]] = 1.0
    return torch.cat([blend, mask], dim=1)
