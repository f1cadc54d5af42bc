"""A request: what was asked for, fully resolved, as plain data."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeGuard

from show1.config import MEMORY_SETTINGS, STAGES, CascadeSettings, Numerics, StageName
from show1.errors import InputError
from show1.limits import MAX_PROMPT, MAX_SAMPLES, MAX_VIDEO_PIXELS
from show1.options import Options, require
from show1.stage_table import STAGE_TABLE, Shape


@dataclass(frozen=True, kw_only=True)
class GenerationRequest(Options):
    """What was asked for, fully resolved: the same request on the same model gives the same video."""

    options_of: ClassVar[str] = "request"

    prompts: tuple[str, ...]
    """One per sample (a prompt with several drafts is repeated)."""
    seeds: tuple[int, ...]
    """One seed per sample."""
    settings: CascadeSettings
    """The settings, with every override applied."""
    stages: tuple[StageName, ...]
    """The stages to run, in order."""
    numerics: Numerics = "default"
    """`published` repeats the published run's random draws and rounding."""
    fps: float
    """Frames per second of the first stage's input, or of the keyframes."""
    negative_prompts: tuple[str, ...] = ()
    """One per sample, for every stage, in place of those of the settings; empty: as the settings say."""
    expert_prompts: tuple[str, ...] = ()
    """One per sample, for the translation, in place of the prompt; empty: as its settings say."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("prompts", "seeds", "stages"):
            self.check(name, len(getattr(self, name)) > 0, "a list that is not empty")
        require(len(self.prompts) <= MAX_SAMPLES, "the number of videos", len(self.prompts), f"at most {MAX_SAMPLES}")
        for prompt in self.prompts:
            check_prompt(prompt)
        bits = 32 if self.numerics == "published" else 63
        what = "a seed of the published numerics" if bits == 32 else "a seed"
        for seed in self.seeds:
            require(0 <= seed < 2**bits, what, seed, f"a whole number from 0 to 2**{bits} - 1")
        self.check("seeds", len(self.seeds) == len(self.prompts), f"{len(self.prompts)} seeds, one per sample")
        self.check("negative_prompts", len(self.negative_prompts) in (0, len(self.prompts)), "one per sample, or none")
        self.check("expert_prompts", len(self.expert_prompts) in (0, len(self.prompts)), "one per sample, or none")
        in_order = tuple(stage for stage in STAGES if stage in self.stages)
        self.check("stages", self.stages == in_order, f"some of {', '.join(STAGES)}, in this order")
        if self.numerics == "published" and len(self.prompts) > 1:
            raise InputError(
                f"numerics='published' makes one video at a time, got {len(self.prompts)}; call once for each"
            )
        self.check("fps", 0 < self.fps <= 1_000_000, "more than 0, at most 1000000")
        if not self.needs_video:
            own = self.settings.keyframes.fps
            self.check("fps", self.fps == own, f"{own}, as the settings of the keyframes say")
        pixels = self.largest_output()
        if pixels > MAX_VIDEO_PIXELS:
            raise InputError(
                f"a video of {pixels / 1e9:.1f} billion pixels is asked for, and {MAX_VIDEO_PIXELS / 1e9:.1f} are the "
                "most; ask for fewer frames or a smaller size"
            )

    def prompts_of(self, stage: StageName) -> tuple[str, ...]:
        """The prompt of each sample for a stage: its own, where it has one."""
        own = getattr(getattr(self.settings, stage), "prompt", "")
        given = self.expert_prompts if STAGE_TABLE[stage].takes_experts else ()
        given = given or (own,) * len(self.prompts)
        return tuple(text or prompt for text, prompt in zip(given, self.prompts, strict=True))

    @property
    def needs_video(self) -> bool:
        """Whether the first stage works on a video that the caller gives."""
        return STAGE_TABLE[self.stages[0]].needs_video

    @property
    def final_shape(self) -> tuple[int | None, int, int, float]:
        """(frames, height, width, fps) of the finished video; frames are None if it began with another video."""
        fps = self.fps
        for stage in self.stages:
            fps *= STAGE_TABLE[stage].fps_factor(self.settings)
        return *self.shapes()[self.stages[-1]], fps

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the video that the first stage works on: what the stage before it gives."""
        before = STAGES[: STAGES.index(self.stages[0])][-1:]
        return STAGE_TABLE[(before or self.stages)[0]].output_shape(None, self.settings)[1:]

    def shapes(self, frames: int | None = None) -> dict[StageName, Shape]:
        """(frames, height, width) of each stage's output.

        Args:
            frames: Frames of the video that the first stage works on, if it does; None: not known.
        """
        out: dict[StageName, Shape] = {}
        for stage in self.stages:
            out[stage] = STAGE_TABLE[stage].output_shape(frames, self.settings)
            frames = out[stage][0]
        return out

    def largest_output(self, frames: int | None = None) -> int:
        """Pixels of the largest video that a stage gives, per sample; see `shapes`."""
        return max((length or 1) * height * width for length, height, width in self.shapes(frames).values())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads the saved form, of earlier versions too.

        Raises:
            InputError: An option is unknown, missing, of the wrong type or out of its range.
        """
        return super().from_dict(with_numerics(values) if isinstance(values, Mapping) else values)

    def sample(self, index: int, stages: tuple[StageName, ...]) -> "GenerationRequest":
        """The request for one sample only, with other stages."""
        settings = self.settings
        if self.negative_prompts:
            settings = settings.with_negative_prompt(self.negative_prompts[index])
        if self.expert_prompts:
            told = {"prompt": self.expert_prompts[index]}
            settings = settings.replace(**{s: told for s in STAGES if STAGE_TABLE[s].takes_experts})
        one: dict[str, Any] = {"prompts": (self.prompts[index],), "seeds": (self.seeds[index],), "negative_prompts": ()}
        one["expert_prompts"] = ()
        return dataclasses.replace(self, **one, settings=settings, stages=stages)

    def with_settings(self, settings: CascadeSettings) -> "GenerationRequest":
        """The same request with other settings; keyframes of another frame rate change that of the video."""
        fps = self.fps if self.needs_video else settings.keyframes.fps
        return dataclasses.replace(self, settings=settings, fps=fps)

    def up_to(self, stage: StageName) -> "GenerationRequest":
        """The same request with this stage as its last one."""
        return dataclasses.replace(self, stages=self.stages[: self.stages.index(stage) + 1])

    def stage_sha256(self, stage: StageName) -> str:
        """Hash of all that a stage's output depends on: prompts, seeds, and the settings up to this stage.

        Settings with their default value are left out, so that the hash outlives new settings; so are those that
        change memory only.
        """
        before = self.up_to(stage).stages
        settings = {k: v for k, v in _chosen(self.settings).items() if k in before or k not in STAGES}
        parts = {"prompts": self.prompts, "seeds": self.seeds, "numerics": self.numerics, "settings": settings}
        if self.negative_prompts:
            parts["negative_prompts"] = self.negative_prompts
        if self.expert_prompts and STAGE_TABLE[stage].takes_experts:
            parts["expert_prompts"] = self.expert_prompts
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def with_numerics(values: Mapping[str, Any]) -> dict[str, Any]:
    """A saved request, or the metadata of a video, with `numerics` instead of its former name `seeding`."""
    out = dict(values)
    if "seeding" in out and "numerics" not in out:
        old = out.pop("seeding")
        out["numerics"] = "default" if old == "independent" else old
    return out


def check_prompt(text: object) -> None:
    """Makes sure that a prompt is text that can be shown.

    Raises:
        InputError: It is no text, not UTF-8, or empty.
    """
    if not isinstance(text, str):
        raise InputError(f"prompt must be text, got {text!r:.100}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the prompt {text!r} is not UTF-8; give it in the encoding of the terminal") from error
    if not text.strip():
        raise InputError("the prompt is empty; say what the video shows, such as 'a panda spins over the snow'")
    if len(text) > MAX_PROMPT:
        raise InputError(f"the prompt has {len(text)} characters, {MAX_PROMPT} are the most; shorten it")


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, and neither True nor False."""
    return isinstance(value, int) and not isinstance(value, bool)


def _chosen(options: Any) -> dict[str, Any]:
    """The options that change the result and differ from their defaults, as JSON types."""
    fields = {f.name: (getattr(options, f.name), f.default) for f in dataclasses.fields(options)}
    return {
        name: _chosen(value) if dataclasses.is_dataclass(value) else value
        for name, (value, default) in fields.items()
        if value != default and name not in MEMORY_SETTINGS
    }
