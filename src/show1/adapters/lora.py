"""LoRA weights (arXiv:2106.09685): how they change a parameter, and how other programs name them in files.

Inside show1, a module's pair is `<module>.lora_A.weight` (r, in, ...) and `<module>.lora_B.weight` (out, r, ...), and
the module's weight changes by (alpha / r) * B A, as in peft.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from show1.errors import InputError

DOWN = ".lora_A.weight"
"""End of the name of the projection to the rank, (r, in, ...)."""
UP = ".lora_B.weight"
"""End of the name of the projection from the rank, (out, r, ...)."""
DIFFUSERS_KEY = "lora_adapter_metadata"
"""Entry of a safetensors header in which diffusers keeps peft's config."""
PREFIX = "unet."
"""Prefix of the names, and of the config's keys, of a UNet's LoRA in a file of diffusers."""

_PREFIXES = ("base_model.model.", PREFIX)
# peft with and without an adapter's name, diffusers before it used peft, kohya's tools
_PAIR = re.compile(
    r"(?P<module>.+)\.(?:"
    r"(?P<peft>lora_[AB])(?:\.(?!weight$)\w+)?\.weight|lora\.(?P<old>down|up)\.weight|lora_(?P<kohya>down|up)\.weight)"
)


def lora_delta(down: Tensor, up: Tensor, alpha: float | None) -> Tensor:
    """Computes how a LoRA pair changes the weight of a linear layer or a convolution.

    Args:
        down: (r, in, ...).
        up: (out, r, ...), with a kernel of 1 for a convolution.
        alpha: Scale times rank; None for the rank, r.

    Returns:
        (out, in, ...), float32.
    """
    rank = down.shape[0]
    product = up.float().flatten(1) @ down.float().flatten(1)
    scale = 1.0 if alpha is None else alpha / rank
    return (product * scale).view(up.shape[0], *down.shape[1:])


def lora_modules(names: Mapping[str, Any]) -> list[str]:
    """Lists the modules that have a `lora_A` among the names."""
    return [name.removesuffix(DOWN) for name in names if name.endswith(DOWN)]


def diffusers_config(tensors: Mapping[str, Tensor], alpha: float | None) -> dict[str, Any]:
    """Returns peft's config of LoRA pairs, as diffusers writes it into a header.

    Args:
        tensors: The pairs, (r, in, ...) and (out, r, ...), by name.
        alpha: Scale times rank; None for the rank.

    Returns:
        The config; every key begins with `unet.`.
    """
    ranks = {module: tensors[module + DOWN].shape[0] for module in lora_modules(tensors)}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    pattern = {f"^{module}": r for module, r in ranks.items() if r != rank}
    config = {
        "r": rank,
        "lora_alpha": rank if alpha is None else alpha,
        "rank_pattern": pattern,
        "alpha_pattern": pattern if alpha is None else {},
        "target_modules": sorted(ranks),
    }
    return {PREFIX + key: value for key, value in config.items()}


def read_foreign(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Renames LoRA tensors of another program, and scales them so that alpha is the rank.

    Args:
        tensors: The tensors of the file, by name.
        config: peft's config; may be empty.

    Returns:
        Pairs of (r, in, ...) and (out, r, ...), by show1's names.

    Raises:
        InputError: The tensors are not the LoRA of a UNet, or of a kind that show1 cannot use, or the config is
            damaged.
    """
    out: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    for name, tensor in tensors.items():
        bare = _bare(name)
        if bare.endswith(".alpha") and tensor.numel() == 1:
            alphas[bare.removesuffix(".alpha")] = float(tensor)
            continue
        match = _PAIR.fullmatch(bare)
        if match is None or name.startswith("text_encoder"):
            raise InputError(
                f"the tensor {name} is not part of a UNet's LoRA; show1 reads pairs such as "
                f"unet.<module>{DOWN} and unet.<module>{UP}"
            )
        is_down = (match["peft"] or match["old"] or match["kohya"]) in ("lora_A", "down")
        out[match["module"] + (DOWN if is_down else UP)] = tensor
    for module in lora_modules(out):
        rank = out[module + DOWN].shape[0]
        try:
            scale = _scale(module, rank, alphas, config)
        except (TypeError, ValueError, AttributeError, re.error) as error:
            raise InputError(f"its LoRA config is damaged ({error}); save the LoRA again") from error
        if scale != 1.0 and module + UP in out:
            out[module + UP] = out[module + UP].float() * scale
    return out


def read_config(header: Mapping[str, str]) -> dict[str, Any]:
    """Reads peft's config from a safetensors header.

    Returns:
        The config, its keys without `unet.`; empty if there is none.

    Raises:
        InputError: The config is not JSON.
    """
    try:
        config = json.loads(header.get(DIFFUSERS_KEY) or "{}")
    except ValueError as error:
        raise InputError(f"its LoRA config is damaged ({error}); save the LoRA again") from error
    return {key.removeprefix(PREFIX): value for key, value in config.items()} if isinstance(config, dict) else {}


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _scale(module: str, rank: int, alphas: Mapping[str, float], config: Mapping[str, Any]) -> float:
    alpha = alphas.get(module)
    if alpha is None:
        alpha = next(
            (
                float(value)
                for pattern, value in (config.get("alpha_pattern") or {}).items()
                if re.fullmatch(rf"(.*\.)?({pattern})", module)
            ),
            None,
        )
    if alpha is None:
        alpha = float(config.get("lora_alpha") or rank)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
