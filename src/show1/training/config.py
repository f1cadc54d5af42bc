"""Options of a training run."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

from show1.errors import InputError
from show1.sprites.world import check_subject_shares
from show1.training.options import SavedOptions

TaskName = Literal[
    "text",
    "keyframe_images",
    "keyframes",
    "interpolation",
    "super_resolution_images",
    "super_resolution",
    "vae",
    "translation_images",
    "translation",
]
"""What can be trained. The `_images` tasks are the image pretraining of the stage that they are named after."""

TASKS: tuple[TaskName, ...] = get_args(TaskName)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(SavedOptions):
    """Everything that decides a training run; saved as `config.json` in its folder."""

    options_of: ClassVar[str] = "training"

    task: TaskName
    """What to train."""

    out: str
    """Folder of the run: config, logs, sample sheets, checkpoints, and `export/` with the averaged weights."""

    data: str = "sprites"
    """`sprites`, or a folder with videos and captions.jsonl or captions.csv."""

    network: str = "mini"
    """Preset of a fresh network (`show1.training.networks.PRESETS`). Not used where `init` has the network."""

    init: str | None = None
    """Stage folder to start from: keyframes from keyframe_images, interpolation from keyframes, and so on. None:
    a fresh network."""

    text: str | None = None
    """Stage folder whose text encoder is used, frozen. None: the one of `init`, for keyframes also a fresh one; the
    keyframes tasks go on training it."""

    vae: str | None = None
    """Stage folder (or training export) whose VAE the translation tasks use, frozen."""

    steps: int = 10_000
    """Optimizer steps."""

    batch_size: int = 32
    """Samples a step of one process, in all its accumulated parts."""

    accumulate: int = 1
    """Parts of a batch whose gradients are added up before a step; divides `batch_size`."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon`: orthogonal updates of the hidden matrices (arXiv:2502.16982), AdamW for everything else."""

    learning_rate: float = 7e-4
    """That the schedule multiplies, for the new (temporal, where there are any) parameters."""

    inherited_lr_scale: float = 1.0
    """Factor on the learning rate of the other parameters: those that `init` brought."""

    lr_schedule: Literal["constant", "linear", "cosine"] = "linear"
    """From 1 at the first step to 0 at the last, times the warm-up; or the warm-up alone."""

    warmup_steps: int = 100
    """Steps of linear rise from 0."""

    weight_decay: float = 0.01
    """Decoupled."""

    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    ema_decay: float = 0.998
    """Of the averaged weights, which are what is exported; rises to this from 0.1 over the first steps."""

    prediction_type: Literal["v_prediction", "epsilon", "sample"] = "v_prediction"
    """What a fresh network predicts; with `init`, its scheduler's. `sample` (the clean video) suits networks on
    patches, which have too few channels to pass the noise on (arXiv:2511.13720)."""

    loss: Literal["squared", "absolute"] = "squared"
    """Errors of the prediction. Absolute ones leave alone what is right already, and draw less that is made up
    (arXiv:2111.05826 compares them): for stages whose condition shows nearly everything."""

    min_snr_gamma: float | None = None
    """Loss weights of arXiv:2303.09556; None: none."""

    prompt_dropout: float = 0.1
    """Chance that a caption is replaced by the empty one, for guidance."""

    temporal_dropout: float = 0.1
    """Of the convolutions over frames. The published networks have 0.1; 0 is a tenth faster on CPUs."""

    max_timestep: int = 999
    """Highest noise level that is drawn; 900 makes the expert of the translation stage."""

    timestep_logit: tuple[float, float] | None = None
    """Mean and deviation of the logit of the drawn noise levels (section 3.1 of arXiv:2403.03206); a positive mean
    draws more high ones, where subject and motion are decided. None: all levels alike."""

    motions_per_scene: int = 1
    """So many clips of a batch show one subject of the sprite world over one background under the same noise, and
    differ in their motion alone: the loss then tells best what the words for motions mean (`keyframes` alone)."""

    add_condition: bool = False
    """Interpolation and super-resolution find what the blend of the keyframes, or the upsampled video, lacks, instead
    of the whole, which small networks cannot pass on. Only with `prediction_type` "sample"."""

    spins: float | None = None
    """Share of the clips of the sprite world whose subject spins, 0 to 1. None: no more than any other motion."""

    tilts: float = 0.0
    """Share of the clips whose subject lies at some angle, as the captions say ("a tilted cat"), 0 to 1: so that
    the network can also spin a subject that it has never seen spin."""

    subject_share: tuple[str, ...] = ()
    """A subject of the sprite world and the share of the clips that show it, such as "bicycle:0.25": one that takes
    longer to learn than others. May be given several times."""

    groups: float = 0.0
    """Share of the clips of the sprite world that show two subjects and their relation, several of one kind, or a small
    or big one, 0 to 1."""

    noise_level: tuple[int, int] = (0, 400)
    """Range of noise levels of the low-resolution condition (super-resolution)."""

    size: tuple[int, int] | None = None
    """Height and width of the frames that the stage makes; None: those of the embedded model."""

    low_size: tuple[int, int] | None = None
    """Height and width that super-resolution starts from; None: those of the embedded model."""

    crop: tuple[int, int] | None = None
    """Height and width of the random crops that the translation tasks learn from; None: whole frames."""

    corruption: float = 0.0
    """Share of the clips in which the stages after the keyframes also learn to remove what earlier stages leave: coarse
    pixels, wobbling edges, noise (`show1.training.corruption`). 0: as the paper, which trains on clean videos alone."""

    mixed_precision: Literal["no", "bf16"] = "no"
    """Arithmetic of the networks."""

    gradient_checkpointing: bool = False
    """Computes activations twice, to hold fewer."""

    cuda_graphs: bool = False
    """Replays the network's kernels as one CUDA graph: a small network on a large GPU otherwise waits for the CPU that
    launches them one by one."""

    workers: int = 0
    """Processes that render or decode clips; 0: in the training process."""

    seed: int = 0
    """Of weights, data order, noise."""

    log_every: int = 20
    """Steps from one line of `log.jsonl` to the next."""

    checkpoint_every: int = 200
    """Steps from one checkpoint to the next."""

    sample_every: int = 1000
    """Steps from one sample sheet (and export) to the next; 0: only at the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks = {
            "steps": (self.steps >= 1, "1 or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "accumulate": (self.accumulate >= 1 and self.batch_size % self.accumulate == 0, "a divisor of batch_size"),
            "learning_rate": (self.learning_rate > 0, "more than 0"),
            "inherited_lr_scale": (self.inherited_lr_scale >= 0, "0 or more"),
            "warmup_steps": (self.warmup_steps >= 0, "0 or more"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "max_grad_norm": (self.max_grad_norm > 0, "more than 0"),
            "ema_decay": (0 <= self.ema_decay < 1, "at least 0, less than 1"),
            "min_snr_gamma": (self.min_snr_gamma is None or self.min_snr_gamma > 0, "more than 0"),
            "prompt_dropout": (0 <= self.prompt_dropout <= 1, "from 0 to 1"),
            "temporal_dropout": (0 <= self.temporal_dropout < 1, "at least 0, less than 1"),
            "max_timestep": (0 <= self.max_timestep <= 999, "0 to 999"),
            "workers": (self.workers >= 0, "0 or more"),
            "seed": (self.seed >= 0, "0 or more"),
            "log_every": (self.log_every >= 1, "1 or more"),
            "checkpoint_every": (self.checkpoint_every >= 1, "1 or more"),
            "sample_every": (self.sample_every >= 0, "0 or more"),
            "timestep_logit": (self.timestep_logit is None or self.timestep_logit[1] > 0, "MEAN STD with STD above 0"),
            "motions_per_scene": (
                self.motions_per_scene >= 1 and self.batch_size // self.accumulate % self.motions_per_scene == 0,
                "a divisor of batch_size / accumulate",
            ),
            "spins": (self.spins is None or 0 <= self.spins <= 1, "from 0 to 1"),
            "tilts": (0 <= self.tilts <= 1, "from 0 to 1"),
            "groups": (0 <= self.groups <= 1, "from 0 to 1"),
            "size": (self.size is None or min(self.size) >= 8, "at least 8 pixels each way"),
            "low_size": (self.low_size is None or min(self.low_size) >= 1, "at least 1 pixel each way"),
            "crop": (self.crop is None or min(self.crop) >= 8, "at least 8 pixels each way"),
            "corruption": (0 <= self.corruption <= 1, "from 0 to 1"),
            "noise_level": (0 <= self.noise_level[0] <= self.noise_level[1] <= 999, "a range within 0 to 999"),
        }
        self.check_ranges(checks)
        if self.cuda_graphs and self.task in ("text", "vae"):
            raise InputError(f"cuda_graphs is for the tasks that denoise, got it for {self.task}")
        if self.cuda_graphs and self.accumulate > 1:
            raise InputError("cuda_graphs cannot add up gradients; leave it out, or accumulate")
        if self.cuda_graphs and self.gradient_checkpointing:
            raise InputError("cuda_graphs cannot compute activations twice; leave it out, or gradient_checkpointing")
        in_latents = self.task in ("vae", "translation_images", "translation")
        if in_latents and self.size is not None and any(side % 8 for side in self.size):
            raise InputError(f"size must be multiples of 8 for {self.task}, got {self.size}")
        if self.crop is not None and not self.task.startswith("translation"):
            raise InputError(f"crop is for the translation tasks alone, got it for {self.task}")
        if self.task.startswith("translation") and self.vae is None:
            raise InputError(
                "vae: the translation tasks need a trained VAE; train the task 'vae' first and name its export"
            )
        if self.inherited_lr_scale != 1.0 and self.task in ("text", "vae"):
            raise InputError(f"inherited_lr_scale: init brings all of the {self.task}; set learning_rate instead")
        enlarging = ("super_resolution_images", "super_resolution")
        if self.low_size is not None and self.task not in enlarging:
            raise InputError(f"low_size is for super_resolution alone, got it for {self.task}")
        if self.motions_per_scene > 1 and (self.task != "keyframes" or self.data != "sprites"):
            raise InputError("motions_per_scene is for keyframes of the sprite world alone; leave it out")
        shares = {
            "spins": self.spins is not None,
            "tilts": self.tilts > 0,
            "subject_share": bool(self.subject_share),
            "groups": self.groups > 0,
        }
        for name, given in shares.items():
            if given and (self.data != "sprites" or self.motions_per_scene > 1):
                raise InputError(f"{name} is for clips of the sprite world, without motions_per_scene; leave it out")
        check_subject_shares(self.subject_shares)
        after_keyframes = ("interpolation", *enlarging, "translation_images", "translation")
        if self.corruption > 0 and self.task not in after_keyframes:
            raise InputError(f"corruption is for {', '.join(after_keyframes)}, got it for {self.task}")
        if self.add_condition and self.task not in ("interpolation", *enlarging):
            raise InputError(f"add_condition is for interpolation and super_resolution, got it for {self.task}")
        if self.add_condition and self.prediction_type != "sample":
            raise InputError(f"add_condition needs prediction_type sample, got {self.prediction_type}")
        if self.task in after_keyframes and not (self.text or self.init):
            raise InputError(
                f"text: {self.task} reads prompts with a trained text encoder; name the folder that has it"
            )

    @property
    def subject_shares(self) -> tuple[tuple[str, float], ...]:
        """`subject_share` as names and numbers."""
        shares = []
        for text in self.subject_share:
            name, _, share = text.rpartition(":")
            try:
                shares.append((name, float(share)))
            except ValueError:
                raise InputError(f"subject_share: expected NAME:SHARE, such as bicycle:0.25, got {text!r}") from None
        return tuple(shares)

    @property
    def folder(self) -> Path:
        """`out` as a path."""
        return Path(self.out)
