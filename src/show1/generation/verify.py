"""Finds everything that is wrong with a cascade's files, without loading them whole."""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers import UNet3DConditionModel as LatentUNet3DConditionModel
from torch import nn

from show1.checkpoints.loading import (
    Problem,
    build_empty,
    check_weights,
    read_scheduler_config,
    rename_old_attention,
)
from show1.checkpoints.locate import COMPONENTS, FIRST_FRAME, OPTIONAL_COMPONENTS, Cascade, ModelLike, Part, resolve
from show1.checkpoints.weight_files import find_weights, read_tensors
from show1.config import StageName
from show1.diffusion import build_scheduler
from show1.errors import CheckpointError, Show1Error
from show1.files import sha256
from show1.networks.unet_3d_condition import UNet3DConditionModel
from show1.text.encoder import build_empty_text_encoder, load_tokenizer, optional_text, rename_text

IN_CHANNELS: dict[str, int] = {"keyframes": 3, "interpolation": 7, "super_resolution": 6, FIRST_FRAME: 6}
"""Channels that a stage hands to its network; the expert's are those of its autoencoder."""


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
        problems += _check_part(cascade, name, part)
    if deep and not problems:
        for file in sorted(set(cascade.weight_files().values())):
            problems += _check_numbers(file)
    return list(dict.fromkeys(problems))


def check_channels(name: str, folder: Path, got: int, expected: int) -> None:
    """Makes sure that a network is one of this stage.

    Raises:
        CheckpointError: It takes another number of channels.
    """
    if got != expected:
        kinds = {channels: stage for stage, channels in reversed(IN_CHANNELS.items())}
        other = f" (as one of the stage {kinds[got]!r} does)" if got in kinds else ""
        raise CheckpointError(
            f"{folder} takes {got} channels{other}, a network of the stage {name!r} takes {expected}; give the folder "
            "of that stage"
        )


def _check_part(cascade: Cascade, name: str, part: Part) -> Iterator[Problem]:
    built: dict[str, Any] = {}
    for component in COMPONENTS[name]:
        folder = part.path / component
        if component in OPTIONAL_COMPONENTS and not folder.exists():
            continue
        yield from _checked(folder, functools.partial(_check_component, cascade.variant, name, folder, built))
    if name == FIRST_FRAME:
        yield from _checked(part.path / "unet", lambda: _check_role(name, part.path, built))
        return
    if part.text is None:
        yield Problem(part.path, "has no text encoder, and there is no keyframes stage to share one with")
        return
    text = part.text
    yield from _checked(text / "tokenizer", lambda: _check_tokenizer(text / "tokenizer"))
    yield from _checked(
        text / "text_encoder", lambda: _check_text_encoder(text / "text_encoder", cascade.variant, built)
    )
    yield from _checked(part.path / "unet", lambda: _check_role(name, part.path, built))


def _checked(where: Path, check: Callable[[], list[Problem]]) -> list[Problem]:
    try:
        return check()
    except Show1Error as error:
        return [Problem(where, str(error))]


def _check_component(variant: str | None, name: str, folder: Path, built: dict[str, Any]) -> list[Problem]:
    component = folder.name
    if component.endswith("scheduler"):
        build_scheduler(read_scheduler_config(folder))
        return []
    classes: dict[tuple[str, str], Any] = {
        ("translation", "unet"): LatentUNet3DConditionModel,
        ("translation", "vae"): AutoencoderKL,
        (FIRST_FRAME, "unet"): UNet2DConditionModel,
    }
    files = find_weights(folder, variant)
    model: Any = build_empty(classes.get((name, component), UNet3DConditionModel), folder)
    built[component] = model
    return check_weights(model, files, rename=rename_old_attention)


def _check_tokenizer(folder: Path) -> list[Problem]:
    load_tokenizer(folder)
    return []


def _check_text_encoder(folder: Path, variant: str | None, built: dict[str, Any]) -> list[Problem]:
    files = find_weights(folder, variant)
    model: nn.Module = build_empty_text_encoder(folder)
    built["text_encoder"] = model
    return check_weights(model, files, rename=rename_text, optional=optional_text(model))


def _check_role(name: str, path: Path, built: dict[str, Any]) -> list[Problem]:
    if "unet" not in built or (name == "translation" and "vae" not in built):
        return []
    config = built["unet"].config
    expected = built["vae"].config.latent_channels if name == "translation" else IN_CHANNELS[name]
    check_channels(name, path / "unet", config.in_channels, expected)
    if "text_encoder" in built:
        check_text_width(path / "unet", config, built["text_encoder"].config.hidden_size)
    return []


def check_text_width(folder: Path, config: Any, got: int) -> None:
    """Makes sure that a network takes what its text encoder gives.

    Raises:
        CheckpointError: The widths differ.
    """
    width = getattr(config, "encoder_hid_dim", None) or config.cross_attention_dim
    if isinstance(width, int) and width != got:
        raise CheckpointError(
            f"{folder} takes text states of width {width}, the text encoder gives {got}: they are not of the same "
            "model; give the stage's folder its own text_encoder/ and tokenizer/"
        )


def _check_numbers(file: Path) -> list[Problem]:
    real = file.resolve()
    if real.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", real.name) and sha256(real) != real.name:
        return [Problem(file, "is not what was published (its hash differs); delete it and download it again")]
    return [
        Problem(file, f"{name} holds numbers that are not finite; delete the file and download it again")
        for name, tensor in read_tensors(file)
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
