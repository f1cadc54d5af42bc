"""Weights that are stored in fewer bits than they are computed with: half or a third of the memory, at a small error.

`fp8` stores the weights of the stages' networks as 8-bit floats, and converts those of each layer while it runs
(diffusers' layerwise casting). `int8` and `int4` replace the linear layers of text encoders by those of bitsandbytes,
which has none for convolutions: they hold more than half of the weights of the stages' networks.
"""

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from diffusers.hooks import apply_layerwise_casting
from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN
from torch import Tensor, nn

from show1.errors import InputError, MissingDependencyError

TextStorage = Literal["int8", "int4"]
"""How the linear layers of text encoders are stored."""

_KEPT = (*DEFAULT_SKIP_MODULES_PATTERN, "conv_in", "conv_out", "embedding", "time_emb_proj")
"""Layers that keep their precision: they are small, and what they compute is felt everywhere."""
_BLOCK = 64
"""Numbers that share a scale in 4 bits."""


@dataclass(frozen=True)
class Storage:
    """How weights are stored."""

    networks: Literal["fp8"] | None = None
    """Those of the stages' UNets; None: as they are computed."""
    text: TextStorage | None = None
    """Those of the linear layers of text encoders; None: as they are computed."""

    @classmethod
    def read(cls, text: object) -> "Storage":
        """Reads `fp8`, `int8`, `int4`, or `fp8` and one of the others with a comma between them.

        Raises:
            InputError: It is none of these.
            MissingDependencyError: bitsandbytes is not installed.
        """
        kinds = [] if text is None else [kind.strip() for kind in str(text).split(",")]
        of_text = [kind for kind in kinds if kind in ("int8", "int4")]
        if set(kinds) - {"fp8", "int8", "int4"} or len(of_text) > 1 or len(kinds) > len(set(kinds)):
            raise InputError(
                f"storage must be fp8 (the stages' networks), int8 or int4 (text encoders), or two of them such as "
                f"'fp8,int4', got {text!r}"
            )
        if of_text and importlib.util.find_spec("bitsandbytes") is None:
            raise MissingDependencyError(
                f"storage {of_text[0]} needs bitsandbytes: pip install 'show1[quantize]', or leave it out"
            )
        return cls("fp8" if "fp8" in kinds else None, cast(TextStorage, of_text[0]) if of_text else None)

    def check(self, networks: Collection[torch.device], text: torch.device, dtype: torch.dtype) -> None:
        """Makes sure that the devices of the networks, and that of the text encoders, can compute so.

        Raises:
            InputError: One cannot.
        """
        if self.networks and "mps" in {device.type for device in networks}:
            raise InputError("storage fp8: mps has no 8-bit floats; leave it out, or use another device")
        if self.text and text.type not in ("cpu", "cuda"):
            raise InputError(
                f"storage {self.text}: bitsandbytes computes on cpu and cuda, not on {text.type}; leave it out, or put "
                "the text encoders there (--device text=cpu)"
            )
        if (self.networks or self.text) and dtype == torch.float64:
            raise InputError(f"storage {self} is an approximation, which dtype='float64' does not go with")

    def __str__(self) -> str:
        return ",".join(filter(None, (self.networks, self.text)))


AS_COMPUTED = Storage()
"""All weights are stored in the precision of the computation."""


def weight_bytes(network: nn.Module) -> int:
    """Bytes that the weights of a network take as they are."""
    return sum(parameter.nbytes for parameter in network.parameters())


def largest_layer_bytes(network: nn.Module) -> int:
    """Bytes of the largest layer of a network: of the parameters that one module holds itself."""
    return max(sum(p.nbytes for p in module.parameters(recurse=False)) for module in network.modules())


def fp8_bytes(network: nn.Module, dtype: torch.dtype) -> int:
    """Bytes that the weights of a network on the meta device take as 8-bit floats; it is changed in place."""
    _cast_by_layer(network, dtype)
    return weight_bytes(network)


def fill_as_fp8(
    network: nn.Module, weights: Mapping[str, Tensor], *, dtype: torch.dtype, device: torch.device | str
) -> None:
    """Fills a network one weight after another, and lets its layers store them as 8-bit floats.

    Args:
        network: On the meta device.
        weights: Its weights by name, in the parameters' shapes.
        dtype: Precision in which it computes.
        device: Device of the weights.
    """
    _cast_by_layer(network, dtype)
    for path, layer in network.named_modules():
        for name, parameter in list(layer.named_parameters(recurse=False)):
            value = weights[f"{path}.{name}" if path else name].to(parameter.dtype).to(device)
            setattr(layer, name, nn.Parameter(value, requires_grad=False))


def _cast_by_layer(network: nn.Module, dtype: torch.dtype) -> None:
    nn.Module.to(network, dtype)  # diffusers would warn of layers that it keeps in float32, of which there are none
    apply_layerwise_casting(network, torch.float8_e4m3fn, dtype, skip_modules_pattern=_KEPT)


def fill_quantized(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    kind: TextStorage,
    device: torch.device | str,
    kept: Sequence[str],
) -> None:
    """Fills a text encoder layer by layer, so that no more than one layer's weights are there in full.

    Args:
        model: The text encoder on the meta device.
        weights: Its weights by name, in their shapes, in the precision that it computes in.
        kind: How those of linear layers are stored.
        device: Their device.
        kept: Linear layers of these names are not quantized.
    """
    for path, layer in list(model.named_modules()):
        parts: Any = {
            name: nn.Parameter(weights[f"{path}.{name}"].to(device), requires_grad=False)
            for name, _ in layer.named_parameters(recurse=False)
            if f"{path}.{name}" in weights
        }
        new = _quantized(layer, kind, path) if isinstance(layer, nn.Linear) and not _is_kept(path, kept) else layer
        if new is not layer:
            parts["weight"] = new.weight_class(parts["weight"].data.cpu(), **new.weight_options).to(device)
            owner, _, own = path.rpartition(".")
            setattr(model.get_submodule(owner), own, new)
        for name, parameter in parts.items():
            setattr(new, name, parameter)


def quantized_bytes(model: nn.Module, kind: TextStorage, kept: Sequence[str]) -> int:
    """Bytes that the weights of a text encoder take; see `fill_quantized`. It is not changed."""
    total = weight_bytes(model)
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and not _is_kept(path, kept):
            numbers = layer.weight.numel()
            eight = numbers + 4 * layer.out_features
            total += eight if _kind(kind, path) == "int8" else numbers // 2 + 4 * numbers // _BLOCK
            total -= layer.weight.nbytes
    return total


def _is_kept(path: str, kept: Sequence[str]) -> bool:
    return bool(set(path.split(".")) & set(kept))


def _kind(kind: TextStorage, path: str) -> TextStorage:
    """T5 gives the layer `wo` what it computes in the type of its weights, unless that is int8."""
    return "int8" if path.endswith(".wo") else kind


def _quantized(layer: nn.Linear, kind: TextStorage, path: str) -> Any:
    """A layer of bitsandbytes in the place of a linear one, on the meta device, and how its weight is made."""
    import bitsandbytes as bnb

    size: Any = (layer.in_features, layer.out_features, layer.bias is not None)
    with torch.device("meta"):
        if _kind(kind, path) == "int8":
            new: Any = bnb.nn.Linear8bitLt(*size, has_fp16_weights=False, threshold=6.0)
            new.weight_class, new.weight_options = bnb.nn.Int8Params, {"has_fp16_weights": False}
        else:
            new = bnb.nn.Linear4bit(*size, compute_dtype=layer.weight.dtype, quant_type="nf4")
            new.weight_class = bnb.nn.Params4bit
            new.weight_options = {"quant_type": "nf4", "blocksize": _BLOCK, "compress_statistics": False}
    new.weight_options["requires_grad"] = False
    return new
