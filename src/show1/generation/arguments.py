"""Turns a caller's arguments into a request."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from show1.config import STAGES, CascadeSettings, Numerics, StageName
from show1.errors import InputError
from show1.generation.request import GenerationRequest, check_prompt, is_whole
from show1.stage_table import STAGE_TABLE
from show1.video import Video

PromptLike = str | Sequence[str]
SeedLike = int | Sequence[int] | None
GeneratorLike = torch.Generator | Sequence[torch.Generator] | None
VideoLike = Video | Tensor | Sequence[Video]


class HasStages(Protocol):
    """What a request must know of a model: a `Show1Pipeline` or a `Cascade`."""

    @property
    def settings(self) -> CascadeSettings:
        """The settings that it was made for."""

    @property
    def stages(self) -> tuple[StageName, ...]:
        """Its stages, in order."""


def make_request(
    prompt: PromptLike,
    *,
    model: HasStages,
    count: int | None = None,
    negative_prompt: str | None = None,
    seed: SeedLike = None,
    generator: GeneratorLike = None,
    num_keyframes: int | None = None,
    settings: CascadeSettings | Mapping[str, Any] | None = None,
    start_from: StageName | None = None,
    until: StageName | None = None,
    video: VideoLike | None = None,
    numerics: Numerics = "default",
) -> GenerationRequest:
    """Resolves what a caller asks for.

    Args:
        prompt: What to show; or several, generated as one batch.
        model: The pipeline (or `Cascade`) to generate with: its settings are the defaults.
        count: Drafts of each prompt; None: 1.
        negative_prompt: What to avoid, for every stage; None: as each stage's settings say.
        seed: A whole number: draft i of each prompt uses seed + i. A list: one per sample, drafts of a prompt side by
            side. None: random, and recorded in the video's metadata.
        generator: Instead of a seed: the seeds are drawn from it (or from each of several, one per sample).
        num_keyframes: n keyframes become (n - 1) * factor + 1 frames (factor 4: 8 give 29); None: as the settings.
        settings: All settings, or changes: `{"keyframes": {"num_inference_steps": 20}}`.
        start_from: First stage to run; needs `video` if it is not the first one of the cascade.
        until: Last stage to run; None: the model's last one.
        video: What `start_from` works on: Video(s), or a tensor (3, F, H, W) or (B, 3, F, H, W) in [-1, 1].
        numerics: `published` repeats the published run's random draws and rounding (one sample at a time, slower).

    Raises:
        InputError: One of them cannot be used.
    """
    prompts = _prompts(prompt)
    if count is not None and (not is_whole(count) or count < 1):
        raise InputError(f"count must be a whole number of 1 or more, got {count!r}")
    stages = _stages(model.stages, start_from, until)
    if (video is not None) != STAGE_TABLE[stages[0]].needs_video:
        raise InputError(
            f"start_from={stages[0]!r} needs `video`, what that stage works on"
            if video is None
            else f"`video` is only for start_from= a stage after {stages[0]}"
        )
    resolved = resolve_settings(model.settings, settings, negative_prompt=negative_prompt, num_keyframes=num_keyframes)
    return GenerationRequest(
        prompts=tuple(p for p in prompts for _ in range(count or 1)),
        seeds=_seeds(seed, generator, len(prompts), count or 1),
        settings=resolved,
        stages=stages,
        numerics=numerics,
        fps=_first_fps(resolved, stages[0], video),
    )


def resolve_settings(
    defaults: CascadeSettings,
    changes: CascadeSettings | Mapping[str, Any] | None = None,
    *,
    negative_prompt: str | None = None,
    num_keyframes: int | None = None,
) -> CascadeSettings:
    """Applies changes to settings.

    Args:
        defaults: Where to start.
        changes: All settings, or options by stage (and `clean_prompt`, `max_text_tokens`).
        negative_prompt: For every stage.
        num_keyframes: Frames of the keyframe stage.

    Raises:
        InputError: An option is unknown or out of its range.
    """
    if isinstance(changes, CascadeSettings):
        out = changes
    elif changes is None or isinstance(changes, Mapping):
        out = defaults.replace(**{str(name): change for name, change in (changes or {}).items()})
    else:
        raise InputError(f"settings must be CascadeSettings or a mapping of stage to options, got {changes!r}")
    if negative_prompt is not None:
        out = out.replace(**{stage: {"negative_prompt": negative_prompt} for stage in STAGES})
    if num_keyframes is not None:
        if not is_whole(num_keyframes):
            raise InputError(f"num_keyframes must be a whole number, got {num_keyframes!r}")
        out = out.replace(keyframes={"num_frames": num_keyframes})
    return out


def video_tensor(video: VideoLike, samples: int) -> Tensor:
    """Brings a caller's video into the stages' form.

    Args:
        video: One `Video`, one per sample, or a tensor (3, F, H, W) or (B, 3, F, H, W) in [-1, 1].
        samples: B; one video serves them all.

    Returns:
        (B, 3, F, H, W), float32, on the CPU.

    Raises:
        InputError: Another type, shape or number.
    """
    if isinstance(video, Video):
        tensor = video.to_tensor()[None]
    elif isinstance(video, Tensor):
        tensor = video if video.ndim == 5 else video[None]
    elif _is_many(video) and video and all(isinstance(v, Video) for v in video):
        tensors = [v.to_tensor() for v in video]
        if len({t.shape for t in tensors}) > 1:
            raise InputError(f"the videos differ in shape: {[tuple(t.shape) for t in tensors]}; call once for each")
        tensor = torch.stack(tensors)
    else:
        raise InputError(f"video must be a Video, a list of Videos or a tensor, got {type(video).__name__}")
    if tensor.ndim != 5 or tensor.shape[1] != 3 or 0 in tensor.shape or not tensor.is_floating_point():
        raise InputError(
            f"video must be floating-point of shape (3, F, H, W) or (B, 3, F, H, W), got {tensor.dtype} of shape "
            f"{tuple(tensor.shape)}"
        )
    if len(tensor) not in (1, samples):
        raise InputError(f"there are {len(tensor)} videos for {samples} samples; give one, or one per sample")
    return tensor.detach().float().cpu().expand(samples, -1, -1, -1, -1).contiguous()


def _prompts(prompt: PromptLike) -> list[str]:
    prompts = [prompt] if isinstance(prompt, str) else list(prompt) if isinstance(prompt, Sequence) else None
    if not prompts:
        raise InputError(f"prompt must be text or a list of texts, got {prompt!r}")
    for text in prompts:
        check_prompt(text)
    return prompts


def _stages(
    available: tuple[StageName, ...], start_from: StageName | None, until: StageName | None
) -> tuple[StageName, ...]:
    for name, stage in (("start_from", start_from), ("until", until)):
        if stage is not None and stage not in STAGES:
            raise InputError(f"{name} must be one of {', '.join(STAGES)}, got {stage!r}")
    first = STAGES.index(start_from or STAGES[0])
    last = STAGES.index(until or available[-1])
    if last < first:
        raise InputError(f"until={STAGES[last]!r} comes before start_from={STAGES[first]!r}")
    wanted = STAGES[first : last + 1]
    lacking = [s for s in wanted if s not in available]
    if lacking:
        raise InputError(
            f"this model lacks the stage {lacking[0]!r} (it has {', '.join(available)}); choose others with "
            "start_from= and until=, or load the stage"
        )
    return wanted


def _seeds(seed: SeedLike, generator: GeneratorLike, prompts: int, count: int) -> tuple[int, ...]:
    samples = prompts * count
    if seed is not None and generator is not None:
        raise InputError("give a seed or a generator, not both")
    if generator is not None:
        return _drawn_seeds(generator, samples)
    if seed is None:
        drawn = (secrets.randbelow(2**32) for _ in range(prompts))
        return tuple(first + i for first in drawn for i in range(count))
    if isinstance(seed, Sequence):
        if len(seed) != samples:
            raise InputError(
                f"there are {len(seed)} seeds for {samples} samples ({prompts} prompts, {count} drafts of each); give "
                "one per sample, or `count`"
            )
        return tuple(seed)
    if not is_whole(seed):
        raise InputError(f"a seed must be a whole number from 0 to 2**63 - 1, got {seed!r}")
    return tuple(seed + i for _ in range(prompts) for i in range(count))


def _drawn_seeds(generator: GeneratorLike, samples: int) -> tuple[int, ...]:
    def draw(source: torch.Generator, size: int) -> list[int]:
        values = torch.randint(2**32, (size,), generator=source, device=source.device)
        return [int(v) for v in values]

    if isinstance(generator, torch.Generator):
        return tuple(draw(generator, samples))
    if not _is_many(generator) or not all(isinstance(g, torch.Generator) for g in generator or ()):
        raise InputError(f"generator must be one or more torch.Generator, got {generator!r}")
    if len(generator or ()) != samples:
        raise InputError(f"{len(generator or ())} generators for {samples} samples; give one, or one per sample")
    return tuple(draw(g, 1)[0] for g in generator or ())


def _first_fps(settings: CascadeSettings, first: StageName, video: VideoLike | None) -> float:
    known = video[0] if _is_many(video) and video else video  # type: ignore[index]
    if isinstance(known, Video):
        return known.fps
    fps = settings.keyframes.fps
    for stage in STAGES[: STAGES.index(first)]:
        fps *= STAGE_TABLE[stage].fps_factor(settings)
    return fps


def _is_many(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
