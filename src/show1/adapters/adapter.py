"""Adapters: small files that change the weights of one stage's UNet, so that it follows a motion or a style.

The format is safetensors. The tensors are `unet.<module>.lora_A.weight` and `unet.<module>.lora_B.weight` (LoRA, as
diffusers and peft write it) or `unet.<parameter>.diff` (tuned minus base), and `lora_start_noise` if there is one
(diffusers' loaders refuse a file with names that lack the word "lora"). The header's `show1` holds the rest as JSON.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

from safetensors import SafetensorError, safe_open
from torch import Tensor

from show1.adapters.lora import (
    DIFFUSERS_KEY,
    DOWN,
    PREFIX,
    UP,
    diffusers_config,
    lora_delta,
    lora_modules,
    read_config,
    read_foreign,
)
from show1.checkpoints.weight_files import find_weights, is_finite, read_json, weight_variants
from show1.config import STAGES, StageName
from show1.errors import CheckpointError, InputError, OutputError
from show1.files import cached_sha256, check_regular, parse_json, sha256_of_text, user_path, write_tensors
from show1.limits import MAX_ADAPTER_BYTES
from show1.options import plain_number, require

FORMAT = "show1-adapter-1"
"""Version of the file format."""
SUFFIX = ".safetensors"
"""Suffix of an adapter's file."""
DIFF = ".diff"
"""End of the name of a tensor that is a difference: tuned minus base."""
_HEADER = "show1"
_START_NOISE = "lora_start_noise"

AdapterKind = Literal["motion", "style"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """A change of the weights of one stage's UNet, and its origin."""

    stage: StageName
    """The stage whose UNet it changes."""
    kind: AdapterKind
    """Whether it follows a motion or a style."""
    method: str
    """Training method: `temporal_attention`, `residual_vector`, `lora`, `spatial_lora`; `unknown` for foreign files."""
    base_name: str
    """Name of the model it was trained on; empty if unknown."""
    base_sha256: str
    """`unet_sha256` of that model's UNet; empty if unknown."""
    prompt: str
    """Trigger words; empty if unknown."""
    tensors: dict[str, Tensor]
    """Tensors by name inside the UNet: `<module>.lora_A.weight` and `<module>.lora_B.weight`, or `<parameter>.diff`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the training, in JSON types."""
    lora_alpha: float | None = None
    """LoRA's alpha, its scale times its rank; None for the rank itself (scale 1)."""
    start_noise: Tensor | None = None
    """Noise that leads to the reference clips, (N, 3, F, H, W)."""
    noise_weight: float = 0.0
    """Recommended share of the start noise's variance that comes from `start_noise`, 0 to 1."""

    def __post_init__(self) -> None:
        for name, value, known in (("stage", self.stage, STAGES), ("kind", self.kind, get_args(AdapterKind))):
            if value not in known:
                raise InputError(f"an adapter's {name} must be one of {', '.join(known)}, got {value!r}")
        for name in ("method", "base_name", "base_sha256", "prompt"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"an adapter's {name} must be a text, got {getattr(self, name)!r}")
        _check_names(self.tensors)
        for name, number in (("lora_alpha", self.lora_alpha), ("noise_weight", self.noise_weight)):
            if number is not None and not (isinstance(number, int | float) and math.isfinite(number)):
                raise InputError(f"an adapter's {name} must be a number, got {number!r}")
        noise = self.start_noise
        if noise is not None and (noise.ndim != 5 or noise.shape[0] < 1 or noise.shape[1] != 3):
            raise InputError(f"an adapter's start noise must be (N, 3, F, H, W), got {tuple(noise.shape)}")
        if noise is not None and not (noise.is_floating_point() and is_finite(noise)):
            raise InputError("an adapter's start noise must hold finite numbers; make the adapter again")
        if not isinstance(self.settings, Mapping):
            raise InputError(f"an adapter's settings must be a mapping, got {self.settings!r}")
        check_noise_weight(self.noise_weight, noise)
        try:
            json.dumps(self.settings, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"an adapter's settings must be plain JSON values: {error}") from error

    @property
    def num_parameters(self) -> int:
        """Total size of the tensors, without the start noise."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shape of each parameter that changes."""
        out = {n.removesuffix(DIFF): tuple(t.shape) for n, t in self.tensors.items() if n.endswith(DIFF)}
        for module in lora_modules(self.tensors):
            down, up = self.tensors[module + DOWN], self.tensors[module + UP]
            out[f"{module}.weight"] = (up.shape[0], *down.shape[1:])
        return out

    def deltas(self) -> dict[str, Tensor]:
        """Returns the change of each parameter at weight 1, in float32 and of the parameter's shape."""
        out = {n.removesuffix(DIFF): t.float() for n, t in self.tensors.items() if n.endswith(DIFF)}
        for module in lora_modules(self.tensors):
            name = f"{module}.weight"
            delta = lora_delta(self.tensors[module + DOWN], self.tensors[module + UP], self.lora_alpha)
            out[name] = out[name] + delta if name in out else delta
        return out

    def describe(self) -> dict[str, Any]:
        """Returns everything except the tensors, in JSON types."""
        described = [f.name for f in fields(self) if f.name not in ("tensors", "start_noise")]
        return {"format": FORMAT, **{name: getattr(self, name) for name in described}}

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Writes the file, whole or not at all.

        Args:
            path: The file, `*.safetensors`.
            overwrite: Whether an existing file may be replaced.

        Returns:
            The file.

        Raises:
            OutputError: The file exists, or cannot be written.
            InputError: The name does not end in `.safetensors`.
        """
        file = user_path(path)
        if file.suffix != SUFFIX:
            raise InputError(f"the file of an adapter must be named *{SUFFIX}, got {str(path)!r}")
        if file.exists() and not overwrite:
            raise OutputError(f"{file} exists already; name another file, or pass overwrite=True")
        tensors = {PREFIX + name: t.detach().cpu().contiguous() for name, t in self.tensors.items()}
        if self.start_noise is not None:
            tensors[_START_NOISE] = self.start_noise.detach().cpu().contiguous()
        header = {"format": "pt", _HEADER: json.dumps(self.describe(), sort_keys=True)}
        if lora_modules(self.tensors):
            header[DIFFUSERS_KEY] = json.dumps(diffusers_config(self.tensors, self.lora_alpha), sort_keys=True)
        write_tensors(file, tensors, header)
        return file

    @classmethod
    def load(cls, path: str | Path, *, stage: StageName | None = None, modules: Collection[str] | None = None) -> Self:
        """Reads an adapter, or a LoRA file of another program (diffusers, peft, kohya's tools, ComfyUI).

        Args:
            path: The file.
            stage: The stage whose UNet it changes; only needed for files of other programs, which do not state it.
            modules: Names of the UNet's modules, which kohya's names are looked up in.

        Raises:
            InputError: There is no such file, or it is of another program and `stage` is missing.
            CheckpointError: The file is damaged, not an adapter, or one of another stage.
        """
        file = user_path(path)
        header, tensors = _read_file(file)
        try:
            if _HEADER in header:
                return cls._from_file(header, tensors, stage)
            if stage is None:
                raise InputError(
                    "was not made by show1 and does not say which stage it is for; name the stage: "
                    "pipe.adapters.load(..., stage='keyframes'), or --adapter keyframes=FILE"
                )
            return cls._from_foreign(file, header, tensors, stage, modules)
        except InputError as error:
            kind = InputError if stage is None and _HEADER not in header else CheckpointError
            raise kind(f"{file}: {error}") from error

    @classmethod
    def _from_file(cls, header: Mapping[str, str], tensors: dict[str, Tensor], stage: StageName | None) -> Self:
        try:
            values = parse_json(header[_HEADER])
            found = values.pop("format")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise InputError(f"its header is damaged ({error}); make the adapter again") from error
        if found != FORMAT:
            raise InputError(f"has format {found!r}, this version of show1 reads {FORMAT}; update show1")
        if stage not in (None, values.get("stage")):
            raise InputError(f"is an adapter of the stage {values.get('stage')!r}, not of {stage!r}; leave `stage` out")
        start_noise = tensors.pop(_START_NOISE, None)
        named = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
        try:
            return cls(**values, tensors=named, start_noise=start_noise)
        except TypeError as error:
            raise InputError(f"its header is damaged ({error}); make the adapter again") from error

    @classmethod
    def _from_foreign(
        cls,
        file: Path,
        header: Mapping[str, str],
        tensors: dict[str, Tensor],
        stage: StageName,
        modules: Collection[str] | None,
    ) -> Self:
        config = read_config(header)
        beside = file.with_name("adapter_config.json")
        if not config and file.name == "adapter_model.safetensors" and beside.is_file():  # by peft's save_pretrained
            config = read_json(beside)
        return cls(
            stage=stage,
            kind="style",
            method="unknown",
            base_name="",
            base_sha256="",
            prompt="",
            tensors=read_foreign(tensors, config, modules),
        )


def is_adapter_file(path: Path) -> bool:
    """Tells whether a file is an adapter by show1, from its header."""
    try:
        check_regular(path, MAX_ADAPTER_BYTES)
        with safe_open(path, framework="pt") as opened:
            return _HEADER in (opened.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return False


def sum_deltas(adapters: Iterable[tuple[Adapter, float]]) -> dict[str, Tensor]:
    """Adds up the changes of adapters.

    Args:
        adapters: Adapters with their weights; those of weight 0 are left out.

    Returns:
        The change of each parameter, in float32 and of the parameter's shape.
    """
    out: dict[str, Tensor] = {}
    for adapter, weight in adapters:
        if weight != 0:
            for name, delta in adapter.deltas().items():
                out[name] = out[name] + delta * weight if name in out else delta * weight
    return out


def check_shapes(adapter: Adapter, shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Makes sure that a network has all parameters that an adapter changes.

    Args:
        adapter: The adapter.
        shapes: The shapes of the network's parameters by name.
        where: What the message calls the network.

    Raises:
        CheckpointError: A parameter is missing, or has another shape.
    """
    for name, shape in adapter.shapes().items():
        if name not in shapes:
            raise CheckpointError(f"the adapter changes {name}, which {where} does not have; use it with its own model")
        if shapes[name] != shape:
            raise CheckpointError(
                f"the adapter changes {name} of shape {list(shape)}, in {where} it has {list(shapes[name])}; use it "
                "with its own model"
            )


def check_noise_weight(weight: float, start_noise: Tensor | None) -> None:
    """Makes sure that start noise can be used with a weight.

    Args:
        weight: Share of the variance, 0 to 1.
        start_noise: (N, 3, F, H, W), or None.

    Raises:
        InputError: The weight is not from 0 to 1, or there is no start noise.
    """
    number = plain_number(weight)
    known = isinstance(number, int | float) and not isinstance(number, bool)
    require(known and 0 <= number <= 1, "noise_weight", weight, "from 0 to 1")
    if weight and start_noise is None:
        raise InputError(f"noise_weight is {weight}, but the adapter has no start noise; leave noise_weight out")


def unet_sha256(folder: str | Path, variant: str | None = None) -> str:
    """Returns the hash of the weights in a UNet's folder: that of the file, or of the list of the shards' hashes.

    Raises:
        CheckpointError: The weights are missing.
    """
    return _hash_files(find_weights(Path(folder), variant))


def unet_hashes(folder: Path) -> list[str]:
    """Returns `unet_sha256` of every variant (precision) of the weights in a UNet's folder."""
    groups = weight_variants([f.name for f in folder.iterdir()])
    files = [[folder / name for name in names] for names in groups.values()]
    return [_hash_files(group) for group in files if all(f.is_file() for f in group)]


def _hash_files(files: Sequence[Path]) -> str:
    if len(files) == 1:
        return cached_sha256(files[0])
    return sha256_of_text("\n".join(f"{f.name} {cached_sha256(f)}" for f in sorted(files)))


def _check_names(tensors: Mapping[str, Tensor]) -> None:
    if not tensors:
        raise InputError("an adapter must change something, but this one holds no tensors")
    for name, tensor in tensors.items():
        if not name.endswith((DIFF, DOWN, UP)):
            raise InputError(f"an adapter's tensors are named *{DOWN}, *{UP} or *{DIFF}, got {name!r}")
        if not tensor.is_floating_point() or not is_finite(tensor):
            raise InputError(f"{name} holds numbers that are not finite; make the adapter again")
        other = name.removesuffix(DOWN) + UP if name.endswith(DOWN) else name.removesuffix(UP) + DOWN
        if name.endswith((DOWN, UP)) and other not in tensors:
            raise InputError(f"{name} is present without {other}; make the adapter again")
        if name.endswith(DOWN) and (tensor.ndim < 2 or tensors[other].ndim < 2 or not _fit(tensor, tensors[other])):
            shapes = f"{list(tensor.shape)} and {list(tensors[other].shape)}"
            raise InputError(f"{name} and {other} of shapes {shapes} do not form a pair; make the adapter again")


def _fit(down: Tensor, up: Tensor) -> bool:
    return down.shape[0] == up.shape[1] and up.numel() == up.shape[0] * up.shape[1] > 0


def _read_file(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not file.is_file():
        raise InputError(f"there is no adapter {file}; give the path of a *{SUFFIX} file")
    try:
        check_regular(file, MAX_ADAPTER_BYTES)
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
            header = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} is truncated, corrupt or not a safetensors file ({error}); copy or make the adapter again"
        ) from error
    # torch can hold numbers of 8 bits, but hardly compute with them
    return header, {name: t.float() if t.is_floating_point() and t.itemsize == 1 else t for name, t in tensors.items()}
