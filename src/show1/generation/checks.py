"""What must hold before a stage runs and after it, so that no nonsense is computed on or kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias, get_args

import torch
from torch import Tensor

from show1.adapters.adapter_set import AdapterSet
from show1.checkpoints.cascade import Part
from show1.checkpoints.weight_files import is_finite
from show1.config import CascadeSettings, StageName
from show1.errors import InputError, Show1Error
from show1.experts import check_expert_settings
from show1.generation.inputs import VideoLike, video_tensor
from show1.generation.progress import Callbacks
from show1.generation.request import GenerationRequest
from show1.generation.results import OutputType
from show1.generation.run import Run, existing_run, holds_run
from show1.options import require
from show1.runtime import free_memory
from show1.stages import PromptEmbeddings, check_settings

Texts: TypeAlias = Mapping[StageName, PromptEmbeddings]

_BYTES_PER_PIXEL = 3 * 4  # three float32 channels


def check_call(
    request: GenerationRequest,
    run: Run | str | Path | None,
    video: VideoLike | None,
    prompt_embeds: Texts | None = None,
    output_type: OutputType = "video",
    callbacks: Callbacks | None = None,
) -> Tensor | None:
    """Checks what `Show1Pipeline.generate` was given.

    Returns:
        The video to begin with, (B, 3, F, h, w): that of the caller or of the run; None if prompts are all it takes.

    Raises:
        InputError: An argument cannot be used, or does not fit the others.
        RunError: The run's own video is damaged.
    """
    if video is None:
        current = _begun_with(run) if request.needs_video else None
    else:
        current = video_tensor(video, request)
    if prompt_embeds is not None:
        if run is not None:
            raise InputError("a run folder cannot keep `prompt_embeds`; leave `run` out")
        check_given(prompt_embeds, request)
    require(output_type in get_args(OutputType), "output_type", output_type, "'video', 'np', 'pt' or 'pil'")
    require(isinstance(callbacks, Callbacks | None), "callbacks", callbacks, "`show1.Callbacks`")
    if (current is None) == request.needs_video:
        raise InputError(
            f"the request begins with {request.stages[0]}: "
            + ("give `video`" if current is None else "leave `video` out")
        )
    check_memory(request, None if current is None else current.shape[2])
    return current


def _begun_with(run: Run | str | Path | None) -> Tensor | None:
    """The video (B, 3, F, H, W) that a run began with; None if it is new or began with a prompt only."""
    if run is None or not (isinstance(run, Run) or holds_run(run)):
        return None
    return existing_run(run).load_input()


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


def check_stage(name: StageName, parts: Mapping[str, Part], settings: CascadeSettings) -> None:
    """Makes sure that a stage can work with some settings; loads no network.

    Args:
        name: Which stage.
        parts: The files of the cascade's stages and parts, by name.
        settings: Of all stages.

    Raises:
        InputError: It cannot.
        CheckpointError: A config of the folder cannot be read.
    """
    expert = parts[name].expert
    if expert is None:
        check_settings(name, parts, settings)
    else:
        check_expert_settings(expert, getattr(settings, name))


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
    if is_finite(values):
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


def check_given(texts: object, request: GenerationRequest) -> None:
    """Makes sure that text states that a caller gives, (B, L, D) each, are those of all stages.

    Raises:
        InputError: They are of other types or shapes, or a stage's are missing.
    """
    known = isinstance(texts, Mapping) and all(
        isinstance(texts.get(stage), PromptEmbeddings) for stage in request.stages
    )
    require(known, "prompt_embeds", texts, f"a mapping of {', '.join(request.stages)} to PromptEmbeddings")
    assert isinstance(texts, Mapping)
    check_texts(texts, request)


def check_texts(texts: Mapping[StageName, PromptEmbeddings], request: GenerationRequest) -> None:
    """Makes sure that text states, (B, L, D) each, fit a request and are made of finite numbers.

    Args:
        texts: The states of the stages to come.
        request: What is asked for.

    Raises:
        InputError: They are not (B, L, D) with one sample per prompt.
        Show1Error: Some are NaN or infinite.
    """
    for stage, text in texts.items():
        for states in (text.prompt_embeds, text.negative_prompt_embeds):
            if states.ndim != 3 or len(states) != len(request.prompts) or not states.is_floating_point():
                raise InputError(
                    f"the text states for the stage {stage!r} must be floating-point of shape ({len(request.prompts)}, "
                    f"L, D), got {states.dtype} of shape {tuple(states.shape)}"
                )
            if not is_finite(states):
                raise Show1Error(
                    f"the text states for the stage {stage!r} hold numbers that are not finite (NaN or infinity); "
                    "compute in float32 or bfloat16 (dtype=, --dtype), or check the model's weights (`show1 models "
                    "verify MODEL --deep`)"
                )
