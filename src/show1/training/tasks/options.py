"""Options of the tasks that train the stages: one dataclass per task. Loads without torch."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from show1.config import StageName
from show1.errors import InputError
from show1.training.options import DrawOptions, LoopOptions, TaskOptions

if TYPE_CHECKING:
    from show1.data.clips import ClipView


@dataclass(frozen=True, kw_only=True)
class FrameOptions(TaskOptions):
    """Options of the tasks that learn from frames."""

    multiple: ClassVar[int] = 1
    """What height and width have to be multiples of."""

    size: tuple[int, int] | None = None
    """Height and width of the frames that the stage makes, in pixels; None: those of the preset `network`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("size", least=8)
        fits = not any(side % self.multiple for side in self.size or ())
        self.check("size", fits, f"multiples of {self.multiple} for {self.task}")

    def view(self) -> "ClipView":
        """See `TaskOptions.view`."""
        view = super().view()
        height, width = self.size or (view.height, view.width)
        return dataclasses.replace(view, height=height, width=width)


@dataclass(frozen=True, kw_only=True)
class AutoencoderOptions(FrameOptions):
    """Options of the training of the image autoencoder."""

    task = "vae"
    stage = "translation"
    about = "Train the image autoencoder of the translation stage."
    implementation = "show1.training.tasks.autoencoder:AutoencoderTask"
    multiple = 8

    @property
    def reads_captions(self) -> bool:
        """See `TaskOptions.reads_captions`: it does not."""
        return False


@dataclass(frozen=True, kw_only=True)
class TinyAutoencoderOptions(AutoencoderOptions):
    """Options of the distillation of the image autoencoder into a tiny one."""

    task = "tiny_vae"
    about = "Distil the image autoencoder into a tiny one that has the same latents, for a faster translation."
    example: ClassVar[tuple[str, ...]] = ("--data clips", "--vae runs/vae/export")
    implementation = "show1.training.tasks.autoencoder:TinyAutoencoderTask"

    vae: str | None = None
    """Stage folder (or training export, or a model such as `mini`) whose autoencoder is distilled."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vae is None:
            raise InputError("vae: name the folder, or the model, whose autoencoder is distilled (such as --vae mini)")


@dataclass(frozen=True, kw_only=True)
class DenoisingOptions(DrawOptions, FrameOptions):
    """Options of the tasks that train a stage's denoising network."""

    stage: ClassVar[StageName]
    """The stage whose network it trains."""

    temporal: ClassVar[bool] = True
    """Whether the network has layers over frames."""

    trains_text: ClassVar[bool] = False
    """Whether the task trains a text encoder along when no folder is given for it."""

    text: str | None = None
    """Stage folder, or a model such as `mini`, whose text encoder is used, frozen. None: that of `init`; the keyframe
    tasks then train it along, or a fresh one."""

    cache_text: bool = False
    """Computes the text states of all captions before the training, and then drops the frozen text encoder from memory,
    as T5-XXL requires. The states are kept in the run's folder: 1.3 MB for each caption with T5-XXL."""

    inherited_lr_scale: float = 1.0
    """Factor on the learning rate of the parameters that `init` brought."""

    prediction_type: Literal["v_prediction", "epsilon", "sample"] = "v_prediction"
    """What a fresh network predicts; with `init`, its scheduler's type is kept. `sample` (the clean video) suits
    networks on patches, which have too few channels to pass the noise on (arXiv:2511.13720)."""

    loss: Literal["squared", "absolute"] = "squared"
    """Error of the prediction. Absolute errors leave what is right already as it is and invent less detail
    (arXiv:2111.05826 compares both); they suit stages whose condition shows nearly everything."""

    min_snr_gamma: float | None = None
    """Weights the loss by min(SNR, gamma) (arXiv:2303.09556). None: no weights."""

    temporal_dropout: float = 0.1
    """Dropout of the convolutions over frames. The published networks have 0.1; 0 is a tenth faster on CPUs."""

    max_timestep: int = 999
    """Highest noise level that is drawn, 0 to 999."""

    cuda_graphs: bool = False
    """Replays the network's kernels as one CUDA graph. Without, a small network on a large GPU waits for the CPU that
    launches the kernels one by one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("inherited_lr_scale", least=0)
        self.check_range("max_timestep", least=0, most=999)
        self.check("temporal_dropout", 0 <= self.temporal_dropout < 1, "at least 0, less than 1")
        self.check_positive("min_snr_gamma")
        if self.cuda_graphs and self.gradient_checkpointing:
            raise InputError("cuda_graphs cannot compute activations twice; leave it out, or gradient_checkpointing")
        if not (self.trains_text or self.text or self.init):
            raise InputError(
                f"text: {self.task} reads prompts with a trained text encoder; name a folder that holds one by "
                "--text DIR, such as the export of a keyframe_images training"
            )

        if self.cache_text and self.trains_text and self.text is None:
            raise InputError("cache_text: the text encoder would learn along; name a frozen one (--text)")

    @property
    def reads_captions(self) -> bool:
        """See `TaskOptions.reads_captions`: not where every prompt is dropped."""
        return self.prompt_dropout < 1

    def check_loop(self, loop: LoopOptions) -> None:
        """See `TaskOptions.check_loop`."""
        if self.cuda_graphs and loop.accumulate > 1:
            raise InputError("cuda_graphs cannot add up gradients; leave it out, or accumulate")


@dataclass(frozen=True, kw_only=True)
class KeyframeImagesOptions(DenoisingOptions):
    """Options of the keyframe network's pretraining on single frames."""

    task = "keyframe_images"
    stage = "keyframes"
    about = "Train the step from text to single frames: the network that keyframes starts from."
    example: ClassVar[tuple[str, ...]] = ("--data clips", "--text runs/text/export")
    implementation = "show1.training.tasks.keyframes:KeyframesTask"
    temporal = False
    trains_text = True


@dataclass(frozen=True, kw_only=True)
class KeyframesOptions(DenoisingOptions):
    """Options of the training of the keyframe network."""

    task = "keyframes"
    stage = "keyframes"
    about = "Train the step from text to keyframes: the image network with layers over time."
    example: ClassVar[tuple[str, ...]] = (
        "--data clips",
        "--init runs/keyframe_images/export",
        "--text runs/text/export",
    )
    implementation = "show1.training.tasks.keyframes:KeyframesTask"
    trains_text = True
    shares_noise = True

    temporal_init: str | None = None
    """Stage folder of keyframes, or a model, whose layers over frames are taken, where `init` has learned from single
    frames only, or since then. None: those of `init`, or new ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temporal_init is not None and self.init is None:
            raise InputError("temporal_init: name the network that gets these layers, too (--init DIR)")


@dataclass(frozen=True, kw_only=True)
class InterpolationOptions(DenoisingOptions):
    """Options of the training of the interpolation network."""

    task = "interpolation"
    stage = "interpolation"
    about = "Train the step from two keyframes to the frames between them."
    example: ClassVar[tuple[str, ...]] = ("--data clips", "--init runs/keyframes/export", "--text runs/text/export")
    implementation = "show1.training.tasks.interpolation:InterpolationTask"

    add_condition: bool = False
    """The network predicts only what the blend of the keyframes lacks, not the whole video, which small networks cannot
    pass on. Needs `prediction_type` "sample"."""

    corruption: float = 0.0
    """Share of the clips, 0 to 1, in which the stage also learns to remove what earlier stages leave: coarse pixels,
    wobbling edges, noise. 0: only clean videos, as in the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("corruption", least=0, most=1)
        if self.add_condition and self.prediction_type != "sample":
            raise InputError(f"add_condition needs prediction_type sample, got {self.prediction_type}")


@dataclass(frozen=True, kw_only=True)
class SuperResolutionOptions(DenoisingOptions):
    """Options of the training of the super-resolution network."""

    task = "super_resolution"
    stage = "super_resolution"
    about = "Train the step from windows of small frames to large ones."
    example: ClassVar[tuple[str, ...]] = (
        "--data clips",
        "--init runs/super_resolution_images/export",
        "--text runs/text/export",
    )
    implementation = "show1.training.tasks.super_resolution:SuperResolutionTask"

    noise_level: tuple[int, int] = (0, 400)
    """Lowest and highest noise level of the low-resolution condition, 0 to 999."""

    low_size: tuple[int, int] | None = None
    """Height and width of the frames that super-resolution starts from, in pixels; None: those of the preset
    `network`."""

    add_condition: bool = False
    """The network predicts only what the upsampled video lacks, not the whole video, which small networks cannot pass
    on. Needs `prediction_type` "sample"."""

    corruption: float = 0.0
    """Share of the clips, 0 to 1, in which the stage also learns to remove what earlier stages leave: coarse pixels,
    wobbling edges, noise. 0: only clean videos, as in the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.noise_level
        self.check_range("low_size", least=1)
        self.check_range("corruption", least=0, most=1)
        if self.add_condition and self.prediction_type != "sample":
            raise InputError(f"add_condition needs prediction_type sample, got {self.prediction_type}")
        self.check("noise_level", 0 <= low <= high <= 999, "a range within 0 to 999")

    def view(self) -> "ClipView":
        """See `TaskOptions.view`."""
        view = super().view()
        return dataclasses.replace(view, low=self.low_size or view.low)


@dataclass(frozen=True, kw_only=True)
class SuperResolutionImagesOptions(SuperResolutionOptions):
    """Options of the super-resolution network's pretraining on single frames."""

    task = "super_resolution_images"
    about = "Train the step from small single frames to large ones: the network that super_resolution starts from."
    example: ClassVar[tuple[str, ...]] = ("--data clips", "--text runs/text/export")
    temporal = False


@dataclass(frozen=True, kw_only=True)
class TranslationOptions(DenoisingOptions):
    """Options of the training of the expert."""

    task = "translation"
    stage = "translation"
    about = "Train the expert: text to high-resolution latent video, for the noise levels up to --max-timestep."
    example: ClassVar[tuple[str, ...]] = (
        "--data clips",
        "--init runs/translation_images/export",
        "--vae runs/vae/export",
    )
    implementation = "show1.training.tasks.translation:TranslationTask"
    multiple = 8

    max_timestep: int = 900
    """Highest noise level that is drawn, 0 to 999. The paper's expert knows those up to 900, as the stage uses it."""

    vae: str | None = None
    """Stage folder (or training export, or a model such as `mini`) whose autoencoder is used, frozen."""

    crop: tuple[int, int] | None = None
    """Height and width of random crops to learn from, in pixels; None: whole frames."""

    corruption: float = 0.0
    """Share of the clips, 0 to 1, in which the stage also learns to remove what earlier stages leave: coarse pixels,
    wobbling edges, noise. 0: only clean videos, as in the paper."""

    embed_frames: bool = False
    """Tells the network where in the clip each frame is, as the keyframes' own is told. The clips that it redraws, or
    the windows of longer ones, then have to be as long as those that it learned from. With `init`, such an embedding is
    new and starts as the identity."""

    embed_places: bool = False
    """Tells the network where in the frame each position is; otherwise it infers that from the padding. With `init`,
    such embeddings are new and start as the identity."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("crop", least=8)
        self.check_range("corruption", least=0, most=1)
        if self.embed_places and self.crop is not None:
            raise InputError("embed_places: places in a crop are others than in a whole frame; leave out crop")
        if self.vae is None:
            raise InputError(
                "vae: the translation tasks need a trained VAE; train the task 'vae' first and name its export"
            )


@dataclass(frozen=True, kw_only=True)
class TranslationImagesOptions(TranslationOptions):
    """Options of the expert's pretraining on single frames."""

    task = "translation_images"
    about = "Train the step from text to single latent images: the network that translation starts from."
    example: ClassVar[tuple[str, ...]] = ("--data clips", "--text runs/text/export", *TranslationOptions.example[2:])

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embed_frames:
            raise InputError("embed_frames: a single frame has no place in a clip; give it for the task 'translation'")


TASKS: tuple[type[TaskOptions], ...] = (
    KeyframeImagesOptions,
    KeyframesOptions,
    InterpolationOptions,
    SuperResolutionImagesOptions,
    SuperResolutionOptions,
    AutoencoderOptions,
    TinyAutoencoderOptions,
    TranslationImagesOptions,
    TranslationOptions,
)
"""The tasks that train the stages, in the order in which they build on one another."""
