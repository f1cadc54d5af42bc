"""Networks of experts whose weights take fewer bits: GGUF files, and the layers of bitsandbytes."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
from torch import nn

from show1.checkpoints.storage import fill_quantized, quantized_bytes, weight_bytes
from show1.checkpoints.weight_files import GGUF, pick_weights
from show1.errors import CheckpointError, MissingDependencyError

Bits = Literal["int8", "int4"]
"""How linear layers are stored by bitsandbytes."""

_KEPT = ("patch_embed", "patch_embedding", "condition_embedder", "time_embed", "time_embedding", "proj_out", "norm_out")
"""Layers that keep their precision: they are small, and what they compute is felt everywhere."""


def read_gguf(cls: Any, folder: Path, file: Path, dtype: torch.dtype) -> nn.Module:
    """Reads a network from a GGUF file, whose blocks stay as they are until a layer runs.

    Args:
        cls: The network's class in diffusers.
        folder: Holds its `config.json`.
        file: The weights, by diffusers' names or those of the network's authors.
        dtype: Precision in which it computes.

    Raises:
        MissingDependencyError: The package gguf is not installed.
        CheckpointError: diffusers cannot read this network from one file.
    """
    check_gguf(cls, file)
    packed = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
    known = {"config": str(folder), "local_files_only": True, "torch_dtype": dtype}
    network: nn.Module = cls.from_single_file(str(file), quantization_config=packed, **known)
    if missing := [name for name, p in network.named_parameters() if p.device.type == "meta"]:
        raise CheckpointError(f"{file} lacks {missing[0]}; it is of another network, or damaged")
    return network


def check_gguf(cls: Any, file: Path) -> None:
    """Makes sure that a network can be read from a GGUF file; reads none of its weights.

    Raises:
        MissingDependencyError: The package gguf is not installed.
        CheckpointError: diffusers cannot read this network from one file.
    """
    if importlib.util.find_spec("gguf") is None:
        raise MissingDependencyError(f"{file} needs the package gguf: pip install 'show1[gguf]', or use safetensors")
    if not hasattr(cls, "from_single_file"):
        raise CheckpointError(f"{file}: diffusers reads no {cls.__name__} from a GGUF file; use safetensors")


def gguf_of(folder: Path) -> Path | None:
    """The GGUF file that holds the weights of a component; None: they are in other files."""
    names = pick_weights([file.name for file in folder.iterdir()]) if folder.is_dir() else []
    return folder / names[0] if names and names[0].endswith(GGUF) else None


def pack(network: nn.Module, bits: Bits) -> None:
    """Replaces the linear layers of a network by those of bitsandbytes, on the CPU; it is changed in place."""
    check_bits(bits)
    fill_quantized(network, dict(network.named_parameters()), kind=bits, device="cpu", kept=_kept(network))


def packed_bytes(network: nn.Module, bits: Bits) -> int:
    """Bytes that the weights of a network take after `pack`. It is not changed."""
    return quantized_bytes(network, bits, _kept(network))


def _kept(network: Any) -> tuple[str, ...]:
    """Parts of the names of layers that are not packed; of text encoders, those that float16 would overflow in."""
    whole = tuple(getattr(network, "_keep_in_fp32_modules", None) or ())
    if isinstance(network, diffusers.ModelMixin):
        return (*_KEPT, *whole)
    return whole if network.dtype == torch.float16 else ()


def check_bits(bits: Bits) -> None:
    """Makes sure that bitsandbytes is there.

    Raises:
        MissingDependencyError: It is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingDependencyError(
            f"weights in {bits} need bitsandbytes: pip install 'show1[quantize]', or use another kind"
        )


def saved_by_gguf(networks: Iterable[tuple[Path, nn.Module]]) -> int:
    """Bytes by which networks on the meta device take more than the GGUF files in their folders."""
    files = ((gguf_of(folder), network) for folder, network in networks)
    return sum(weight_bytes(network) - file.stat().st_size for file, network in files if file is not None)
