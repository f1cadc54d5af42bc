"""Settings of the cascade's stages, and the published presets.

Settings are frozen dataclasses; variants are made with `dataclasses.replace`, and JSON is their saved form.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args

from show1.errors import InputError
from show1.options import Options

StageName = Literal["keyframes", "interpolation", "super_resolution", "translation"]
SchedulerName = Literal["checkpoint", "dpmsolver++", "unipc", "ddim", "ddpm"]
Prediction = Literal["epsilon", "v_prediction", "sample"]
"""What a network predicts: the noise, v (arXiv:2202.00512), or the clean sample."""
Numerics = Literal["default", "published"]
"""`published`: random draws and rounding of networks and solvers are those of the published run, which is slower."""

STAGES: tuple[StageName, ...] = get_args(StageName)


@dataclass(frozen=True, kw_only=True)
class StageSettings(Options):
    """The settings that all stages share."""

    options_of: ClassVar[str] = "stage"

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
        super().__post_init__()
        low, high = self.guidance_interval
        self.check_range("num_inference_steps", least=1, most=1000)
        self.check_range("guidance_scale", least=0, most=1_000_000)
        self.check("guidance_interval", 0 <= low <= high <= 1, "0 <= low <= high <= 1")
        self.check_range("max_batch", least=1, most=2**31)


@dataclass(frozen=True, kw_only=True)
class KeyframesSettings(StageSettings):
    """Text to a few frames in pixel space."""

    options_of: ClassVar[str] = "keyframes"

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
        self.check_range("num_frames", least=1, most=1024)
        self.check_range("fps", least=0.01, most=240)
        self.check_range("height", "width", least=8, most=4096)


@dataclass(frozen=True, kw_only=True)
class InterpolationSettings(StageSettings):
    """Keyframes to a smooth video: n frames become (n - 1) * factor + 1."""

    options_of: ClassVar[str] = "interpolation"

    factor: int = 4
    """Frames from one keyframe to the next; a segment has factor + 1 frames."""

    keep_keyframes: bool = False
    """Whether keyframes stay as they are. As published, the network draws them again with the frames between them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("factor", least=1, most=64)


@dataclass(frozen=True, kw_only=True)
class FirstFrameSettings(StageSettings):
    """The image super-resolution of frame 0 (DeepFloyd IF-II, or the video network on one frame)."""

    options_of: ClassVar[str] = "first_frame"

    noise_level: int = 150
    """Timestep at which the upsampled frame is noised, 0 to 999."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("noise_level", least=0, most=999)


@dataclass(frozen=True, kw_only=True)
class SuperResolutionSettings(StageSettings):
    """Pixel-space super-resolution over windows of frames."""

    options_of: ClassVar[str] = "super_resolution"

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
        self.check_range("height", "width", least=8, most=4096)
        self.check_range("noise_level", least=0, most=999)
        self.check_range("window", least=2, most=1024)
        self.check("stride", 1 <= self.stride <= self.window - 1, "from 1 to window - 1")


@dataclass(frozen=True, kw_only=True)
class TranslationSettings(StageSettings):
    """Expert translation: low-resolution video to high resolution in latent space."""

    options_of: ClassVar[str] = "translation"

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
        self.check_range("height", "width", least=8, most=4096)
        self.check("height", self.height % 8 == 0, "a multiple of 8")
        self.check("width", self.width % 8 == 0, "a multiple of 8")
        self.check("strength", 0 < self.strength <= 1, "more than 0, at most 1")
        self.check_range("max_timestep", least=1, most=1000)


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
        self.check_range("max_text_tokens", least=2, most=512)

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


_STAGE_SETTINGS: dict[str, type[StageSettings]] = {
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
