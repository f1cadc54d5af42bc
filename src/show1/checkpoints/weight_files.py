"""The weight files of a component: choosing them, reading them, and saying what is wrong with them."""

import math
import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from show1.errors import CheckpointError, reason_of
from show1.files import check_regular, read_json_object
from show1.limits import MAX_SHARDS

_NAME = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)"
    r"(?:\.(?P<variant>\w+))?"
    r"(?:-(?P<part>\d{5})-of-(?P<parts>\d{5})(?:\.(?P<late_variant>\w+))?)?"
    r"\.(?P<kind>safetensors|bin)"
)
GGUF = ".gguf"
"""End of the name of a file of llama.cpp's format, of which only networks of experts are read."""
_INT8, _SCALE = ".int8", ".int8_scale"
"""Ends of the names of a weight that is stored as int8, and of its scales, (C_out,) float32."""

_AGAIN = "delete it and download it again (`show1 models download`)"


def weight_variants(names: Collection[str]) -> dict[tuple[str, str | None], list[str]]:
    """Groups the weight files among `names` by kind (`safetensors`, `bin`) and variant.

    All shards of a group are listed, including those that are not among `names`.

    Raises:
        CheckpointError: A name speaks of more shards than any network has.
    """
    groups: dict[tuple[str, str | None], dict[str, None]] = {}
    for match in (found for name in sorted(names) if (found := _NAME.fullmatch(name)) is not None):
        files = groups.setdefault((match["kind"], match["variant"] or match["late_variant"]), {})
        parts = int(match["parts"] or 0)
        if parts > MAX_SHARDS:
            raise CheckpointError(f"{match[0]} is one of {parts} files, and at most {MAX_SHARDS} are read; correct it")
        if not parts:
            files.clear()  # one whole file wins over shards
            files[match[0]] = None
        elif match[0] not in files:
            files.update((re.sub(r"-\d{5}-of-", f"-{i + 1:05d}-of-", match[0]), None) for i in range(parts))
    return {group: list(files) for group, files in groups.items()}


def pick_weights(names: Collection[str], variant: str | None = None) -> list[str]:
    """Chooses which weight files of a component to use.

    Safetensors come before pickles; of each, the variant asked for, then the plain files, then any other variant. A
    GGUF file is chosen where there is nothing else.

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

    return groups[min(groups, key=rank)] if groups else sorted(name for name in names if name.endswith(GGUF))


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
    if len(files) > 1 and files[0].suffix == GGUF:
        raise CheckpointError(
            f"{folder} holds {len(files)} GGUF files, and one network has one; leave one of them there"
        )
    for file in files + _indexed(folder, files):
        if not file.exists():
            raise CheckpointError(
                f"{file} is missing: {folder.name} is incomplete; download the model again (`show1 models download`)"
            )
        check_ordinary(file)
    return files


def check_ordinary(file: Path, most: int | None = None) -> None:
    """Makes sure that a file can be opened: a pipe or a device may never end.

    Args:
        file: The file.
        most: Largest size in bytes; None: any.

    Raises:
        CheckpointError: It is no ordinary file, or too large.
    """
    try:
        check_regular(file, most)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); {_AGAIN}") from error


def check_inside(folder: Path, root: Path) -> None:
    """Makes sure that no file of a component is a link to a place outside of its model.

    Args:
        folder: Folder of the component.
        root: Folder of the model; that of a snapshot in the Hub's cache includes `blobs/` of the same repository.

    Raises:
        CheckpointError: A file is such a link.
    """
    home = root.resolve()
    places = [home, *(above.parent / "blobs" for above in home.parents if above.name == "snapshots")]
    for file in (folder, *folder.iterdir()) if folder.is_dir() else ():
        try:
            real = file.resolve(strict=True)
        except (OSError, RuntimeError) as error:  # a link to nothing, or to itself
            raise CheckpointError(f"{file} is a link that leads nowhere; {_AGAIN}") from error
        if not any(real.is_relative_to(place) for place in places):
            raise CheckpointError(
                f"{file} is a link to {real}, outside of the model's folder {root}, where show1 does not follow it; "
                "copy the file there, or name the folder of each part itself (`--model STAGE=FOLDER,...`, "
                "`--text FOLDER`)"
            )


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
    return {name: shape for name, (shape, _) in read_headers(file).items()}


def read_headers(file: Path) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Reads names and shapes as `read_shapes`, and whether a tensor holds floating-point numbers.

    Raises:
        CheckpointError: The file is truncated, corrupt or not a weight file, or an int8 weight lacks its scales.
    """
    if file.suffix == GGUF:
        raise CheckpointError(
            f"{file} is a GGUF file, from which only networks of experts are read (docs/experts.md); use safetensors"
        )
    if file.suffix == ".bin":
        return {name: (tuple(t.shape), t.is_floating_point()) for name, t in _read_pickle(file).items()}
    found: dict[str, tuple[tuple[int, ...], bool]] = {}
    with _open_safetensors(file) as opened:
        for name in opened.keys():  # noqa: SIM118
            part = opened.get_slice(name)
            found[name] = tuple(part.get_shape()), "F" in part.get_dtype()  # F32, BF16, F8_E4M3
    for name in [name for name in found if name.endswith(_INT8)]:
        shape, plain = found.pop(name)[0], name.removesuffix(_INT8)
        if found.get(plain + _SCALE) != (shape[:1], True):
            raise CheckpointError(f"{file} holds {name} without its scales; {_AGAIN}")
        found[plain] = shape, True
    return {name: header for name, header in found.items() if not name.endswith(_SCALE)}


def count_parameters(files: Iterable[Path]) -> int:
    """Counts the elements of all tensors in the files; of GGUF files, as many as take their bytes in half precision.

    Raises:
        CheckpointError: A file is truncated, corrupt or no weight file.
    """
    kinds = {file: file.suffix == GGUF for file in files}
    packed = sum(file.stat().st_size // 2 for file, is_packed in kinds.items() if is_packed)
    whole = (file for file, is_packed in kinds.items() if not is_packed)
    return packed + sum(math.prod(shape) for file in whole for shape in read_shapes(file).values())


def read_tensors(file: Path, names: Collection[str] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Reads a file's tensors one after another.

    Args:
        file: The weight file.
        names: Only these; None: all.

    Yields:
        The name and the tensor, in its saved shape.

    Raises:
        CheckpointError: The file is truncated, corrupt or not a weight file.
    """
    wanted = sorted(name for name in read_headers(file) if names is None or name in names)
    read = tensor_reader(file)
    for name in wanted:
        yield name, read(name)


def tensor_reader(file: Path) -> Callable[[str], Tensor]:
    """Opens a file, and returns what reads a tensor of it by its name.

    Raises:
        CheckpointError: The file is truncated, corrupt or not a weight file.
    """
    if file.suffix == ".bin":
        return _read_pickle(file).__getitem__
    opened = _open_safetensors(file)
    stored = set(opened.keys())

    def read(name: str) -> Tensor:
        if name + _INT8 in stored:
            weight: Tensor = opened.get_tensor(name + _INT8)
            return weight.float() * _per_row(opened.get_tensor(name + _SCALE), weight)
        tensor: Tensor = opened.get_tensor(name)
        return tensor

    return read


def check_finite(file: Path, name: str, tensor: Tensor) -> None:
    """Makes sure that a weight, of any shape, holds finite numbers only.

    Raises:
        CheckpointError: It does not.
    """
    if not is_finite(tensor):
        raise CheckpointError(
            f"{file}: {name} holds numbers that are not finite; delete the file and download it again"
        )


def is_finite(tensor: Tensor) -> bool:
    """Tells whether a tensor of any shape holds no infinity and nothing that is not a number."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    ends = (tensor.float() if tensor.dtype.itemsize == 1 else tensor).aminmax()
    return math.isfinite(float(ends.min)) and math.isfinite(float(ends.max))


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
        named = indexed_names(index)
        if named & chosen:
            return [folder / name for name in sorted(named)]
    return []


def indexed_names(index: Path) -> set[str]:
    """Lists the weight files that an index (`*.index.json`) names, all in its own folder.

    Raises:
        CheckpointError: The index is damaged.
    """
    mapping = read_json(index).get("weight_map", {})
    names: list[Any] = list(mapping.values()) if isinstance(mapping, dict) else [None]
    if odd := [name for name in names if not (isinstance(name, str) and _NAME.fullmatch(name))]:
        raise CheckpointError(f"{index} names {odd[0]!r}, which is no weight file beside it; {_AGAIN}")
    return set(names)


def _open_safetensors(file: Path) -> Any:
    if file.exists():
        check_ordinary(file)
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} {_why_unreadable(file)} ({error}); {_remedy(file)}") from error


def _read_pickle(file: Path) -> dict[str, Tensor]:
    check_ordinary(file)
    try:
        if _is_zip(file) and any(entry.compress_type != zipfile.ZIP_STORED for entry in zipfile.ZipFile(file).filelist):
            raise ValueError("it is compressed, as weights never are")
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
    except Exception as error:  # a damaged pickle raises errors of any class
        raise CheckpointError(
            f"{file} {_why_unreadable(file)}, or holds more than plain tensors, which show1 refuses to run "
            f"({'other objects' if isinstance(error, UnpicklingError) else reason_of(error):.150}); {_remedy(file)}"
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
