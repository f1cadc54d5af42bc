"""Loads a stage from its folder."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from show1.checkpoints.components import load_components
from show1.checkpoints.loading import read_unet_weights
from show1.config import StageName
from show1.stage_table import STAGE_TABLE, parts_of
from show1.stages.first_frame import DeepFloydFirstFrame
from show1.stages.interpolation import InterpolationStage
from show1.stages.keyframes import KeyframesStage, StartNoise
from show1.stages.stage import Stage
from show1.stages.super_resolution import SuperResolutionStage
from show1.stages.translation import TranslationStage

_CLASSES: dict[str, Callable[..., Any]] = {
    "keyframes": KeyframesStage,
    "interpolation": InterpolationStage,
    "super_resolution": SuperResolutionStage,
    "translation": TranslationStage,
    "first_frame": DeepFloydFirstFrame,
}
"""The class of each row of the stage table. Its arguments are the row's components and optional parts, by name."""


def load_stage(
    name: StageName,
    folder: str | Path,
    *,
    part_folders: Mapping[str, Path] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    variant: str | None = None,
    deltas: Mapping[str, Tensor] | None = None,
    detail_deltas: Mapping[str, Tensor] | None = None,
    start_noise: Sequence[StartNoise] = (),
    unet: nn.Module | None = None,
) -> Stage[Any]:
    """Loads a stage in the layout of the published repositories: a subfolder per component.

    Args:
        name: Which stage.
        folder: Holds the stage's components.
        part_folders: Folders of optional parts by name, such as `first_frame`; those of other stages are ignored.
        dtype: Precision of the networks.
        device: Where the networks go.
        variant: Weight files to prefer.
        deltas: Changes of the UNet's weights by name, float32.
        detail_deltas: The same at low noise levels; None: as `deltas`.
        start_noise: Noise to begin from, for a stage that begins from noise alone.
        unet: The stage's UNet, if it is loaded already, such as one that is being trained.

    Raises:
        CheckpointError: A file is missing, partial, corrupt or of the wrong shape, or the network is one of another
            stage.
    """
    row, path = STAGE_TABLE[name], Path(folder)
    place: dict[str, Any] = {"dtype": dtype, "device": device, "variant": variant}
    arguments = load_components(row, path, **place, deltas=deltas, unet=unet)
    for part in parts_of([name]):
        if part != name and part in (part_folders or {}):
            components = load_components(STAGE_TABLE[part], (part_folders or {})[part], **place)
            arguments[part] = _CLASSES[part](**components)
    if detail_deltas is not None:
        changed = {*(deltas or {}), *detail_deltas}
        arguments["details"] = read_unet_weights(path / "unet", changed, **place, deltas=detail_deltas)
    if start_noise and not row.needs_video:
        arguments["start_noise"] = start_noise
    stage: Stage[Any] = _CLASSES[name](**arguments)
    return stage
