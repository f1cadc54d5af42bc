"""What must hold before a stage runs and after it, so that no nonsense is computed on or kept."""

from collections.abc import Sequence

import torch
from torch import Tensor

from show1.adapters.adapter_set import AdapterSet
from show1.config import StageName
from show1.errors import InputError, Show1Error
from show1.generation.request import GenerationRequest
from show1.runtime import free_memory

_BYTES_PER_PIXEL = 3 * 4  # three float32 channels


def check_memory(request: GenerationRequest, frames: int | None = None) -> None:
    """Makes sure that the finished videos fit in the computer's free memory, before any of it is taken.

    Args:
        request: What is asked for.
        frames: Frames of the video that it begins with, if it begins with one.

    Raises:
        InputError: They do not fit.
    """
    needed = request.largest_output(frames) * len(request.prompts) * _BYTES_PER_PIXEL
    free = free_memory(torch.device("cpu"))
    if free is not None and needed > free:
        raise InputError(
            f"the videos asked for take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; ask for "
            "fewer drafts, fewer frames (`num_keyframes`, --keyframes) or a smaller size"
        )


def check_finite(
    values: Tensor, stage: StageName, request: GenerationRequest, *, adapters: AdapterSet, dtype: torch.dtype
) -> None:
    """Makes sure that what a stage computed is made of finite numbers.

    Args:
        values: Of any shape, on any device.
        stage: The stage that computed them.
        request: What was asked for.
        adapters: Those in use.
        dtype: Precision of the networks.

    Raises:
        Show1Error: Some are NaN or infinite.
    """
    if bool(values.isfinite().all()):
        return
    scale = getattr(request.settings, stage).guidance_scale
    remedies = [f"lower {stage}.guidance_scale (now {scale:g})"] if scale > 1 else []
    if active := [adapter.record for adapter in adapters.active((stage,))]:
        remedies.append(f"lower the weight of {', '.join(f'{r.name} (now {r.shown_weight})' for r in active)}")
    if dtype == torch.float16:
        remedies.append("compute in another precision than float16 (dtype='float32' or 'bfloat16', --dtype)")
    remedies.append("check the model's weights (`show1 models verify MODEL --deep`)")
    raise Show1Error(
        f"the stage {stage!r} computed numbers that are not finite (NaN or infinity), so nothing of it is kept; "
        + ", or ".join(remedies)
    )


def check_text(states: Sequence[Tensor], stage: StageName) -> None:
    """Makes sure that text states, (B, L, D) each, are made of finite numbers.

    Raises:
        Show1Error: Some are NaN or infinite.
    """
    if not all(bool(each.isfinite().all()) for each in states):
        raise Show1Error(
            f"the text states for the stage {stage!r} hold numbers that are not finite (NaN or infinity); compute in "
            "float32 or bfloat16 (dtype=, --dtype), or check the model's weights (`show1 models verify MODEL --deep`)"
        )
