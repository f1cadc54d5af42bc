"""What the benchmark of customization measures: its cells, and the options that suit each method best."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.customization.motions import TEACHING_MOTIONS
from benchmarks.customization.styles import STYLES
from show1.config import StageName
from show1.training.customization import METHODS

NONE = "none"
"""The method of a cell without customization."""

PLAIN = "plain"
"""The style of videos that have none."""

Kind = Literal["motion", "style"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured."""

    model: str = "mini"
    """The cascade that is customized."""

    motions: tuple[str, ...] = tuple(TEACHING_MOTIONS)
    """Motions that are taught."""

    styles: tuple[str, ...] = STYLES
    """Styles that are taught."""

    methods: tuple[str, ...] = tuple(dict.fromkeys(METHODS["motion"] + METHODS["style"]))
    """Methods; a kind takes those that it has."""

    steps: int | None = None
    """Steps of each customization; None, here and below: those of `TUNED`."""

    learning_rate: float | None = None
    """Learning rate of each customization."""

    lr_schedule: str | None = None
    """Learning-rate schedule of each customization."""

    ema_decay: float | None = None
    """Decay of the averaged weights of each customization."""

    timestep_logit: tuple[float, float] | None = None
    """Which noise levels motions learn from; see `CustomizationConfig`."""

    mixed_precision: str | None = None
    """Arithmetic of each customization."""

    weight: float | None = None
    """Weight of adapters; None for both weights: what is chosen from `TRIED`."""

    detail_weight: float | None = None
    """Weight of adapters at low noise levels; see `AdapterSet.load`."""

    videos: int = 64
    """Number of videos per cell."""

    style_stages: tuple[StageName, ...] = ("super_resolution",)
    """Stages that are taught styles; the keyframes of `mini` are too small to show one."""

    style_images: int = 256
    """Number of images that a style is taught from."""

    noise_weight: float | None = None
    """Share of the start noise that is the inverted clip's, for motions."""

    guidance_scale: float | None = None
    """Guidance scale with which videos of motions are generated."""

    batch_size: int = 8
    """Videos generated together."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the networks that generate."""

    seed: int = 1
    """Seed of the first video; the next ones follow."""


_MOTION: dict[str, Any] = {
    "steps": 200,
    "learning_rate": 1e-3,
    "ema_decay": 0.97,
    "timestep_logit": (2.5, 1.5),
    "random_hue": 0.5,
    "weight": 1.0,
    "detail_weight": 0.5,
    "noise_weight": 0.9,
    "guidance_scale": 4.5,
}
_STYLE: dict[str, Any] = {
    "steps": 500,
    "batch_size": 16,
    "lr_schedule": "linear",
    "ema_decay": 0.97,
    "detail_weight": None,
    "noise_weight": None,
    "guidance_scale": None,
}

WEIGHTS = ("weight", "detail_weight", "noise_weight")
"""Settings of a cell with which its adapter is loaded."""

USE = (*WEIGHTS, "guidance_scale")
"""Settings of a cell that do not concern its training."""

TUNED: dict[tuple[Kind, str], dict[str, Any]] = {
    ("motion", "temporal_attention"): _MOTION,
    ("motion", "residual_vector"): _MOTION,
    ("motion", "lora"): {
        **_MOTION,
        "rank": 32,
        "steps": 450,
        "learning_rate": 3e-3,
    },
    ("style", "spatial_lora"): {
        **_STYLE,
        "learning_rate": 3e-3,
        "convolutions": True,
        "prompt_dropout": 0.0,  # super-resolution of `mini` samples without guidance,
        "timestep_logit": (1.0, 1.5),  # in two steps, from timesteps 995 and 495
        "weight": 1.0,
    },
    ("style", "temporal_attention"): {**_STYLE, "learning_rate": 1e-3, "weight": 1.0},
}
"""Options of customizations and weights of their adapters, by what `mini` is taught and how."""


TRIED: dict[Kind, tuple[tuple[float, float | None], ...]] = {
    "motion": ((0.85, 0.3), (1.0, 0.4), (1.15, 0.5), (1.3, 0.65)),
    "style": ((1.0, None), (1.2, None), (1.4, None)),
}
"""Weights of an adapter, and at low noise levels, that are tried where the plan gives none: the first that is enough is
used."""

ENOUGH: dict[Kind, float] = {"motion": 0.93, "style": 0.98}
"""Median correlation, or the lesser of the shares of style and content, on the videos by which weights are chosen."""

CHOSEN_BY: dict[Kind, int] = {"motion": 16, "style": 32}
"""Number of videos by which weights are chosen."""

QUICK = {"motions": ("circle", "heartbeat"), "styles": ("pencil sketch",), "steps": 4, "videos": 4, "style_images": 4}
"""What `--quick` changes."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One motion or style by one method."""

    kind: Kind
    """What is taught."""

    name: str
    """Name of the motion or style."""

    method: str
    """Method that teaches it; "none": no customization."""

    stage: StageName = "keyframes"
    """Stage that learns it."""

    def folder(self, out: Path) -> Path:
        """Returns the folder of the cell's files."""
        stage = "" if self.stage == "keyframes" else f"-{self.stage}"
        return out / "cells" / f"{self.kind}-{self.name}-{self.method}{stage}".replace(" ", "_")


def cells(plan: Plan) -> list[Cell]:
    """Lists the cells in the order in which they are measured; the styles' baseline has prompts that name no style."""
    of_motions, of_styles = ([m for m in METHODS[kind] if m in plan.methods] for kind in ("motion", "style"))
    found = [Cell(kind="motion", name=name, method=m) for name in plan.motions for m in (NONE, *of_motions)]
    found += [Cell(kind="style", name=PLAIN, method=NONE)] if plan.styles else []
    return found + [
        Cell(kind="style", name=name, method=method, stage=stage)
        for name in plan.styles
        for stage in plan.style_stages
        for method in of_styles
    ]


def settings_of(plan: Plan, cell: Cell) -> dict[str, Any]:
    """Returns how a cell learns, and the weights of its adapter: as the plan says, or else as suits the method."""
    names = ["steps", "learning_rate", "lr_schedule", "ema_decay", "mixed_precision", "weight", "detail_weight"]
    if cell.kind == "motion":
        names += ["timestep_logit", "noise_weight", "guidance_scale"]
    given = {name: getattr(plan, name) for name in names}
    return TUNED[cell.kind, cell.method] | {name: value for name, value in given.items() if value is not None}
