"""From what a caller asks for to a fully resolved request."""

import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from show1.config import STAGES, CascadeSettings, Seeding, StageName
from show1.errors import InputError
from show1.generation.run import RunRequest
from show1.stage_table import STAGE_TABLE
from show1.video import Video

PromptLike = str | Sequence[str]
SeedLike = int | Sequence[int] | None
GeneratorLike = torch.Generator | Sequence[torch.Generator] | None
VideoLike = Video | Tensor | Sequence[Video]


def make_request(
    prompt: PromptLike,
    *,
    defaults: CascadeSettings,
    available: tuple[StageName, ...],
    negative_prompt: str | None = None,
    seed: SeedLike = None,
    generator: GeneratorLike = None,
    count: int = 1,
    num_keyframes: int | None = None,
    settings: CascadeSettings | Mapping[str, Any] | None = None,
    start_from: StageName | None = None,
    until: StageName | None = None,
    video: VideoLike | None = None,
    seeding: Seeding = "independent",
) -> RunRequest:
    """Resolves the arguments of `Show1Pipeline.__call__`, where they are described.

    Args:
        defaults: The model's settings.
        available: The model's stages.

    Raises:
        InputError: One of them cannot be used.
    """
    prompts = _prompts(prompt)
    if not _is_whole(count) or count < 1:
        raise InputError(f"count must be a whole number from 1 up, got {count!r}")
    if count == 1 and len(prompts) == 1 and _is_many(seed if seed is not None else generator):
        many: Any = seed if seed is not None else generator
        count = max(1, len(many))
    stages = _stages(available, start_from, until)
    if (video is None) == STAGE_TABLE[stages[0]].needs_video:
        raise InputError(
            f"start_from={stages[0]!r} needs `video`, what that stage works on"
            if video is None
            else "`video` is only for start_from= a stage after the keyframes"
        )
    if seeding not in ("independent", "published"):
        raise InputError(f"seeding must be 'independent' or 'published', got {seeding!r}")
    samples = tuple(p for p in prompts for _ in range(count))
    if seeding == "published" and len(samples) > 1:
        raise InputError(f"seeding='published' makes one video at a time, got {len(samples)}; call once for each")
    resolved = resolve_settings(defaults, settings, negative_prompt=negative_prompt, num_keyframes=num_keyframes)
    return RunRequest(
        prompts=samples,
        seeds=_seeds(seed, generator, len(prompts), count),
        settings=resolved,
        stages=stages,
        seeding=seeding,
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
        if not isinstance(negative_prompt, str):
            raise InputError(f"negative_prompt must be text, got {type(negative_prompt).__name__}")
        out = out.replace(**{stage: {"negative_prompt": negative_prompt} for stage in STAGES})
    if num_keyframes is not None:
        if not _is_whole(num_keyframes):
            raise InputError(f"num_keyframes must be a whole number, got {num_keyframes!r}")
        out = out.replace(keyframes={"num_frames": num_keyframes})
    return out


def video_tensor(video: VideoLike, samples: int) -> Tensor:
    """Brings a caller's video into the stages' form.

    Args:
        video: One `Video`, one a sample, or a tensor (3, F, H, W) or (B, 3, F, H, W) in [-1, 1].
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
        raise InputError(f"there are {len(tensor)} videos for {samples} samples; give one, or one a sample")
    return tensor.detach().float().cpu().expand(samples, -1, -1, -1, -1).contiguous()


def _prompts(prompt: PromptLike) -> list[str]:
    prompts = [prompt] if isinstance(prompt, str) else list(prompt) if isinstance(prompt, Sequence) else None
    if not prompts:
        raise InputError(f"prompt must be text or a list of texts, got {prompt!r}")
    for text in prompts:
        if not isinstance(text, str):
            raise InputError(f"prompt must be text or a list of texts, got a {type(text).__name__} in it")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"the prompt {text!r} is not UTF-8; give it in the encoding of the terminal") from error
        if not text.strip():
            raise InputError("the prompt is empty; say what the video shows, such as 'a panda spins over the snow'")
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
    seeds: tuple[Any, ...]
    if isinstance(seed, Sequence):
        seeds = tuple(seed)
        if len(seeds) != samples:
            raise InputError(f"{len(seeds)} seeds for {samples} samples ({prompts} prompts, {count} drafts of each)")
    else:
        seeds = tuple(seed + i for _ in range(prompts) for i in range(count)) if _is_whole(seed) else (seed,)
    for value in seeds:
        if not _is_whole(value) or not 0 <= value < 2**63:
            raise InputError(f"a seed must be a whole number from 0 to 2**63 - 1, got {value!r}")
    return seeds


def _drawn_seeds(generator: GeneratorLike, samples: int) -> tuple[int, ...]:
    def draw(source: torch.Generator, size: int) -> list[int]:
        values = torch.randint(2**32, (size,), generator=source, device=source.device)
        return [int(v) for v in values]

    if isinstance(generator, torch.Generator):
        return tuple(draw(generator, samples))
    if not _is_many(generator) or not all(isinstance(g, torch.Generator) for g in generator or ()):
        raise InputError(f"generator must be one or more torch.Generator, got {generator!r}")
    if len(generator or ()) != samples:
        raise InputError(f"{len(generator or ())} generators for {samples} samples; give one, or one a sample")
    return tuple(draw(g, 1)[0] for g in generator or ())


def _first_fps(settings: CascadeSettings, first: StageName, video: VideoLike | None) -> float:
    known = video[0] if _is_many(video) and video else video  # type: ignore[index]
    if isinstance(known, Video):
        return known.fps
    before = STAGES[: STAGES.index(first)]
    return settings.keyframes.fps * math.prod(STAGE_TABLE[stage].fps_factor(settings) for stage in before)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_many(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
