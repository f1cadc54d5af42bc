"""Options of a customization."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from show1.checkpoints.names import absolute_model
from show1.config import StageName
from show1.errors import InputError
from show1.files import user_path
from show1.stage_table import STAGE_TABLE
from show1.training.options import DrawOptions, LoopOptions, StepOptions, names_of

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
"""Default learning rate of each method."""


ADVISABLE = frozenset(
    {
        "method", "layers", "convolutions", "rank", "learning_rate", "random_hue", "inversion_steps", "noise_weight",
        "steps", "batch_size", "accumulate", "lr_schedule", "warmup_steps", "weight_decay", "max_grad_norm",
        "ema_decay", "prompt_dropout", "timestep_logit",
    }
)  # fmt: skip
"""Options that a model may advise (`customization` in `show1.json`); the others are what a user wants."""

MOTION_STAGES: tuple[StageName, ...] = ("keyframes", "interpolation")
"""Stages that decide how things move, and can learn a motion."""

VIDEO_STAGES: tuple[StageName, ...] = ("interpolation",)
"""Stages that cannot learn from single images."""

PAIR_STAGES: tuple[StageName, ...] = ("super_resolution",)
"""Stages that can learn a style from clips with and without it."""


@dataclass(frozen=True, kw_only=True)
class CustomizationConfig(DrawOptions, StepOptions):
    """Everything that decides a customization; saved as `config.json` in its folder."""

    options_of: ClassVar[str] = "customization"

    kind: Kind
    """What is learned, a motion or a style."""

    output: str
    """File of the adapter, `*.safetensors`."""

    run: str | None = None
    """Folder of the run: config, log, sample sheets, checkpoints. None: beside `output`, with the suffix `.run`."""

    model: str = "mini"
    """The cascade that is customized: a name, a folder, or a Hub repository."""

    stage: StageName = "keyframes"
    """The stage whose network learns."""

    method: MethodName | None = None
    """Which weights learn, and from which loss. `temporal_attention` finetunes the transformers over frames
    (arXiv:2309.15818). `residual_vector` finetunes the same layers by the differences of neighbouring frames (VMC,
    arXiv:2312.00845). `lora` puts LoRA on them, with the appearance-debiased loss (MotionDirector, arXiv:2310.08465).
    `spatial_lora` puts LoRA on the attention over pixels. None: the first method of the kind."""

    video: tuple[str, ...] = ()
    """Clip to learn from, a video file or a folder of frames; may be given several times."""

    images: str | None = None
    """Folder of images to learn a style from; a captions.jsonl in it may say what they show."""

    source: tuple[str, ...] = ()
    """For super_resolution: the same clips without the style, in the same order, or one folder of the same images. The
    stage then learns to draw in the style what earlier stages show without it. Without `source`, it learns only the
    style's fine detail, for small clips that have the style already."""

    prompt: tuple[str, ...] = ()
    """What the clips show: one text for all of them, or one for each."""

    name: str = ""
    """Name of the style, which is appended to the prompt."""

    num_frames: int | None = None
    """Number of frames taken from a clip; None: as many as the stage makes at a time."""

    fps: float | None = None
    """Frames per second that are taken from a clip; None spreads the frames evenly over all of it."""

    fit: Literal["crop", "pad"] = "crop"
    """How a clip of another shape is fitted: cut at the centre, or shown whole between black bars."""

    start: float = 0.0
    """Seconds of a clip to leave out at its beginning."""

    duration: float | None = None
    """Seconds of a clip to use; None: all of it, but at most a minute."""

    layers: Literal["transformer", "attention"] = "transformer"
    """Which part of the transformers over frames learns: all of it, or only the projections of its attentions."""

    convolutions: bool = False
    """Whether `spatial_lora` also puts LoRA on the convolutions over pixels. Stages that draw fine detail have
    attention only at coarse levels, so without this they cannot learn what lines or dots look like."""

    rank: int = 16
    """Rank of the LoRA matrices."""

    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """Optimizer; `adamw8bit` keeps its state in 8 bits per number and needs bitsandbytes."""

    learning_rate: float | None = None
    """Peak learning rate; None: 1e-4, for LoRA 5e-4."""

    random_hue: float = 0.0
    """Chance, for motions, that a clip is shown in other colours, turned round the grey axis by a random angle, so that
    what is learned depends less on what the clip looks like."""

    inversion_steps: int = 50
    """Number of steps of the DDIM inversion that finds the clips' start noise, for motions of keyframes; 0 skips it."""

    noise_weight: float = 0.0
    """Share of the start noise that the adapter advises to take from the clips, 0 to 1."""

    preview: tuple[str, ...] = ()
    """Prompt of the sample sheets; may be given several times. None: the prompts of the clips."""

    steps: int = 400
    batch_size: int = 4
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 10
    weight_decay: float = 0.0
    ema_decay: float = 0.0
    log_every: int = 10
    checkpoint_every: int = 100
    sample_every: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("output", self.output.endswith(".safetensors"), "the name of a *.safetensors file")
        self.check_range("num_frames", "rank", least=1)
        self.check_positive("learning_rate")
        self.check_range("random_hue", "noise_weight", least=0, most=1)
        self.check_range("inversion_steps", least=0, most=1000)
        self._check_sources()
        self._make_absolute()
        if self.resolved_method not in METHODS[self.kind]:
            known = ", ".join(METHODS[self.kind])
            raise InputError(f"method: a {self.kind} is learned by one of {known}, got {self.method!r}")
        if self.convolutions and self.resolved_method != "spatial_lora":
            raise InputError(
                f"convolutions: only spatial_lora trains them, got the method {self.resolved_method}; leave it out"
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

    def _make_absolute(self) -> None:
        """Lets the names of files and folders that exist mean the same, wherever the run is resumed from."""
        for name in ("video", "source"):
            object.__setattr__(self, name, tuple(_absolute(path, name) for path in getattr(self, name)))
        if self.images is not None:
            object.__setattr__(self, "images", _absolute(self.images, "images"))
        object.__setattr__(self, "model", absolute_model(self.model))

    def _check_sources(self) -> None:
        if self.kind == "motion":
            if self.stage not in MOTION_STAGES:
                raise InputError(f"stage: motions are learned by keyframes or interpolation, got {self.stage!r}")
            if not self.video or self.images is not None:
                raise InputError("video: a motion is learned from one video or several; name them")
            if not self.prompt:
                raise InputError("prompt: say what the clip shows, such as 'a cat walks'")
        elif bool(self.video) == (self.images is not None):
            raise InputError("images: a style is learned from a folder of images, or from videos; give one of the two")
        elif not self.name.strip():
            raise InputError("name: say what the style is called, such as 'pencil sketch'")
        elif self.images is not None and self.stage in VIDEO_STAGES:
            raise InputError("images: interpolation learns only from videos; name videos, or another stage")
        if self.images is not None:
            for name in ("num_frames", "fps", "fit", "start", "duration"):
                if getattr(self, name) != _DEFAULTS[name]:
                    raise InputError(f"{name}: it applies only to videos; leave it out")
        if self.source and not (self.kind == "style" and self.stage in PAIR_STAGES):
            raise InputError("source: only styles of super_resolution are learned from pairs; leave it out")
        if self.source and len(self.source) != (len(self.video) or 1):
            wanted = "one folder" if self.images is not None else f"one for each of the {len(self.video)} clips"
            raise InputError(f"source: give {wanted}, got {len(self.source)}")
        if len(self.prompt) > 1 and len(self.prompt) != len(self.video):
            raise InputError(
                f"prompt: give one text for all clips, or one for each of the {len(self.video)}, got {len(self.prompt)}"
            )

    @classmethod
    def advised(cls, options: Mapping[str, Any], advice: Mapping[str, Sequence[Mapping[str, Any]]]) -> Self:
        """Makes a config of what a user asks for, then of what the model advises, then of the defaults.

        Args:
            options: What the user asks for. A model's advice is for a stage and a method; the user's choice of these
                decides which advice applies.
            advice: The model's, by kind (`show1.checkpoints.locate.Cascade.customization`).

        Raises:
            InputError: An option is unknown, missing or out of its range.
        """
        stage = options.get("stage") or _DEFAULTS["stage"]
        for way in advice.get(str(options.get("kind")), ()):
            if way["stage"] == stage and options.get("method") in (None, way.get("method")):
                chosen = {name: value for name, value in way.items() if name in ADVISABLE}
                if options.get("inversion_steps") == 0:
                    chosen.pop("noise_weight", None)  # there is no start noise without an inversion
                return cls.from_dict({**chosen, **options})
        return cls.from_dict(options)

    @property
    def folder(self) -> Path:
        """`run` as a path."""
        return user_path(self.output, "output").with_suffix(".run") if self.run is None else user_path(self.run, "run")

    @property
    def resolved_method(self) -> MethodName:
        """The method, or the default of the kind."""
        return self.method or METHODS[self.kind][0]

    @property
    def resolved_learning_rate(self) -> float:
        """The learning rate, or the default of the method."""
        return self.learning_rate or LEARNING_RATES[self.resolved_method]

    @property
    def inverts(self) -> bool:
        """Whether the clips' start noise is computed: for motions of a stage that begins from noise alone."""
        begins = not STAGE_TABLE[self.stage].needs_video
        return self.kind == "motion" and begins and self.inversion_steps > 0

    @property
    def loop(self) -> LoopOptions:
        """The options of the training loop."""
        steps = {name: getattr(self, name) for name in names_of(StepOptions)}
        rate = self.resolved_learning_rate
        return LoopOptions(out=str(self.folder), optimizer=self.optimizer, learning_rate=rate, **steps)


def _absolute(path: str, option: str) -> str:
    found = user_path(path, option)
    return str(found.absolute()) if found.exists() else path


_DEFAULTS: dict[str, Any] = {each.name: each.default for each in fields(CustomizationConfig)}
