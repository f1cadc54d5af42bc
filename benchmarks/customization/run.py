"""Measures customization: how well methods teach motions and styles that `mini` has never seen.

    python -m benchmarks.customization.run OUT              # everything: 15 motion runs, 8 style runs, 64 videos each
    python -m benchmarks.customization.run OUT --quick      # a few steps and videos, to see that it works
    python -m benchmarks.customization.run OUT --motions circle --methods lora --styles

Each method has the options that suit `mini` best (`TUNED`; docs/experiments.md says what was tried); what the command
line gives goes before them, for all methods. An adapter is used with the least of a few weights by which other videos,
of other prompts and seeds than those that are scored, follow the motion or have the style (`TRIED`).

Each cell (a motion or a style by one method) teaches from renders of the sprite world, generates videos, and scores
them: motions by keyframes of other subjects over other backgrounds, styles after super-resolution. Keyframes learn a
style from images in it; super-resolution from pairs of images, one in the style and one without. A folder takes one
benchmark, which goes on where it stopped:

    OUT/
      benchmark.json                 model, steps, videos, versions
      clips/                         what is taught from
      small/                         videos before super-resolution, for the cells that change that alone
      cells/motion-circle-lora/      adapter.safetensors, run/ (log, checkpoints), weights.json, videos/, sheet.png,
                                     cell.json
      report.json report.md
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import logging
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.customization.scores import (
    ContentPrompt,
    MotionScore,
    StyleScore,
    motion_prompts,
    score_motion,
    score_style,
    style_prompts,
    summarise_motion,
    summarise_style,
    validate_motion,
    validate_style,
)
from show1 import Show1Pipeline
from show1.config import StageName
from show1.evaluation.identity import claim, identify
from show1.files import read_json_object, write_json, write_tensors, write_text
from show1.media import contact_sheet, save_sheet
from show1.sprites.captions import caption
from show1.sprites.readers.style import StyleReader, style_reader_sha256
from show1.sprites.readers.subject import SpriteReader, reader_sha256
from show1.sprites.scenes import SpriteWorld, render
from show1.sprites.styles import STYLES, apply_style
from show1.sprites.teaching import TEACHING_MOTIONS, teaching_caption, teaching_clip
from show1.training.customization import METHODS, CustomizationConfig, customize
from show1.video import Video

logger = logging.getLogger("customization")

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
    """With which adapters are used; None for both weights: what is chosen from `TRIED`."""

    detail_weight: float | None = None
    """The same at low noise levels; see `Show1Pipeline.load_adapter`."""

    videos: int = 64
    """Videos of a cell."""

    style_stages: tuple[StageName, ...] = ("super_resolution",)
    """Stages that are taught styles; the keyframes of `mini` are too small to show one."""

    style_images: int = 256
    """Images that a style is taught from."""

    noise_weight: float | None = None
    """Share of the start noise that is the inverted clip's, for motions."""

    guidance_scale: float | None = None
    """With which videos of motions are generated."""

    batch_size: int = 8
    """Videos generated together."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the networks that generate."""

    seed: int = 1
    """Of the first video; the next ones follow."""


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
"""With which an adapter is loaded."""

USE = (*WEIGHTS, "guidance_scale")
"""Settings of a cell that are not of its training."""

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
"""Weights of an adapter with those in details, where the plan gives none: the first that is enough is used."""

ENOUGH: dict[Kind, float] = {"motion": 0.93, "style": 0.98}
"""Median correlation, or the lesser of the shares of style and content, on the videos by which weights are chosen."""

CHOSEN_BY: dict[Kind, int] = {"motion": 16, "style": 32}
"""How many these are, where a cell has as many."""

QUICK = {"motions": ("circle", "heartbeat"), "styles": ("pencil sketch",), "steps": 4, "videos": 4, "style_images": 4}
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

    stage: StageName = "keyframes"
    """What learns it."""

    def folder(self, out: Path) -> Path:
        """Where its files are."""
        stage = "" if self.stage == "keyframes" else f"-{self.stage}"
        return out / "cells" / f"{self.kind}-{self.name}-{self.method}{stage}".replace(" ", "_")


def cells(plan: Plan) -> list[Cell]:
    """In the order in which they are measured; the styles' baseline has prompts that name no style."""
    of_motions, of_styles = ([m for m in METHODS[kind] if m in plan.methods] for kind in ("motion", "style"))
    found = [Cell(kind="motion", name=name, method=m) for name in plan.motions for m in (NONE, *of_motions)]
    found += [Cell(kind="style", name=PLAIN, method=NONE)] if plan.styles else []
    return found + [
        Cell(kind="style", name=name, method=method, stage=stage)
        for name in plan.styles
        for stage in plan.style_stages
        for method in of_styles
    ]


def write_clips(out: Path, plan: Plan) -> None:
    """Renders what is taught from."""
    for name in plan.motions:
        file = motion_file(out, name)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            teaching_clip(name).save(file)
    world = SpriteWorld(seed=3000)
    for style in (PLAIN, *plan.styles) if plan.styles else ():
        folder = style_folder(out, style)
        if (folder / "captions.jsonl").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        scenes = [world.scene(number) for number in range(plan.style_images)]
        for number, scene in enumerate(scenes):
            frames = render(scene, 1, 80, 128, times=np.array([0.37 * number % 1]))
            drawn = frames if style == PLAIN else apply_style(style, frames, first_number=number)
            Image.fromarray(drawn[0]).save(folder / f"{number:04d}.png")
        lines = [{"file": f"{number:04d}.png", "caption": caption(scene)} for number, scene in enumerate(scenes)]
        write_text(folder / "captions.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def motion_file(out: Path, name: str) -> Path:
    return out / "clips" / f"{name.replace(' ', '_')}.mkv"


def style_folder(out: Path, style: str) -> Path:
    return out / "clips" / style.replace(" ", "_")


def settings_of(plan: Plan, cell: Cell) -> dict[str, Any]:
    """How a cell learns, and the weights of its adapter: what the plan says, else what suits the method."""
    names = ["steps", "learning_rate", "lr_schedule", "ema_decay", "mixed_precision", "weight", "detail_weight"]
    if cell.kind == "motion":
        names += ["timestep_logit", "noise_weight", "guidance_scale"]
    given = {name: getattr(plan, name) for name in names}
    return TUNED[cell.kind, cell.method] | {name: value for name, value in given.items() if value is not None}


def configure(out: Path, plan: Plan, cell: Cell) -> CustomizationConfig:
    """The customization of a cell."""
    folder = cell.folder(out)
    tuned = {name: value for name, value in settings_of(plan, cell).items() if name not in USE}
    options: dict[str, Any] = {
        "kind": cell.kind,
        "output": str(folder / "adapter.safetensors"),
        "run": str(folder / "run"),
        "model": plan.model,
        "method": cell.method,
        "stage": cell.stage,
        **tuned,
    }
    if cell.kind == "motion":
        options |= {"video": (str(motion_file(out, cell.name)),), "prompt": (teaching_caption(cell.name),)}
    else:
        options |= {"images": str(style_folder(out, cell.name)), "name": cell.name}
        if cell.stage == "super_resolution":
            options |= {"source": (str(style_folder(out, PLAIN)),)}
    return CustomizationConfig(**options)


def batches(plan: Plan, asked: Sequence[ContentPrompt], seed: int) -> Iterator[tuple[int, list[str], list[int]]]:
    """What is generated together: the number of the first, prompts, and seeds from `seed` on."""
    for first in range(0, len(asked), plan.batch_size):
        prompts = [a.prompt for a in asked[first : first + plan.batch_size]]
        yield first, prompts, [seed + first + i for i in range(len(prompts))]


def make(
    pipe: Show1Pipeline, out: Path, cell: Cell, prompts: list[str], seeds: list[int], settings: dict[str, Any]
) -> list[Video]:
    """Generates a batch."""
    options: dict[str, Any] = {"seed": seeds, "until": "keyframes" if cell.kind == "motion" else "super_resolution"}
    options |= guided(settings)
    if cell.stage == "super_resolution":
        kept = out / "small" / f"{cell.name}-{seeds[0]:03d}.safetensors".replace(" ", "_")
        options |= {"start_from": cell.stage, "video": small_videos(pipe, kept, prompts, seeds)}
    videos: list[Video] = pipe(prompts, **options)
    return videos


def generate(
    pipe: Show1Pipeline, out: Path, plan: Plan, cell: Cell, asked: Sequence[ContentPrompt], settings: dict[str, Any]
) -> list[Video]:
    """The cell's videos, those of an earlier run from the disk."""
    folder = cell.folder(out) / "videos"
    files = [folder / f"{number:03d}.mkv" for number in range(len(asked))]
    folder.mkdir(parents=True, exist_ok=True)
    for first, prompts, seeds in batches(plan, asked, plan.seed):
        batch = files[first : first + plan.batch_size]
        if not all(file.exists() for file in batch):
            for video, file in zip(make(pipe, out, cell, prompts, seeds, settings), batch, strict=True):
                video.save(file, overwrite=True)
    return [Video.load(file) for file in files]


def prompts_of(cell: Cell, count: int) -> list[ContentPrompt]:
    """What a cell's videos are asked for."""
    if cell.kind == "motion":
        return motion_prompts(cell.name, count)
    return style_prompts(None if cell.method == NONE else cell.name, count)


def score(
    cell: Cell, asked: Sequence[ContentPrompt], videos: Sequence[Video], readers: tuple[SpriteReader, StyleReader]
) -> tuple[dict[str, Any], list[MotionScore] | list[StyleScore]]:
    """What a cell's videos amount to, and the scores of each."""
    tensors = [video.to_tensor() for video in videos]
    if cell.kind == "motion":
        motions = [score_motion(tensor, cell.name, readers[0]) for tensor in tensors]
        return summarise_motion(cell.name, asked, motions), motions
    styles = [score_style(tensor, readers[1]) for tensor in tensors]
    return summarise_style(cell.name, asked, styles), styles


def choose_weights(
    pipe: Show1Pipeline, out: Path, plan: Plan, cell: Cell, readers: tuple[SpriteReader, StyleReader]
) -> dict[str, float | None]:
    """The least weights of `TRIED` that are enough, or those by which the motion or style is seen best."""
    file = cell.folder(out) / "weights.json"
    if not file.exists():
        others = prompts_of(cell, 2 * plan.videos)[plan.videos :]
        count = CHOSEN_BY[cell.kind]
        asked = others[:: max(1, len(others) // count)][:count]  # spread over subjects
        settings = settings_of(plan, cell)
        tried: list[dict[str, Any]] = []
        for weight, detail_weight in TRIED[cell.kind]:
            weights = {"weight": weight, "detail_weight": detail_weight}
            with loaded(pipe, out, cell, settings | weights):
                made = [
                    make(pipe, out, cell, prompts, seeds, settings)
                    for _, prompts, seeds in batches(plan, asked, plan.seed + plan.videos)
                ]
            videos = [video for batch in made for video in batch]
            summary, _ = score(cell, asked, videos, readers)
            if cell.kind == "motion":
                seen = summary["correlation"]["median"]
            else:
                seen = min(summary[key]["share"] for key in ("style", "content"))
            tried.append({**weights, "seen": seen})
            if seen >= ENOUGH[cell.kind]:
                break
        write_json(file, {"tried": tried})
    best: dict[str, Any] = max(read_json_object(file)["tried"], key=lambda each: each["seen"])
    return {name: best[name] for name in ("weight", "detail_weight")}


def guided(settings: dict[str, Any]) -> dict[str, Any]:
    """Options of a call of the pipeline: keyframes are guided as the settings of a cell say, if these do."""
    scale = settings.get("guidance_scale")
    return {} if scale is None else {"settings": {"keyframes": {"guidance_scale": scale}}}


@contextlib.contextmanager
def loaded(pipe: Show1Pipeline, out: Path, cell: Cell, settings: dict[str, Any]) -> Iterator[None]:
    """The pipeline has the adapter of a cell, if that has one, with the weights of its settings."""
    if cell.method != NONE:
        adapter = cell.folder(out) / "adapter.safetensors"
        pipe.load_adapter(adapter, name=cell.method, **{name: settings[name] for name in WEIGHTS})
    try:
        yield
    finally:
        pipe.unload_adapter()


def small_videos(pipe: Show1Pipeline, file: Path, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
    """What super-resolution starts from, (N, 3, F, h, w), from the disk if another cell has made it."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        made = pipe(list(prompts), seed=list(seeds), until="interpolation", output_type="pt")
        write_tensors(file, {"video": torch.stack(made)}, {})
    return load_file(file)["video"]


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
        if plan.weight is None and plan.detail_weight is None:
            result["settings"] |= choose_weights(pipe, out, plan, cell, readers)
    asked, settings = prompts_of(cell, plan.videos), result.get("settings", {})
    with loaded(pipe, out, cell, settings):
        videos = generate(pipe, out, plan, cell, asked, settings)
    result["summary"], scores = score(cell, asked, videos, readers)
    result["scores"] = [dataclasses.asdict(each) for each in scores]
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


def style_row(name: str, method: str, stage: str, summary: dict[str, Any], price: str) -> list[str]:
    return [
        name,
        method,
        stage,
        *(percent(summary[key]) for key in ("style", "content", "subject", "background")),
        price,
    ]


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
        rows = [style_row(c["name"], c["method"], c["stage"], c["summary"], cost(c)) for c in styles]
        for name, summary in report["validation"]["style"].items():
            rows.append(style_row(name, "*ground truth*", "", summary, ""))
        header = "style, method, stage, style %, content %, subject %, background %, cost"
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
            "tried": [TRIED, ENOUGH, CHOSEN_BY],
            "model": record,
            "torch": torch.__version__,
            **readers,
        }
    )


def run(out: Path, plan: Plan, *, on_cell: Callable[[int, int, Cell], None] | None = None) -> dict[str, Any]:
    """Measures what is missing, and writes the report."""
    later: tuple[StageName, ...] = ("interpolation", "super_resolution") if plan.styles else ()
    pipe = Show1Pipeline.from_pretrained(plan.model, stages=("keyframes", *later), dtype=getattr(torch, plan.dtype))
    made = identity(plan, pipe)
    claim(out / "benchmark.json", made, "a benchmark")
    write_clips(out, plan)
    readers = (SpriteReader.trained(), StyleReader.trained())
    measured = []
    for number, cell in enumerate(cells(plan)):
        if on_cell is not None:
            on_cell(number, len(cells(plan)), cell)
        measured.append(measure(pipe, out, plan, cell, readers))
    small, large = pipe.settings.keyframes, pipe.settings.super_resolution
    sizes = [{"num_frames": small.num_frames, "height": s.height, "width": s.width} for s in (small, large)]
    report = {
        **made,
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "device": str(pipe.device),
        "command": " ".join(sys.argv),
        "date": datetime.date.today().isoformat(),
        "cells": measured,
        "validation": {
            "motion": {n: validate_motion(n, readers[0], count=plan.videos, **sizes[0]) for n in plan.motions},
            "style": {n: validate_style(n, readers[1], count=plan.videos, **sizes[1]) for n in plan.styles},
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
    parser.add_argument(
        "--style-stages", nargs="*", choices=("keyframes", "super_resolution"), help="what is taught styles"
    )
    parser.add_argument("--style-images", type=int, help="images that a style is taught from")
    parser.add_argument("--steps", type=int, help="steps of each customization")
    parser.add_argument("--learning-rate", type=float, help="of each customization")
    parser.add_argument("--lr-schedule", choices=("constant", "linear", "cosine"), help="of each customization")
    parser.add_argument("--ema-decay", type=float, help="of each customization")
    parser.add_argument("--weight", type=float, help="with which adapters are used")
    parser.add_argument("--detail-weight", type=float, help="the same at low noise levels")
    parser.add_argument("--timestep-logit", type=float, nargs=2, metavar=("MEAN", "STD"), help="of motions")
    parser.add_argument("--mixed-precision", choices=("no", "bf16"), help="arithmetic of each customization")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the networks that generate")
    parser.add_argument("--videos", type=int, help="videos of each cell")
    parser.add_argument("--batch-size", type=int, help="videos generated together")
    parser.add_argument("--noise-weight", type=float, help="share of the inverted clip in a motion's start noise")
    parser.add_argument("--guidance-scale", type=float, help="with which videos of motions are generated")
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
