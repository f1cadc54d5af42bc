"""Options of distillation: one dataclass per stage. Loads without torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from show1.config import StageName
from show1.errors import InputError
from show1.limits import MAX_STEPS
from show1.training.options import DrawOptions, names_of
from show1.training.tasks.options import (
    DenoisingOptions,
    FrameOptions,
    InterpolationOptions,
    KeyframesOptions,
    SuperResolutionOptions,
    TranslationOptions,
)

if TYPE_CHECKING:
    from show1.data.clips import ClipView


@dataclass(frozen=True, kw_only=True)
class DistillationOptions(DrawOptions, FrameOptions):
    """Options of the distillation of a stage's network into one that samples in fewer steps and without guidance."""

    stage: ClassVar[StageName]
    """The stage whose network is distilled."""

    learner: ClassVar[type[DenoisingOptions]]
    """Options of the task that trains this stage, which says what the network is given."""

    implementation = "show1.training.tasks.distillation:DistillationTask"

    init: ClassVar[None] = None  # type: ignore[misc]  # the student starts from the teacher
    """Distillation has no such option."""

    teacher: str | None = None
    """Model to distil, whose weights the student starts from: `mini`, the folder of a model or of a stage, such as a
    training's export, or a repository on the Hub."""

    text: str | None = None
    """Stage folder whose text encoder is used. None: the teacher's."""

    cache_text: bool = False
    """Computes the text states of all captions before the training, and then drops the text encoder from memory, as
    T5-XXL requires. The states are kept in the run's folder: 1.3 MB for each caption with T5-XXL."""

    student_steps: int | None = None
    """Sampling steps of the student. None: as many as the teacher's; then only the guidance is distilled, at all noise
    levels."""

    teacher_steps: int | None = None
    """Sampling steps of the teacher that those of the student replace: a multiple of `student_steps`. None: twice as
    many."""

    guidance_scale: float | None = None
    """Guidance that becomes a part of the student. None: that of the teacher's settings."""

    prompt_dropout: float = 0.0
    """Chance that a prompt is replaced by the empty one, for a student that is trained on afterwards."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher is None:
            raise InputError("teacher: name the model to distil by --teacher, such as mini or a training's export")
        self.check_range("student_steps", "teacher_steps", least=1, most=MAX_STEPS)
        self.check_range("guidance_scale", least=0, most=1_000_000)
        if self.student_steps is None:
            if self.teacher_steps is not None:
                raise InputError("teacher_steps needs student_steps, which replace them; give both, or none")
        elif self.replaced % self.student_steps or self.replaced == self.student_steps:
            raise InputError(
                f"teacher_steps must be a multiple of the {self.student_steps} student_steps, got {self.teacher_steps}"
            )

    @property
    def replaced(self) -> int:
        """Steps of the teacher that the student's replace."""
        return self.teacher_steps or 2 * (self.student_steps or 1)

    @classmethod
    def command(cls) -> str:
        """See `TaskOptions.command`."""
        return f"distil {cls.stage}"

    def view(self) -> "ClipView":
        """See `TaskOptions.view`: that of the stage's own training."""
        return self.learned().view()

    def learned(self, **changes: Any) -> DenoisingOptions:
        """Gives the options of the task that trains the stage, starting from the teacher.

        Args:
            changes: Other options of that task.
        """
        shared = {name: getattr(self, name) for name in set(names_of(self.learner)) & set(names_of(type(self)))}
        text = self.text or self.teacher
        return self.learner(**{**shared, "init": self.teacher, "text": text, "temporal_dropout": 0.0, **changes})


@dataclass(frozen=True, kw_only=True)
class DistilKeyframesOptions(DistillationOptions):
    """Options of the distillation of the keyframe network."""

    task = "distil_keyframes"
    stage = "keyframes"
    learner = KeyframesOptions
    about = "Distil the keyframe network: fewer sampling steps, without guidance."
    example: ClassVar[tuple[str, ...]] = ("--data clips", "--teacher runs/keyframes/export")
    shares_noise = True


@dataclass(frozen=True, kw_only=True)
class DistilInterpolationOptions(DistillationOptions):
    """Options of the distillation of the interpolation network."""

    task = "distil_interpolation"
    stage = "interpolation"
    learner = InterpolationOptions
    about = "Distil the interpolation network: fewer sampling steps, without guidance."
    example: ClassVar[tuple[str, ...]] = (
        "--data clips",
        "--teacher runs/interpolation/export",
        "--text runs/text/export",
        "--student-steps 8",
    )

    corruption: float = 0.0
    """Share of the clips, 0 to 1, whose keyframes are as earlier stages leave them: coarse pixels, wobbling edges,
    noise."""


@dataclass(frozen=True, kw_only=True)
class DistilSuperResolutionOptions(DistillationOptions):
    """Options of the distillation of the super-resolution network."""

    task = "distil_super_resolution"
    stage = "super_resolution"
    learner = SuperResolutionOptions
    about = "Distil the super-resolution network: fewer sampling steps, without guidance."
    example: ClassVar[tuple[str, ...]] = (
        "--data clips",
        "--teacher runs/super_resolution/export",
        "--text runs/text/export",
        "--student-steps 8",
    )

    low_size: tuple[int, int] | None = None
    """Height and width of the frames that super-resolution starts from, in pixels; None: those of the preset
    `network`."""

    corruption: float = 0.0
    """Share of the clips, 0 to 1, whose small frames are as earlier stages leave them: coarse pixels, wobbling edges,
    noise."""


@dataclass(frozen=True, kw_only=True)
class DistilTranslationOptions(DistillationOptions):
    """Options of the distillation of the expert."""

    task = "distil_translation"
    stage = "translation"
    learner = TranslationOptions
    about = "Distil the expert: fewer sampling steps, without guidance."
    example: ClassVar[tuple[str, ...]] = ("--data clips", "--teacher runs/translation/export", "--student-steps 5")
    multiple = 8

    crop: tuple[int, int] | None = None
    """Height and width of random crops to learn from, in pixels; None: whole frames."""

    corruption: float = 0.0
    """Share of the clips, 0 to 1, that are as earlier stages leave them: coarse pixels, wobbling edges, noise."""

    def learned(self, **changes: Any) -> DenoisingOptions:
        """See `DistillationOptions.learned`."""
        return super().learned(vae=self.teacher, **changes)


DISTILLATIONS: tuple[type[DistillationOptions], ...] = (
    DistilKeyframesOptions,
    DistilInterpolationOptions,
    DistilSuperResolutionOptions,
    DistilTranslationOptions,
)
"""The options of distillation by stage, in the order of the stages."""
