"""A whole generation by `mini`, plain and ours in turn: time per stage, evaluations, peak memory. `speed` prints it.

Each run is a process of its own, which this module's `main` is, with threads as the command line chooses them. The time
of a stage includes the loading of its networks, that of the whole begins when the package is imported.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from benchmarks.pages import measured_on, times
from benchmarks.plain import plain, plain_settings
from benchmarks.processes import run_module
from show1 import Show1Pipeline, make_request
from show1.generation.progress import Callbacks
from show1.runtime import choose_dtype
from show1.runtime.accounting import process_memory

PROMPT, SEED = "a panda spins over the snow", 1
WAYS = ("plain", "ours")


class Evaluations:
    """Counts samples that go through networks which denoise, as long as it is entered."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        self._hook = torch.nn.modules.module.register_module_forward_pre_hook(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _see(self, module: torch.nn.Module, inputs: Any) -> None:
        if "UNet" in type(module).__name__ and hasattr(module, "config"):
            self.count += len(inputs[0])


def run(way: str, dtype: str, video: Path) -> dict[str, Any]:
    """Generates once in this process.

    Args:
        way: One of `WAYS`.
        dtype: Precision.
        video: File for the frames, `.npy`.

    Returns:
        Core seconds and evaluations by part, and bytes of the process at the peak.
    """
    evaluations, marks = Evaluations(), []

    def mark(part: str) -> None:
        marks.append((part, time.process_time(), evaluations.count))

    pipe = Show1Pipeline.from_pretrained("mini", dtype=dtype)
    settings = plain_settings(pipe.settings) if way == "plain" else pipe.settings
    request = make_request(PROMPT, model=pipe, seed=SEED, settings=settings)
    with evaluations, plain() if way == "plain" else nullcontext():
        (frames,) = pipe.generate(request, output_type="np", callbacks=Callbacks(on_stage_start=mark))
    mark("")
    np.save(video, frames)
    parts = {
        name: {"seconds": ended - began, "evaluations": after - before}
        for (name, began, before), (_, ended, after) in zip(marks, marks[1:], strict=False)
    }
    return {"parts": parts, "peak": process_memory("VmHWM") or 0}


def in_process(way: str, dtype: str, folder: Path) -> dict[str, Any]:
    """Runs `run` in a new process with an empty cache, and adds the frames and the core seconds of all."""
    video, before = folder / "video.npy", os.times()
    found = run_module("benchmarks.whole", way, dtype, str(video), cache=folder)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return {**found, "whole": spent, "frames": np.load(video)}


def whole_table(repeat: int) -> str:
    """Runs both ways in turn in both precisions; medians in Markdown."""
    own = str(choose_dtype(None, torch.device("cpu"))).removeprefix("torch.")
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(repeat):
        for dtype in dict.fromkeys(("float32", "bfloat16", own)):
            for way in WAYS:
                with tempfile.TemporaryDirectory() as folder:
                    runs.setdefault((way, dtype), []).append(in_process(way, dtype, Path(folder)))
    lines = ["| part | evaluations | precision of plain, ours | plain, core-s | ours, core-s | ratio |"]
    lines.append("|---|---:|---|---:|---:|---:|")
    precisions = [(d, d, f"{d} both") for d in dict.fromkeys(("float32", "bfloat16"))] + [
        ("float32", own, f"float32, {own}")
    ]
    for of_plain, of_ours, label in precisions:
        pair = runs["plain", of_plain], runs["ours", of_ours]
        lines += _rows(label, *pair)
    for dtype in dict.fromkeys(("float32", own)):
        first, second = (runs[way, dtype][0]["frames"].astype(float) for way in WAYS)
        lines.append(
            f"\nThe two videos in {dtype} differ by {np.abs(first - second).mean():.3f} levels of 255 on average."
        )
    peaks = [f"{way} in {dtype} {_median(r, 'peak') / 1e9:.2f} GB" for (way, dtype), r in runs.items()]
    lines.append(f"Peak memory of the process: {', '.join(peaks)}.")
    lines.append(f"\n{measured_on()}; {times(repeat)}, `show1 generate {PROMPT!r} --seed {SEED}`")
    return "\n".join(lines)


def _rows(label: str, plain_runs: list[dict[str, Any]], our_runs: list[dict[str, Any]]) -> list[str]:
    """The rows of one pair of precisions: each part, and the whole command."""
    rows = []
    for part, first in our_runs[0]["parts"].items():
        seconds = [statistics.median(r["parts"][part]["seconds"] for r in each) for each in (plain_runs, our_runs)]
        rows.append(_row(part, first["evaluations"], label, *seconds))
    evaluations = sum(part["evaluations"] for part in our_runs[0]["parts"].values())
    return [*rows, _row("whole command", evaluations, label, _median(plain_runs, "whole"), _median(our_runs, "whole"))]


def _row(part: str, evaluations: int, label: str, of_plain: float, of_ours: float) -> str:
    ratio = of_plain / of_ours
    return f"| {part} | {evaluations} | {label} | {of_plain:.2f} | {of_ours:.2f} | {ratio:.2f} |"


def _median(runs: list[dict[str, Any]], key: str) -> float:
    return float(statistics.median(run[key] for run in runs))


def main() -> None:
    """Runs once and prints what it took as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("dtype")
    parser.add_argument("video", type=Path)
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.way, arguments.dtype, arguments.video)))


if __name__ == "__main__":
    main()
