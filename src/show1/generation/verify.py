"""Finds everything that is wrong with a cascade's files, without loading them whole."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from show1.checkpoints.cascade import Part
from show1.checkpoints.components import NETWORK_CLASSES, check_channels, check_text_width, text_width
from show1.checkpoints.loading import (
    Problem,
    build_empty,
    check_weights,
    read_scheduler_config,
    rename_old_attention,
)
from show1.checkpoints.locate import ModelLike, check_links, resolve
from show1.checkpoints.weight_files import GGUF, check_finite, find_weights, read_shapes, read_tensors
from show1.config import StageName
from show1.diffusion import build_scheduler
from show1.errors import CheckpointError, Show1Error
from show1.experts.loading import check_component
from show1.files import sha256
from show1.stage_table import SHARED_TEXT, STAGE_TABLE, StageRow
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
        _check_part(problems, cascade.variant, STAGE_TABLE[name], part)
    if deep and not problems:
        for file in sorted(set(cascade.weight_files().values())):
            plain = [file] if file.suffix != GGUF else []
            problems += _check_hash(file) or _check_numbers(plain, all_of_them=True)
    return list(dict.fromkeys(problems))


def _check_part(problems: list[Problem], variant: str | None, row: StageRow, part: Part) -> None:
    """Adds what is wrong with the files of a stage, and with how its networks fit together."""
    if part.expert is not None:
        for component in part.expert.components:
            folder = part.path / component.name
            with _noting(problems, folder):
                check_links(part, folder)
                files = find_weights(folder, variant) if component.has_weights else []
                plain = [file for file in files if file.suffix != GGUF]  # its numbers are packed in blocks
                problems += check_component(part, component, variant) or _check_numbers(plain)
        return
    built: dict[str, Any] = {}
    for component in row.components:
        folder = part.path / component.name
        if component.optional and not folder.exists():
            continue
        with _noting(problems, folder):
            check_links(part, folder)
            if not component.has_weights:
                build_scheduler(read_scheduler_config(folder))
                continue
            files = find_weights(folder, variant)
            model = built[component.name] = build_empty(NETWORK_CLASSES[component.kind], folder)
            problems += check_weights(model, files, rename=rename_old_attention) or _check_numbers(files)
    if row.has_text and part.text is None:
        lacking = (
            f"has no text encoder, and there is no {SHARED_TEXT} stage to share one with; name both: "
            f"{SHARED_TEXT}=WHERE,{row.name}=WHERE"
        )
        problems.append(Problem(part.path, lacking))
        return
    if part.text is not None:
        with _noting(problems, part.text / "tokenizer"):
            check_links(part, part.text / "tokenizer")
            load_tokenizer(part.text / "tokenizer")
        with _noting(problems, part.text / "text_encoder"):
            check_links(part, part.text / "text_encoder")
            files = find_weights(part.text / "text_encoder", variant)
            text = built["text_encoder"] = build_empty_text_encoder(part.text / "text_encoder")
            found = check_weights(text, files, rename=rename_text, optional=optional_text(text))
            problems += found or _check_numbers(files)
    if {component.name for component in row.components if component.has_weights} <= built.keys():
        unet = part.path / "unet"
        with _noting(problems, unet):
            check_channels(row, part.path, built)
            if "text_encoder" in built:
                check_text_width(unet, text_width(built["unet"].config), built["text_encoder"].config.hidden_size)


@contextmanager
def _noting(problems: list[Problem], where: Path) -> Iterator[None]:
    """Turns an error of the block into a problem."""
    try:
        yield
    except Show1Error as error:
        problems.append(Problem(where, str(error)))


def _check_hash(file: Path) -> list[Problem]:
    """Compares a file of the Hub's cache with the hash in its name."""
    real = file.resolve()
    if real.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", real.name) and sha256(real) != real.name:
        return [Problem(file, "is not what was published (its hash differs); delete it and download it again")]
    return []


def _check_numbers(files: Sequence[Path], *, all_of_them: bool = False) -> list[Problem]:
    """Looks for weights that are not finite: among vectors, which is quick and finds a spoiled file, or among all."""
    problems: list[Problem] = []
    for file in files:
        with _noting(problems, file):
            names = [name for name, shape in read_shapes(file).items() if all_of_them or len(shape) < 2]
            for name, tensor in read_tensors(file, names):
                check_finite(file, name, tensor)
    return problems
