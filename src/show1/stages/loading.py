"""Reads a stage's parts from a folder of the published layout."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from show1.errors import CheckpointError


def load_unet(path: str | Path, *, dtype: torch.dtype, device: torch.device | str) -> nn.Module:
    """Loads the pixel UNet of a stage's folder, in evaluation mode."""
    from show1.models import UNet3DConditionModel

    return _load(UNet3DConditionModel, Path(path) / "unet", dtype=dtype, device=device)


def load_latent_unet(path: str | Path, *, dtype: torch.dtype, device: torch.device | str) -> nn.Module:
    """Loads diffusers' latent UNet of the translation stage's folder, in evaluation mode."""
    from diffusers import UNet3DConditionModel

    return _load(UNet3DConditionModel, Path(path) / "unet", dtype=dtype, device=device)


def load_vae(path: str | Path, *, dtype: torch.dtype, device: torch.device | str) -> nn.Module:
    """Loads the VAE of the translation stage's folder, in evaluation mode."""
    from diffusers import AutoencoderKL

    return _load(AutoencoderKL, Path(path) / "vae", dtype=dtype, device=device)


def load_scheduler_config(path: str | Path, subfolder: str = "scheduler") -> dict[str, Any]:
    """Reads a scheduler's config.

    Raises:
        CheckpointError: The file is missing or is not a config.
    """
    file = Path(path) / subfolder / "scheduler_config.json"
    try:
        config = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} is missing; download the model again, or complete the folder") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); download the model again") from error
    if not isinstance(config, dict) or "_class_name" not in config:
        raise CheckpointError(f"{file} is no scheduler config: it has no _class_name; download the model again")
    return config


def _load(cls: Any, folder: Path, *, dtype: torch.dtype, device: torch.device | str) -> nn.Module:
    try:
        model: nn.Module = cls.from_pretrained(folder, torch_dtype=dtype)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"{folder} cannot be loaded as {cls.__name__}: {error}; download the model again, or complete the folder"
        ) from error
    return model.to(device).eval()
