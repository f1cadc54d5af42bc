"""Which layers of a network a customization changes: the pixel UNet's, and those of diffusers' latent UNet."""

import re

import torch
from diffusers.models import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import nn

from show1.networks.attention import AddedTextAttention, SpatialTransformer, TemporalTransformer

TEMPORAL = (TemporalTransformer, TransformerTemporalModel)
"""The transformers over frames."""

SPATIAL = (AddedTextAttention, SpatialTransformer, Transformer2DModel)
"""The attention layers over pixels, with text."""

_ATTENTION = re.compile(r"(^|\.)attn[12](\.|$)")
_TEXT = re.compile(r"(^|\.)(attn2|add_[kv]_proj)(\.|$)")


def temporal_parameters(unet: nn.Module, *, attention_only: bool) -> dict[str, nn.Parameter]:
    """Parameters of the transformers over frames, by name.

    Args:
        unet: The network.
        attention_only: Only the projections of their attentions, not norms, feed-forward, and layers in and out.
    """
    return {
        f"{prefix}.{name}": parameter
        for prefix, module in _of_classes(unet, TEMPORAL).items()
        for name, parameter in module.named_parameters()
        if not attention_only or _ATTENTION.search(name)
    }


def temporal_linears(unet: nn.Module, *, attention_only: bool) -> list[str]:
    """Names of the linear layers in the transformers over frames; see `temporal_parameters`."""
    names = _linears(_of_classes(unet, TEMPORAL))
    return [name for name in names if not attention_only or _ATTENTION.search(name)]


def spatial_linears(unet: nn.Module, *, text: bool) -> list[str]:
    """Names of the linear layers in the attention layers over pixels.

    Args:
        unet: The network.
        text: Those that see the text too.
    """
    names = _linears(_of_classes(unet, SPATIAL))
    return [name for name in names if text or not _TEXT.search(name)]


def spatial_convolutions(unet: nn.Module) -> list[str]:
    """Names of the convolutions over pixels."""
    return [name for name, module in unet.named_modules() if isinstance(module, nn.Conv2d)]


def hold_frozen_in(unet: nn.Module, dtype: torch.dtype) -> None:
    """Casts the frozen weights of linear layers and convolutions once, where autocast would cast them in every step."""
    for module in unet.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d) and not module.weight.requires_grad:
            module.to(dtype)


def _of_classes(unet: nn.Module, classes: tuple[type[nn.Module], ...]) -> dict[str, nn.Module]:
    return {name: module for name, module in unet.named_modules() if isinstance(module, classes)}


def _linears(modules: dict[str, nn.Module]) -> list[str]:
    return [
        f"{prefix}.{name}"
        for prefix, module in modules.items()
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear)
    ]
