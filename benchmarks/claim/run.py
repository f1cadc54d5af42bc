"""The claim of arXiv:2309.15818 side by side, in the sprite world: is the hybrid better than either of its halves?

    python -m benchmarks.claim.run --out claim                        # trains what is compared, generates, scores
    python -m benchmarks.claim.run --out claim --quick                # the same in minutes, to see that it runs
    python -m benchmarks.claim.run --out claim --mixed-precision bf16 --cuda-graphs --workers 12    # on a GPU
    python -m benchmarks.claim.run --out claim --processes 4          # prompts side by side
    python -m benchmarks.claim.run --out claim --earlier-keyframes STAGE    # also a hybrid of a shorter training
    python -m benchmarks.claim.run --out claim --way hybrid --way "plain upscaling"    # compares only these
    python -m benchmarks.claim.run --out claim --sets relations_held_out,counts_held_out    # prompts of composition
    python -m benchmarks.claim.run --out claim --only latent-images --only latent    # trains only these, and ends

Five ways, with the same prompts and seeds:

- hybrid: pixel keyframes, interpolation and super-resolution, then the latent expert of noise levels up to 900.
- latent only: text to video in the VAE's latent space, at full resolution, with the hybrid's training compute.
- pixel only: a second pixel super-resolution network in the expert's place, with the expert's training compute.
- all noise levels: the hybrid with an expert trained on all noise levels alike.
- plain upscaling: bicubic in the expert's place.

A sixth has to be asked for by `--way "hybrid, same share"`: the hybrid with keyframes that are trained from scratch, so
that with `--share 0.2` all its trainings together take a fifth of the hybrid's operations, as those of latent only do.

The hybrid's stages are those of the model (`mini`, or a cascade folder); the others are trained here by the recipe of
`scripts/train_mini.py`, each for as many steps as take the floating-point operations of what it stands against.
Everything that is done is kept in the folder, by hashes of what it depends on, and not done again:

    OUT/
      training/         the networks that are trained here, each in a folder of its own
      videos-ID/        all videos of all ways, and samples.png
      report.json report.md
"""

import argparse
import dataclasses
import functools
import itertools
import logging
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.claim.plans import ARMS, LOW, PLANS, SAME_SHARE, SETS, Options
from benchmarks.claim.training import train_networks
from benchmarks.claim.ways import CORRUPTIONS, Comparison, cost_of, pipelines
from benchmarks.pages import measured_on
from scripts import train_mini
from show1 import Show1Pipeline
from show1.errors import Cancelled, InputError
from show1.evaluation.report import Report, Table, percent, rounded, save_contact_sheet
from show1.evaluation.suite import Suite
from show1.files import read_json_object
from show1.sprites.alignment.run import AlignmentPlan
from show1.sprites.alignment.summary import summarise
from show1.training import train

logger = logging.getLogger(__name__)

Costs = Callable[[Sequence[str]], dict[str, dict[str, float]]]
"""Measures seconds and bytes of a whole video by each way."""


def compare(options: Options, pipes: dict[str, Show1Pipeline], costs_of: Costs) -> dict[str, Any]:
    """Makes what is missing of all ways for the same prompts and seeds, scores it, and writes the report."""
    comparison = Comparison(options, pipes)

    def measure() -> dict[str, Any]:
        save_samples(options)
        rows = _rows(options, comparison)
        return {"rows": rows, "costs": costs_of(options.rows), "repair": _repairs(options, comparison)}

    return Suite(
        out=options.out,
        kind="a benchmark",
        record=f"{options.videos_folder.name}/benchmark.json",
        identity=options.identity,
        items=range(options.videos),
        is_made=comparison.is_made,
        make=lambda batch: comparison.make(batch[0]),
        measure=measure,
        write=lambda report: readable(options, report),
    ).run(on_progress=lambda done, total: logger.info("%d of %d prompts", done, total))


def _rows(options: Options, comparison: Comparison) -> list[dict[str, Any]]:
    """A row for each way and each table."""
    rows = []
    for sets in options.tables:
        numbers = [number for number, prompt in enumerate(options.prompts) if prompt.set in sets]
        measured = {arm: [comparison.measured(number, arm) for number in numbers] for arm in comparison.arms}
        for arm in options.rows:
            real = measured["low-resolution truth" if arm == LOW else "ground truth"]
            features = [m.features for m in real if m.features is not None]
            rows.append({"sets": [*sets], **summarise(arm, measured[arm], features)})
        rows.append({"sets": [*sets], **summarise("ground truth", measured["ground truth"])})
    return rows


def _repairs(options: Options, comparison: Comparison) -> list[dict[str, Any]]:
    """Mean errors over some prompts, in 8-bit levels."""
    errors = [comparison.repair(number) for number in range(options.repaired)]
    return [
        {"corruption": name, **{key: sum(e[name][key] for e in errors) / len(errors) for key in errors[0][name]}}
        for name in (CORRUPTIONS if errors else ())
    ]


def side_by_side(options: Options, networks: dict[str, Path], processes: int) -> None:
    """Makes what is missing, several prompts at a time in processes of their own."""
    threads = max(1, torch.get_num_threads() // processes)
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(options, networks, threads)
    ) as pool:
        for i, _ in enumerate(pool.map(_make, range(options.videos))):
            logger.info("%d of %d prompts", i + 1, options.videos)


_comparison: Comparison
"""Comparison of a process of `side_by_side`."""


def _begin(options: Options, networks: dict[str, Path], threads: int) -> None:
    global _comparison
    torch.set_num_threads(threads)
    _comparison = Comparison(options, pipelines(options, networks))


def _make(number: int) -> None:
    _comparison.make(number)


def costs_of(options: Options, networks: dict[str, Path], arms: Sequence[str]) -> dict[str, dict[str, float]]:
    """Measures the costs of each way in a process of its own, so that none has what another has loaded."""
    found = {}
    for arm in arms:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found[arm] = pool.submit(_cost, options, networks, arm).result()
    return found


def _cost(options: Options, networks: dict[str, Path], arm: str) -> dict[str, float]:
    return cost_of(options, arm, pipelines(options, networks))


def readable(options: Options, report: dict[str, Any]) -> Report:
    """Makes the readable report."""
    parts: list[str | Table] = []
    for _, group in itertools.groupby(report["rows"], lambda row: row["sets"]):
        rows = list(group)
        if len(report["rows"]) > len(rows):
            parts.append("## " + ", ".join(rows[0]["sets"]))
        parts.append(_table(rows, report["costs"]))
    if report["repair"]:
        names = [key for key in report["repair"][0] if key != "corruption"]
        errors = [[r["corruption"], *(rounded(r[name]) for name in names)] for r in report["repair"]]
        parts.append(Table(("corruption", *names), errors))
    trained = {name: options.training_record(name) for name in PLANS}
    done = [_training_row(name, read_json_object(file)) for name, file in trained.items() if file.is_file()]
    parts.append(Table(("network", "steps", "samples", "PFLOP", "minutes"), done))
    parts.append(
        f"{options.videos} prompts of {', '.join(options.sets)}, model {options.model}, share {options.share:g}, "
        f"guidance of latent only {options.guidance:g}; seconds and memory of a whole video. "
        f"{measured_on()}."
    )
    samples = options.videos_folder / "samples.png"
    return Report(
        title="The hybrid and its halves", parts=parts, pictures={"Samples": f"{samples.parent.name}/samples.png"}
    )


def _table(rows: Sequence[dict[str, Any]], costs: dict[str, dict[str, float]]) -> Table:
    """The table of some rows of a report, with what a whole video of each way costs."""
    looks = {"sharpness": "sharpness", "flicker": "flicker", "frame_distance": "FD frames", "clip_distance": "FD clips"}
    criteria = [name for name, value in rows[0].items() if isinstance(value, dict)]
    cells = []
    for row in rows:
        cost = costs.get(row["name"])
        price = ["", ""] if cost is None else [f"{cost['seconds']:.1f}", f"{cost['bytes'] / 1e9:.2f}"]
        shares = [percent(row[name]) for name in criteria]
        cells.append([row["name"], *shares, *(rounded(row[key]) for key in looks), *price])
    return Table(("way", *criteria, *looks.values(), "seconds", "peak GB"), cells)


def _training_row(name: str, trained: dict[str, Any]) -> list[str]:
    counts = [str(trained["steps"]), str(trained["samples"])]
    return [name, *counts, f"{trained['petaflops']:.2f}", f"{trained['minutes']:.1f}"]


def save_samples(options: Options) -> None:
    """Draws the first prompts by all ways."""
    shown = [(i, prompt, arm) for i, prompt in enumerate(options.prompts[:3]) for arm in options.arms]
    videos = [options.video(i, arm) for i, _, arm in shown]
    labels = [f"{prompt.prompt} [{arm}]" for _, prompt, arm in shown]
    save_contact_sheet(options.videos_folder / "samples.png", videos, labels, columns=8, max_width=1500)


def parse(arguments: Sequence[str] | None = None) -> tuple[Options, argparse.Namespace]:
    """Reads a command line: the options of the comparison, and what else was given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--videos", type=int, default=64, help="number of prompts, of all sets together")
    parser.add_argument(
        "--sets",
        default=",".join(SETS),
        help="prompt sets, such as motion_binding_held_out,counts_held_out (see `show1 evaluate alignment --help`)",
    )
    parser.add_argument("--guidance", type=float, default=3.0, help="guidance of latent only")
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help=f"share of the hybrid's training compute that latent only and {SAME_SHARE!r} get",
    )
    parser.add_argument("--mixed-precision", choices=("no", "bf16"), help="number format of the trainings' arithmetic")
    parser.add_argument("--workers", type=int, default=0, help="number of processes that render clips in the trainings")
    parser.add_argument("--processes", type=int, default=1, help="number of prompts whose videos are made at once")
    parser.add_argument("--cuda-graphs", action="store_true", help="replay networks as CUDA graphs in the trainings")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=tuple(PLANS),
        help="train only this network and end; may be given several times",
    )
    parser.add_argument(
        "--way",
        dest="ways",
        action="append",
        default=[],
        choices=(*ARMS, SAME_SHARE),
        help=f"compare only this way; may be given several times (default: all but {SAME_SHARE!r})",
    )
    parser.add_argument(
        "--earlier-keyframes", dest="earlier", type=Path, help="stage folder of keyframes of a shorter training"
    )
    parser.add_argument("--quick", action="store_true", help="use only 2 prompts and 2 optimizer steps")
    given = parser.parse_args(arguments)
    for name in ("videos", "processes"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} must be 1 or more, got {getattr(given, name)}")
    if given.share <= 0:
        parser.error(f"--share must be more than 0, got {given.share}")
    if given.earlier is not None and not (given.earlier / "unet").is_dir():
        parser.error(f"--earlier-keyframes: {given.earlier} is not a stage folder; it has no folder unet")
    sets = tuple(given.sets.split(","))
    try:
        AlignmentPlan(sets=sets)
    except InputError as error:
        parser.error(f"--sets: {error}")
    fields = {name: value for name, value in vars(given).items() if name not in ("only", "processes", "quick")}
    options = Options(**{**fields, "ways": tuple(given.ways), "sets": sets})
    if given.quick:
        return dataclasses.replace(options, videos=2 * len(sets), steps=2), given
    if options.videos < len(options.tables):
        parser.error(f"--videos must be {len(options.tables)} or more, one for each set, got {options.videos}")
    return options, given


def main(arguments: Sequence[str] | None = None, *, train: Callable[..., Any] = train) -> None:
    """Runs the benchmark; `train` runs a training."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options, given = parse(arguments)
    with train_mini.stop_when_asked() as stop:
        try:
            networks = train_networks(options, given.only, stop, train=train)
        except Cancelled as stopped:
            sys.exit(f"{stopped}; run the same command to resume")
        except InputError as error:
            sys.exit(f"--{error}")
    if given.only:
        return
    if given.processes > 1:
        side_by_side(options, networks, given.processes)
    compare(options, pipelines(options, networks), functools.partial(costs_of, options, networks))
    print((options.out / "report.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
