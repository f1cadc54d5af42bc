"""Measures customization: how well methods teach motions and styles that `mini` has never seen.

    python benchmarks/customization/run.py OUT              # everything: 15 motion runs, 8 style runs, 64 videos each
    python benchmarks/customization/run.py OUT --quick      # a few steps and videos, to see that it works
    python benchmarks/customization/run.py OUT --motions circle --methods lora --styles

Each method has the options that suit `mini` best (`TUNED`; docs/experiments.md says what was tried); what the command
line gives goes before them, for all methods.

Each cell (a motion or a style by one method) teaches from clips rendered by the sprite world, generates keyframes for
prompts with other subjects and backgrounds, and scores them. A folder takes one benchmark, which goes on where it
stopped:

    OUT/
      benchmark.json                 model, steps, videos, versions
      clips/                         what is taught from
      cells/motion-circle-lora/      adapter.safetensors, run/ (log, checkpoints), videos/, sheet.png, cell.json
      report.json report.md
"""

import argparse
import dataclasses
import datetime
import json
import logging
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from show1 import Show1Pipeline
from show1.data.captions import caption
from show1.data.sprites import SpriteWorld, render
from show1.data.styles import STYLES, apply_style
from show1.data.teaching import TEACHING_MOTIONS, teaching_caption, teaching_clip
from show1.evaluation.customization import (
    ContentPrompt,
    motion_prompts,
    score_motion,
    score_style,
    style_prompts,
    summarise_motion,
    summarise_style,
    validate_motion,
    validate_style,
)
from show1.evaluation.folder import claim, identify
from show1.evaluation.reader import SpriteReader, reader_sha256
from show1.evaluation.style_reader import StyleReader, style_reader_sha256
from show1.files import read_json_object, write_json, write_text
from show1.media import contact_sheet, save_sheet
from show1.training.customization import METHODS, CustomizationConfig, customize
from show1.video import Video

logger = logging.getLogger("customization")

NONE = "none"
"""The method of a cell without customization."""

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
    """Of each customization."""

    lr_schedule: str | None = None
    """Of each customization."""

    ema_decay: float | None = None
    """Of each customization."""

    timestep_logit: tuple[float, float] | None = None
    """Which noise levels motions learn from; see `CustomizationConfig`."""

    mixed_precision: str | None = None
    """Arithmetic of each customization."""

    weight: float | None = None
    """With which adapters are used."""

    detail_weight: float | None = None
    """The same at low noise levels; see `Show1Pipeline.load_adapter`."""

    videos: int = 64
    """Videos of a cell."""

    style_clips: int = 16
    """Clips that a style is taught from."""

    noise_weight: float = 0.0
    """Share of the start noise that is the inverted clip's, for motions."""

    batch_size: int = 8
    """Videos generated together."""

    seed: int = 1
    """Of the first video; the next ones follow."""


_MOTION = {"steps": 200, "learning_rate": 1e-3, "ema_decay": 0.97, "timestep_logit": (2.5, 1.5)}
_MOTION |= {"weight": 0.9, "detail_weight": 0.4}
_STYLE: dict[str, Any] = {"weight": 1.0, "detail_weight": None}

WEIGHTS = ("weight", "detail_weight")
"""Settings of a cell that are not of its training."""

TUNED: dict[tuple[Kind, str], dict[str, Any]] = {
    ("motion", "temporal_attention"): _MOTION,
    ("motion", "residual_vector"): _MOTION,
    ("motion", "lora"): {**_MOTION, "steps": 300, "learning_rate": 2e-3, "weight": 1.0},
    ("style", "spatial_lora"): _STYLE,
    ("style", "temporal_attention"): _STYLE,
}
"""Options of customizations and weights of their adapters, by what `mini` is taught and how."""


QUICK = {"motions": ("circle", "heartbeat"), "styles": ("pencil sketch",), "steps": 4, "videos": 4, "style_clips": 2}
"""What `--quick` changes."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One motion or style by one method."""

    kind: Kind
    """What is taught."""

    name: str
    """Of the motion or style."""

    method: str
    """How; "none": not at all."""

    def folder(self, out: Path) -> Path:
        """Where its files are."""
        return out / "cells" / f"{self.kind}-{self.name}-{self.method}".replace(" ", "_")


def cells(plan: Plan) -> list[Cell]:
    """In the order in which they are measured; a style's baseline has prompts that name no style."""
    found = []
    for kind, names in (("motion", plan.motions), ("style", plan.styles)):
        methods = (NONE, *(method for method in METHODS[kind] if method in plan.methods))
        found += [Cell(kind=kind, name=name, method=method) for name in names for method in methods]
    return found


def write_clips(out: Path, plan: Plan) -> None:
    """Renders what is taught from."""
    for name in plan.motions:
        file = motion_file(out, name)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            teaching_clip(name).save(file)
    world = SpriteWorld(seed=3000)
    for style in plan.styles:
        for number, file in enumerate(style_files(out, style, plan)):
            if file.exists():
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            frames = apply_style(style, render(world.scene(number), 8, 80, 128))
            Video(frames=frames, fps=2, metadata={"prompt": caption(world.scene(number))}).save(file)


def motion_file(out: Path, name: str) -> Path:
    return out / "clips" / f"{name.replace(' ', '_')}.mkv"


def style_files(out: Path, style: str, plan: Plan) -> list[Path]:
    return [out / "clips" / style.replace(" ", "_") / f"{i:03d}.mkv" for i in range(plan.style_clips)]


def settings_of(plan: Plan, cell: Cell) -> dict[str, Any]:
    """How a cell learns, and the weights of its adapter: what the plan says, else what suits the method."""
    names = ["steps", "learning_rate", "lr_schedule", "ema_decay", "mixed_precision", *WEIGHTS]
    if cell.kind == "motion":
        names.append("timestep_logit")
    given = {name: getattr(plan, name) for name in names}
    return TUNED[cell.kind, cell.method] | {name: value for name, value in given.items() if value is not None}


def configure(out: Path, plan: Plan, cell: Cell) -> CustomizationConfig:
    """The customization of a cell."""
    folder = cell.folder(out)
    tuned = {name: value for name, value in settings_of(plan, cell).items() if name not in WEIGHTS}
    options: dict[str, Any] = {
        "kind": cell.kind,
        "output": str(folder / "adapter.safetensors"),
        "run": str(folder / "run"),
        "model": plan.model,
        "method": cell.method,
        **tuned,
    }
    if cell.kind == "motion":
        options |= {"video": (str(motion_file(out, cell.name)),), "prompt": (teaching_caption(cell.name),)}
        options |= {"noise_weight": plan.noise_weight}
    else:
        files = style_files(out, cell.name, plan)
        world = SpriteWorld(seed=3000)
        options |= {"video": tuple(map(str, files)), "name": cell.name}
        options |= {"prompt": tuple(caption(world.scene(number)) for number in range(len(files)))}
    return CustomizationConfig(**options)


def generate(pipe: Show1Pipeline, folder: Path, asked: Sequence[ContentPrompt], plan: Plan) -> list[Video]:
    """The cell's videos, those of an earlier run from the disk."""
    files = [folder / "videos" / f"{number:03d}.mkv" for number in range(len(asked))]
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    for first in range(0, len(files), plan.batch_size):
        batch = files[first : first + plan.batch_size]
        if all(file.exists() for file in batch):
            continue
        prompts = [a.prompt for a in asked[first : first + plan.batch_size]]
        seeds = [plan.seed + first + i for i in range(len(batch))]
        for video, file in zip(pipe(prompts, seed=seeds, until="keyframes"), batch, strict=True):
            video.save(file, overwrite=True)
    return [Video.load(file) for file in files]


def measure(
    pipe: Show1Pipeline, out: Path, plan: Plan, cell: Cell, readers: tuple[SpriteReader, StyleReader]
) -> dict[str, Any]:
    """Teaches, generates and scores a cell; `cell.json` is its last file."""
    folder = cell.folder(out)
    if (folder / "cell.json").exists():
        return read_json_object(folder / "cell.json")
    result: dict[str, Any] = dataclasses.asdict(cell)
    if cell.method != NONE:
        adapter = folder / "adapter.safetensors"
        if not adapter.exists():
            customize(configure(out, plan, cell))
        report = folder / "run" / "report.json"
        result["cost"] = read_json_object(report) if report.exists() else {}
        result["adapter_bytes"] = adapter.stat().st_size
        result["settings"] = settings_of(plan, cell)
        pipe.load_adapter(adapter, name=cell.method, **{name: result["settings"][name] for name in WEIGHTS})
    try:
        if cell.kind == "motion":
            asked = motion_prompts(cell.name, plan.videos)
        else:
            asked = style_prompts(None if cell.method == NONE else cell.name, plan.videos)
        videos = generate(pipe, folder, asked, plan)
    finally:
        pipe.unload_adapter()
    if cell.kind == "motion":
        motions = [score_motion(video.to_tensor(), cell.name, readers[0]) for video in videos]
        result |= {"summary": summarise_motion(cell.name, asked, motions)}
        result |= {"scores": [dataclasses.asdict(score) for score in motions]}
    else:
        styles = [score_style(video.to_tensor(), readers[1]) for video in videos]
        wanted = "plain" if cell.method == NONE else cell.name
        result |= {"summary": summarise_style(wanted, asked, styles)}
        result |= {"scores": [dataclasses.asdict(score) for score in styles]}
    labels = [a.prompt for a in asked[:8]]
    save_sheet(contact_sheet(videos[:8], labels=labels), folder / "sheet.png", overwrite=True)
    write_json(folder / "cell.json", result)
    return read_json_object(folder / "cell.json")


def percent(share: dict[str, Any]) -> str:
    low, high = share["interval"]
    return f"{100 * share['share']:.1f} ({100 * low:.0f} to {100 * high:.0f})"


def cost(cell: dict[str, Any]) -> str:
    found = cell.get("cost", {})
    if "seconds" not in found:
        return ""
    return f"{found['seconds']:.0f} s, {found['peak_memory_bytes'] / 1e9:.2f} GB"


def motion_row(name: str, method: str, summary: dict[str, Any], price: str) -> list[str]:
    quartiles = " to ".join(f"{q:.2f}" for q in summary["correlation"]["quartiles"])
    return [
        name,
        method,
        f"{summary['correlation']['median']:.2f} ({quartiles})",
        f"{summary['extent']:.2f}",
        *(percent(summary[key]) for key in ("follows", "subject", "background", "subject_leak")),
        price,
    ]


def style_row(name: str, method: str, summary: dict[str, Any], price: str) -> list[str]:
    return [name, method, *(percent(summary[key]) for key in ("style", "content", "subject", "background")), price]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    motions, styles = ([c for c in report["cells"] if c["kind"] == kind] for kind in ("motion", "style"))
    parts = ["# Customization\n"]
    if motions:
        rows = [motion_row(c["name"], c["method"], c["summary"], cost(c)) for c in motions]
        for name, checks in report["validation"]["motion"].items():
            rows += [motion_row(name, f"*{check}*", summary, "") for check, summary in checks.items()]
        header = "motion, method, correlation (quartiles), extent, follows %, subject %, background %, leak %, cost"
        parts.append("## Motions\n\n" + markdown(header.split(", "), rows))
    if styles:
        rows = [style_row(c["name"], c["method"], c["summary"], cost(c)) for c in styles]
        for name, summary in report["validation"]["style"].items():
            rows.append(style_row(name, "*ground truth*", summary, ""))
        header = "style, method, style %, content %, subject %, background %, cost"
        parts.append("## Styles\n\n" + markdown(header.split(", "), rows))
    made = {key: value for key, value in report.items() if key not in ("cells", "validation")}
    parts.append("## How it was made\n\n```json\n" + json.dumps(made, indent=2) + "\n```\n")
    return "\n".join(parts)


def identity(plan: Plan, pipe: Show1Pipeline) -> dict[str, Any]:
    """What the figures depend on."""
    model = pipe.model_record
    readers = {"reader_sha256": reader_sha256(), "style_reader_sha256": style_reader_sha256()}
    record = {"name": model["name"], "sha256": model["sha256"]}
    return identify(
        {
            "plan": dataclasses.asdict(plan),
            "tuned": {" ".join(k): v for k, v in TUNED.items()},
            "model": record,
            "torch": torch.__version__,
            **readers,
        }
    )


def run(out: Path, plan: Plan, *, on_cell: Callable[[int, int, Cell], None] | None = None) -> dict[str, Any]:
    """Measures what is missing, and writes the report."""
    pipe = Show1Pipeline.from_pretrained(plan.model, stages=("keyframes",))
    made = identity(plan, pipe)
    claim(out / "benchmark.json", made, "a benchmark")
    write_clips(out, plan)
    readers = (SpriteReader.trained(), StyleReader.trained())
    measured = []
    for number, cell in enumerate(cells(plan)):
        if on_cell is not None:
            on_cell(number, len(cells(plan)), cell)
        measured.append(measure(pipe, out, plan, cell, readers))
    settings = pipe.settings.keyframes
    size = {"num_frames": settings.num_frames, "height": settings.height, "width": settings.width}
    report = {
        **made,
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "device": str(pipe.device),
        "command": " ".join(sys.argv),
        "date": datetime.date.today().isoformat(),
        "cells": measured,
        "validation": {
            "motion": {name: validate_motion(name, readers[0], count=plan.videos, **size) for name in plan.motions},
            "style": {name: validate_style(name, readers[1], count=plan.videos, **size) for name in plan.styles},
        },
    }
    write_json(out / "report.json", report)
    write_text(out / "report.md", table(report))
    return report


def parse(arguments: Sequence[str] | None = None) -> tuple[Path, Plan]:
    """The folder and the plan of a command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the benchmark, new or begun")
    parser.add_argument("--model", help="cascade to customize")
    parser.add_argument("--motions", nargs="*", choices=tuple(TEACHING_MOTIONS))
    parser.add_argument("--styles", nargs="*", choices=STYLES)
    parser.add_argument("--methods", nargs="*", choices=Plan().methods)
    parser.add_argument("--steps", type=int, help="steps of each customization")
    parser.add_argument("--learning-rate", type=float, help="of each customization")
    parser.add_argument("--lr-schedule", choices=("constant", "linear", "cosine"), help="of each customization")
    parser.add_argument("--ema-decay", type=float, help="of each customization")
    parser.add_argument("--weight", type=float, help="with which adapters are used")
    parser.add_argument("--detail-weight", type=float, help="the same at low noise levels")
    parser.add_argument("--timestep-logit", type=float, nargs=2, metavar=("MEAN", "STD"), help="of motions")
    parser.add_argument("--mixed-precision", choices=("no", "bf16"), help="arithmetic of each customization")
    parser.add_argument("--videos", type=int, help="videos of each cell")
    parser.add_argument("--noise-weight", type=float, help="share of the inverted clip in a motion's start noise")
    parser.add_argument("--quick", action="store_true", help="a few steps and videos")
    given = vars(parser.parse_args(arguments))
    out, quick = given.pop("out"), given.pop("quick")
    chosen = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items() if v is not None}
    return out, Plan(**((QUICK if quick else {}) | chosen))


def main() -> None:
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    out, plan = parse()
    run(out, plan, on_cell=lambda i, n, cell: logger.info("%d/%d %s %s, %s", i, n, cell.kind, cell.name, cell.method))
    print((out / "report.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
