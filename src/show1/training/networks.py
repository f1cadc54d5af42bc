"""Fresh networks for training, and networks made from others (inflation, added inputs)."""

from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers import UNet3DConditionModel as LatentUNet
from torch import nn

from show1.errors import InputError
from show1.networks import UNet3DConditionModel
from show1.networks.layers import use_frame_convolutions

MINI_TEXT_TOKENS = 24
"""Tokens of a prompt of the embedded cascade."""

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

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "mini": {
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
        "vae": {
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 16,
            "block_out_channels": [16, 32, 64, 64],
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4,
            "layers_per_block": 1,
            "norm_num_groups": 2,
            "mid_block_add_attention": False,
            "sample_size": 256,
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
}
"""Configs of fresh networks: preset -> part -> config."""

SCHEDULERS: dict[str, dict[str, Any]] = {
    "pixel": {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"},
    "latent": {
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
    },
}
"""Noise schedules: those of the published stages (pixel: cosine, latent: scaled linear)."""

SAMPLER: dict[str, Any] = {
    "_class_name": "DPMSolverMultistepScheduler",
    "timestep_spacing": "trailing",
    "final_sigmas_type": "zero",
    "euler_at_final": True,
    "lambda_min_clipped": -5.1,
}
"""How the exports of trainings sample: from the last timestep (arXiv:2305.08891), with a last step of first order."""


def preset(name: str, part: str) -> dict[str, Any]:
    """The config of a part of a preset.

    Raises:
        InputError: There is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"network: unknown preset {name!r}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name][part]


def fresh_pixel_unet(
    name: str, part: str, text_width: int, *, temporal: bool, add_condition: bool = False
) -> UNet3DConditionModel:
    """A pixel UNet with random weights, for text states of `text_width` channels; one that adds its condition starts as
    that condition."""
    config = {**preset(name, part), "encoder_hid_dim": text_width, "add_condition": add_condition}
    model: UNet3DConditionModel = UNet3DConditionModel(**config, temporal=temporal)
    if add_condition:
        _give_the_condition(model)
    return model


def adapt_pixel_unet(
    source: UNet3DConditionModel, *, add_condition: bool = False, **changes: Any
) -> UNet3DConditionModel:
    """A network of another config that starts as `source`: inflation, or more input channels.

    New temporal layers and embeddings start as the identity, weights of new input channels as zero: so the new network
    computes what the old one did (section 3.2 of arXiv:2309.15818; arXiv:2209.14792 for inflation). One that is to add
    its condition, where the source did not, starts as that condition.

    Args:
        source: An image or video network.
        add_condition: Whether the new network adds its condition; it does in any case where the source does.
        changes: Config keys that differ, such as `temporal=True`, `in_channels=7`.
    """
    config = {k: v for k, v in source.config.items() if not k.startswith("_")}
    adds = source.config.add_condition
    config |= {**changes, "add_condition": add_condition or adds}
    model: UNet3DConditionModel = UNet3DConditionModel(**config)
    state = dict(source.state_dict())
    weight = state["conv_in.weight"]
    if model.conv_in.weight.shape[1] > weight.shape[1]:
        wide = torch.zeros_like(model.conv_in.weight)
        wide[:, : weight.shape[1]] = weight
        state["conv_in.weight"] = wide
    missing, unexpected = model.load_state_dict(state, strict=False)
    new = set(model.temporal_parameters()) - set(source.temporal_parameters())
    new |= {name for name in missing if name.startswith("place_embeddings.")}  # also the identity at first
    if odd := sorted(set(missing) - new) or sorted(unexpected):
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise InputError(f"init: the network cannot become one with {changes}: {', '.join(odd[:3])}{more}")
    if add_condition and not adds:
        _give_the_condition(model)
    return model


def _give_the_condition(model: UNet3DConditionModel) -> None:
    for parameter in model.conv_out.parameters():
        nn.init.zeros_(parameter)


def fresh_latent_unet(name: str, text_width: int, channels: int) -> nn.Module:
    """A latent video UNet of diffusers; its temporal layers start as the identity.

    Args:
        name: Preset.
        text_width: Channels of the text states.
        channels: Of the latents.
    """
    sizes = {"cross_attention_dim": text_width, "in_channels": channels, "out_channels": channels}
    model = LatentUNet(**{**preset(name, "translation"), **sizes})
    use_frame_convolutions(model)
    for module in model.modules():
        if type(module).__name__ == "TransformerTemporalModel":
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)
    return model  # type: ignore[no-any-return]


def fresh_vae(name: str) -> nn.Module:
    """An image autoencoder with random weights."""
    model = AutoencoderKL(**preset(name, "vae"))
    # a posterior of standard deviation 1 would drown the means at the start
    nn.init.constant_(model.quant_conv.bias[model.config.latent_channels :], -4.0)
    return model  # type: ignore[no-any-return]


def fresh_text_encoder(name: str, vocab_size: int) -> nn.Module:
    """A T5 encoder with random weights."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(**preset(name, "text"), vocab_size=vocab_size, is_encoder_decoder=False, use_cache=False)
    model = T5EncoderModel(config)
    nn.init.normal_(model.shared.weight, std=1.0)
    return model  # type: ignore[no-any-return]


def word_tokenizer(words: list[str]) -> Any:
    """A word-level tokenizer in lower case: `<pad>`, `</s>`, `<unk>`, then the words; every text ends with `</s>`."""
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "</s>", "<unk>"]
    vocabulary = {word: i for i, word in enumerate([*specials, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = _normalizer(), _splitter()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MINI_TEXT_TOKENS,
    )


def split_words(text: str) -> list[str]:
    """The words of a text, as `word_tokenizer` sees them."""
    return [word for word, _ in _splitter().pre_tokenize_str(_normalizer().normalize_str(text))]


def _normalizer() -> Any:
    from tokenizers import normalizers

    return normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])


def _splitter() -> Any:
    from tokenizers import Regex, pre_tokenizers

    punctuation = pre_tokenizers.Split(pattern=Regex(r"[^\w]+"), behavior="removed")
    return pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), punctuation])
