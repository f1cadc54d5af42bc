"""LoRA weights (arXiv:2106.09685): their change of a parameter, and their names in files of diffusers, peft and others.

Inside show1 a module's pair is `<module>.lora_A.weight` (r, in, ...) and `<module>.lora_B.weight` (out, r, ...), and
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
UP = ".lora_B.weight"
DIFFUSERS_KEY = "lora_adapter_metadata"
"""Where diffusers keeps peft's config in a safetensors header."""
PREFIX = "unet."
"""Before the names (and the config's keys) of a UNet's LoRA in a file of diffusers."""

_PREFIXES = ("base_model.model.", PREFIX)
# of peft with and without an adapter's name, of diffusers before peft, of kohya's tools
_PAIR = re.compile(
    r"(?P<module>.+)\.(?:"
    r"(?P<peft>lora_[AB])(?:\.(?!weight$)\w+)?\.weight|lora\.(?P<old>down|up)\.weight|lora_(?P<kohya>down|up)\.weight)"
)


def lora_delta(down: Tensor, up: Tensor, alpha: float | None) -> Tensor:
    """The change of a linear layer's or a convolution's weight, (out, in, ...) float32.

    Args:
        down: (r, in, ...).
        up: (out, r, ...), of kernel 1 where it is a convolution.
        alpha: None: r.
    """
    rank = down.shape[0]
    product = up.float().flatten(1) @ down.float().flatten(1)
    scale = 1.0 if alpha is None else alpha / rank
    return (product * scale).view(up.shape[0], *down.shape[1:])


def lora_modules(names: Mapping[str, Any]) -> list[str]:
    """Modules that have a `lora_A` among the names."""
    return [name.removesuffix(DOWN) for name in names if name.endswith(DOWN)]


def diffusers_config(tensors: Mapping[str, Tensor], alpha: float | None) -> dict[str, Any]:
    """peft's config of these pairs, as diffusers writes it into a header: every key begins with `unet.`."""
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
    """LoRA tensors of another program under show1's names, scaled so that alpha is the rank.

    Args:
        tensors: As in the file.
        config: peft's config; may be empty.

    Raises:
        InputError: No LoRA of a UNet, a kind of it that show1 cannot use, or a damaged config.
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
                f"the tensor {name} is none of a UNet's LoRA; show1 reads pairs such as "
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
    """peft's config from a safetensors header, its keys without `unet.`; empty if there is none.

    Raises:
        InputError: It is no JSON.
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
