"""Turns a caller's arguments into a request."""

import inspect
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast, get_type_hints

import torch

from show1.config import STAGES, CascadeSettings, Numerics, StageName, preset_changes
from show1.errors import InputError
from show1.generation.inputs import VideoLike, read_videos
from show1.generation.request import GenerationRequest, check_prompt, is_whole
from show1.limits import MAX_SAMPLES
from show1.options import counted, plain_number, require, shown
from show1.stage_table import STAGE_TABLE
from show1.video import Video

PromptLike = str | Sequence[str]
SettingsLike = CascadeSettings | Mapping[str, Any] | None
SeedLike = int | Sequence[int] | None
GeneratorLike = torch.Generator | Sequence[torch.Generator] | None


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
    negative_prompt: PromptLike | None = None,
    seed: SeedLike = None,
    generator: GeneratorLike = None,
    num_keyframes: int | None = None,
    settings: SettingsLike = None,
    preset: str | None = None,
    start_from: StageName | None = None,
    until: StageName | None = None,
    video: VideoLike | None = None,
    numerics: Numerics = "default",
    expert_prompt: PromptLike | None = None,
) -> GenerationRequest:
    """Resolves what a caller asks for.

    Args:
        prompt: What to show; or several, generated as one batch.
        model: The pipeline (or `Cascade`) to generate with: its settings are the defaults.
        count: Drafts of each prompt; None: 1.
        negative_prompt: What to avoid, for every stage; or a list, one per prompt. None: as each stage's settings say.
        seed: A whole number: draft i of each prompt uses seed + i. A list: one per sample, drafts of a prompt side by
            side. None: random, and recorded in the video's metadata.
        generator: Instead of a seed: the seeds are drawn from it, or from each of several, one per sample.
        num_keyframes: n keyframes become (n - 1) * factor + 1 frames (factor 4: 8 give 29); None: as the settings.
        settings: All settings, or changes: `{"keyframes": {"num_inference_steps": 20}}`.
        preset: `published` or `efficient`, for the published model: its steps, which `settings` may change further.
        start_from: First stage to run; needs `video` if it is not the first one of the cascade.
        until: Last stage to run; None: the model's last one.
        video: What `start_from` works on: video(s), files, or a tensor (3, F, H, W) or (B, 3, F, H, W) in [-1, 1].
        numerics: `published` repeats the published run's random draws and rounding (one sample at a time, slower).
        expert_prompt: What the translation is told in place of the prompt; or a list, one per prompt. None: as its
            settings say, by default the prompt.

    Raises:
        InputError: One of them cannot be used.
    """
    defaults = _defaults(model, preset)
    prompts = _prompts(prompt)
    count = None if count is None else _whole(count, "count", least=1, most=MAX_SAMPLES)
    stages = _stages(model.stages, start_from, until)
    _check_given(video, stages[0])
    negatives = _per_prompt(negative_prompt, len(prompts), "negative_prompt")
    told = _per_prompt(expert_prompt, len(prompts), "expert_prompt", repeat=True)
    one = None if negatives else cast("str | None", negative_prompt)
    resolved = resolve_settings(defaults, settings, negative_prompt=one, num_keyframes=num_keyframes)
    return GenerationRequest(
        prompts=tuple(p for p in prompts for _ in range(count or 1)),
        seeds=_seeds(seed, generator, len(prompts), count or 1),
        settings=resolved,
        stages=stages,
        numerics=numerics,
        fps=_first_fps(resolved, stages[0], video),
        negative_prompts=tuple(text for text in negatives for _ in range(count or 1)),
        expert_prompts=tuple(text for text in told for _ in range(count or 1)),
    )


def _defaults(model: HasStages, preset: str | None) -> CascadeSettings:
    """The settings of a model, with a preset."""
    if not isinstance(getattr(model, "settings", None), CascadeSettings) or not hasattr(model, "stages"):
        raise InputError(f"model must be a pipeline, such as Show1Pipeline.from_pretrained('mini'), got {shown(model)}")
    return model.settings.replace(**preset_changes(preset, model.settings))


def _check_given(video: VideoLike | None, first: StageName) -> None:
    """Makes sure that there is a video where the first stage needs one, and only there."""
    if (video is not None) != STAGE_TABLE[first].needs_video:
        raise InputError(
            f"start_from={first!r} needs `video` (`--video FILE`): the video that this stage works on"
            if video is None
            else f"`video` is only for start_from= a stage after {first}"
        )


def _per_prompt(texts: PromptLike | None, count: int, name: str, *, repeat: bool = False) -> list[str]:
    """The texts of `count` prompts; none where one is for all, unless it is to be repeated."""
    if texts is None:
        return []
    if isinstance(texts, str):
        return [texts] * count if repeat else []
    many = list(texts) if isinstance(texts, Sequence) else [texts]
    if not all(isinstance(text, str) for text in many):
        raise InputError(f"{name} must be text, or a list of texts, got {shown(texts)}")
    if many and len(many) != count:
        raise InputError(f"{len(many)} {name.replace('_', ' ')}s for {count} prompts; give one, or one each")
    return many


def check_options(options: Mapping[str, Any]) -> None:
    """Makes sure that the keywords of a call are those of `make_request`.

    Raises:
        InputError: One is another; the message says where a stage's setting is to be given.
    """
    known = [name for name in inspect.signature(make_request).parameters if name not in ("prompt", "model")]
    for name in options:
        stages = [stage for stage in STAGES if name in get_type_hints(STAGE_TABLE[stage].settings)]
        if name not in known and stages:
            raise InputError(
                f"{name} is a setting of a stage: give settings={{{stages[0]!r}: {{{name!r}: ...}}}}; "
                f"the stages with it are {', '.join(stages)}"
            )
        require(name in known, "an option", name, f"one of {', '.join(known)}")


def resolve_settings(
    defaults: CascadeSettings,
    changes: SettingsLike = None,
    *,
    negative_prompt: str | None = None,
    num_keyframes: int | None = None,
) -> CascadeSettings:
    """Applies changes to settings.

    Args:
        defaults: Where to start.
        changes: All settings, or options by stage (and `clean_prompt`, `max_text_tokens`). A `scheduler` may be an
            object of diffusers: its class names the sampler, on the model's own noise schedule.
        negative_prompt: For every stage.
        num_keyframes: Frames of the keyframe stage.

    Raises:
        InputError: An option is unknown or out of its range.
    """
    if isinstance(changes, CascadeSettings):
        out = changes
    elif changes is None or isinstance(changes, Mapping):
        out = defaults.replace(**{str(name): _with_sampler(change) for name, change in (changes or {}).items()})
    else:
        raise InputError(f"settings must be CascadeSettings or a mapping of stage to options, got {shown(changes)}")
    if negative_prompt is not None:
        out = out.with_negative_prompt(negative_prompt)
    if num_keyframes is not None:
        out = out.replace(keyframes={"num_frames": _whole(num_keyframes, "num_keyframes")})
    return out


_SAMPLERS = {
    "DPMSolverMultistepScheduler": "dpmsolver++",
    "UniPCMultistepScheduler": "unipc",
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
}
_OF_THE_MODEL = re.compile(
    "beta|num_train|prediction|spacing|offset|threshold|clip|sample_max|ratio|alpha|snr|variance"
)
"""Options of a scheduler that belong to the model's noise schedule, so that those of an object do not matter."""


def _with_sampler(change: Any) -> Any:
    """Options of a stage, with the name of a scheduler in place of an object of diffusers.

    Raises:
        InputError: There is no sampler of that class, or the object has options that no setting has.
    """
    given = change.get("scheduler") if isinstance(change, Mapping) else None
    if given is None or isinstance(given, str):
        return change
    kind, config = type(given).__name__, getattr(given, "config", None)
    if kind not in _SAMPLERS or not isinstance(config, Mapping):
        names = ", ".join(f"{name!r} ({known})" for known, name in _SAMPLERS.items())
        raise InputError(f"scheduler must be one of {names}, by name or as an object, got {shown(given)}")
    options = inspect.signature(type(given).__init__).parameters
    for name, value in config.items():
        own = name in options and not _OF_THE_MODEL.search(name)
        if own and value != options[name].default and (name, value) != ("final_sigmas_type", "sigma_min"):
            raise InputError(
                f"the scheduler object sets {name}={shown(value)}, and show1 samples with {options[name].default!r}; "
                "make the object without it"
            )
    return {**change, "scheduler": _SAMPLERS[kind]}


def _prompts(prompt: PromptLike) -> list[str]:
    many = isinstance(prompt, Sequence) and not isinstance(prompt, bytes)
    prompts = [prompt] if isinstance(prompt, str) else list(prompt) if many else None
    if not prompts:
        raise InputError(f"prompt must be text or a list of texts, got {shown(prompt)}")
    for text in prompts:
        check_prompt(text)
    return prompts


def _stages(
    available: tuple[StageName, ...], start_from: StageName | None, until: StageName | None
) -> tuple[StageName, ...]:
    for name, stage in (("start_from", start_from), ("until", until)):
        if stage is not None and stage not in STAGES:
            raise InputError(f"{name} must be one of {', '.join(STAGES)}, got {shown(stage)}")
    first = STAGES.index(start_from or STAGES[0])
    last = STAGES.index(until or available[-1])
    if last < first:
        raise InputError(f"until={STAGES[last]!r} comes before start_from={STAGES[first]!r}")
    wanted = STAGES[first : last + 1]
    lacking = [s for s in wanted if s not in available]
    if lacking:
        raise InputError(
            f"this model lacks the stage {lacking[0]!r} (it has {', '.join(available)}); choose others with "
            "start_from= and until= (--start-from, --until), or load the stage"
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
    seed = seed.tolist() if hasattr(seed, "tolist") else seed  # numbers and arrays of NumPy and torch
    if isinstance(seed, Sequence) and not isinstance(seed, str | bytes):
        if len(seed) != samples:
            raise InputError(
                f"{counted(len(seed), 'seed')} for {counted(samples, 'sample')} ({counted(prompts, 'prompt')}, "
                f"{counted(count, 'draft')} of each); give "
                "one per sample, or `count`"
            )
        return tuple(plain_number(each) for each in seed)
    first = _whole(seed, "a seed", least=0, most=2**63 - count)
    return tuple(first + i for _ in range(prompts) for i in range(count))


def _whole(value: object, name: str, *, least: int | None = None, most: int | None = None) -> int:
    """A whole number, of NumPy as well, as Python's own."""
    whole = plain_number(value)
    fits = is_whole(whole) and (least is None or least <= whole) and (most is None or whole <= most)
    require(fits, name, value, "a whole number" + ("" if least is None else f" from {least} to {most}"))
    assert isinstance(whole, int)
    return whole


def _drawn_seeds(generator: GeneratorLike, samples: int) -> tuple[int, ...]:
    def draw(source: torch.Generator, size: int) -> list[int]:
        values = torch.randint(2**32, (size,), generator=source, device=source.device)
        return [int(v) for v in values]

    if isinstance(generator, torch.Generator):
        return tuple(draw(generator, samples))
    if not _is_many(generator) or not all(isinstance(g, torch.Generator) for g in generator or ()):
        raise InputError(f"generator must be one or more torch.Generator, got {shown(generator)}")
    if len(generator or ()) != samples:
        raise InputError(f"{len(generator or ())} generators for {samples} samples; give one, or one per sample")
    return tuple(draw(g, 1)[0] for g in generator or ())


def _first_fps(settings: CascadeSettings, first: StageName, video: VideoLike | None) -> float:
    known = read_videos(video, max_frames=1)
    clips = [each for each in (known if isinstance(known, list) else [known]) if isinstance(each, Video)]
    if len(rates := sorted({clip.fps for clip in clips})) > 1:
        raise InputError(
            f"video: the clips have {', '.join(f'{rate:g}' for rate in rates)} frames per second, and one call has one "
            "rate; give those of one rate together"
        )
    if clips:
        return clips[0].fps
    fps = settings.keyframes.fps
    for stage in STAGES[: STAGES.index(first)]:
        fps *= STAGE_TABLE[stage].fps_factor(settings)
    return fps


def _is_many(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
