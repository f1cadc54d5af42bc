"""Times a command from its start to the file, split into imports, loading, stages and writing.

    python -m benchmarks start                              # mini, in processes of their own, three times
    python -m benchmarks start --against ../other/src      # another checkout as well, in turn with this one
    python -m benchmarks start --preset fast --until keyframes --count 8 --against ../other/src    # eight drafts

Wall-clock times, and the seconds of all cores beside them, which other work on the machine disturbs less. Medians; the
ratios are those of the medians.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

PROMPT = "a panda spins over the snow"
IMPORTS = """
import os
from contextlib import nullcontext
import show1.cli.main
try:
    from show1.cli.lean import lean_imports, without_collector
except ImportError:
    lean_imports, without_collector = bool, nullcontext
with without_collector():
    lean_imports()
    from show1 import Show1Pipeline
    import diffusers, transformers
    diffusers.AutoencoderKL, diffusers.UNet3DConditionModel, transformers.T5EncoderModel
print(sum(os.times()[:2]))
"""
COMMAND = "import sys; from show1.cli.main import main; sys.exit(main())"


def run(source: Path, options: list[str], folder: Path) -> dict[str, tuple[float, float]]:
    """One command in a new folder, with an empty cache.

    Args:
        source: The `src` of a checkout.
        options: Further options of `show1 generate`.
        folder: Where to work.

    Returns:
        Seconds by part: wall clock, and of all cores (NaN where the command does not tell).
    """
    environment = {**os.environ, "PYTHONPATH": str(source), "SHOW1_CACHE": str(folder / "cache")}
    imports = _timed([sys.executable, "-c", IMPORTS], environment, folder)
    command = [sys.executable, "-c", COMMAND, "generate", PROMPT, "--seed", "1", "-o", "video.mp4", "--json", *options]
    (wall, cores), out = _timed(command, environment, folder)
    result: dict[str, Any] = json.loads(out)
    stages = {name: (float(cost["seconds"]), float("nan")) for name, cost in result["stages"].items()}
    computed = sum(seconds for seconds, _ in stages.values())
    rest = wall - imports[0][0] - computed
    return {"imports": imports[0], **stages, "loading, writing": (rest, float("nan")), "whole": (wall, cores)}


def _timed(command: list[str], environment: dict[str, str], folder: Path) -> tuple[tuple[float, float], str]:
    """Wall-clock seconds and those of all cores of a command, and what it wrote."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, os.times()
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:2])} failed: {done.stderr[-2000:]}")
    cores = after.children_user + after.children_system - before.children_user - before.children_system
    return (wall, cores), done.stdout


def table(runs: dict[str, list[dict[str, tuple[float, float]]]]) -> str:
    """Medians by part in Markdown, and with two checkouts the ratio of the second to the first."""
    names = list(runs)
    parts = list(runs[names[0]][0])
    heads = [f"{name}, s | {name}, core-s" for name in names] + (["ratio | ratio, core-s"] if len(names) == 2 else [])
    lines = [f"| part | {' | '.join(heads)} |", "|---|" + "---:|" * 2 * len(heads)]
    for part in parts:
        medians = [[statistics.median(run[part][kind] for run in runs[name]) for kind in (0, 1)] for name in names]
        cells = [_number(value) for pair in medians for value in pair]
        if len(names) == 2:
            cells += [_number(other / own) for own, other in zip(*medians, strict=True)]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return "" if value != value else f"{value:.2f}"


def main() -> None:
    """Runs the command in turns and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="SRC", help="the src of another checkout")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each")
    parser.add_argument("--until", help="last stage")
    parser.add_argument("--count", help="number of drafts")
    parser.add_argument("--preset", help="preset of the model, in this checkout only")
    arguments = parser.parse_args()
    sources = {"this": Path(__file__).resolve().parent.parent / "src"}
    if arguments.against is not None:
        sources["other"] = arguments.against.resolve()
    given = {"--until": arguments.until, "--count": arguments.count}
    options = [word for name, value in given.items() if value is not None for word in (name, value)]
    own = [] if arguments.preset is None else ["--preset", arguments.preset]
    runs: dict[str, list[dict[str, tuple[float, float]]]] = {name: [] for name in sources}
    for _ in range(arguments.repeat):
        for name, source in sources.items():
            with tempfile.TemporaryDirectory() as folder:
                runs[name].append(run(source, options + (own if name == "this" else []), Path(folder)))
    print(table(runs))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    preset = f", this one with `{' '.join(own)}`" if own else ""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{platform.machine()}, {cores} cores, load {load}; torch {torch.__version__}, {datetime.date.today()};")
    print(f"medians of {arguments.repeat}, `{' '.join(['show1 generate', repr(PROMPT), *options])}`{preset}")


if __name__ == "__main__":
    main()
