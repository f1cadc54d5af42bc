"""The blocks of the pixel UNet against diffusers' networks with the same weights, in configs of many kinds."""

from typing import Any

import diffusers
import pytest
import torch
from diffusers import TransformerTemporalModel, UNet2DConditionModel
from torch import Tensor
from torch.testing import assert_close

from show1.networks import UNet3DConditionModel
from tests.networks.tiny_unet import DIFFUSION, SIMPLE, build, inputs, run

OURS_ALONE = (
    "transfromer_in_opt",
    "temporal",
    "temporal_head_dim",
    "patch_size",
    "embed_frames",
    "embed_places",
    "add_condition",
)


def image_twin(model: UNet3DConditionModel) -> UNet2DConditionModel:
    """diffusers' image network of the same config and weights."""
    config = {k: v for k, v in model.config.items() if k not in OURS_ALONE and not k.startswith("_")}
    for key in ("down_block_types", "up_block_types"):
        config[key] = [name.replace("3D", "2D") for name in config[key]]
    config["mid_block_type"] = config["mid_block_type"].replace("3D", "2D")
    twin = UNet2DConditionModel(**config)
    twin.load_state_dict(model.state_dict())
    return twin.eval()


@torch.no_grad()
def run_frames(twin: UNet2DConditionModel, arguments: dict[str, Tensor]) -> Tensor:
    """The image network on every frame."""
    rest = {key: value for key, value in arguments.items() if key != "sample"}
    frames = [twin(frame, **rest).sample for frame in arguments["sample"].unbind(2)]
    return torch.stack(frames, dim=2)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_head_dim": 8, "cross_attention_norm": None, "mid_block_scale_factor": 1.4},
        {"attention_head_dim": [32, 8, 16]},
        {"layers_per_block": [1, 2, 1], "resnet_skip_time_act": True, "resnet_out_scale_factor": 1.3},
        {"only_cross_attention": True, "class_embed_type": "timestep"},
        {"only_cross_attention": [False, True, False], "mid_block_only_cross_attention": True},
        {"only_cross_attention": [False, True, True]},
        {"resnet_time_scale_shift": "default", "act_fn": "silu", "time_embedding_act_fn": None},
        {"time_embedding_dim": 48, "timestep_post_act": "silu", "flip_sin_to_cos": False, "freq_shift": 1},
        {"addition_embed_type": None, "encoder_hid_dim": None, "encoder_hid_dim_type": None},
        {"center_input_sample": True, "conv_in_kernel": 1, "conv_out_kernel": 5, "norm_eps": 1e-3},
        {
            "down_block_types": ["SimpleCrossAttnDownBlock3D", "ResnetDownsampleBlock3D", "ResnetDownsampleBlock3D"],
            "up_block_types": ["ResnetUpsampleBlock3D", "ResnetUpsampleBlock3D", "SimpleCrossAttnUpBlock3D"],
            "block_out_channels": [64, 32, 96],
        },
    ],
    ids=lambda changes: "+".join(changes) or "plain",
)
def test_deepfloyd_family(changes: dict[str, Any]) -> None:
    model = build(SIMPLE, temporal=False, **changes)
    arguments = inputs(model, frames=2)
    assert_close(run(model, arguments), run_frames(image_twin(model), arguments), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_linear_projection": True, "transformer_layers_per_block": [1, 2, 1]},
        {"use_linear_projection": True, "attention_head_dim": [2, 4, 8], "cross_attention_dim": [24, 24, 24]},
        {"only_cross_attention": True},
        {"only_cross_attention": [True, False, False], "mid_block_only_cross_attention": True},
        {"layers_per_block": [2, 1, 1], "mid_block_scale_factor": 1.4, "resnet_time_scale_shift": "scale_shift"},
        {"resnet_skip_time_act": True, "resnet_out_scale_factor": 1.3},
        {"downsample_padding": 0, "class_embed_type": "timestep"},
        {"encoder_hid_dim": 12, "encoder_hid_dim_type": "text_proj", "addition_embed_type": "text"}
        | {"addition_embed_type_num_heads": 4},
    ],
    ids=lambda changes: "+".join(changes) or "plain",
)
def test_stable_diffusion_family(changes: dict[str, Any]) -> None:
    model = build(DIFFUSION, temporal=False, **changes)
    arguments = inputs(model, frames=2)
    assert_close(run(model, arguments), run_frames(image_twin(model), arguments), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("size", [(9, 13), (6, 7)])
def test_odd_sizes_of_the_stable_diffusion_family(size: tuple[int, int], padding: int) -> None:
    model = build(DIFFUSION, temporal=False, downsample_padding=padding)
    arguments = inputs(model, frames=1, size=size)
    assert_close(run(model, arguments), run_frames(image_twin(model), arguments), atol=1e-5, rtol=1e-5)


def test_mixed_families() -> None:
    model = build(
        SIMPLE,
        temporal=False,
        down_block_types=["DownBlock3D", "CrossAttnDownBlock3D", "SimpleCrossAttnDownBlock3D"],
        up_block_types=["ResnetUpsampleBlock3D", "CrossAttnUpBlock3D", "UpBlock3D"],
        attention_head_dim=8,
        resnet_skip_time_act=True,
        resnet_out_scale_factor=1.3,
    )
    arguments = inputs(model, frames=2)
    assert_close(run(model, arguments), run_frames(image_twin(model), arguments), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("transformer_in", [False, True])
def test_temporal_layers_against_the_network_of_modelscope(transformer_in: bool) -> None:
    # with 64 channels, 8 heads of 8 channels: the numbers that the two networks read the other way round
    changes = {"block_out_channels": [64, 64], "attention_head_dim": 8, "norm_num_groups": 32}
    blocks = {
        "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
        "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
    }
    model = build(DIFFUSION, use_linear_projection=True, transfromer_in_opt=transformer_in, **changes, **blocks)
    twin = diffusers.UNet3DConditionModel(
        **changes, **blocks, in_channels=4, out_channels=4, layers_per_block=1, cross_attention_dim=24
    )
    # diffusers lets the config decide, the published code does not
    twin.transformer_in = TransformerTemporalModel(8, 64, in_channels=64, norm_num_groups=32)
    missing, unexpected = twin.eval().load_state_dict(model.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} == (set() if transformer_in else {"transformer_in"})
    if not transformer_in:
        twin.transformer_in = PassOn()
    arguments = inputs(model)
    with torch.no_grad():
        expected = twin.eval()(**arguments).sample
    assert_close(run(model, arguments), expected, atol=1e-5, rtol=1e-5)


class PassOn(torch.nn.Module):
    """In place of diffusers' `transformer_in`."""

    def forward(self, x: Tensor, **_: Any) -> tuple[Tensor]:
        return (x,)


def test_heads_of_the_temporal_transformers() -> None:
    simple = build(SIMPLE, attention_head_dim=16)
    assert simple.mid_block.temp_attentions[0].transformer_blocks[0].attn1.heads == 16
    assert simple.mid_block.attentions[0].heads == 64 // 16
    ours = build(SIMPLE, attention_head_dim=16, temporal_head_dim=32)
    assert ours.mid_block.temp_attentions[0].transformer_blocks[0].attn1.heads == 64 // 32
    diffusion = build(DIFFUSION, attention_head_dim=4)
    assert diffusion.mid_block.temp_attentions[0].transformer_blocks[0].attn1.heads == 4
    assert diffusion.mid_block.attentions[0].transformer_blocks[0].attn1.heads == 4
    named = build(DIFFUSION, attention_head_dim=16, num_attention_heads=8)
    assert named.mid_block.attentions[0].transformer_blocks[0].attn1.heads == 8
