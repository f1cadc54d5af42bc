"""The weight files of a component: choosing them, reading them, and saying what is wrong with them."""

import math
import pickle
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from show1.errors import CheckpointError
from show1.files import read_json_object

_NAME = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)"
    r"(?:\.(?P<variant>\w+))?"
    r"(?:-(?P<part>\d{5})-of-(?P<parts>\d{5})(?:\.(?P<late_variant>\w+))?)?"
    r"\.(?P<kind>safetensors|bin)"
)
_INT8, _SCALE = ".int8", ".int8_scale"
"""Ends of the names of a weight that is stored as int8, and of its scales, (C_out,) float32."""

_AGAIN = "delete it and download it again (`show1 models download`)"


def weight_variants(names: Collection[str]) -> dict[tuple[str, str | None], list[str]]:
    """Groups the weight files among `names` by kind (`safetensors`, `bin`) and variant.

    All shards of a group are listed, including those that are not among `names`.
    """
    groups: dict[tuple[str, str | None], list[str]] = {}
    for match in (found for name in sorted(names) if (found := _NAME.fullmatch(name)) is not None):
        files = groups.setdefault((match["kind"], match["variant"] or match["late_variant"]), [])
        if parts := int(match["parts"] or 0):
            shards = [re.sub(r"-\d{5}-of-", f"-{i + 1:05d}-of-", match[0]) for i in range(parts)]
            files.extend(shard for shard in shards if shard not in files)
        else:
            files[:] = [match[0]]  # one whole file wins over shards
    return groups


def pick_weights(names: Collection[str], variant: str | None = None) -> list[str]:
    """Chooses which weight files of a component to use.

    Safetensors come before pickles; of each, the variant asked for, then the plain files, then any other variant.

    Args:
        names: File names in the component's folder, on this disk or on the Hub.
        variant: Variant to prefer, such as `fp16`.

    Returns:
        The file, or all shards (including missing ones); empty if there are none.
    """
    groups = weight_variants(names)

    def rank(key: tuple[str, str | None]) -> tuple[bool, int, str]:
        kind, name = key
        return kind != "safetensors", 0 if name == variant else 1 if name is None else 2, name or ""

    return groups[min(groups, key=rank)] if groups else []


def find_weights(folder: Path, variant: str | None = None) -> list[Path]:
    """Chooses the weight files of a component's folder, and makes sure that all are there.

    Raises:
        CheckpointError: The folder, or a weight file in it, is missing.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is missing; download the model again (`show1 models download`)")
    names = [p.name for p in folder.iterdir()]
    files = [folder / name for name in pick_weights(names, variant)]
    if not files:
        raise CheckpointError(
            f"{folder} holds no weights (expected a file such as diffusion_pytorch_model.safetensors or "
            f"model.safetensors, found {', '.join(sorted(names)) or 'nothing'}); {_download_hint(names)}"
        )
    for file in files + _indexed(folder, files):
        if not file.exists():
            raise CheckpointError(
                f"{file} is missing: {folder.name} is incomplete; download the model again (`show1 models download`)"
            )
    return files


def pack_int8(tensors: Mapping[str, Tensor], *, min_size: int = 4096) -> dict[str, Tensor]:
    """Rounds large weights to int8 with a scale per output channel, which quarters the size of float32 files.

    The embedded cascade is stored so. `read_tensors` and `read_shapes` undo it: they give the weights of such a file
    under their own names, as float32.

    Args:
        tensors: Weights of any shape, by name.
        min_size: Weights with fewer elements, and vectors, stay as they are.

    Returns:
        Weights of the same shapes and scales of (C_out,), by their names in the file.
    """
    packed: dict[str, Tensor] = {}
    for name, weight in tensors.items():
        if weight.ndim < 2 or weight.numel() < min_size or not weight.is_floating_point():
            packed[name] = weight
            continue
        scale = (weight.float().flatten(1).abs().amax(1) / 127).clamp(min=1e-12)
        packed[name + _INT8] = (weight.float() / _per_row(scale, weight)).round().to(torch.int8)
        packed[name + _SCALE] = scale
    return packed


def read_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Reads the names and shapes of a file's tensors; of a safetensors file, without the tensors.

    Raises:
        CheckpointError: The file is truncated, corrupt or not a weight file.
    """
    if file.suffix == ".bin":
        return {name: tuple(t.shape) for name, t in _read_pickle(file).items()}
    with _open_safetensors(file) as opened:
        shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    return {name.removesuffix(_INT8): shape for name, shape in shapes.items() if not name.endswith(_SCALE)}


def count_parameters(files: Iterable[Path]) -> int:
    """Counts the elements of all tensors in the files.

    Raises:
        CheckpointError: A file is truncated, corrupt or no weight file.
    """
    return sum(math.prod(shape) for file in files for shape in read_shapes(file).values())


def read_tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Reads a file's tensors one after another.

    Yields:
        The name and the tensor, in its saved shape.

    Raises:
        CheckpointError: The file is truncated, corrupt or not a weight file.
    """
    if file.suffix == ".bin":
        yield from _read_pickle(file).items()
        return
    with _open_safetensors(file) as opened:
        names = set(opened.keys())
        for name in sorted(names):
            if name.endswith(_INT8):
                plain = name.removesuffix(_INT8)
                if plain + _SCALE not in names:
                    raise CheckpointError(f"{file} holds {name} without its scales; {_AGAIN}")
                weight = opened.get_tensor(name)
                yield plain, weight.float() * _per_row(opened.get_tensor(plain + _SCALE), weight)
            elif not name.endswith(_SCALE):
                yield name, opened.get_tensor(name)


def read_json(file: Path) -> dict[str, Any]:
    """Reads a component's JSON file.

    Raises:
        CheckpointError: The file is missing or not a JSON object.
    """
    try:
        return read_json_object(file)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{file} is missing; download the model again (`show1 models download`), or correct the folder"
        ) from error
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{file} is not readable JSON ({error}); {_AGAIN}") from error


def _per_row(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (weight.ndim - 1))


def _indexed(folder: Path, files: list[Path]) -> list[Path]:
    """Lists the files that the shards' index names, which may be more than the names of the shards imply."""
    if len(files) < 2:
        return []
    chosen = {f.name for f in files}
    for index in folder.glob("*.index*.json"):
        named = set(read_json(index).get("weight_map", {}).values())
        if named & chosen:
            return [folder / name for name in sorted(named)]
    return []


def _open_safetensors(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} {_why_unreadable(file)} ({error}); {_remedy(file)}") from error


def _read_pickle(file: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} {_why_unreadable(file)}, or holds more than plain tensors, which show1 refuses to run "
            f"({str(error).splitlines()[0]}); {_remedy(file)}"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise CheckpointError(f"{file} must hold a mapping of names to tensors; {_remedy(file)}")
    return state


def _is_zip(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"PK\x03\x04"


def _why_unreadable(file: Path) -> str:
    if _is_lfs_pointer(file):
        return "is a Git LFS pointer, not the weights themselves"
    return f"is truncated or corrupt ({file.stat().st_size if file.exists() else 0} bytes)"


def _remedy(file: Path) -> str:
    return "run `git lfs pull` in the repository" if _is_lfs_pointer(file) else _AGAIN


def _is_lfs_pointer(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(40).startswith(b"version https://git-lfs.github.com")
    except OSError:
        return False


def _download_hint(names: list[str]) -> str:
    if any(n.endswith(".incomplete") for n in names):
        return "a download was interrupted: repeat it (`show1 models download`)"
    return "download the model again (`show1 models download`)"
