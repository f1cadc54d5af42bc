"""Options of trainings as frozen dataclasses whose saved form is JSON. Loads without torch.

The docstrings under the fields are also the help of the command line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from show1.checkpoints.names import KNOWN_MODELS, absolute_model
from show1.config import StageName
from show1.data.options import DataOptions
from show1.errors import InputError
from show1.files import user_path
from show1.options import Options, require

if TYPE_CHECKING:
    from show1.data.clips import ClipView


@dataclass(frozen=True, kw_only=True)
class StepOptions(Options):
    """Options of the training loop that stages and customizations share."""

    options_of: ClassVar[str] = "training"

    steps: int = 10_000
    """Number of optimizer steps of the whole run."""

    batch_size: int = 32
    """Samples per step and process, summed over accumulation."""

    accumulate: int = 1
    """Number of parts of a batch whose gradients are added up before a step; divides `batch_size`."""

    lr_schedule: Literal["constant", "linear", "cosine"] = "linear"
    """Factor on the learning rate after the warm-up: 1, or a fall from 1 at the first step to 0 at the last."""

    warmup_steps: int = 100
    """Number of steps over which the learning rate rises linearly from 0."""

    weight_decay: float = 0.01
    """Decoupled weight decay (AdamW)."""

    max_grad_norm: float = 1.0
    """Gradients with a larger norm are scaled down to this norm."""

    ema_decay: float = 0.998
    """Decay of the averaged weights, which are what is exported; it rises to this value over the first steps. 0 exports
    the last weights."""

    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Number format of the networks' arithmetic; `no` is float32, `fp16` is for GPUs that lack bf16."""

    seed: int = 0
    """Seed of initial weights, data order, noise and dropout."""

    log_every: int = 20
    """Number of steps from one line of `log.jsonl` to the next."""

    checkpoint_every: int = 200
    """Number of steps from one checkpoint to the next."""

    keep_checkpoints: int = 1
    """Number of checkpoints to keep, the newest ones."""

    sample_every: int = 1000
    """Number of steps from one sample sheet (and export) to the next; 0 makes them only at the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("steps", "batch_size", "log_every", "checkpoint_every", "keep_checkpoints", least=1)
        divides = self.accumulate >= 1 and self.batch_size % self.accumulate == 0
        self.check("accumulate", divides, "a divisor of batch_size")
        self.check_range("warmup_steps", "weight_decay", "seed", "sample_every", least=0)
        self.check_positive("max_grad_norm")
        self.check("ema_decay", 0 <= self.ema_decay < 1, "at least 0, less than 1")


@dataclass(frozen=True, kw_only=True)
class LoopOptions(StepOptions):
    """Options of the training loop, whatever it trains."""

    out: str
    """Folder of the run: config, logs, sample sheets, checkpoints, and `export/` with the averaged weights."""

    optimizer: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """`muon`: orthogonal updates of the hidden matrices (arXiv:2502.16982), AdamW for everything else. `adamw8bit`:
    AdamW whose state takes 8 bits per number; needs bitsandbytes."""

    learning_rate: float = 7e-4
    """Peak learning rate. Tasks with `inherited_lr_scale` multiply it by that for inherited parameters."""

    workers: int = 0
    """Number of processes that load clips; 0 loads them in the training process."""

    val_data: str | None = None
    """Other clips to validate on, named as `data` is: losses and sample sheets then show whether more than the clips
    themselves is learned."""

    val_share: float = 0.0
    """Share of the clips of `data` to validate on instead of learning from them, less than 1."""

    val_clips: int = 64
    """Number of clips to validate on, at most."""

    val_every: int = 500
    """Number of steps from one validation to the next; there is also one at the end."""

    tracker: tuple[str, ...] = ()
    """Where the log goes as well, such as `wandb` or `mlflow`; may be given several times. The package has to be
    installed, and is told where to write by its own environment variables."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out.startswith("~"):
            object.__setattr__(self, "out", str(self.folder))
        self.check_positive("learning_rate")
        self.check_range("workers", least=0)
        self.check("val_share", 0 <= self.val_share < 1, "at least 0, less than 1")
        self.check_range("val_clips", "val_every", least=1)
        if self.val_share and self.val_data is not None:
            raise InputError("val_share holds clips of data out, but val_data names others; leave one of them out")

    @property
    def folder(self) -> Path:
        """`out` as a path."""
        return user_path(self.out, "out")

    @property
    def part_size(self) -> int:
        """Samples per forward pass."""
        return self.batch_size // self.accumulate


@dataclass(frozen=True, kw_only=True)
class DrawOptions(Options):
    """Options of what is drawn for a denoising network in each step, for stages and customizations."""

    prompt_dropout: float = 0.1
    """Chance that a prompt is replaced by the empty one, for classifier-free guidance."""

    timestep_logit: tuple[float, float] | None = None
    """Mean and standard deviation of the logit of the drawn noise levels (section 3.1 of arXiv:2403.03206). A positive
    mean draws more high ones, where subject and motion are decided. None: all levels equally often."""

    gradient_checkpointing: bool = False
    """Computes activations twice, in order to hold fewer of them in memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("prompt_dropout", least=0, most=1)
        above_0 = self.timestep_logit is None or self.timestep_logit[1] > 0
        self.check("timestep_logit", above_0, "MEAN STD with STD above 0")


FOLDERS = ("init", "temporal_init", "teacher", "text", "vae")
"""Options that name folders of trained networks, where a task has them."""


@dataclass(frozen=True, kw_only=True)
class TaskOptions(Options):
    """Base of the options of training tasks. A subclass says what the task is called and which class implements it."""

    options_of: ClassVar[str] = "training"

    task: ClassVar[str]
    """Name of the task, which is also its command."""

    about: ClassVar[str]
    """What the task learns, in a sentence."""

    example: ClassVar[tuple[str, ...]] = ("--data clips",)
    """Options of an example on the command line, beside `--out`."""

    implementation: ClassVar[str]
    """The `show1.training.tasks.base.Task` with these options as "module:class": named, because it loads torch."""

    stage: ClassVar[StageName | None] = None
    """The stage that the task trains, or trains a part of: if `init` names a whole model, its folder of this stage is
    taken. None: `init` has to be a stage's folder."""

    shares_noise: ClassVar[bool] = False
    """Whether clips of one scene get the same noise (`ClipSource.clips_per_scene`)."""

    network: str = "mini"
    """Preset of a fresh network and of the sizes of its clips: "mini", the embedded cascade, "mini-fast", the same
    with a smaller expert, or "show-1", the published one (`show1.training.presets`). If `init` brings the network, only
    the sizes count."""

    init: str | None = None
    """Stage folder to start from: keyframes from keyframe_images, interpolation from keyframes, and so on; or a model,
    such as `mini`, whose stage of that kind is trained on. None: a fresh network."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, folder in self.folders().items():  # absolute paths, wherever the run is resumed from
            given = str(getattr(self, name))
            if given not in KNOWN_MODELS:
                object.__setattr__(self, name, str(folder.absolute()) if folder.exists() else absolute_model(given))

    def folders(self) -> dict[str, Path]:
        """Lists the folders that the options name, by option."""
        given = {name: getattr(self, name, None) for name in FOLDERS}
        return {name: user_path(path, name) for name, path in given.items() if path is not None}

    @classmethod
    def command(cls) -> str:
        """Gives the command that trains it, after `show1`."""
        return f"train {cls.task}"

    def view(self) -> "ClipView":
        """Says what the task sees of a clip; a task that no preset has a view for overrides this.

        Raises:
            InputError: The preset has no view for the task.
        """
        from show1.training.presets import preset

        views = preset(self.network).views
        if self.task not in views:
            raise InputError(
                f"the preset {self.network!r} does not say what the task {self.task!r} sees of a clip; let the options "
                "of the task override view()"
            )
        return views[self.task]

    @property
    def reads_captions(self) -> bool:
        """Whether the task learns from captions, so that each clip has to have one."""
        return True

    def check_loop(self, loop: LoopOptions) -> None:
        """Checks the options against those of the loop.

        Raises:
            InputError: They do not go together.
        """


def names_of(options: type[Options]) -> list[str]:
    """Lists the names of some options."""
    return [each.name for each in fields(options)]  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that decides a training; saved as `config.json` in its folder."""

    options: TaskOptions
    """Options of what is trained."""

    loop: LoopOptions
    """Options of the training loop itself."""

    data: str
    """The clips, as `ClipSource.spec` names them."""

    clips: DataOptions = DataOptions()
    """How they are taken from the data."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the saved form, which has JSON types only."""
        return {
            "task": self.options.task,
            "data": self.data,
            **self.clips.to_dict(),
            **self.loop.to_dict(),
            **self.options.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], tasks: Sequence[type[TaskOptions]]) -> Self:
        """Reads the saved form, also that of trainings before each task had its own options.

        Args:
            values: The content of a `config.json`.
            tasks: The options of the tasks that it may be of.

        Raises:
            InputError: An option is unknown, missing or out of its range.
        """
        kinds = {kind.task: kind for kind in tasks}
        task = values.get("task")
        require(task in kinds, "task", task, f"one of {', '.join(kinds)}")
        kind = kinds[str(task)]
        rest = current_form(values, kind)
        data = rest.pop("data", None)
        del rest["task"]
        if not isinstance(data, str):
            raise InputError(f"data: name the clips, such as a folder of videos with captions; got {data!r}")
        known = [*names_of(LoopOptions), *names_of(DataOptions), *names_of(kind)]
        if unknown := sorted(set(rest) - set(known)):
            raise InputError(f"unknown training option {unknown[0]!r}; the options of {task} are {', '.join(known)}")
        own, loop, clips = (
            each.from_dict({name: value for name, value in rest.items() if name in names_of(each)})
            for each in (kind, LoopOptions, DataOptions)
        )
        return cls(options=own, loop=loop, data=data, clips=clips)  # type: ignore[arg-type]


_FORMER = {"spins": None, "tilts": 0.0, "groups": 0.0}
"""Defaults of options that became part of `data`."""


def current_form(values: Mapping[str, Any], options: type[TaskOptions]) -> dict[str, Any]:
    """Translates saved options from the form in which every task had every option, those of the clips among them.

    Args:
        values: The content of a `config.json`; the current form is left as it is.
        options: The options of its task.
    """
    if not {"vae", "noise_level"} <= set(values):
        return dict(values)
    kept = {name: value for name, value in values.items() if name in {*names_of(LoopOptions), *names_of(options)}}
    words = [
        f"{name}={float(values[name])}" for name, default in _FORMER.items() if values.get(name, default) != default
    ]
    if values.get("motions_per_scene", 1) > 1:
        words.append(f"motions_per_scene={values['motions_per_scene']}")
    for subject, _, share in (text.rpartition(":") for text in values.get("subject_share", ())):
        words.append(f"subject_share={subject}:{float(share)}")
    data = values.get("data", "sprites")
    return {**kept, "task": values["task"], "data": data + (":" + ",".join(words) if words else "")}
