"""Small pixel UNets with random weights, of every kind of block."""

from typing import Any

import torch
from torch import Tensor, nn

from show1.networks import UNet3DConditionModel

SIMPLE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 6,
    "down_block_types": ["ResnetDownsampleBlock3D", "SimpleCrossAttnDownBlock3D", "SimpleCrossAttnDownBlock3D"],
    "mid_block_type": "UNetMidBlock3DSimpleCrossAttn",
    "up_block_types": ["SimpleCrossAttnUpBlock3D", "SimpleCrossAttnUpBlock3D", "ResnetUpsampleBlock3D"],
    "block_out_channels": [32, 32, 64],
    "layers_per_block": 1,
    "act_fn": "gelu",
    "norm_num_groups": 8,
    "cross_attention_dim": 32,
    "encoder_hid_dim": 24,
    "encoder_hid_dim_type": "text_proj",
    "attention_head_dim": 16,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "resnet_time_scale_shift": "scale_shift",
    "time_embedding_act_fn": "gelu",
    "cross_attention_norm": "group_norm",
}
"""The DeepFloyd IF family."""

DIFFUSION: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"],
    "mid_block_type": "UNetMidBlock3DCrossAttn",
    "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"],
    "block_out_channels": [32, 32, 64],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
}
"""The Stable Diffusion family."""

FAMILIES = {"simple": SIMPLE, "diffusion": DIFFUSION}


def build(config: dict[str, Any], *, seed: int = 0, **changes: Any) -> UNet3DConditionModel:
    """A network in evaluation mode none of whose layers is the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # biases keep what the layers draw
        model = UNet3DConditionModel(**{**config, **changes})
    randomize(model, seed)
    return model.eval()


@torch.no_grad()
def randomize(model: nn.Module, seed: int = 0) -> None:
    """Fills all parameters, those that start as zero too."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(noise * (1.5 / parameter[0].numel()) ** 0.5)
        else:
            parameter.add_(noise * 0.1)


def inputs(
    model: UNet3DConditionModel, *, batch: int = 2, frames: int = 3, size: tuple[int, int] = (8, 12), seed: int = 1
) -> dict[str, Tensor]:
    """Arguments of a call."""
    generator = torch.Generator().manual_seed(seed)
    width = model.config.encoder_hid_dim or model.config.cross_attention_dim
    width = width if isinstance(width, int) else width[0]
    out = {
        "sample": torch.randn(batch, model.config.in_channels, frames, *size, generator=generator),
        "timestep": torch.randint(0, 1000, (batch,), generator=generator),
        "encoder_hidden_states": torch.randn(batch, 5, width, generator=generator),
    }
    if model.config.class_embed_type == "timestep":
        out["class_labels"] = torch.randint(0, 1000, (batch,), generator=generator)
    return out


@torch.no_grad()
def run(model: UNet3DConditionModel, arguments: dict[str, Any]) -> Tensor:
    """The output of a call without gradients."""
    out: Tensor = model(**arguments).sample
    return out
