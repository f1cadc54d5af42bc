"""Where the weights of an expert are, and what changes them."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from show1.checkpoints.cascade import Part
from show1.checkpoints.storage import weight_bytes
from show1.checkpoints.weight_files import count_parameters, find_weights
from show1.errors import CheckpointError, MissingDependencyError, reason_of
from show1.experts.family import ExpertFamily
from show1.experts.loading import load_pipeline, quiet
from show1.runtime import free_memory, is_out_of_memory, offloading_options


def load_placed(
    part: Part,
    family: ExpertFamily,
    names: Sequence[str],
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    variant: str | None = None,
    bytes_per_weight: int | None = None,
    prepare: Callable[[Any], None] = lambda pipe: None,
    streamed: bool | None = None,
    whole_first: bool = False,
) -> Any:
    """Loads components as `load_pipeline` does; each layer may get its weights only when it runs.

    On a card they then come from the computer's memory, elsewhere from the files.

    Args:
        part: The files.
        family: The family.
        names: The components to load.
        dtype: Precision of the networks.
        device: Where they compute.
        variant: Weight files to prefer.
        bytes_per_weight: Memory of a weight; None: as `dtype` says.
        prepare: Changes the pipeline before it is offloaded.
        streamed: Whether layers get their weights when they run; None: if a card has no room for all.
        whole_first: Whether the networks are in the computer's memory until `prepare` has changed them.
    """
    assert part.expert is not None
    place, kept = torch.device(device), [c for c in part.expert.components if c.name in names and c.has_weights]
    if streamed is None:
        files = [file for component in kept for file in find_weights(part.path / component.name, variant)]
        streamed = exceeds_memory(place, count_parameters(files) * (bytes_per_weight or dtype.itemsize))
    offloaded = streamed and place.type == "cuda"
    first = "cpu" if offloaded or whole_first else place
    options: dict[str, Any] = {"device": first, "streamed": streamed and not offloaded}
    pipe = load_pipeline(part, family, names, dtype=dtype, variant=variant, **options)
    prepare(pipe)
    if offloaded:
        offload(pipe, place)
    elif whole_first and place.type != "cpu":
        pipe.to(place)
    return pipe


def exceeds_memory(device: torch.device, needed: int) -> bool:
    """Whether so many bytes of weights would take more than 70 % of what is free on a card."""
    free = free_memory(device) if device.type == "cuda" else None
    return free is not None and needed > 0.7 * free


def cast_to_fp8(pipe: Any, dtype: torch.dtype) -> bool:
    """Keeps the network's weights in 8 bits, each layer's converted to `dtype` when it runs; says whether it can."""
    network: Any = getattr(pipe, "transformer", None)
    if not hasattr(network, "enable_layerwise_casting"):
        return False
    network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
    return True


def offload(pipe: Any, device: torch.device) -> None:
    """Keeps a pipeline's weights in the computer's memory; each layer's come to the device whenever it runs."""
    networks = (part for part in pipe.components.values() if isinstance(part, torch.nn.Module))
    options = offloading_options(device, sum(map(weight_bytes, networks)))
    pipe.enable_group_offload(device, offload_device=torch.device("cpu"), **options)


def add_loras(pipe: Any, loras: Sequence[tuple[Path, float]]) -> None:
    """Adds LoRA files to a pipeline, each with its weight, as diffusers reads them.

    Raises:
        CheckpointError: One is no LoRA of this family.
        MissingDependencyError: peft is not installed.
    """
    if not loras:
        return
    if importlib.util.find_spec("peft") is None:
        raise MissingDependencyError("LoRA files of experts need peft; pip install 'show1[train]'")
    if not hasattr(pipe, "load_lora_weights"):
        raise CheckpointError(f"{loras[0][0]}: the pipeline {type(pipe).__name__} takes no LoRA files; leave it out")
    names = [f"lora_{number}" for number in range(len(loras))]
    for name, (file, _) in zip(names, loras, strict=True):
        try:
            with quiet():
                pipe.load_lora_weights(
                    str(file.parent), weight_name=file.name, adapter_name=name, local_files_only=True
                )
            loaded = {each for group in pipe.get_list_adapters().values() for each in group}
        except Exception as error:
            if is_out_of_memory(error):
                raise
            # whatever else goes wrong here, the file asked for
            raise CheckpointError(f"{file} is no LoRA for {type(pipe).__name__} ({reason_of(error):.300})") from error
        if name not in loaded:
            raise CheckpointError(f"{file} changes nothing of {type(pipe).__name__}; it is a LoRA of another model")
    pipe.set_adapters(names, [weight for _, weight in loras])
