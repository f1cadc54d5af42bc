"""What the stages are: one row per stage, and the only place that knows one stage from another.

A new stage, or another network behind one, is a new row here and a class in `show1.stages`. Imports are light, so that
requests and run records can be read without loading torch.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from show1.config import (
    STAGES,
    CascadeSettings,
    FirstFrameSettings,
    InterpolationSettings,
    KeyframesSettings,
    StageName,
    StageSettings,
    SuperResolutionSettings,
    TranslationSettings,
)

ComponentKind = Literal[
    "pixel_unet", "latent_unet", "image_unet", "vae", "text_encoder", "tokenizer", "scheduler", "expert"
]
Shape = tuple[int | None, int, int]
"""Frames (None: unknown), height and width of a video."""


@dataclass(frozen=True)
class Component:
    """A subfolder of a stage's folder."""

    name: str
    """The subfolder's name, as in the published repositories."""
    kind: ComponentKind
    """What the subfolder holds."""
    optional: bool = False
    """Whether the stage works without it."""

    @property
    def has_weights(self) -> bool:
        """Whether it is a network, with `config.json` and weight files."""
        return self.kind not in ("tokenizer", "scheduler")


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """What must be known of a stage to find, check, load, run and train it."""

    name: str
    """Its name in settings, model folders and run folders."""
    settings: type[StageSettings]
    """The class of its settings."""
    components: tuple[Component, ...]
    """The subfolders that it needs, apart from those of its text encoder."""
    in_channels: int | None
    """Channels that it gives to its network; None: the latent channels of its autoencoder."""
    text: Literal["own", "shared", "none"]
    """Whether its published repository holds its text encoder, it shares that of `SHARED_TEXT`, or it has none."""
    prompt: Callable[[str, CascadeSettings], tuple[str, int | None]]
    """Turns a prompt into the text for its encoder, and the limit in tokens (None: the tokenizer's)."""
    output_shape: Callable[[int | None, CascadeSettings], Shape]
    """Computes the shape of its output from the number of frames of its input (None: unknown, or no input)."""
    largest_call: Callable[[int, CascadeSettings], tuple[int, int]]
    """Computes samples per prompt, and frames, of its largest network call from the number of frames of its output."""
    repository: str
    """Published repository on the Hugging Face Hub."""
    needs_video: bool = True
    """Whether it works on a video; if not, it begins from a prompt alone."""
    fps_factor: Callable[[CascadeSettings], int] = lambda settings: 1
    """Computes output frames per second divided by input frames per second, from the settings."""
    takes_experts: bool = False
    """Whether a pipeline of diffusers may take the place of its own networks (`show1.expert_table`)."""
    part_of: StageName | None = None
    """The stage that it is an optional part of; None: it is a stage of the cascade."""

    @property
    def needed_components(self) -> tuple[Component, ...]:
        """The components that its published repository must provide: its text encoder's too, if it is its own."""
        return (*self.components, *TEXT) if self.text == "own" else self.components

    @property
    def unet(self) -> Component:
        """The network that denoises."""
        return next(component for component in self.components if component.name == "unet")

    @property
    def has_text(self) -> bool:
        """Whether it has a text encoder, its own or a shared one."""
        return self.text != "none"

    @property
    def stage(self) -> str:
        """The stage of the cascade that it is, or is a part of."""
        return self.part_of or self.name


TEXT = (Component("tokenizer", "tokenizer"), Component("text_encoder", "text_encoder"))
"""The components of a text encoder."""
SHARED_TEXT: StageName = "keyframes"
"""The stage whose text encoder others share."""

_SCHEDULER = Component("scheduler", "scheduler")
_NOISING = Component("image_noising_scheduler", "scheduler", optional=True)
_PIXEL_UNET = Component("unet", "pixel_unet")


MOST_SEGMENTS = 8
"""Segments between keyframes that one call of the interpolation's network computes for each prompt: more would take
more memory and gain no time."""


def interpolated_length(num_keyframes: int, factor: int) -> int:
    """Frames of the interpolated video: n keyframes become (n - 1) * factor + 1."""
    return (num_keyframes - 1) * factor + 1


def _pixel_prompt(prompt: str, settings: CascadeSettings) -> tuple[str, int | None]:
    if not prompt.strip():
        return "", settings.max_text_tokens
    return prompt.strip().lower() if settings.clean_prompt == "lower" else prompt, settings.max_text_tokens


def _interpolation_shape(frames: int | None, settings: CascadeSettings) -> Shape:
    length = None if frames is None else interpolated_length(frames, settings.interpolation.factor)
    return length, settings.keyframes.height, settings.keyframes.width


def _interpolation_call(frames: int, settings: CascadeSettings) -> tuple[int, int]:
    segments = max(1, (frames - 1) // settings.interpolation.factor)
    return min(segments, MOST_SEGMENTS), settings.interpolation.factor + 1


_ROWS = (
    StageRow(
        name="keyframes",
        settings=KeyframesSettings,
        components=(_PIXEL_UNET, _SCHEDULER),
        in_channels=3,
        text="own",
        prompt=_pixel_prompt,
        output_shape=lambda frames, s: (s.keyframes.num_frames, s.keyframes.height, s.keyframes.width),
        largest_call=lambda frames, s: (1, frames),
        repository="showlab/show-1-base",
        needs_video=False,
    ),
    StageRow(
        name="interpolation",
        settings=InterpolationSettings,
        components=(_PIXEL_UNET, _SCHEDULER),
        in_channels=7,  # noisy frames, blended keyframes, a mask
        text="shared",
        prompt=_pixel_prompt,
        output_shape=_interpolation_shape,
        fps_factor=lambda settings: settings.interpolation.factor,
        largest_call=_interpolation_call,
        repository="showlab/show-1-interpolation",
    ),
    StageRow(
        name="super_resolution",
        settings=SuperResolutionSettings,
        components=(_PIXEL_UNET, _SCHEDULER, _NOISING),
        in_channels=6,  # noisy frames, upsampled frames
        text="shared",
        prompt=_pixel_prompt,
        output_shape=lambda frames, s: (frames, s.super_resolution.height, s.super_resolution.width),
        largest_call=lambda frames, s: (1, min(frames, s.super_resolution.window)),
        repository="showlab/show-1-sr1",
    ),
    StageRow(
        name="translation",
        settings=TranslationSettings,
        components=(Component("unet", "latent_unet"), Component("vae", "vae"), _SCHEDULER),
        in_channels=None,
        text="own",
        prompt=lambda prompt, settings: (prompt, None),
        output_shape=lambda frames, s: (frames, s.translation.height, s.translation.width),
        takes_experts=True,
        largest_call=lambda frames, s: (1, min(frames, s.translation.own_window[0])),
        repository="showlab/show-1-sr2",
    ),
    StageRow(
        name="first_frame",
        settings=FirstFrameSettings,
        components=(Component("unet", "image_unet"), _SCHEDULER, _NOISING),
        in_channels=6,  # noisy image, upsampled image
        text="none",
        prompt=_pixel_prompt,
        output_shape=lambda frames, s: (1, s.super_resolution.height, s.super_resolution.width),
        largest_call=lambda frames, s: (1, 1),
        repository="DeepFloyd/IF-II-L-v1.0",
        part_of="super_resolution",
    ),
)

STAGE_TABLE: dict[str, StageRow] = {row.name: row for row in _ROWS}
"""All rows by name: the stages in order, then the optional parts."""


def subfolders_of(components: Iterable[Component]) -> tuple[str, ...]:
    """Names of the subfolders of some components."""
    return tuple(component.name for component in components)


def parts_of(stages: Iterable[str]) -> tuple[str, ...]:
    """Names of some stages and of their optional parts, in the table's order."""
    wanted = set(stages)
    return tuple(name for name, row in STAGE_TABLE.items() if row.stage in wanted)


assert tuple(name for name, row in STAGE_TABLE.items() if row.part_of is None) == STAGES
