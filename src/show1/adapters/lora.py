"""LoRA weights (arXiv:2106.09685): how they change a parameter, and how other programs name them in files.

Inside show1, a module's pair is `<module>.lora_A.weight` (r, in, ...) and `<module>.lora_B.weight` (out, r, ...), and
the module's weight changes by (alpha / r) * B A, as in peft.
"""

import logging
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from show1.errors import InputError
from show1.files import parse_json

logger = logging.getLogger(__name__)

DOWN = ".lora_A.weight"
"""End of the name of the projection to the rank, (r, in, ...)."""
UP = ".lora_B.weight"
"""End of the name of the projection from the rank, (out, r, ...)."""
DIFFUSERS_KEY = "lora_adapter_metadata"
"""Entry of a safetensors header in which diffusers keeps peft's config."""
PREFIX = "unet."
"""Prefix of the names, and of the config's keys, of a UNet's LoRA in a file of diffusers."""

_PREFIXES = ("base_model.model.", PREFIX, "diffusion_model.", "transformer.")
"""What peft, diffusers, ComfyUI and diffusers' transformers put before the names of a network's modules."""
_FLAT = "lora_unet_"
"""What kohya's tools put before a module's name, in which they write underscores for points."""
_OF_TEXT = ("lora_te", "text_encoder", "te.", "cond_stage_model.", "text_model.")
"""How the names of a text encoder's LoRA begin."""
# peft with and without an adapter's name, diffusers before it used peft, kohya's tools
_PAIR = re.compile(
    r"(?P<module>.+)\.(?:"
    r"(?P<peft>lora_[AB])(?:\.(?!weight$)\w+)?\.weight|lora\.(?P<old>down|up)\.weight|lora_(?P<kohya>down|up)\.weight)"
)
_OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lokr_": "LoKr",
    "hada_": "LoHa",
    "oft_": "OFT",
    "glora_": "GLoRA",
    "lora_mid": "LoCon with a Tucker decomposition",
}
"""Adapters that are no LoRA, by how a part of their tensors' names begins."""


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


def read_foreign(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], modules: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Renames LoRA tensors of another program, and scales them so that alpha is the rank.

    The parts for text encoders are left out, with a warning.

    Args:
        tensors: The tensors of the file, by name.
        config: peft's config; may be empty.
        modules: Names of the network's modules, which names with underscores for points are looked up in; None leaves
            those names as they are.

    Returns:
        Pairs of (r, in, ...) and (out, r, ...), by show1's names.

    Raises:
        InputError: The tensors are not the LoRA of a UNet, or of a kind that show1 cannot use, or the config is
            damaged.
    """
    _refuse_other_kinds(tensors, config)
    of_text = [name for name in tensors if name.startswith(_OF_TEXT)]
    if of_text and len(of_text) == len(tensors):
        raise InputError("changes only a text encoder, which show1 does not change; use a LoRA of the video network")
    if of_text:
        logger.warning("The LoRA also changes a text encoder; that part (%d tensors) is left out.", len(of_text))
    flat = _by_flat_name(modules)
    out: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    for name, tensor in tensors.items():
        if name in of_text:
            continue
        bare = _bare(name)
        if bare.endswith(".alpha") and tensor.numel() == 1:
            alphas[_module(bare.removesuffix(".alpha"), flat)] = float(tensor)
            continue
        match = _PAIR.fullmatch(bare)
        if match is None:
            raise InputError(
                f"the tensor {name} is not part of a UNet's LoRA; show1 reads pairs such as "
                f"unet.<module>{DOWN} and unet.<module>{UP}"
            )
        is_down = (match["peft"] or match["old"] or match["kohya"]) in ("lora_A", "down")
        out[_module(match["module"], flat) + (DOWN if is_down else UP)] = tensor
    for module in lora_modules(out):
        rank = out[module + DOWN].shape[0] if out[module + DOWN].ndim else 0
        try:
            scale = _scale(module, rank, alphas, config)
        except InputError:
            raise
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise InputError(f"its LoRA config is damaged ({error}); save the LoRA again") from error
        if scale != 1.0 and module + UP in out:
            out[module + UP] = out[module + UP].float() * scale
    return out


def _refuse_other_kinds(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    for name in tensors:
        parts = name.split(".")
        kinds = [kind for start, kind in _OTHER_KINDS.items() if any(part.startswith(start) for part in parts)]
        if parts[-1] in ("diff", "diff_b"):
            kinds.append("a difference of whole weights")
        if kinds:
            raise InputError(
                f"is no LoRA but {kinds[0]} (it holds {name}), which show1 does not read; make a LoRA of it"
            )
    if config.get("use_dora"):
        raise InputError("is no LoRA but DoRA (its config says use_dora), which show1 does not read; make a LoRA of it")


def _by_flat_name(modules: Collection[str] | None) -> dict[str, str]:
    """Modules by their names with underscores for points; those that two modules share are left out."""
    if modules is None:
        return {}
    counts = Counter(module.replace(".", "_") for module in modules)
    return {flat: module for module in modules if counts[flat := module.replace(".", "_")] == 1}


def _module(name: str, flat: Mapping[str, str]) -> str:
    """A module's own name, from that in a file without its prefix."""
    if not name.startswith(_FLAT):
        return name
    bare = name.removeprefix(_FLAT)
    if flat and bare not in flat:
        raise InputError(
            f"changes {name}, and the network has no module of that name; use a LoRA that was made for this network"
        )
    return flat.get(bare, bare)


def read_config(header: Mapping[str, str]) -> dict[str, Any]:
    """Reads peft's config from a safetensors header.

    Returns:
        The config, its keys without `unet.`; empty if there is none.

    Raises:
        InputError: The config is not JSON.
    """
    try:
        config = parse_json(header.get(DIFFUSERS_KEY) or "{}")
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
        patterns = (config.get("alpha_pattern") or {}).items()
        alpha = next((float(value) for pattern, value in patterns if _means(pattern, module)), None)
    if alpha is None:
        alpha = float(config.get("lora_alpha") or rank)
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    if not math.isfinite(scale):
        raise ValueError(f"the scale of {module} is {scale}")
    return scale


def _means(pattern: str, module: str) -> bool:
    """Whether a pattern of peft's config is about a module: its name, or the end of it after a point.

    peft reads patterns as regular expressions, but diffusers and peft's own tools write names, with `^` before a whole
    one. A stranger's regular expression may never end, so none is run.
    """
    name = pattern.replace("\\.", ".").removesuffix("$")
    whole = name.startswith("^")
    name = name.removeprefix("^")
    if odd := re.search(r"[][\\^$*+?{}|()]", name):
        raise InputError(
            f"its LoRA config has the pattern {pattern!r}, a regular expression ({odd[0]!r}), and show1 runs none of a "
            "file; save the LoRA with the names of its modules"
        )
    return module == name or (not whole and module.endswith(f".{name}"))
