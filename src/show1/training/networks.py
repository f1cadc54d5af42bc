"""Fresh networks for training, and networks made from others (inflation, added inputs)."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers import UNet3DConditionModel as LatentUNet
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import nn

from show1.errors import InputError
from show1.networks import UNet3DConditionModel
from show1.networks.latent_unet import latent_unet_class
from show1.networks.layers import use_frame_convolutions


def fresh_pixel_unet(
    config: Mapping[str, Any], text_width: int, *, add_condition: bool = False, **changes: Any
) -> UNet3DConditionModel:
    """Makes a pixel UNet with random weights.

    Args:
        config: Its config, of a preset.
        text_width: Channels of the text states.
        add_condition: Whether it adds its condition to its output; it then starts as that condition.
        changes: Config keys that differ, such as `temporal=True`: layers over frames.
    """
    options = {**config, **changes, "encoder_hid_dim": text_width, "add_condition": add_condition}
    model: UNet3DConditionModel = UNet3DConditionModel(**options)
    if add_condition:
        _start_as_the_condition(model)
    return model


def adapt_pixel_unet(
    source: UNet3DConditionModel, *, add_condition: bool = False, **changes: Any
) -> UNet3DConditionModel:
    """Makes a network of another config that starts as `source`: inflation, no layers over frames, or more inputs.

    New temporal layers and embeddings start as the identity and weights of new input channels as zero, so the new
    network computes what the old one did (section 3.2 of arXiv:2309.15818; arXiv:2209.14792 for inflation). If it adds
    its condition and the source did not, it starts as that condition. With `temporal=False` it computes single frames
    as a video network does without its layers over frames.

    Args:
        source: An image or video network.
        add_condition: Whether the new network adds its condition; it always does if the source does.
        changes: Config keys that differ, such as `temporal=True`, `in_channels=7`.

    Raises:
        InputError: The source has other layers than the new network.
    """
    config = {k: v for k, v in source.config.items() if not k.startswith("_")}
    adds = source.config.add_condition
    config |= {**changes, "add_condition": add_condition or adds}
    model: UNet3DConditionModel = UNet3DConditionModel(**config)
    state = dict(source.state_dict())
    if not model.temporal_parameters():
        left_out = source.temporal_parameters()
        state = {name: value for name, value in state.items() if name not in left_out}
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
        raise InputError(f"init: the network cannot be converted to one with {changes}: {', '.join(odd[:3])}{more}")
    if add_condition and not adds:
        _start_as_the_condition(model)
    return model


def take_temporal_layers(model: UNet3DConditionModel, source: UNet3DConditionModel) -> list[str]:
    """Gives a video network the layers over frames of another one, whose other layers may differ; lists their names.

    Raises:
        InputError: The other one has no such layers, or they are of other sizes.
    """
    own, others = model.temporal_parameters(), source.temporal_parameters()
    if {name: p.shape for name, p in own.items()} != {name: p.shape for name, p in others.items()}:
        raise InputError(
            "temporal_init: its layers over frames do not fit the network of init; name keyframes of one shape"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(others[name])
    return list(own)


def _start_as_the_condition(model: UNet3DConditionModel) -> None:
    """Zeroes the last layer, to whose output the condition is added."""
    for parameter in model.conv_out.parameters():
        nn.init.zeros_(parameter)


def fresh_latent_unet(config: Mapping[str, Any], text_width: int, channels: int, **embeddings: bool) -> nn.Module:
    """Makes a latent video UNet with random weights; its temporal layers start as the identity.

    Args:
        config: Its config, of a preset.
        text_width: Channels of the text states.
        channels: Channels of the latents.
        **embeddings: `embed_frames` and `embed_places`, if it is to have them.
    """
    sizes = {"cross_attention_dim": text_width, "in_channels": channels, "out_channels": channels}
    model = _latent_unet({**config, **sizes, **embeddings})
    use_frame_convolutions(model)
    for module in model.modules():
        if isinstance(module, TransformerTemporalModel):
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)
    return model  # type: ignore[no-any-return]


def embedded_latent_unet(source: nn.Module, **embeddings: bool) -> nn.Module:
    """A latent video UNet with embeddings that starts as `source`: those that it has not yet are the identity.

    Args:
        source: The network.
        **embeddings: `embed_frames` and `embed_places`, if it is to have them beside those of the source.
    """
    known: Any = source.config
    config = {name: value for name, value in known.items() if not name.startswith("_")}
    wanted = {name: asked or bool(config.get(name)) for name, asked in embeddings.items()}
    if not any(asked and not config.get(name) for name, asked in wanted.items()):
        return source
    model = _latent_unet({**config, **wanted})
    use_frame_convolutions(model)
    missing, _ = model.load_state_dict(source.state_dict(), strict=False)
    assert all(name.startswith(("frame_embedding.", "place_embeddings.")) for name in missing)
    return model


def _latent_unet(config: Mapping[str, Any]) -> nn.Module:
    """Makes the network; diffusers' own class knows no embeddings, not even that it has none."""
    kind = latent_unet_class(config)
    known = config if kind is not LatentUNet else {k: v for k, v in config.items() if not k.startswith("embed_")}
    return kind(**known)  # type: ignore[no-any-return]


def fresh_vae(config: Mapping[str, Any]) -> nn.Module:
    """Makes an image autoencoder with random weights from a preset's config."""
    model = AutoencoderKL(**config)
    # a posterior of standard deviation 1 would drown the means at the start
    nn.init.constant_(model.quant_conv.bias[model.config.latent_channels :], -4.0)
    return model  # type: ignore[no-any-return]


def fresh_tiny_vae(config: Mapping[str, Any], channels: int) -> nn.Module:
    """Makes a tiny autoencoder with random weights.

    Args:
        config: Its config, of a preset.
        channels: Channels of the latents.
    """
    return AutoencoderTiny(**config, latent_channels=channels)  # type: ignore[no-any-return]


def fresh_text_encoder(config: Mapping[str, Any], vocab_size: int) -> nn.Module:
    """Makes a T5 encoder with random weights from a preset's config."""
    from transformers import T5Config, T5EncoderModel

    model = T5EncoderModel(T5Config(**config, vocab_size=vocab_size, is_encoder_decoder=False, use_cache=False))
    nn.init.normal_(model.shared.weight, std=1.0)
    return model  # type: ignore[no-any-return]
