"""Measures customization: how well methods teach motions and styles that `mini` has never seen.

    python -m benchmarks.customization.run OUT              # everything: 15 motion runs, 8 style runs, 64 videos each
    python -m benchmarks.customization.run OUT --quick      # a few steps and videos, to see that it works
    python -m benchmarks.customization.run OUT --motions circle --methods lora --styles

Each method has the options that suit `mini` best (`TUNED`; docs/experiments.md says what was tried); what the command
line gives takes precedence, for all methods. An adapter is used with the least of a few weights by which other videos,
of other prompts and seeds than those that are scored, follow the motion or have the style (`TRIED`).

Each cell (a motion or a style by one method) teaches from renders of the sprite world, generates videos, and scores
them: motions by keyframes of other subjects over other backgrounds, styles after super-resolution. Keyframes learn a
style from images in it; super-resolution from pairs of images, one in the style and one without. A folder takes one
benchmark, which resumes if interrupted:

    OUT/
      benchmark.json                 model, steps, videos, versions
      clips/                         what is taught from
      small/                         videos before super-resolution, for the cells that change only that
      cells/motion-circle-lora/      adapter.safetensors, run/ (log, checkpoints), weights.json, videos/, sheet.png,
                                     cell.json
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
from pathlib import Path
from typing import Any

import torch

from benchmarks.customization.measure import CellRun, Customize
from benchmarks.customization.motions import TEACHING_MOTIONS
from benchmarks.customization.plan import CHOSEN_BY, ENOUGH, QUICK, TRIED, TUNED, Cell, Plan, cells
from benchmarks.customization.scores import validate_motion, validate_style
from benchmarks.customization.style_reader import StyleReader
from benchmarks.customization.styles import STYLES
from benchmarks.customization.teach import write_clips
from show1 import Show1Pipeline
from show1.config import StageName
from show1.evaluation.report import Report, Table, percent
from show1.evaluation.suite import Suite, identify
from show1.sprites.readers.subject import SpriteReader
from show1.training.customization import customize

logger = logging.getLogger("customization")

Readers = tuple[SpriteReader, StyleReader]


def load_pipeline(plan: Plan) -> Show1Pipeline:
    """Loads the stages that a plan needs."""
    later: tuple[StageName, ...] = ("interpolation", "super_resolution") if plan.styles else ()
    dtype = getattr(torch, plan.dtype)
    return Show1Pipeline.from_pretrained(plan.model, stages=("keyframes", *later), dtype=dtype)


def run(
    out: Path,
    plan: Plan,
    *,
    pipe: Show1Pipeline | None = None,
    customize: Customize = customize,
    on_cell: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measures what is missing, and writes the report.

    Args:
        out: Folder of the benchmark, new or begun.
        plan: What is measured.
        pipe: The pipeline; None: that of the plan's model.
        customize: Runs a customization.
        on_cell: Called with cells done and cells in all.
    """
    pipe = pipe or load_pipeline(plan)
    readers = (SpriteReader.trained(), StyleReader.trained())
    listed = cells(plan)

    def measured(cell: Cell) -> dict[str, Any]:
        return CellRun(pipe, out, plan, cell, readers).measure(customize)

    def make(batch: Sequence[Cell]) -> None:
        write_clips(out, plan)
        logger.info("%s %s, %s", batch[0].kind, batch[0].name, batch[0].method)
        measured(batch[0])

    return Suite(
        out=out,
        kind="a benchmark",
        record="benchmark.json",
        identity=identity(plan, pipe),
        items=listed,
        is_made=lambda cell: (cell.folder(out) / "cell.json").exists(),
        make=make,
        measure=lambda: {
            "machine": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "device": str(pipe.device),
            "command": " ".join(sys.argv),
            "date": datetime.date.today().isoformat(),
            "cells": [measured(cell) for cell in listed],
            "validation": validation(plan, pipe, readers),
        },
        write=readable,
    ).run(on_progress=on_cell)


def identity(plan: Plan, pipe: Show1Pipeline) -> dict[str, Any]:
    """Returns what the figures depend on, and its hash."""
    model = pipe.model_record
    return identify(
        {
            "plan": dataclasses.asdict(plan),
            "tuned": {" ".join(k): v for k, v in TUNED.items()},
            "tried": [TRIED, ENOUGH, CHOSEN_BY],
            "model": {"name": model.name, "sha256": model.sha256},
            "torch": torch.__version__,
            "reader_sha256": SpriteReader.sha256(),
            "style_reader_sha256": StyleReader.sha256(),
        }
    )


def validation(plan: Plan, pipe: Show1Pipeline, readers: Readers) -> dict[str, Any]:
    """Scores renders of what the prompts ask for, at the sizes of the pipeline's videos."""
    small, large = pipe.settings.keyframes, pipe.settings.super_resolution
    sizes = [{"num_frames": small.num_frames, "height": s.height, "width": s.width} for s in (small, large)]
    return {
        "motion": {n: validate_motion(n, readers[0], count=plan.videos, **sizes[0]) for n in plan.motions},
        "style": {n: validate_style(n, readers[1], count=plan.videos, **sizes[1]) for n in plan.styles},
    }


def readable(report: dict[str, Any]) -> Report:
    """Makes the readable report."""
    motions, styles = ([c for c in report["cells"] if c["kind"] == kind] for kind in ("motion", "style"))
    parts: list[str | Table] = []
    if motions:
        rows = [_motion_row(c["name"], c["method"], c["summary"], _cost(c)) for c in motions]
        for name, checks in report["validation"]["motion"].items():
            rows += [_motion_row(name, f"*{check}*", summary, "") for check, summary in checks.items()]
        header = "motion, method, correlation (quartiles), extent, follows %, subject %, background %, leak %, cost"
        parts += ["## Motions", Table(header.split(", "), rows, words=2)]
    if styles:
        rows = [_style_row(c["name"], c["method"], c["stage"], c["summary"], _cost(c)) for c in styles]
        for name, summary in report["validation"]["style"].items():
            rows.append(_style_row(name, "*ground truth*", "", summary, ""))
        header = "style, method, stage, style %, content %, subject %, background %, cost"
        parts += ["## Styles", Table(header.split(", "), rows, words=3)]
    made = {key: value for key, value in report.items() if key not in ("cells", "validation")}
    parts += ["## How it was made", "```json\n" + json.dumps(made, indent=2) + "\n```"]
    return Report(title="Customization", parts=parts)


def _cost(cell: dict[str, Any]) -> str:
    found = cell.get("cost", {})
    if "seconds" not in found:
        return ""
    return f"{found['seconds']:.0f} s, {found['peak_memory_bytes'] / 1e9:.2f} GB"


def _motion_row(name: str, method: str, summary: dict[str, Any], cost: str) -> list[str]:
    quartiles = " to ".join(f"{q:.2f}" for q in summary["correlation"]["quartiles"])
    correlation = f"{summary['correlation']['median']:.2f} ({quartiles})"
    shares = [percent(summary[key]) for key in ("follows", "subject", "background", "subject_leak")]
    return [name, method, correlation, f"{summary['extent']:.2f}", *shares, cost]


def _style_row(name: str, method: str, stage: str, summary: dict[str, Any], cost: str) -> list[str]:
    return [
        name,
        method,
        stage,
        *(percent(summary[key]) for key in ("style", "content", "subject", "background")),
        cost,
    ]


def parse(arguments: Sequence[str] | None = None) -> tuple[Path, Plan]:
    """Reads the folder and the plan from a command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the benchmark, new or begun")
    parser.add_argument("--model", help="cascade to customize")
    parser.add_argument("--motions", nargs="*", choices=tuple(TEACHING_MOTIONS))
    parser.add_argument("--styles", nargs="*", choices=STYLES)
    parser.add_argument("--methods", nargs="*", choices=Plan().methods)
    parser.add_argument(
        "--style-stages", nargs="*", choices=("keyframes", "super_resolution"), help="stages that are taught styles"
    )
    parser.add_argument("--style-images", type=int, help="number of images that a style is taught from")
    parser.add_argument("--steps", type=int, help="number of steps of each customization")
    parser.add_argument("--learning-rate", type=float, help="see `show1 customize motion --help`")
    parser.add_argument(
        "--lr-schedule", choices=("constant", "linear", "cosine"), help="see `show1 customize motion --help`"
    )
    parser.add_argument("--ema-decay", type=float, help="see `show1 customize motion --help`")
    parser.add_argument("--weight", type=float, help="weight that adapters are used with")
    parser.add_argument("--detail-weight", type=float, help="weight at low noise levels")
    parser.add_argument(
        "--timestep-logit", type=float, nargs=2, metavar=("MEAN", "STD"), help="drawn noise levels of motions"
    )
    parser.add_argument(
        "--mixed-precision", choices=("no", "bf16"), help="number format of each customization's arithmetic"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="precision of the networks that generate")
    parser.add_argument("--videos", type=int, help="number of videos of each cell")
    parser.add_argument("--batch-size", type=int, help="number of videos generated together")
    parser.add_argument("--noise-weight", type=float, help="share of the inverted clip in a motion's start noise")
    parser.add_argument("--guidance-scale", type=float, help="guidance scale that videos of motions are generated with")
    parser.add_argument("--quick", action="store_true", help="only a few steps and videos")
    given = vars(parser.parse_args(arguments))
    out, quick = given.pop("out"), given.pop("quick")
    chosen = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items() if v is not None}
    return out, Plan(**((QUICK if quick else {}) | chosen))


def main() -> None:
    """Runs the benchmark."""
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    out, plan = parse()
    run(out, plan, on_cell=lambda done, total: logger.info("%d of %d cells", done, total))
    print((out / "report.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
