"""Settings of the cascade's stages, and the published presets.

Settings are frozen dataclasses; variants are made with `dataclasses.replace`, and JSON is their saved form.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args

from show1 import limits
from show1.errors import InputError
from show1.options import Options, require

StageName = Literal["keyframes", "interpolation", "super_resolution", "translation"]
"""The stages that a generation runs, in this order."""
SchedulerName = Literal["checkpoint", "dpmsolver++", "unipc", "ddim", "ddpm"]
"""Samplers; `checkpoint` is the one that the model's folder names."""
TimeGrid = Literal["checkpoint", "logsnr"]
"""How the steps of a sampling run are spaced."""
Prediction = Literal["epsilon", "v_prediction", "sample"]
"""What a network predicts: the noise, v (arXiv:2202.00512), or the clean sample."""
Numerics = Literal["default", "published"]
"""`published` repeats the random draws and the rounding of the published run, which is slower."""

STAGES: tuple[StageName, ...] = get_args(StageName)

MEMORY_SETTINGS = ("max_batch", "split_guidance")
"""Settings that change how much memory a stage takes, and of its result only the rounding."""


@dataclass(frozen=True, kw_only=True)
class StageSettings(Options):
    """The settings that all stages share."""

    options_of: ClassVar[str] = "stage"

    num_inference_steps: int
    """Steps of one sampling run, 1 to 1000."""

    guidance_scale: float
    """Scale of classifier-free guidance, uncond + scale * (cond - uncond). 1.0 turns it off and halves the work."""

    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Guidance applies only while timestep / num_train_timesteps is in this closed interval (arXiv:2404.07724)."""

    scheduler: SchedulerName = "checkpoint"
    """Sampler on the model's noise schedule; `checkpoint` is the sampler that the model's folder names."""

    time_grid: TimeGrid = "checkpoint"
    """Spacing of the steps: `checkpoint` is that of the model's folder; `logsnr` is even in the logarithm of the
    signal-to-noise ratio, which takes a third of the published run's steps (DPM-Solver++ only)."""

    negative_prompt: str = ""
    """Prompt of the unconditional half of guidance."""

    max_batch: int | None = None
    """Most samples (prompts or segments) per network call; None for no limit."""

    split_guidance: bool = False
    """Whether the two halves of guidance are computed one after the other, which takes half the memory of a call."""

    @classmethod
    def option_label(cls, name: str) -> str:
        """The name with its stage, as `--set` takes it."""
        return f"{cls.options_of}.{name}"

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.guidance_interval
        self.check_range("num_inference_steps", least=1, most=limits.MAX_STEPS)
        self.check_range("guidance_scale", least=0, most=1_000_000)
        self.check("guidance_interval", 0 <= low <= high <= 1, "0 <= low <= high <= 1")
        self.check_range("max_batch", least=1, most=2**31)

    @property
    def guides_in_two_calls(self) -> bool:
        """Whether the halves of guidance are two calls of the network."""
        return self.split_guidance


@dataclass(frozen=True, kw_only=True)
class KeyframesSettings(StageSettings):
    """Settings of the keyframes: text to a few frames in pixel space."""

    options_of: ClassVar[str] = "keyframes"

    num_frames: int = 8
    """Number of keyframes. The paper's network was trained on 8."""
    height: int = 40
    """Height of the keyframes in pixels."""
    width: int = 64
    """Width of the keyframes in pixels."""
    fps: float = 2.0
    """Frames per second of the keyframes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("num_frames", least=1, most=limits.MAX_FRAMES)
        self.check_range("fps", least=0.01, most=240)
        self.check_range("height", "width", least=8, most=limits.MAX_SIDE)

    @property
    def guides_in_two_calls(self) -> bool:
        """As of other stages; always where there are so many keyframes that a call takes more than the expert's."""
        return self.split_guidance or self.num_frames > 48


@dataclass(frozen=True, kw_only=True)
class InterpolationSettings(StageSettings):
    """Settings of the interpolation: n keyframes become (n - 1) * factor + 1 frames."""

    options_of: ClassVar[str] = "interpolation"

    factor: int = 4
    """Frames per keyframe; a segment from one keyframe to the next has factor + 1 frames."""

    keep_keyframes: bool = False
    """Whether keyframes stay as they are. In the published run, the network draws them again with the other frames."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("factor", least=1, most=limits.MAX_FACTOR)


@dataclass(frozen=True, kw_only=True)
class FirstFrameSettings(StageSettings):
    """Settings of the first frame's super-resolution by an image network (DeepFloyd IF-II)."""

    options_of: ClassVar[str] = "first_frame"

    noise_level: int = 150
    """Timestep whose noise the upsampled frame gets, 0 to 999."""

    @classmethod
    def option_label(cls, name: str) -> str:
        """See `StageSettings.option_label`."""
        return f"super_resolution.{cls.options_of}.{name}"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("noise_level", least=0, most=999)
        self.check("time_grid", self.time_grid == "checkpoint", "checkpoint for the first frame's network")


@dataclass(frozen=True, kw_only=True)
class SuperResolutionSettings(StageSettings):
    """Settings of the super-resolution in pixel space, over windows of frames."""

    options_of: ClassVar[str] = "super_resolution"

    height: int = 160
    """Height of the output in pixels."""
    width: int = 256
    """Width of the output in pixels."""
    noise_level: int = 250
    """Timestep whose noise the upsampled window gets, 0 to 999."""
    window: int = 8
    """Frames per window."""
    stride: int = 7
    """Frames from the start of one window to that of the next; less than `window`, so that windows overlap."""
    first_frame: FirstFrameSettings | None = None
    """Settings of the image network for frame 0; None if the video network makes it with this stage's settings."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("height", "width", least=8, most=limits.MAX_SIDE)
        self.check_range("noise_level", least=0, most=999)
        self.check_range("window", least=2, most=limits.MAX_FRAMES)
        self.check("stride", 1 <= self.stride <= self.window - 1, "from 1 to window - 1")


@dataclass(frozen=True, kw_only=True)
class TranslationSettings(StageSettings):
    """Settings of the expert translation: low-resolution video to high resolution in latent space."""

    options_of: ClassVar[str] = "translation"

    height: int = 320
    """Height of the output in pixels; of the cascade's own expert, a multiple of 8."""
    width: int = 576
    """Width of the output in pixels; of the cascade's own expert, a multiple of 8."""
    level: float | None = None
    """Noise level at which the translation starts: the weight of the noise in the mix with the video, in (0, 1]. None:
    `strength` decides, which only the cascade's own expert has."""
    strength: float = 0.8
    """Fraction of the steps that the translation makes, in (0, 1] (SDEdit). It is used only where `level` is
    None."""
    max_timestep: int = 900
    """Highest timestep that the cascade's own expert was trained on; no step starts above it."""
    prompt: str = ""
    """Prompt for the expert in place of that of the video: many latent models want longer captions. Empty: the same."""
    window: int | None = None
    """Most frames that the expert's network sees at once: longer videos are denoised in windows that are blended at
    each step. None: 32 of the cascade's own expert, all of another one."""
    overlap: int | None = None
    """Frames that neighbouring windows share where `window` is given, fewer than it. None: half of it, at most 16."""
    time_factor: int = 1
    """Frames that another expert is shown per frame of the video: those between are blended in, and left out again.
    With 2, a model of 16 frames per second sees a video of 8 at the pace that it knows."""
    weights: Literal["plain", "fp8", "int8", "int4"] = "plain"
    """How another expert's network keeps its weights: fp8 and int8 halve their memory, int4 takes a quarter, and all
    change the result, the fewer bits the more. int8 and int4 need bitsandbytes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("height", "width", least=8, most=limits.MAX_SIDE)
        self.check_range("window", least=5, most=limits.MAX_FRAMES)
        self.check_range("overlap", least=0, most=limits.MAX_FRAMES)
        fits = self.window is None or self.shared(self.window) < self.window
        self.check("overlap", fits, f"less than window ({self.window})")
        self.check_range("time_factor", least=1, most=8)
        self.check("level", self.level is None or 0 < self.level <= 1, "more than 0, at most 1")
        self.check("strength", 0 < self.strength <= 1, "more than 0, at most 1")
        self.check_range("max_timestep", least=1, most=1000)

    def shared(self, window: int) -> int:
        """Frames that neighbouring windows of so many frames share."""
        return min(16, window // 2) if self.overlap is None else self.overlap

    @property
    def own_window(self) -> tuple[int, int]:
        """Frames of a window of the cascade's own expert, and how many of them neighbours share."""
        return (32, 4) if self.window is None else (self.window, self.shared(self.window))


@dataclass(frozen=True, kw_only=True)
class CascadeSettings(Options):
    """The settings of all four stages."""

    options_of: ClassVar[str] = "cascade"

    keyframes: KeyframesSettings
    interpolation: InterpolationSettings
    super_resolution: SuperResolutionSettings
    translation: TranslationSettings
    clean_prompt: Literal["lower", "none"] = "lower"
    """`lower` strips and lower-cases the prompt of the pixel stages, as the published run does."""
    max_text_tokens: int = 77
    """Number of tokens to which the pixel stages cut the prompt, 2 to 512."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("max_text_tokens", least=2, most=limits.MAX_TOKENS)

    def replace(self, **changes: Any) -> Self:
        """Changes some options: `settings.replace(keyframes={"guidance_scale": 5.0}, clean_prompt="none")`.

        Args:
            **changes: By stage, a mapping of the options to change; the options that stages share by their own name.

        Raises:
            InputError: A stage or an option is unknown, or a value is out of its range.
        """
        values = self.to_dict()
        for name, change in changes.items():
            if name not in values:
                raise InputError(f"unknown stage {name!r} in settings; there are {', '.join(values)}")
            if name in STAGES and not isinstance(change, Mapping):
                raise InputError(f"settings[{name!r}] must be a mapping of options, got {change!r}")
            values[name] = {**values[name], **change} if name in STAGES else change
        return self.from_dict(values)

    def assignments(self, stages: Sequence[StageName] = STAGES) -> list[str]:
        """The settings of some stages, and those that all share, as `--set` takes them: "keyframes.num_frames=8"."""
        values = self.to_dict()
        flat = {f"{stage}.{key}": value for stage in stages for key, value in values[stage].items()}
        flat |= {key: value for key, value in values.items() if key not in STAGES}
        lines = []
        for key, value in flat.items():
            inner = {f"{key}.{name}": each for name, each in value.items()} if isinstance(value, dict) else {key: value}
            lines += [f"{name}={setting_text(each)}" for name, each in inner.items()]
        return lines

    def with_negative_prompt(self, text: str) -> Self:
        """The settings with one negative prompt for every stage."""
        return self.replace(**{stage: {"negative_prompt": text} for stage in STAGES})

    def without_own_prompts(self) -> Self:
        """The settings with which each stage is told the prompt itself."""
        return self.replace(translation={"prompt": ""})


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

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "published": {
        stage: {"num_inference_steps": getattr(PUBLISHED, stage).num_inference_steps, "time_grid": "checkpoint"}
        for stage in STAGES
    },
    # a third of the evaluations at the error of the published solver (docs/samplers.md)
    "efficient": {
        "keyframes": {"num_inference_steps": 25, "time_grid": "logsnr"},
        "interpolation": {"num_inference_steps": 25, "time_grid": "logsnr"},
        "super_resolution": {"num_inference_steps": 41, "time_grid": "logsnr"},
        "translation": {"num_inference_steps": 17, "time_grid": "logsnr"},  # runs 13 of them, as the published 40 of 50
    },
}
"""Changes of settings by name, for models that are made for the published ones."""


def preset_changes(name: str | None, settings: CascadeSettings) -> dict[str, dict[str, Any]]:
    """Gives the changes of a preset, as `CascadeSettings.replace` takes them.

    Args:
        name: Its name in `PRESETS`; None: no preset, which changes nothing.
        settings: Those that the model is made for.

    Raises:
        InputError: There is no such preset, or it is not for this model.
    """
    if name is None:
        return {}
    known = f"one of {', '.join(PRESETS)}, or be named with a model that has it, such as mini:fast"
    require(name in PRESETS, "preset", name, known)
    alike: dict[str, Any] = {"super_resolution": {"first_frame": None}}  # an optional part of the published model
    if settings.replace(**alike) != PUBLISHED.replace(**alike):
        raise InputError(
            f"the preset {name!r} is for the published model, and this one has settings of its own; leave it out"
        )
    return PRESETS[name]


def setting_text(value: Any) -> str:
    """Writes the value of a setting as `--set` takes it."""
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return "none" if value is None else str(value)
