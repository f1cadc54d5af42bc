"""Chooses the class of an image autoencoder from its config."""

from collections.abc import Mapping
from typing import Any

from diffusers import AutoencoderKL, AutoencoderTiny, ModelMixin


def autoencoder_class(config: Mapping[str, Any]) -> type[ModelMixin]:
    """The class of an autoencoder by its config: a KL-VAE, unless it says that it is a tiny one."""
    kind: type[ModelMixin] = AutoencoderTiny if config.get("_class_name") == "AutoencoderTiny" else AutoencoderKL
    return kind
