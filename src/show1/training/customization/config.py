"""Options of a customization."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from show1.config import StageName
from show1.errors import InputError
from show1.training.options import SavedOptions

Kind = Literal["motion", "style"]
MethodName = Literal["temporal_attention", "residual_vector", "lora", "spatial_lora"]

METHODS: dict[Kind, tuple[MethodName, ...]] = {
    "motion": ("temporal_attention", "residual_vector", "lora"),
    "style": ("spatial_lora", "temporal_attention"),
}
"""The methods of a kind; the first is the default."""

LEARNING_RATES: dict[MethodName, float] = {
    "temporal_attention": 1e-4,
    "residual_vector": 1e-4,  # of arXiv:2312.00845
    "lora": 5e-4,  # of arXiv:2310.08465
    "spatial_lora": 5e-4,
}
"""Where no learning rate is given."""


@dataclass(frozen=True, kw_only=True)
class CustomizationConfig(SavedOptions):
    """Everything that decides a customization; saved as `config.json` in its folder."""

    options_of: ClassVar[str] = "customization"

    kind: Kind
    """What is learned."""

    output: str
    """The adapter's file, `*.safetensors`."""

    run: str | None = None
    """Folder of the run: config, log, sample sheets, checkpoints. None: beside `output`, with the suffix `.run`."""

    model: str = "mini"
    """The cascade that is customized: a name, a folder, or a Hub repository."""

    stage: StageName = "keyframes"
    """The stage whose network learns."""

    method: MethodName | None = None
    """How. `temporal_attention`: the transformers over frames are finetuned (arXiv:2309.15818). `residual_vector`: the
    same, by the differences of neighbouring frames (VMC, arXiv:2312.00845). `lora`: LoRA on them with the
    appearance-debiased loss (MotionDirector, arXiv:2310.08465). `spatial_lora`: LoRA on the attention over pixels.
    None: the kind's first."""

    video: tuple[str, ...] = ()
    """Clips to learn from: video files, or folders of frames."""

    images: str | None = None
    """Folder of images to learn a style from; a captions.jsonl in it may say what they show."""

    source: tuple[str, ...] = ()
    """For super_resolution: the same clips without the style, in the same order, or one folder of the same images. It
    then learns to draw in the style what the stages before it show without. Without, it learns the style's fine detail
    alone, for small clips that have the style already."""

    prompt: tuple[str, ...] = ()
    """What the clips show: one text for all, or one for each."""

    name: str = ""
    """What the style is called; put behind the prompt."""

    num_frames: int | None = None
    """Frames of a clip; None: as many as the stage makes at a time."""

    fps: float | None = None
    """Frames per second that are taken from a clip; None: evenly over all of it."""

    fit: Literal["crop", "pad"] = "crop"
    """What happens to a clip of another shape."""

    start: float = 0.0
    """Seconds of a clip to leave out at its beginning."""

    duration: float | None = None
    """Seconds of a clip to use; None: at most a minute."""

    layers: Literal["transformer", "attention"] = "transformer"
    """What of the transformers over frames learns: all of it, or the projections of its attentions alone."""

    convolutions: bool = False
    """Whether `spatial_lora` puts LoRA on the convolutions over pixels too. Stages that draw fine detail have attention
    at coarse levels alone, and cannot learn by it what lines or dots look like."""

    rank: int = 16
    """Rank of the LoRA matrices."""

    steps: int = 400
    """Optimizer steps."""

    batch_size: int = 4
    """Samples a step, in all its accumulated parts."""

    accumulate: int = 1
    """Parts of a batch whose gradients are added up before a step; divides `batch_size`."""

    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """`adamw8bit` keeps its state in 8 bits a number; it needs bitsandbytes."""

    learning_rate: float | None = None
    """That the schedule multiplies; None: 1e-4, for LoRA 5e-4."""

    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """The warm-up alone, or times a fall from 1 at the first step to 0 at the last."""

    warmup_steps: int = 10
    """Steps of linear rise from 0."""

    weight_decay: float = 0.0
    """Decoupled."""

    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    ema_decay: float = 0.0
    """Of the averaged weights, which are what the adapter holds; 0: the last ones."""

    prompt_dropout: float = 0.1
    """Chance that a prompt is replaced by the empty one, for guidance."""

    timestep_logit: tuple[float, float] | None = None
    """Mean and deviation of a logit-normal distribution of noise levels (arXiv:2403.03206); None: all alike. Where a
    subject is in each frame is decided at high ones: a positive mean."""

    random_hue: float = 0.0
    """For motions: chance that a clip is shown in other colours, turned round the grey axis by a random angle. What is
    learned then depends less on what the clip looks like."""

    mixed_precision: Literal["no", "bf16"] = "no"
    """Arithmetic of the network."""

    gradient_checkpointing: bool = False
    """Computes activations twice, to hold fewer."""

    inversion_steps: int = 50
    """Steps of the DDIM inversion that finds the clips' start noise, for motions of keyframes; 0: none."""

    noise_weight: float = 0.0
    """Share of the start noise that the adapter advises to take from the clips, 0 to 1."""

    preview: tuple[str, ...] = ()
    """Prompts of the sample sheets; none: those of the clips."""

    seed: int = 0
    """Of the noise, and of new weights."""

    log_every: int = 10
    """Steps from one line of `log.jsonl` to the next."""

    checkpoint_every: int = 100
    """Steps from one checkpoint to the next."""

    sample_every: int = 0
    """Steps from one sample sheet to the next; 0: only at the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_ranges(
            {
                "output": (self.output.endswith(".safetensors"), "the name of a *.safetensors file"),
                "num_frames": (self.num_frames is None or self.num_frames >= 1, "1 or more"),
                "rank": (self.rank >= 1, "1 or more"),
                "steps": (self.steps >= 1, "1 or more"),
                "batch_size": (self.batch_size >= 1, "1 or more"),
                "accumulate": (
                    self.accumulate >= 1 and self.batch_size % self.accumulate == 0,
                    "a divisor of batch_size",
                ),
                "learning_rate": (self.learning_rate is None or self.learning_rate > 0, "more than 0"),
                "warmup_steps": (self.warmup_steps >= 0, "0 or more"),
                "weight_decay": (self.weight_decay >= 0, "0 or more"),
                "max_grad_norm": (self.max_grad_norm > 0, "more than 0"),
                "seed": (self.seed >= 0, "0 or more"),
                "ema_decay": (0 <= self.ema_decay < 1, "at least 0, less than 1"),
                "prompt_dropout": (0 <= self.prompt_dropout <= 1, "from 0 to 1"),
                "timestep_logit": (
                    self.timestep_logit is None or self.timestep_logit[1] > 0,
                    "MEAN STD with STD above 0",
                ),
                "random_hue": (0 <= self.random_hue <= 1, "from 0 to 1"),
                "inversion_steps": (0 <= self.inversion_steps <= 1000, "from 0 to 1000"),
                "noise_weight": (0 <= self.noise_weight <= 1, "from 0 to 1"),
                "log_every": (self.log_every >= 1, "1 or more"),
                "checkpoint_every": (self.checkpoint_every >= 1, "1 or more"),
                "sample_every": (self.sample_every >= 0, "0 or more"),
            }
        )
        self._check_sources()
        if self.resolved_method not in METHODS[self.kind]:
            known = ", ".join(METHODS[self.kind])
            raise InputError(f"method: a {self.kind} is learned by one of {known}, got {self.method!r}")
        if self.convolutions and self.resolved_method != "spatial_lora":
            raise InputError(
                f"convolutions: they learn by spatial_lora alone, got the method {self.resolved_method}; leave it out"
            )
        if self.layers != _DEFAULTS["layers"] and self.resolved_method == "spatial_lora":
            raise InputError("layers: spatial_lora learns nothing over frames; leave it out, or choose another method")
        if self.noise_weight and not self.inverts:
            raise InputError(
                "noise_weight: only motions of keyframes have a start noise, from inversion_steps of 1 or more; leave "
                "noise_weight out"
            )
        if self.random_hue and self.kind != "motion":
            raise InputError("random_hue: it is for motions, and hides what a style looks like; leave it out")

    def _check_sources(self) -> None:
        if self.kind == "motion":
            if self.stage not in ("keyframes", "interpolation"):
                raise InputError(f"stage: motions are learned by keyframes or interpolation, got {self.stage!r}")
            if not self.video or self.images is not None:
                raise InputError("video: a motion is learned from one video or several; name them")
            if not self.prompt:
                raise InputError("prompt: say what the clip shows, such as 'a cat walks'")
        elif bool(self.video) == (self.images is not None):
            raise InputError("images: a style is learned from a folder of images, or from videos; name one of both")
        elif not self.name.strip():
            raise InputError("name: say what the style is called, such as 'pencil sketch'")
        elif self.images is not None and self.stage == "interpolation":
            raise InputError("images: interpolation learns from videos alone; name videos, or another stage")
        if self.images is not None:
            for name in ("num_frames", "fps", "fit", "start", "duration"):
                if getattr(self, name) != _DEFAULTS[name]:
                    raise InputError(f"{name}: it is for videos, and images have no use for it; leave it out")
        if self.source and (self.kind, self.stage) != ("style", "super_resolution"):
            raise InputError("source: styles of super_resolution alone learn from pairs; leave it out")
        if self.source and len(self.source) != (len(self.video) or 1):
            wanted = "one folder" if self.images is not None else f"one for each of the {len(self.video)} clips"
            raise InputError(f"source: give {wanted}, got {len(self.source)}")
        if len(self.prompt) > 1 and len(self.prompt) != len(self.video):
            raise InputError(
                f"prompt: give one text for all clips, or one for each of the {len(self.video)}, got {len(self.prompt)}"
            )

    @property
    def folder(self) -> Path:
        """`run` as a path."""
        return Path(self.output).with_suffix(".run") if self.run is None else Path(self.run)

    @property
    def resolved_method(self) -> MethodName:
        """The method, also where none is given."""
        return self.method or METHODS[self.kind][0]

    @property
    def resolved_learning_rate(self) -> float:
        """The learning rate, also where none is given."""
        return self.learning_rate or LEARNING_RATES[self.resolved_method]

    @property
    def inverts(self) -> bool:
        """Whether the clips' start noise is looked for."""
        return self.kind == "motion" and self.stage == "keyframes" and self.inversion_steps > 0


_DEFAULTS: dict[str, Any] = {each.name: each.default for each in fields(CustomizationConfig)}
