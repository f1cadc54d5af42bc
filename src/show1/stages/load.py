"""Loads a stage from its folder."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from show1.checkpoints.cascade import Part
from show1.checkpoints.components import load_components
from show1.checkpoints.loading import read_scheduler_config, read_unet_weights
from show1.checkpoints.network_configs import read_network_config
from show1.config import CascadeSettings, StageName
from show1.diffusion import build_scheduler
from show1.errors import InputError
from show1.stage_table import STAGE_TABLE, parts_of
from show1.stages.denoising import run_timesteps
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


def check_settings(name: StageName, parts: Mapping[str, Part], settings: CascadeSettings) -> None:
    """Makes sure that a stage, and its optional parts, can sample with their settings; loads no network.

    Args:
        name: Which stage.
        parts: The files of the cascade's stages and parts, by name.
        settings: Of all stages: their sizes depend on one another.

    Raises:
        InputError: They cannot work.
        CheckpointError: A config of the folder cannot be read.
    """
    row, own = STAGE_TABLE[name], getattr(settings, name)
    of_parts = {part: getattr(own, part, None) for part in parts_of([name]) if part in parts and part != name}
    # a latent network sees heights and widths through its autoencoder, which all have alike
    multiple = 8
    if row.unet.kind == "pixel_unet":
        levels = read_network_config(parts[name].path / "unet" / "config.json").get("block_out_channels")
        multiple = 2 ** (len(levels) - 1) if isinstance(levels, list) else 1
    _, height, width = row.output_shape(None, settings)
    if height % multiple or width % multiple:
        raise InputError(
            f"the settings of {name} cannot work: its network takes only heights and widths that are multiples of "
            f"{multiple}, got {height}x{width}"
        )
    foreign = {"time_factor": 1, "weights": "plain"} if row.takes_experts else {}
    if given := [option for option, default in foreign.items() if getattr(own, option) != default]:
        raise InputError(f"{name}.{given[0]} is for other experts (--expert); leave it out")
    for part, options in {name: own, **of_parts}.items():
        if options is not None:
            scheduler = build_scheduler(read_scheduler_config(parts[part].path / "scheduler"), options.scheduler)
            try:
                run_timesteps(scheduler, options)
            except ValueError as error:
                raise InputError(f"the settings of {part} cannot work: {error}") from error


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
    streamed: bool = False,
    fp8: bool = False,
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
        streamed: Whether weights stay in the files, and each layer reads its own whenever it runs; not with
            `detail_deltas`.
        fp8: Whether the weights of the stage's UNet are stored as 8-bit floats, if they are not streamed.

    Raises:
        CheckpointError: A file is missing, partial, corrupt or of the wrong shape, or the network is one of another
            stage.
    """
    row, path = STAGE_TABLE[name], Path(folder)
    place: dict[str, Any] = {"dtype": dtype, "device": device, "variant": variant}
    arguments = load_components(row, path, **place, deltas=deltas, unet=unet, streamed=streamed, fp8=fp8)
    for part in parts_of([name]):
        if part != name and part in (part_folders or {}):
            components = load_components(STAGE_TABLE[part], (part_folders or {})[part], **place, streamed=streamed)
            arguments[part] = _CLASSES[part](**components)
    if detail_deltas is not None:
        changed = {*(deltas or {}), *detail_deltas}
        arguments["details"] = read_unet_weights(path / "unet", changed, **place, deltas=detail_deltas)
    if start_noise and not row.needs_video:
        arguments["start_noise"] = start_noise
    stage: Stage[Any] = _CLASSES[name](**arguments)
    return stage
