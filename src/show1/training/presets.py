"""Architectures of fresh networks, and the clips that they learn from.

`mini` is the embedded cascade, `mini-fast` has the smaller expert of `mini:fast`, `show-1` is the published cascade
(arXiv:2309.15818). docs/train.md has their parameters.
"""

from dataclasses import dataclass
from typing import Any

from show1.data.clips import ClipView
from show1.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The networks of a cascade and what each training task sees of a clip."""

    networks: dict[str, dict[str, Any]]
    """Config of each part: the four stages, "vae", and "text" where the preset has a text encoder of its own."""

    views: dict[str, ClipView]
    """Frames and sizes of each task."""

    text_tokens: int = 77
    """Tokens of a prompt, for fresh text encoders."""

    def network(self, part: str) -> dict[str, Any]:
        """Gives the config of a part.

        Raises:
            InputError: The preset has no such network.
        """
        if part not in self.networks:
            raise InputError(f"network: this preset has no {part} network; name a folder that holds one (--{part})")
        return self.networks[part]


def preset(name: str) -> Preset:
    """Finds a preset.

    Raises:
        InputError: There is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"network: unknown preset {name!r}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]


def _views(pixels: tuple[int, int], enlarged: tuple[int, int], translated: tuple[int, int]) -> dict[str, ClipView]:
    """The tasks' views of clips of 29 frames, 8 of which are keyframes, at a cascade's sizes (height, width)."""

    def view(num_frames: int, size: tuple[int, int], **options: Any) -> ClipView:
        return ClipView(num_frames=num_frames, height=size[0], width=size[1], **options)

    return {
        "keyframe_images": view(29, pixels, window=1),
        "keyframes": view(8, pixels),
        "interpolation": view(29, pixels, window=5, window_stride=4),
        "super_resolution_images": view(29, enlarged, window=1, low=pixels),
        "super_resolution": view(29, enlarged, window=8, low=pixels),
        "vae": view(29, translated, window=1),
        "tiny_vae": view(29, translated, window=1),
        "translation_images": view(29, translated, window=1),
        "translation": view(29, translated),
    }


_SIMPLE: dict[str, Any] = {
    "down_block_types": ["ResnetDownsampleBlock3D", "SimpleCrossAttnDownBlock3D", "SimpleCrossAttnDownBlock3D"],
    "mid_block_type": "UNetMidBlock3DSimpleCrossAttn",
    "up_block_types": ["SimpleCrossAttnUpBlock3D", "SimpleCrossAttnUpBlock3D", "ResnetUpsampleBlock3D"],
    "act_fn": "silu",
    "norm_num_groups": 8,
    "cross_attention_dim": 128,
    "encoder_hid_dim": 128,
    "encoder_hid_dim_type": "text_proj",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "attention_head_dim": 32,
    "temporal_head_dim": 32,
    "resnet_time_scale_shift": "scale_shift",
    "cross_attention_norm": "layer_norm",
    "out_channels": 3,
}

_VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}

_MINI: dict[str, dict[str, Any]] = {
    "keyframes": _SIMPLE
    | {
        "sample_size": 32,
        "in_channels": 3,
        "block_out_channels": [32, 64, 128],
        "layers_per_block": [1, 2, 2],
        "embed_frames": True,
        "embed_places": True,
    },
    "interpolation": _SIMPLE
    | {
        "sample_size": 32,
        "in_channels": 7,
        "block_out_channels": [32, 64, 64],
        "layers_per_block": 1,
        "embed_frames": True,
    },
    "super_resolution": _SIMPLE
    | {
        "sample_size": 128,
        "in_channels": 6,
        "patch_size": 2,
        "block_out_channels": [32, 64, 96, 96],
        "layers_per_block": [1, 2, 1, 1],
        "down_block_types": ["ResnetDownsampleBlock3D"] * 3 + ["SimpleCrossAttnDownBlock3D"],
        "up_block_types": ["SimpleCrossAttnUpBlock3D"] + ["ResnetUpsampleBlock3D"] * 3,
        "only_cross_attention": True,
        "class_embed_type": "timestep",
    },
    "translation": {
        "sample_size": 32,
        "in_channels": 16,
        "out_channels": 16,
        "block_out_channels": [32, 64, 96],
        "down_block_types": ["DownBlock3D", "CrossAttnDownBlock3D", "CrossAttnDownBlock3D"],
        "up_block_types": ["CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "UpBlock3D"],
        "layers_per_block": 1,
        "cross_attention_dim": 128,
        "attention_head_dim": 32,
        "norm_num_groups": 8,
    },
    "vae": _VAE
    | {
        "latent_channels": 16,
        "block_out_channels": [16, 32, 64, 64],
        "layers_per_block": 1,
        "norm_num_groups": 2,
        "mid_block_add_attention": False,
        "sample_size": 256,
    },
    "tiny_vae": {
        "encoder_block_out_channels": [16] * 4,
        "num_encoder_blocks": [0, 1, 2, 3],
        "decoder_block_out_channels": [16] * 4,
        "num_decoder_blocks": [3, 3, 2, 0],
    },
    "text": {
        "d_model": 128,
        "d_kv": 32,
        "d_ff": 256,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
    },
}

_MINI_FAST: dict[str, dict[str, Any]] = {
    **_MINI,
    "translation": _MINI["translation"] | {"block_out_channels": [32, 32, 64], "attention_head_dim": 16},
}

_PUBLISHED_PIXEL: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 3,
    "out_channels": 6,  # with the learned variance
    "block_out_channels": [320, 640, 960, 1280],
    "layers_per_block": 3,
    "down_block_types": ["ResnetDownsampleBlock3D"] + ["SimpleCrossAttnDownBlock3D"] * 3,
    "mid_block_type": "UNetMidBlock3DSimpleCrossAttn",
    "up_block_types": ["SimpleCrossAttnUpBlock3D"] * 3 + ["ResnetUpsampleBlock3D"],
    "act_fn": "gelu",
    "time_embedding_act_fn": "gelu",
    "cross_attention_dim": 1280,
    "encoder_hid_dim": 4096,
    "encoder_hid_dim_type": "text_proj",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 64,
    "attention_head_dim": 64,
    "resnet_time_scale_shift": "scale_shift",
    "cross_attention_norm": "group_norm",
}

_PUBLISHED: dict[str, dict[str, Any]] = {
    "keyframes": _PUBLISHED_PIXEL,  # show-1-base: 1.727 billion parameters
    "interpolation": _PUBLISHED_PIXEL | {"in_channels": 7},  # show-1-interpolation: 1.727 billion
    # show-1-sr1: 0.783 billion, so its pixels also attend to one another (only_cross_attention: 0.766 billion)
    "super_resolution": _PUBLISHED_PIXEL
    | {
        "sample_size": 256,
        "in_channels": 6,
        "block_out_channels": [128, 256, 512, 768, 768],
        "layers_per_block": [2, 2, 3, 4, 2],
        "down_block_types": ["ResnetDownsampleBlock3D"] * 3 + ["SimpleCrossAttnDownBlock3D"] * 2,
        "up_block_types": ["SimpleCrossAttnUpBlock3D"] * 2 + ["ResnetUpsampleBlock3D"] * 3,
        "cross_attention_dim": 768,
        "class_embed_type": "timestep",
        "resnet_skip_time_act": True,
    },
    "translation": {  # show-1-sr2: 1.411 billion
        "sample_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock3D"] * 3 + ["DownBlock3D"],
        "up_block_types": ["UpBlock3D"] + ["CrossAttnUpBlock3D"] * 3,
        "layers_per_block": 2,
        "cross_attention_dim": 1024,
        "attention_head_dim": 64,
    },
    "vae": _VAE  # 0.084 billion
    | {
        "latent_channels": 4,
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "sample_size": 512,
    },
    "tiny_vae": {},  # TAESD, which diffusers' class is by default: 2.4 million
}

_MINI_VIEWS = _views((20, 32), (80, 128), (160, 256))

PRESETS: dict[str, Preset] = {
    "mini": Preset(networks=_MINI, views=_MINI_VIEWS, text_tokens=24),
    "mini-fast": Preset(networks=_MINI_FAST, views=_MINI_VIEWS, text_tokens=24),
    "show-1": Preset(networks=_PUBLISHED, views=_views((40, 64), (160, 256), (320, 576))),
}
"""The presets by name."""
