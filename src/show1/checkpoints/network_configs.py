"""Configs of networks, whose numbers are checked before anything is made of them."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from show1.checkpoints.weight_files import read_json
from show1.errors import CheckpointError
from show1.limits import MAX_CONFIG_LAYERS, MAX_CONFIG_LEVELS, MAX_CONFIG_NUMBER


def read_network_config(file: Path) -> dict[str, Any]:
    """Reads a network's `config.json`, whose numbers are checked before a network is made of them.

    Raises:
        CheckpointError: It is missing or not JSON, or asks for more than any network has.
    """
    config = read_json(file)
    layers = 1
    for key, value in config.items():
        numbers = _numbers(value)
        most = MAX_CONFIG_LAYERS if "layers" in key or "padding" in key else MAX_CONFIG_NUMBER
        if isinstance(value, list) and len(value) > MAX_CONFIG_LEVELS:
            raise CheckpointError(f"{file}: {key} has {len(value)} entries, and at most {MAX_CONFIG_LEVELS} are read")
        if odd := [number for number in numbers if not abs(number) <= most]:
            raise CheckpointError(f"{file}: {key} is {str(odd[0])[:20]}, and at most {most} is read; correct it")
        if key == "scaling_factor" and not (isinstance(value, int | float) and value > 0):
            raise CheckpointError(f"{file}: {key} must be a number above 0, got {value!r}; correct it")
        if key in ("layers_per_block", "transformer_layers_per_block", "num_layers", "num_hidden_layers"):
            layers *= int(max(numbers, default=1))
        elif key in ("num_encoder_blocks", "num_decoder_blocks"):
            layers = max(layers, int(sum(numbers)))
        elif key == "block_out_channels":
            layers *= len(numbers)
    if layers > MAX_CONFIG_LAYERS:
        raise CheckpointError(f"{file} asks for {layers} layers, and at most {MAX_CONFIG_LAYERS} are read; correct it")
    return config


def check_tiny_autoencoder(file: Path, config: Mapping[str, Any]) -> None:
    """Makes sure that an `AutoencoderTiny` gives images of three channels and their latents, eight times smaller.

    Args:
        file: Where the config was read from.
        config: The config.

    Raises:
        CheckpointError: It does not.
    """
    for key in ("in_channels", "out_channels"):
        if config.get(key, 3) != 3:
            raise CheckpointError(f"{file}: {key} must be 3, got {config[key]!r}; correct it")
    if config.get("upsampling_scaling_factor", 2) != 2:
        raise CheckpointError(f"{file}: upsampling_scaling_factor must be 2; correct it")
    if config.get("upsample_fn", "nearest") not in (modes := ("nearest", "nearest-exact", "bilinear", "bicubic")):
        raise CheckpointError(f"{file}: upsample_fn must be one of {', '.join(modes)}; correct it")
    for coder in ("encoder", "decoder"):
        widths, blocks = config.get(f"{coder}_block_out_channels"), config.get(f"num_{coder}_blocks")
        if widths is not None and not (_whole(widths, least=1) and len(widths) == 4 and len(set(widths)) == 1):
            got = str(widths)[:40]
            raise CheckpointError(
                f"{file}: {coder}_block_out_channels must be four equal whole numbers, got {got}; correct it"
            )
        if blocks is not None and not (_whole(blocks, least=0) and len(blocks) == 4):
            raise CheckpointError(
                f"{file}: num_{coder}_blocks must be four whole numbers, at least 0, got {str(blocks)[:40]}; correct it"
            )


def _whole(value: Any, *, least: int) -> bool:
    """Whether a value is a list of whole numbers of some size."""
    return isinstance(value, list) and all(type(number) is int and number >= least for number in value)


def check_kinds(file: Path, config: Mapping[str, Any], cls: type[Any]) -> None:
    """Makes sure that the numbers of a config are of the kinds that a class has by default.

    Args:
        file: Where the config was read from.
        config: The config.
        cls: What is to be made of it, by keywords: the class of a network, or of its config.

    Raises:
        CheckpointError: One is not.
    """
    for key, parameter in inspect.signature(cls).parameters.items():
        value, known = config.get(key), parameter.default
        if value is None or isinstance(value, list):  # one per level
            continue
        if type(known) is int and (type(value) is not int or value < 0 <= known):
            raise CheckpointError(f"{file}: {key} must be a whole number, at least 0, got {value!r}; correct it")
        if type(known) is float and type(value) not in (int, float):
            raise CheckpointError(f"{file}: {key} must be a number, got {value!r}; correct it")


def _numbers(value: Any) -> list[float]:
    """The numbers in a value of a config and in its lists."""
    if isinstance(value, list | dict):
        inside = value.values() if isinstance(value, dict) else value
        return [number for each in inside for number in _numbers(each)]
    return [value] if isinstance(value, int | float) else []
