"""What the benchmark of the claim compares, and what it trains for that."""

import dataclasses
import functools
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts import train_mini
from show1.checkpoints.locate import resolve
from show1.evaluation.suite import identify
from show1.files import sha256
from show1.sprites.alignment.prompts import SCENE_SETS, Prompt, PromptSet, prompts_of

LOW, LOW_SIZE, SIZE = "low resolution", (80, 128), (160, 256)
EARLIER = "hybrid, earlier keyframes"
TRUTHS = {"ground truth": SIZE, "low-resolution truth": LOW_SIZE}
ARMS = ("hybrid", "latent only", "pixel only", "all noise levels", "plain upscaling")
SAME_SHARE = "hybrid, same share"
"""The hybrid with keyframes trained from scratch, so that all its trainings together take as many operations as those
of latent only."""
ALONE = (EARLIER, SAME_SHARE, "latent only")
"""Ways that do not begin with the hybrid's video of low resolution."""
NETWORKS = {
    "latent only": "latent",
    "pixel only": "pixel",
    "all noise levels": "all-levels",
    SAME_SHARE: "keyframes",
}
"""The network of `PLANS` that a way has in place of one of the hybrid's."""

SETS: tuple[PromptSet, ...] = ("held_out", "seen")
"""The prompt sets that are compared unless others are asked for: one subject with one motion."""

TRAINED: dict[str, int] = {
    "keyframe_images": 280_480,
    "keyframes": 633_536,
    "interpolation": 28_800,
    "super_resolution_images": 217_600,
    "super_resolution": 13_760,
    "translation_images": 37_120,
    "translation": 4_800,
}
"""Samples that the embedded hybrid was trained on (docs/mini.md); all ways share its text encoder and its VAE."""

WHOLE: tuple[str, ...] = tuple(TRAINED)
"""The trainings of the whole hybrid."""

EXPERT: tuple[str, ...] = ("translation_images", "translation")
"""The trainings of the hybrid's expert."""

AFTER_KEYFRAMES: tuple[str, ...] = WHOLE[2:]
"""The trainings of the stages after the keyframes."""


@dataclass(frozen=True)
class Plan:
    """What a network is trained for."""

    task: str
    """Run of the recipe of `mini`."""

    changes: dict[str, Any]
    """Changes to the options of that run."""

    like: tuple[str, ...]
    """Trainings of the hybrid whose compute it gets: `WHOLE` or `EXPERT`."""

    part: float
    """Share of their floating-point operations."""

    already_spent: tuple[str, ...] = ()
    """Trainings of the hybrid whose networks the way uses as they are: their operations are spent already."""


_EVERY = {"max_timestep": 999, "timestep_logit": None}
# nothing is to be repaired where all is drawn from noise
_LATENT = {**_EVERY, "corruption": 0.0, "crop": None, "batch_size": 96, "embed_places": True}
# groups and motions are learned as by the keyframes
_GROUPS = train_mini.shown_in(train_mini.RECIPE["keyframe_relations"])
_MOTIONS = train_mini.shown_in(train_mini.RECIPE["keyframes"])
_SIZES = {"size": SIZE, "low_size": LOW_SIZE}
PLANS: dict[str, Plan] = {
    "pixel-images": Plan("super_resolution_images", _SIZES, EXPERT, 0.35),
    "pixel": Plan("super_resolution_ordinary", {**_SIZES, "init": "pixel-images"}, EXPERT, 0.65),
    "all-levels-images": Plan("translation_images", _EVERY, EXPERT, 0.35),
    "all-levels": Plan("translation_ordinary", {**_EVERY, "init": "all-levels-images"}, EXPERT, 0.65),
    "latent-images": Plan("translation_images", {**_LATENT, **_GROUPS}, WHOLE, 0.25),
    "latent": Plan(
        "translation_ordinary",
        {
            **_LATENT,
            **_MOTIONS,
            "timestep_logit": train_mini.RECIPE["keyframes"]["timestep_logit"],
            "batch_size": 16,
            "embed_frames": True,
            "init": "latent-images",
        },
        WHOLE,
        0.75,
    ),
    "keyframes-images": Plan("keyframe_relations", {"init": None}, WHOLE, 0.25, AFTER_KEYFRAMES),
    "keyframes": Plan("keyframes", {"init": "keyframes-images"}, WHOLE, 0.75, AFTER_KEYFRAMES),
}
"""The networks that are trained here."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the whole comparison."""

    out: Path
    """Folder of the benchmark."""

    model: str = "mini"
    """The hybrid."""

    sets: tuple[PromptSet, ...] = SETS
    """Prompt sets, in turn."""

    videos: int = 64
    """Number of prompts."""

    guidance: float = 3.0
    """Guidance of latent only."""

    share: float = 1.0
    """Share of the hybrid's training compute that latent only, and the hybrid of the same share, get."""

    steps: int | None = None
    """Optimizer steps of small batches, whatever they compute; None: as many as the compute allows."""

    mixed_precision: str | None = None
    """Arithmetic of the trainings; None: the recipe's."""

    earlier: Path | None = None
    """Stage folder of keyframes that were trained for a shorter time."""

    ways: tuple[str, ...] = ()
    """Ways that are compared; empty: all of `ARMS`."""

    workers: int = 0
    """Processes that render clips in the trainings."""

    cuda_graphs: bool = False
    """Whether trainings replay networks as CUDA graphs."""

    @functools.cached_property
    def prompts(self) -> list[Prompt]:
        """The prompts that are compared."""
        turns = itertools.cycle([itertools.cycle(prompts_of(name)) for name in self.sets])
        return [next(next(turns)) for _ in range(self.videos)]

    @property
    def tables(self) -> list[tuple[PromptSet, ...]]:
        """The sets of each table of the report: all together if they show one subject with one motion, else each."""
        return [self.sets] if set(self.sets) <= set(SCENE_SETS) else [(name,) for name in self.sets]

    @property
    def arms(self) -> tuple[str, ...]:
        """The ways that are compared, in order."""
        ways = self.ways or ARMS
        earlier = () if self.earlier is None else (EARLIER,)
        return (*(arm for arm in (*ARMS, SAME_SHARE) if arm in ways), *earlier)

    @property
    def rows(self) -> tuple[str, ...]:
        """`arms`, and before them the video of low resolution where one of them begins with it."""
        return self.arms if set(self.arms) <= set(ALONE) else (LOW, *self.arms)

    @property
    def needed(self) -> list[str]:
        """The networks of `PLANS` that the ways need."""
        return [name for name in PLANS if name.removesuffix("-images") in map(NETWORKS.get, self.arms)]

    @property
    def repaired(self) -> int:
        """Number of prompts whose corrupted videos are repaired."""
        return min(self.videos, 16) if "all noise levels" in self.arms else 0

    def network(self, name: str) -> Path:
        """Returns the folder of a network that is trained here: one for everything that its training depends on."""
        share = f"-{self.share:g}" if PLANS[name].like == WHOLE else ""
        return self.out / "training" / f"{name}{share}-{self._training(name)['id'][:8]}"

    def _training(self, name: str) -> dict[str, Any]:
        """What the training of a network depends on, and its hash."""
        parts, plan = resolve(self.model).parts, PLANS[name]
        text, vae, init = parts["keyframes"].text, parts["translation"].path / "vae", plan.changes.get("init")
        assert text is not None
        compared = (*plan.like, *plan.already_spent)
        return identify(
            {
                "taken": {path.name: _hashes(path) for path in (text / "text_encoder", vae)},
                "recipes": {run: train_mini.RECIPE[run] for run in (plan.task, *compared)},
                "plan": dataclasses.astuple(plan),
                "init": None if init is None else self._training(init)["id"],
                "budget": [{run: TRAINED[run] for run in compared}, self.share if plan.like == WHOLE else None],
                "asked": [self.steps, self.mixed_precision],
            }
        )

    def training_record(self, name: str) -> Path:
        """Returns the file that is written when a training is complete."""
        folder = self.network(name)
        return folder.with_name(f"{folder.name}-trained.json")

    def video(self, number: int, arm: str) -> Path:
        """Returns the file of a way's video of a prompt."""
        variant = f"-{self.network(NETWORKS[arm]).name}" if arm in NETWORKS else ""
        if arm == "latent only":
            variant += f"-{self.guidance:g}"
        if arm == EARLIER:
            assert self.earlier is not None
            variant = "-" + identify(_hashes(self.earlier))["id"][:8]
        return self.videos_folder / f"{number:03d}-{arm.replace(' ', '-').replace(',', '')}{variant}.mkv"

    @property
    def identity(self) -> dict[str, Any]:
        """What the videos depend on beside the networks that are trained here, and its hash."""
        parts = {stage: _hashes(part.path) for stage, part in resolve(self.model).parts.items()}
        return identify({"model": parts, "sets": self.sets})

    @property
    def videos_folder(self) -> Path:
        """Folder of the videos: one for `identity`; names of files tell the networks that are trained here."""
        return self.out / f"videos-{self.identity['id']}"


@functools.cache  # every file name of a video asks
def _hashes(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256(file) for file in sorted(folder.rglob("*.safetensors"))}
