"""Do other settings, or other weights, keep what `mini` can do? Alignment of several variants on the same prompts.

    python -m benchmarks gate mini "mini keyframes.num_inference_steps=8" --videos 64
    python -m benchmarks gate mini runs/keyframes_8/export --videos 256 --batch-size 8
    python -m benchmarks gate mini mini:fast --videos 64 --write docs/distil.md

Each variant is a model as `show1 generate --model` takes it, followed by changes of its settings as `--set`
takes them. The same prompts and seeds are generated with each, and judged as `show1 evaluate alignment` does.
Evaluations are samples that went through the networks, per video. A folder per variant is kept in --out, so that an
interrupted comparison resumes; evaluations and seconds are then those of the rest.
"""

import argparse
import re
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pages import Page, measured_on, write_option
from benchmarks.whole import Evaluations
from show1.cli.settings import apply_changes, parse_change, parse_model
from show1.evaluation.report import percent, rounded
from show1.generation.pipeline import Show1Pipeline
from show1.sprites.alignment.judge import CRITERIA
from show1.sprites.alignment.prompts import SCENE_SETS
from show1.sprites.alignment.run import AlignmentPlan, evaluate_alignment

FIGURES = ("sharpness", "flicker", "frame_distance", "clip_distance")


class Progress:
    """When how many videos were done."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def __call__(self, done: int, _total: int) -> None:
        self.seen.append((done, time.perf_counter()))


def gate_table(variants: Sequence[str], plan: AlignmentPlan, *, out: Path, dtype: str) -> str:
    """Judges variants one after another; prints rows as they come.

    Args:
        variants: Models, each followed by changes of settings.
        plan: Which videos are made.
        out: Where videos are kept, one folder per variant.
        dtype: Precision.

    Returns:
        The table in Markdown. Shares have 95 % intervals.
    """
    evaluations = Evaluations()
    names = [name.replace("_", " ") for name in (*CRITERIA, *FIGURES)]
    lines = [f"| variant | videos | evaluations | seconds | {' | '.join(names)} |", f"|{'---|' * (len(names) + 4)}"]
    print("\n".join(lines), flush=True)
    for variant in variants:
        folder = out / re.sub(r"[^\w.=-]+", "_", variant).strip("_")
        evaluations.count = 0
        progress = Progress()
        model, *changes = variant.split()
        pipe = Show1Pipeline.from_pretrained(parse_model(model), dtype=dtype)
        settings = apply_changes(pipe.settings, [parse_change(change) for change in changes])
        with evaluations:
            report = evaluate_alignment(pipe, folder, plan, settings=settings, on_video=progress)
        (first, began), (last, ended) = progress.seen[0], progress.seen[-1]
        videos, seconds = max(last - first, 1), ended - began
        for row in report["rows"]:
            cost = [f"{evaluations.count / videos:.1f}", f"{seconds / videos:.1f}"]
            scores = [*(percent(row[name]) for name in CRITERIA), *(rounded(row[name]) for name in FIGURES)]
            cells = [f"{variant}: {row['name']}", str(row["stable"]["count"]), *cost, *scores]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    lines.append(f"\n{measured_on()}; {dtype}")
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="+", metavar="VARIANT")
    parser.add_argument("--out", type=Path, default=Path("evaluations/gate"))
    parser.add_argument("--sets", default="held_out", help=f"some of {', '.join(SCENE_SETS)}")
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--until", default="keyframes")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--dtype", default="bfloat16")
    write_option(parser)
    arguments = parser.parse_args()
    page = Page(arguments.write, "gate")
    plan = AlignmentPlan(
        sets=tuple(arguments.sets.split(",")),
        videos=arguments.videos,
        until=arguments.until,
        batch_size=arguments.batch_size,
    )
    text = gate_table(arguments.variants, plan, out=arguments.out, dtype=arguments.dtype)
    print(text.splitlines()[-1])
    page.write("gate", text)


if __name__ == "__main__":
    main()
