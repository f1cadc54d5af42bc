"""The plain execution of the published run, which the benchmarks compare ours with. Nothing else uses it.

The same mathematics, computed as the published code does: eager, in the default memory layout, convolutions over frames
as 3D ones, fused attention in every precision, keys and values of the text computed at every call and for every frame,
segments of the interpolation one by one.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from show1.config import CascadeSettings
from show1.networks import UNet3DConditionModel, attention, layers
from show1.networks.unet_3d_condition import TextCache
from show1.stages import translation
from show1.stages.networks import PixelNetwork

ORDERED = (
    UNet3DConditionModel,
    layers.TemporalConvLayer,
    layers.FrameConv3d,
    attention.TemporalTransformer,
    attention.AddedTextAttention,
)
"""Classes of networks and layers that know the published order of computation."""


def fused(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Attention as diffusers computes it: always by torch's fused kernel; see `show1.networks.attention.attend`."""
    q, k, v = (torch.unflatten(x, -1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def text_of_frames(unet: Any, states: Tensor, frames: int) -> TextCache:
    """What a pixel network computes of a text of (B, L, D), with keys and values for each of so many frames."""
    text = states if unet.encoder_hid_proj is None else unet.encoder_hid_proj(states)
    text = text.repeat_interleave(frames, dim=0)
    return TextCache(
        pooled=None if unet.add_embedding is None else unet.add_embedding(states),
        down=[block.text_key_value(text) for block in unet.down_blocks],
        mid=unet.mid_block.text_key_value(text),
        up=[block.text_key_value(text) for block in unet.up_blocks],
    )


@contextmanager
def plain() -> Iterator[None]:
    """Inside the block, all networks compute in the plain way; it is given by classes, so that it is for one thread."""
    network: Any = PixelNetwork.__call__

    def states(self: PixelNetwork, prompt_embeds: Tensor) -> Tensor:
        return prompt_embeds.to(self._unet.device, self._unet.dtype)

    def call(self: PixelNetwork, sample: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        out: Tensor = network(self, sample, timestep, text_of_frames(self._unet, text, sample.shape[2]))
        return out

    with ExitStack() as stack:
        for cls in ORDERED:
            stack.enter_context(patch.object(cls, "published_order", True))
        stack.enter_context(patch.object(attention, "attend", fused))
        stack.enter_context(patch.object(translation, "laid_out", lambda x, vae: x.to(vae.dtype)))
        stack.enter_context(patch.object(PixelNetwork, "encode_text", states))
        stack.enter_context(patch.object(PixelNetwork, "__call__", call))
        yield


def plain_settings(settings: CascadeSettings) -> CascadeSettings:
    """The same settings with segments one by one."""
    return replace(settings, interpolation=replace(settings.interpolation, max_batch=1))
