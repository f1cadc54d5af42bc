"""What the parts of a cascade take of memory, found by tracing their networks without weights."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from show1.checkpoints.cascade import Part
from show1.checkpoints.components import NETWORK_CLASSES, text_width
from show1.checkpoints.loading import build_empty
from show1.checkpoints.storage import (
    TextStorage,
    fp8_bytes,
    largest_layer_bytes,
    quantized_bytes,
    weight_bytes,
)
from show1.config import CascadeSettings, StageName, StageSettings
from show1.errors import CheckpointError, reason_of
from show1.runtime.plan import Need
from show1.runtime.tracing import peak_of_call
from show1.stage_table import STAGE_TABLE, parts_of
from show1.text.encoder import build_empty_text_encoder, float32_layers

_TEXT_WIDTH = 1024  # of networks that read another width in each layer; it hardly changes the peak


def stage_need(
    name: StageName,
    parts: Mapping[str, Part],
    settings: CascadeSettings,
    *,
    frames: int,
    prompts: int,
    dtype: torch.dtype,
    fp8: bool = False,
) -> Need:
    """What a stage takes, together with its optional parts.

    Args:
        name: Its name in the stage table.
        parts: The files of the cascade's stages and parts, by name.
        settings: Of all stages.
        frames: Frames of its output.
        prompts: How many it computes.
        dtype: Precision of the networks.
        fp8: Whether the weights of its UNet are stored as 8-bit floats.

    Raises:
        CheckpointError: A config is missing, or describes a network that does not work.
    """
    options: dict[str, Any] = {"frames": frames, "prompts": prompts, "dtype": dtype}
    need = _need(name, parts[name].path, settings, getattr(settings, name), **options, fp8=fp8)
    for part in parts_of([name]):
        own = getattr(getattr(settings, name), part, None)
        if part in parts and own is not None:
            extra = _need(part, parts[part].path, settings, own, **options)
            need = dataclasses.replace(
                need,
                weights=need.weights + extra.weights,
                largest_layer=max(need.largest_layer, extra.largest_layer),
                other=max(need.other, extra.row * extra.samples * (2 if extra.guided else 1)),
            )
    return need


def _need(
    name: str,
    folder: Path,
    settings: CascadeSettings,
    own: StageSettings,
    *,
    frames: int,
    prompts: int,
    dtype: torch.dtype,
    fp8: bool = False,
) -> Need:
    """What a stage alone, or an optional part of one, takes; see `stage_need`."""
    row = STAGE_TABLE[name]
    _, height, width = row.output_shape(frames, settings)
    per_prompt, length = row.largest_call(frames, settings)
    networks = {c.name: _empty(c.kind, folder / c.name, dtype) for c in row.components if c.has_weights}
    unet, vae = networks["unet"], networks.get("vae")
    if vae is not None:
        scale = 2 ** (len(vae.config.block_out_channels) - 1)
        size: tuple[int, ...] = (length, height // scale, width // scale)
        other = max(_peak(folder, vae, c) for c in _coding_calls(vae, (height, width), scale))
    else:
        size, other = (length, height, width), 0
    if row.unet.kind == "image_unet":
        size = size[1:]
    row_peak = _peak(folder, unet, functools.partial(call_unet, unet, size, settings.max_text_tokens))
    largest = max(largest_layer_bytes(network) for network in networks.values())
    weights = sum(weight_bytes(network) for network in networks.values())
    if fp8:  # one layer at a time has its weights in full as well
        weights += fp8_bytes(unet, dtype) + largest - sum(p.numel() * dtype.itemsize for p in unet.parameters())
    return Need(
        weights=weights,
        largest_layer=largest,
        row=row_peak,
        samples=min(prompts * per_prompt, own.max_batch or prompts * per_prompt),
        guided=own.guidance_scale != 1 and not own.guides_in_two_calls,
        other=other,
    )


def text_need(folder: Path, length: int, *, dtype: torch.dtype, stored: TextStorage | None = None) -> Need:
    """What a text encoder takes for one prompt.

    Args:
        folder: Holds `text_encoder/`.
        length: Tokens of a prompt.
        dtype: Precision of the network.
        stored: How the weights of its linear layers are stored; None: as they are computed.

    Raises:
        CheckpointError: The config is missing, or describes a network that does not work.
    """
    network = nn.Module.to(build_empty_text_encoder(folder / "text_encoder"), dtype)
    config: Any = network.config
    length = min(length, getattr(config, "max_position_embeddings", length))
    tokens = torch.ones(1, length, dtype=torch.long, device="meta")
    kept = float32_layers(network, dtype)
    return Need(
        weights=weight_bytes(network) if stored is None else quantized_bytes(network, stored, kept),
        largest_layer=largest_layer_bytes(network),
        row=_peak(folder, network, functools.partial(network, input_ids=tokens)),
    )


def _empty(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    return nn.Module.to(build_empty(NETWORK_CLASSES[kind], folder), dtype).eval()


def call_unet(unet: Any, size: tuple[int, ...], tokens: int, *, rows: int = 1, device: str = "meta") -> object:
    """Calls a UNet of a stage with zeros.

    Args:
        unet: The network.
        size: (F, H, W) of its samples, or (H, W) of an image network.
        tokens: Tokens of the prompts.
        rows: Rows of the call.
        device: Where the network is.
    """
    make = functools.partial(torch.zeros, dtype=unet.dtype, device=device)
    labels = {"class_labels": torch.zeros(rows, device=device)} if unet.config.get("class_embed_type") else {}
    text = make(rows, tokens, text_width(unet.config) or _TEXT_WIDTH)
    sample, step = make(rows, unet.config.in_channels, *size), torch.zeros((), device=device)
    return unet(sample, step, encoder_hidden_states=text, return_dict=False, **labels)


def _coding_calls(vae: Any, size: tuple[int, int], scale: int) -> list[Callable[[], object]]:
    """A frame to latents, and latents to a frame."""
    make = functools.partial(torch.empty, dtype=vae.dtype, device="meta")
    frame, latents = make(1, 3, *size), make(1, vae.config.latent_channels, *(side // scale for side in size))
    return [lambda: vae.encode(frame, return_dict=False), lambda: vae.decode(latents, return_dict=False)]


def _peak(folder: Path, network: nn.Module, call: Callable[[], object]) -> int:
    try:
        return peak_of_call(network, call)
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(
            f"{folder} describes a network that does not work ({reason_of(error):.200}); correct its config.json"
        ) from error
