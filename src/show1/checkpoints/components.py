"""The components of a stage's folder: networks and scheduler configs, as the stage table lists them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from diffusers import UNet3DConditionModel as LatentUNet3DConditionModel
from torch import Tensor, nn

from show1.checkpoints.loading import load_network, read_scheduler_config
from show1.errors import CheckpointError
from show1.networks.unet_3d_condition import UNet3DConditionModel
from show1.stage_table import STAGE_TABLE, ComponentKind, StageRow

NETWORK_CLASSES: dict[ComponentKind, type[ModelMixin]] = {
    "pixel_unet": UNet3DConditionModel,
    "latent_unet": LatentUNet3DConditionModel,
    "image_unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
}
"""The class of each kind of network."""


def load_components(
    row: StageRow,
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    variant: str | None = None,
    deltas: Mapping[str, Tensor] | None = None,
    unet: nn.Module | None = None,
    streamed: bool = False,
    fp8: bool = False,
) -> dict[str, Any]:
    """Loads all components of a stage; optional ones that are not there are left out.

    Args:
        row: The stage.
        folder: Folder of the stage, with the components' subfolders.
        dtype: Precision of the weights.
        device: Device of the weights.
        variant: Weight files to prefer.
        deltas: Changes of the UNet's weights by name, float32, added before the cast to `dtype`.
        unet: The UNet, if it is loaded already.
        streamed: Whether weights stay in the files, and each layer reads its own whenever it runs.
        fp8: Whether the UNet's weights are stored as 8-bit floats, if they are not streamed.

    Returns:
        Networks and scheduler configs by the component's name.

    Raises:
        CheckpointError: A file is missing, partial, corrupt or of the wrong shape, or the network is one of another
            stage.
    """
    place: dict[str, Any] = {"dtype": dtype, "device": device, "variant": variant, "streamed": streamed}
    loaded: dict[str, Any] = {}
    own: dict[str, Any]
    for component in row.components:
        path = folder / component.name
        if component.optional and not path.is_dir():
            continue
        if not component.has_weights:
            loaded[component.name] = read_scheduler_config(path)
        elif component == row.unet and unet is not None:
            loaded[component.name] = unet
        else:
            own = {"deltas": deltas, "fp8": fp8} if component == row.unet else {}
            loaded[component.name] = load_network(NETWORK_CLASSES[component.kind], path, **place, **own)
    check_channels(row, folder, loaded)
    return loaded


def check_channels(row: StageRow, folder: Path, networks: Mapping[str, Any]) -> None:
    """Makes sure that a network belongs to its stage.

    Args:
        row: The stage.
        folder: Folder of the stage, with the components' subfolders.
        networks: The stage's networks by the component's name, on any device.

    Raises:
        CheckpointError: The UNet takes another number of channels.
    """
    got = networks["unet"].config.in_channels
    expected = networks["vae"].config.latent_channels if row.in_channels is None else row.in_channels
    if got == expected:
        return
    other = next((r.name for r in STAGE_TABLE.values() if r.in_channels == got), None)
    as_other = f" (as one of the stage {other!r} does)" if other is not None else ""
    raise CheckpointError(
        f"{folder / 'unet'} takes {got} channels{as_other}, but a network of the stage {row.name!r} takes {expected}; "
        "give the folder of that stage"
    )


def text_width(config: Any) -> int | None:
    """Returns the channels of the text states that a network reads; None if they differ from layer to layer."""
    width = getattr(config, "encoder_hid_dim", None) or config.cross_attention_dim
    return width if isinstance(width, int) else None


def check_text_width(network: object, expected: int | None, got: int) -> None:
    """Makes sure that a network takes what its text encoder gives.

    Args:
        network: Its folder or description, for the message.
        expected: Channels that the network reads; None if they differ from layer to layer.
        got: Channels of the text encoder's states.

    Raises:
        CheckpointError: The widths differ.
    """
    if expected is not None and expected != got:
        raise CheckpointError(
            f"{network} takes text states of width {expected}, but the text encoder gives {got}: they do not belong to "
            "the same model; give the stage's folder its own text_encoder/ and tokenizer/"
        )
