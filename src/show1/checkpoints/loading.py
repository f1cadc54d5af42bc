"""Loading of networks and scheduler configs from a component's folder, with every tensor checked against the config.

A network is made on the meta device and its weights are put in one after another, so that loading needs no memory
beyond the weights themselves, and a wrong file is found before any work is done.
"""

import contextlib
import functools
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, AutoencoderTiny, ModelMixin
from diffusers import UNet3DConditionModel as LatentUNet3DConditionModel
from torch import Tensor, nn

from show1.checkpoints.network_configs import check_kinds, check_tiny_autoencoder, read_network_config
from show1.checkpoints.storage import fill_as_fp8, weight_bytes
from show1.checkpoints.weight_files import (
    check_finite,
    find_weights,
    read_headers,
    read_json,
    read_tensors,
    tensor_reader,
)
from show1.errors import CheckpointError, reason_of
from show1.networks.latent_unet import latent_unet_class
from show1.networks.layers import use_frame_convolutions
from show1.networks.unet_3d_condition import UNet3DConditionModel
from show1.runtime import offloading_options

Rename = Callable[[str], str | None]
"""Maps a tensor's name in the file to its name in the network, or to None for a tensor to leave out."""

Network = TypeVar("Network", bound=ModelMixin)

_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class Problem:
    """A problem with one file."""

    file: Path
    """The file or folder."""
    message: str
    """What is wrong, and what to do."""

    def __str__(self) -> str:
        return self.message if self.message.startswith(str(self.file)) else f"{self.file}: {self.message}"


def load_network(
    cls: type[Network],
    folder: str | Path,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    variant: str | None = None,
    deltas: Mapping[str, Tensor] | None = None,
    streamed: bool = False,
    fp8: bool = False,
) -> Network:
    """Loads a network from its own folder, such as `show-1-base/unet`.

    Args:
        cls: The network's class.
        folder: Folder of `config.json` and the weights.
        dtype: Precision of the weights.
        device: Device of the weights.
        variant: Weight files to prefer.
        deltas: Changes of the weights; see `load_weights`.
        streamed: Whether each layer gets its weights when it runs: on a GPU from RAM, elsewhere from the files.
        fp8: Whether weights that are not streamed are stored as 8-bit floats.

    Raises:
        CheckpointError: A file is missing, partial, corrupt, or does not fit the config.
    """
    files, place = find_weights(Path(folder), variant), torch.device(device)
    model: Any = build_empty(cls, Path(folder))
    if cls is LatentUNet3DConditionModel:
        use_frame_convolutions(model)
    from_ram = streamed and place.type == "cuda"
    load_weights(
        model,
        files,
        dtype=dtype,
        device="cpu" if from_ram else place,
        rename=rename_old_attention,
        deltas=deltas,
        streamed=streamed and not from_ram,
        fill=functools.partial(fill_as_fp8, dtype=dtype, device=place) if fp8 and not streamed else None,
    )
    if from_ram:
        model.enable_group_offload(onload_device=place, **offloading_options(place, weight_bytes(model)))
    network: Network = model.eval()
    return network


load_unet = functools.partial(load_network, UNet3DConditionModel)
"""Loads the network of a pixel stage, for (B, C, F, H, W)."""
load_latent_unet = functools.partial(load_network, LatentUNet3DConditionModel)
"""Loads the translation expert's network, for (B, C, F, H, W) latents."""
load_vae = functools.partial(load_network, AutoencoderKL)
"""Loads the autoencoder of the expert, which is an `AutoencoderTiny` where its config says so."""


def read_unet_weights(
    folder: str | Path,
    names: Collection[str],
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    variant: str | None = None,
    deltas: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Reads some weights as `load_unet` and `load_latent_unet` put them into a network.

    Args:
        folder: Folder of the weights.
        names: Names of the parameters.
        dtype: Precision of the weights.
        device: Device of the weights.
        variant: Weight files to prefer.
        deltas: Changes of the weights; see `load_weights`.

    Returns:
        The weights by name, in the parameters' shapes.

    Raises:
        CheckpointError: A file is missing, partial or corrupt.
    """
    out: dict[str, Tensor] = {}
    for file in find_weights(Path(folder), variant):
        out |= _read(file, dtype=dtype, device=device, rename=rename_old_attention, deltas=deltas, names=names)
    return out


class StoredWeights(Mapping[str, Tensor]):
    """The weights of a network by their names in it, each read from its file whenever it is asked for."""

    def __init__(
        self,
        files: Sequence[Path],
        *,
        dtype: torch.dtype,
        rename: Rename = lambda name: name,
        tied: frozenset[str] = frozenset(),
        float32_modules: Sequence[str] = (),
        deltas: Mapping[str, Tensor] | None = None,
    ) -> None:
        """See `load_weights`; `tied` are names of one tensor, which a file has once."""
        readers = {file: tensor_reader(file) for file in files}
        names = ((file, name, rename(name)) for file in files for name in read_headers(file))
        convert = functools.partial(_converted, dtype=dtype, float32_modules=float32_modules, deltas=deltas)
        self._read = {
            target: lambda file=file, name=name, target=target: convert(file, name, target, readers[file](name))
            for file, name, target in names
            if target is not None
        }
        self._same = {name: held for held in tied & self._read.keys() for name in tied - self._read.keys()}

    def __getitem__(self, name: str) -> Tensor:
        return self._read[self._same.get(name, name)]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


def read_scheduler_config(folder: str | Path) -> dict[str, Any]:
    """Reads `scheduler_config.json` from a scheduler's folder.

    Raises:
        CheckpointError: The file is missing or not JSON.
    """
    return read_json(Path(folder) / "scheduler_config.json")


def build_empty(cls: type[ModelMixin], folder: Path) -> ModelMixin:
    """Makes a diffusers network from `config.json` on the meta device, without weights.

    Raises:
        CheckpointError: The config is missing, not JSON, or not for this class.
    """
    file = folder / "config.json"
    config = read_network_config(file)
    if cls is LatentUNet3DConditionModel:
        cls = latent_unet_class(config)
    elif cls is AutoencoderKL and config.get("_class_name") == "AutoencoderTiny":
        cls = AutoencoderTiny
        config.pop("block_out_channels", None)  # saved beside what it follows from
        check_tiny_autoencoder(file, config)
    config.pop("_class_name", None)
    check_kinds(file, config, cls)
    try:
        with init_empty_weights(), _quiet_config():
            return cls.from_config(config)
    except Exception as error:  # whatever goes wrong here, the config asked for
        raise CheckpointError(f"{file} does not describe a {cls.__name__}: {reason_of(error)}") from error


def load_weights(
    model: nn.Module,
    files: list[Path],
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    rename: Rename = lambda name: name,
    optional: frozenset[str] = frozenset(),
    float32_modules: Sequence[str] = (),
    deltas: Mapping[str, Tensor] | None = None,
    streamed: bool = False,
    fill: Callable[[nn.Module, Mapping[str, Tensor]], None] | None = None,
) -> None:
    """Fills a network that was made on the meta device.

    Args:
        model: The network; it is changed in place.
        files: All shards.
        dtype: Precision of floating-point weights.
        device: Device of the weights.
        rename: Translates the names in the files.
        optional: Names that no file needs to hold, because they are tied to others.
        float32_modules: Modules that stay in float32 whatever `dtype` is.
        deltas: Changes by parameter name, float32 and of the parameter's shape; they are added before the cast to
            `dtype`.
        streamed: Whether the weights stay in the files, and each layer reads its own whenever it runs.
        fill: Puts weights by name into the network in a way of its own, such as in fewer bits.

    Raises:
        CheckpointError: The first problem of `check_weights`, or a file that cannot be read.
    """
    problems = check_weights(model, files, rename=rename, optional=optional)
    if problems:
        more = f" ({len(problems) - 1} more problems: `show1 models verify`)" if len(problems) > 1 else ""
        raise CheckpointError(f"{problems[0]}{more}")
    options: dict[str, Any] = {"dtype": dtype, "rename": rename, "float32_modules": float32_modules, "deltas": deltas}
    if streamed:
        for name, parameter in model.named_parameters():
            parameter.data = parameter.data.to(_kept(name, dtype, float32_modules))
        _stream(model, StoredWeights(files, tied=optional, **options), device)
        return
    if fill is not None:
        fill(model, StoredWeights(files, tied=optional, **options))
        return
    for file in files:
        model.load_state_dict(_read(file, device=device, **options), strict=False, assign=True)


def _stream(model: nn.Module, weights: Mapping[str, Tensor], device: torch.device | str) -> None:
    """Lets each layer of a network on the meta device read its own weights before it runs, and forget them afterwards.

    Args:
        model: Its parameters have the precision that they are to be read in.
        weights: The weights by name, in the parameters' shapes.
        device: Where the network computes.
    """
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module, attach_align_device_hook

    attach_align_device_hook(model, execution_device=torch.device(device), offload=True, weights_map=weights)
    if not hasattr(model, "_hf_hook"):  # it tells where the network computes
        add_hook_to_module(model, AlignDevicesHook(execution_device=torch.device(device)))


def check_weights(
    model: nn.Module,
    files: list[Path],
    *,
    rename: Rename = lambda name: name,
    optional: frozenset[str] = frozenset(),
) -> list[Problem]:
    """Compares names and shapes in weight files with those of a network; of safetensors, no weights are read.

    Args:
        model: The network.
        files: All shards.
        rename: Translates the names in the files.
        optional: Names that no file needs to hold.

    Returns:
        Wrong shapes, whole numbers, missing tensors and tensors that do not belong there.

    Raises:
        CheckpointError: A file cannot be read.
    """
    state = model.state_dict()
    expected = {name: tuple(t.shape) for name, t in state.items()}
    problems, seen = [], set()
    for file in files:
        for name, (shape, floating) in read_headers(file).items():
            target = rename(name)
            if target is None:
                continue
            seen.add(target)
            if target not in expected:
                problems.append(Problem(file, f"holds {name}, which the config's network does not have; {_OTHER}"))
            elif expected[target] != shape:
                wanted = list(expected[target])
                problems.append(
                    Problem(file, f"{name} has shape {list(shape)}, the config asks for {wanted}; {_OTHER}")
                )
            elif state[target].is_floating_point() and not floating:
                problems.append(Problem(file, f"{name} holds whole numbers, which are no weights; {_OTHER}"))
    where = files[0] if len(files) == 1 else files[0].parent
    missing = [n for n in expected if n not in seen and n not in optional]
    return problems + [Problem(where, f"lacks {name}; {_OTHER}") for name in missing]


_OTHER = "weights and config.json do not belong to the same network: download both again, or correct the folder"


def rename_old_attention(name: str) -> str | None:
    """Translates names of attention layers that diffusers wrote before 0.14; published autoencoders still have them."""
    return re.sub(
        r"(?<=mid_block\.attentions\.0\.)(query|key|value|proj_attn)(?=\.)", lambda m: _OLD_ATTENTION[m[1]], name
    )


def _read(
    file: Path,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    rename: Rename,
    float32_modules: Sequence[str] = (),
    deltas: Mapping[str, Tensor] | None = None,
    names: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """Reads the weights of a file by their names in the network, all or those of `names`; see `load_weights`."""
    state = {}
    for name, tensor in read_tensors(file):
        target = rename(name)
        if target is None or (names is not None and target not in names):
            continue
        options: dict[str, Any] = {"dtype": dtype, "float32_modules": float32_modules, "deltas": deltas}
        state[target] = _converted(file, name, target, tensor, **options).to(device)
    return state


def _converted(
    file: Path,
    name: str,
    target: str,
    tensor: Tensor,
    *,
    dtype: torch.dtype,
    float32_modules: Sequence[str],
    deltas: Mapping[str, Tensor] | None,
) -> Tensor:
    """A tensor of a file, of any shape, as the network has it under the name `target`."""
    check_finite(file, name, tensor)
    if deltas and target in deltas:
        tensor = tensor.float() + deltas[target]
    return tensor.to(_kept(target, dtype, float32_modules)) if tensor.is_floating_point() else tensor


def _kept(name: str, dtype: torch.dtype, float32_modules: Sequence[str]) -> torch.dtype:
    """The precision of a parameter."""
    return torch.float32 if set(name.split(".")) & set(float32_modules) else dtype


@contextlib.contextmanager
def _quiet_config() -> Iterator[None]:
    """Silences diffusers' warnings about config keys that a class does not know, which published configs have."""
    logger = logging.getLogger("diffusers.configuration_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
