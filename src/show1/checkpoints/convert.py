"""Conversion of pickled weights to safetensors, and of a cascade's files to a folder of its own."""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from show1.checkpoints.cascade import Cascade
from show1.checkpoints.index import CARD, write_index
from show1.checkpoints.weight_files import check_ordinary, find_weights, indexed_names, read_tensors, weight_variants
from show1.config import CascadeSettings, StageName
from show1.errors import CheckpointError, OutputError
from show1.expert_table import PIPELINE_INDEX
from show1.files import write_json, write_tensors
from show1.limits import MAX_TOKENIZER_BYTES
from show1.stage_table import SHARED_TEXT, STAGE_TABLE, TEXT, Component


def convert_to_safetensors(folder: str | Path) -> list[Path]:
    """Writes a safetensors file beside every pickled weight file (`.bin`) in a folder and its subfolders.

    Pickles are read only with `weights_only=True`, so that no code in them runs. They stay where they are.

    Args:
        folder: Folder of a model or of a component.

    Returns:
        The files written; empty if all weights are safetensors already.

    Raises:
        CheckpointError: There is no such folder, or a pickle is damaged or holds more than tensors.
        OutputError: No permission, or the disk is full.
    """
    root = Path(folder)
    if not root.is_dir():
        raise CheckpointError(f"{root} is not a folder; name the folder of a model or of one of its components")
    written: list[Path] = []
    for inside in sorted({f.parent for f in root.rglob("*.bin")}):
        groups = weight_variants([f.name for f in inside.iterdir()])
        for (kind, variant), names in groups.items():
            if kind == "bin" and not _is_converted(inside, names, groups.get(("safetensors", variant), [])):
                written += _convert_files([inside / name for name in names])
    return written


def save_cascade(
    cascade: Cascade,
    folder: Path,
    *,
    deltas: Mapping[StageName, Mapping[str, Tensor]] | None = None,
    settings: CascadeSettings | None = None,
    link: bool = False,
) -> Path:
    """Writes all files of a cascade to one folder: `show1.json` and a subfolder per stage.

    Args:
        cascade: The files.
        folder: A new or empty folder.
        deltas: Changes of weights, float32 and of the parameter's shape, by stage and by the parameter's name in its
            UNet; those weights are written in float32.
        settings: The settings that are to be the defaults; None: those of the cascade.
        link: Whether weight files become hard links to those of the cascade, where the disk can do that.

    Returns:
        The folder.

    Raises:
        OutputError: The folder exists, or cannot be written; nothing is left behind.
        CheckpointError: A file of the cascade is missing or damaged.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists already; name a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as work:
            partial = Path(work) / folder.name
            _copy_parts(cascade, partial, link)
            for stage, changes in (deltas or {}).items():
                _change_weights(partial / stage / "unet", changes)
            parts = {part: part for part in cascade.parts}
            write_index(partial, parts, settings or cascade.settings, cascade.customization)
            if folder.exists():
                folder.rmdir()
            partial.replace(folder)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def _copy_parts(cascade: Cascade, target: Path, link: bool) -> None:
    shared = cascade.parts[SHARED_TEXT].text if SHARED_TEXT in cascade.parts else None
    for name, part in cascade.parts.items():
        for component in part.components(STAGE_TABLE[name]):
            if (part.path / component.name).is_dir():
                _copy_component(component, part.path, target / name, cascade.variant, link)
        if part.text is not None and (name == SHARED_TEXT or part.text != shared):
            for component in TEXT:
                _copy_component(component, part.text, target / name, cascade.variant, link)
        for file in (CARD, *((PIPELINE_INDEX,) if part.expert is not None else ())):
            if (part.path / file).is_file():
                shutil.copyfile(part.path / file, target / name / file)


def _copy_component(
    component: Component, source_parent: Path, target_parent: Path, variant: str | None, link: bool
) -> None:
    source, target = source_parent / component.name, target_parent / component.name
    target.mkdir(parents=True)
    weights = find_weights(source, variant) if component.has_weights else []
    small = [f for f in source.iterdir() if f.suffix in (".json", ".txt", ".model") and ".index." not in f.name]
    indices = [f for f in source.glob("*.index*.json") if indexed_names(f) & {w.name for w in weights}]
    for file in (*small, *indices):
        check_ordinary(file, MAX_TOKENIZER_BYTES)
        shutil.copyfile(file, target / file.name)  # follows the links of the Hub's cache
    for file in weights:
        _copy_weights(file, target / file.name, link)
    if weights and weights[0].suffix == ".bin":
        convert_to_safetensors(target)
        for file in (*weights, *indices):
            (target / file.name).unlink()


def _copy_weights(file: Path, target: Path, link: bool) -> None:
    if link:
        with contextlib.suppress(OSError):  # another disk, or one without hard links
            target.hardlink_to(file.resolve())
            return
    shutil.copyfile(file, target)


def _change_weights(folder: Path, deltas: Mapping[str, Tensor]) -> None:
    for file in find_weights(folder):
        tensors = {name: tensor.clone() for name, tensor in read_tensors(file)}
        changed = {name: tensor.float() + deltas[name] for name, tensor in tensors.items() if name in deltas}
        if changed:
            write_tensors(file, {**tensors, **changed})


def _safe_name(name: str) -> str:
    return re.sub(r"^pytorch_model", "model", name).removesuffix(".bin") + ".safetensors"


def _is_converted(folder: Path, pickles: Sequence[str], safe: Sequence[str]) -> bool:
    """Tells whether there are safetensors other than those of a conversion that was stopped half-way."""
    begun = {_safe_name(name) for name in pickles}
    if not begun & set(safe):
        return bool(safe)  # other names, so they are of another origin
    index = folder / _index_name(sorted(begun)[0])
    return begun <= set(safe) and (len(begun) == 1 or index.is_file())


def _index_name(shard: str) -> str:
    return re.sub(r"-\d{5}-of-\d{5}", "", shard) + ".index.json"


def _convert_files(files: list[Path]) -> list[Path]:
    written, weight_map, size = [], {}, 0
    for file in files:
        if not file.exists():
            raise CheckpointError(f"{file} is missing; download the model again (`show1 models download`)")
        tensors = _unshared(dict(read_tensors(file)))
        target = file.with_name(_safe_name(file.name))
        write_tensors(target, tensors)
        written.append(target)
        weight_map.update(dict.fromkeys(tensors, target.name))
        size += sum(t.numel() * t.element_size() for t in tensors.values())
    if len(files) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        write_json(written[0].with_name(_index_name(written[0].name)), index)
    return written


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies tied weights, because safetensors cannot hold one memory under two names."""
    seen: set[int] = set()
    out = {}
    for name, tensor in tensors.items():
        pointer = tensor.untyped_storage().data_ptr()
        out[name] = tensor.clone().contiguous() if pointer in seen else tensor.contiguous()
        seen.add(pointer)
    return out
