"""Settings of the cascade's stages, and the published presets.

Settings are frozen dataclasses; variants are made with `dataclasses.replace`, and JSON is their saved form.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from show1.checks import require, require_types
from show1.errors import InputError

StageName = Literal["keyframes", "interpolation", "super_resolution", "translation"]
SchedulerName = Literal["checkpoint", "dpmsolver++", "unipc", "ddim", "ddpm"]
Seeding = Literal["independent", "published"]

STAGES: tuple[StageName, ...] = get_args(StageName)


def _require_size(height: int, width: int) -> None:
    for name, value in (("height", height), ("width", width)):
        require(isinstance(value, int) and 8 <= value <= 4096, name, value, "a whole number from 8 to 4096")


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """What all stages share."""

    num_inference_steps: int
    """Network evaluations of one sampling run, 1 or more."""

    guidance_scale: float
    """Classifier-free guidance: uncond + scale * (cond - uncond). 1.0 turns it off (and halves the work)."""

    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Guide only where timestep / num_train_timesteps lies in this closed interval (arXiv:2404.07724)."""

    scheduler: SchedulerName = "checkpoint"
    """`checkpoint`: as the model's folder says; else that sampler on the model's noise schedule."""

    negative_prompt: str = ""
    """Text of the unconditional half of guidance."""

    max_batch: int | None = None
    """Most samples (prompts, segments) of one network call; None: as many as there are."""

    def __post_init__(self) -> None:
        require_types(self)
        low, high = self.guidance_interval
        require(1 <= self.num_inference_steps <= 1000, "num_inference_steps", self.num_inference_steps, "1 to 1000")
        require(0 <= self.guidance_scale <= 1e6, "guidance_scale", self.guidance_scale, "0 to 1000000")
        require(0 <= low <= high <= 1, "guidance_interval", self.guidance_interval, "0 <= low <= high <= 1")
        fits = self.max_batch is None or 1 <= self.max_batch <= 2**31
        require(fits, "max_batch", self.max_batch, "1 or more, or None")

    def to_dict(self) -> dict[str, Any]:
        """The saved form: JSON types only."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads the saved form.

        Raises:
            InputError: It is no mapping, or an option is unknown, missing or out of its range.
        """
        require(isinstance(values, Mapping), cls.__name__, values, "a mapping of options")
        names = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise InputError(f"unknown option {unknown[0]!r} for {cls.__name__}; the options are {sorted(names)}")
        try:
            plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**plain)
        except TypeError as error:
            raise InputError(f"{cls.__name__}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class KeyframesSettings(StageSettings):
    """Text to a few frames in pixel space."""

    num_frames: int = 8
    """Keyframes. The paper's network was trained on 8."""
    height: int = 40
    """Pixels."""
    width: int = 64
    """Pixels."""
    fps: float = 2.0
    """Frames per second of the keyframes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.num_frames <= 1024, "num_frames", self.num_frames, "1 to 1024")
        require(0.01 <= self.fps <= 240, "fps", self.fps, "0.01 to 240")
        _require_size(self.height, self.width)


@dataclass(frozen=True, kw_only=True)
class InterpolationSettings(StageSettings):
    """Keyframes to a smooth video: n frames become (n - 1) * factor + 1."""

    factor: int = 4
    """Frames from one keyframe to the next; a segment has factor + 1 frames."""

    keep_keyframes: bool = False
    """Whether keyframes stay as they are. As published, the network draws them again with the frames between them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.factor <= 64, "factor", self.factor, "1 to 64")


@dataclass(frozen=True, kw_only=True)
class FirstFrameSettings(StageSettings):
    """The image super-resolution of frame 0 (DeepFloyd IF-II, or the video network on one frame)."""

    noise_level: int = 150
    """Timestep at which the upsampled frame is noised, 0 to 999."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.noise_level <= 999, "noise_level", self.noise_level, "0 to 999")


@dataclass(frozen=True, kw_only=True)
class SuperResolutionSettings(StageSettings):
    """Pixel-space super-resolution over windows of frames."""

    height: int = 160
    """Pixels of the output."""
    width: int = 256
    """Pixels of the output."""
    noise_level: int = 250
    """Timestep at which the upsampled window is noised, 0 to 999."""
    window: int = 8
    """Frames of one window."""
    stride: int = 7
    """Frames from one window's start to the next; less than `window`, so that windows share a frame."""
    first_frame: FirstFrameSettings | None = None
    """How frame 0 is made; None: by the video network on one frame, with this stage's own steps and guidance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_size(self.height, self.width)
        require(0 <= self.noise_level <= 999, "noise_level", self.noise_level, "0 to 999")
        require(2 <= self.window <= 1024, "window", self.window, "2 or more, at most 1024")
        require(1 <= self.stride <= self.window - 1, "stride", self.stride, "1 to window - 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        first = values.get("first_frame") if isinstance(values, Mapping) else None
        if first is not None:
            values = {**values, "first_frame": FirstFrameSettings.from_dict(first)}
        return super().from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        first = self.first_frame.to_dict() if self.first_frame is not None else None
        return {**super().to_dict(), "first_frame": first}


@dataclass(frozen=True, kw_only=True)
class TranslationSettings(StageSettings):
    """Expert translation: low-resolution video to high resolution in latent space."""

    height: int = 320
    """Pixels of the output, a multiple of 8."""
    width: int = 576
    """Pixels of the output, a multiple of 8."""
    strength: float = 0.8
    """Fraction of the noise schedule at which the translation starts (SDEdit), in (0, 1]."""
    max_timestep: int = 900
    """Highest noise level that the expert was trained on; no step begins above it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_size(self.height, self.width)
        require(self.height % 8 == 0, "height", self.height, "a multiple of 8")
        require(self.width % 8 == 0, "width", self.width, "a multiple of 8")
        require(0 < self.strength <= 1, "strength", self.strength, "more than 0, at most 1")
        require(1 <= self.max_timestep <= 1000, "max_timestep", self.max_timestep, "1 to 1000")


@dataclass(frozen=True, kw_only=True)
class CascadeSettings:
    """Settings of all four stages."""

    keyframes: KeyframesSettings
    interpolation: InterpolationSettings
    super_resolution: SuperResolutionSettings
    translation: TranslationSettings
    clean_prompt: Literal["lower", "none"] = "lower"
    """`lower`: strip and lower-case the prompt of the pixel stages, as the published run does."""
    max_text_tokens: int = 77
    """Tokens of the pixel stages' prompt, 2 to 512."""

    def __post_init__(self) -> None:
        for name in STAGES:
            options, kind = getattr(self, name), STAGE_SETTINGS[name]
            require(isinstance(options, kind), name, options, f"a {kind.__name__}")
        require(self.clean_prompt in ("lower", "none"), "clean_prompt", self.clean_prompt, "'lower' or 'none'")
        tokens = self.max_text_tokens
        whole = isinstance(tokens, int) and not isinstance(tokens, bool)
        require(whole and 2 <= tokens <= 512, "max_text_tokens", tokens, "a whole number from 2 to 512")

    def to_dict(self) -> dict[str, Any]:
        stages: dict[str, Any] = {name: getattr(self, name).to_dict() for name in STAGES}
        return {**stages, "clean_prompt": self.clean_prompt, "max_text_tokens": self.max_text_tokens}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads the saved form.

        Raises:
            InputError: It is no mapping, or an option is unknown, missing or out of its range.
        """
        require(isinstance(values, Mapping), "settings", values, "a mapping of stage to options")
        names = [f.name for f in dataclasses.fields(cls)]
        for name in values:
            require(name in names, "a key of settings", name, f"one of {', '.join(names)}")
        for name in STAGES:
            require(name in values, f"settings[{name!r}]", None, "a mapping of options")
        stages: dict[str, Any] = {name: STAGE_SETTINGS[name].from_dict(values[name]) for name in STAGES}
        return cls(**{**values, **stages})

    def replace(self, **changes: dict[str, Any]) -> Self:
        """Changes options of stages: `settings.replace(keyframes={"guidance_scale": 5.0})`.

        Raises:
            InputError: A stage or an option is unknown, or a value is out of its range.
        """
        out = self
        for stage, options in changes.items():
            if stage not in STAGES:
                raise InputError(f"unknown stage {stage!r}; the stages are {', '.join(STAGES)}")
            merged = {**getattr(self, stage).to_dict(), **options}
            changed: dict[str, Any] = {stage: STAGE_SETTINGS[stage].from_dict(merged)}
            out = dataclasses.replace(out, **changed)
        return out


STAGE_SETTINGS: dict[str, type[StageSettings]] = {
    "keyframes": KeyframesSettings,
    "interpolation": InterpolationSettings,
    "super_resolution": SuperResolutionSettings,
    "translation": TranslationSettings,
}

PUBLISHED = CascadeSettings(
    # showlab/Show-1's published run: 75 steps, guidance 9.0 at 8x40x64 and 2 fps
    keyframes=KeyframesSettings(num_inference_steps=75, guidance_scale=9.0),
    # 75 steps, guidance 4.0, segments of 5 frames
    interpolation=InterpolationSettings(num_inference_steps=75, guidance_scale=4.0),
    # 125 steps, guidance 7.0, noise level 250, windows of 8 with stride 7; first frame by DeepFloyd IF-II:
    # ancestral DDPM, 70 steps, guidance 4.0, noise level 150
    super_resolution=SuperResolutionSettings(
        num_inference_steps=125,
        guidance_scale=7.0,
        first_frame=FirstFrameSettings(
            num_inference_steps=70, guidance_scale=4.0, noise_level=150, scheduler="checkpoint"
        ),
    ),
    # 50 steps, strength 0.8, guidance 15.0, negative prompt "low resolution, blur"
    translation=TranslationSettings(
        num_inference_steps=50, guidance_scale=15.0, negative_prompt="low resolution, blur"
    ),
)
"""The settings of the published run (SPEC of arXiv:2309.15818's released inference)."""
