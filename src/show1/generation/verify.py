"""Finds everything that is wrong with a cascade's files, without loading them whole."""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from show1.checkpoints.components import NETWORK_CLASSES, check_channels, check_text_width, text_width
from show1.checkpoints.loading import (
    Problem,
    build_empty,
    check_weights,
    read_scheduler_config,
    rename_old_attention,
)
from show1.checkpoints.locate import Cascade, ModelLike, Part, resolve
from show1.checkpoints.weight_files import find_weights, read_tensors
from show1.config import StageName
from show1.diffusion import build_scheduler
from show1.errors import CheckpointError, Show1Error
from show1.files import sha256
from show1.stage_table import SHARED_TEXT, STAGE_TABLE, Component, StageRow
from show1.text.encoder import build_empty_text_encoder, load_tokenizer, optional_text, rename_text


def verify(
    model: ModelLike,
    *,
    stages: Sequence[StageName] | None = None,
    variant: str | None = None,
    deep: bool = False,
) -> list[Problem]:
    """Checks a model that is on this disk: all files, configs, names and shapes of tensors.

    Args:
        model: As for `Show1Pipeline.from_pretrained`; the Hub is not asked.
        stages: Only these; None: all.
        variant: Weight files to prefer.
        deep: Also read every weight: numbers that are not finite, and files of the Hub's cache that do not have the
            hash they were published with.

    Returns:
        What is wrong; empty if all is well.

    Raises:
        ModelNotFoundError: There is no such model on this disk.
    """
    try:
        cascade = resolve(model, stages=stages, variant=variant, local_files_only=True, check=False)
    except CheckpointError as error:
        return [Problem(Path(str(model)), str(error))]
    problems: list[Problem] = []
    for name, part in cascade.parts.items():
        problems += _check_part(cascade, STAGE_TABLE[name], part)
    if deep and not problems:
        for file in sorted(set(cascade.weight_files().values())):
            problems += _check_numbers(file)
    return list(dict.fromkeys(problems))


def _check_part(cascade: Cascade, row: StageRow, part: Part) -> Iterator[Problem]:
    built: dict[str, Any] = {}
    for component in row.components:
        if component.optional and not (part.path / component.name).exists():
            continue
        check = functools.partial(_check_component, cascade.variant, component, part.path, built)
        yield from _checked(part.path / component.name, check)
    if row.has_text and part.text is None:
        yield Problem(part.path, f"has no text encoder, and there is no {SHARED_TEXT} stage to share one with")
        return
    if part.text is not None:
        text = part.text
        yield from _checked(text / "tokenizer", lambda: _check_tokenizer(text / "tokenizer"))
        yield from _checked(
            text / "text_encoder", lambda: _check_text_encoder(text / "text_encoder", cascade.variant, built)
        )
    yield from _checked(part.path / "unet", lambda: _check_role(row, part.path, built))


def _checked(where: Path, check: Callable[[], list[Problem]]) -> list[Problem]:
    try:
        return check()
    except Show1Error as error:
        return [Problem(where, str(error))]


def _check_component(variant: str | None, component: Component, parent: Path, built: dict[str, Any]) -> list[Problem]:
    folder = parent / component.name
    if not component.has_weights:
        build_scheduler(read_scheduler_config(folder))
        return []
    files = find_weights(folder, variant)
    model: Any = build_empty(NETWORK_CLASSES[component.kind], folder)
    built[component.name] = model
    return check_weights(model, files, rename=rename_old_attention)


def _check_tokenizer(folder: Path) -> list[Problem]:
    load_tokenizer(folder)
    return []


def _check_text_encoder(folder: Path, variant: str | None, built: dict[str, Any]) -> list[Problem]:
    files = find_weights(folder, variant)
    model: nn.Module = build_empty_text_encoder(folder)
    built["text_encoder"] = model
    return check_weights(model, files, rename=rename_text, optional=optional_text(model))


def _check_role(row: StageRow, folder: Path, built: dict[str, Any]) -> list[Problem]:
    """Checks how the networks of a stage fit together, as far as their configs could be read."""
    if not {component.name for component in row.components if component.has_weights} <= built.keys():
        return []
    check_channels(row, folder, built)
    if "text_encoder" in built:
        check_text_width(folder / "unet", text_width(built["unet"].config), built["text_encoder"].config.hidden_size)
    return []


def _check_numbers(file: Path) -> list[Problem]:
    real = file.resolve()
    if real.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", real.name) and sha256(real) != real.name:
        return [Problem(file, "is not what was published (its hash differs); delete it and download it again")]
    return [
        Problem(file, f"{name} holds numbers that are not finite; delete the file and download it again")
        for name, tensor in read_tensors(file)
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
