"""Times a command from its start to the file, split into imports, loading, stages and writing.

    python -m benchmarks start                              # mini, in processes of their own, three times
    python -m benchmarks start --against ../other/src      # another checkout as well, in turn with this one
    python -m benchmarks start --preset fast --until keyframes --count 8 --against ../other/src    # eight drafts
    python -m benchmarks start --beside 1                   # beside a busy process, with threads as chosen and without

Wall-clock times, and the seconds of all cores beside them, which other work on the machine disturbs less. Medians; the
ratios are those of the medians. Loading is the opening of the model, and the end of the process; each stage loads its
own networks. Writing is that of the run folder and of the file. Beside another checkout they are one part, because not
every version tells when the run folder is made.

With `--beside N` the whole command is timed alone, beside N processes that compute all the time, and beside them with
the variables that leave the threads to OpenMP, in turn; variables of OpenMP that the user has set are left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.pages import Page, measured_on, times, write_option
from benchmarks.processes import OPENMP, busy, environment, without_policy

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
OURS = Path(__file__).resolve().parent.parent / "src"
UNKNOWN = float("nan")

Seconds = tuple[float, float]
"""Wall-clock seconds, and those of all cores."""


def run(source: Path, options: list[str], folder: Path, *, joined: bool) -> dict[str, Seconds]:
    """One command in a new folder, with an empty cache.

    Args:
        source: The `src` of a checkout.
        options: Further options of `show1 generate`.
        folder: Where to work.
        joined: Whether loading and writing are one part.

    Returns:
        Seconds by part: wall clock, and of all cores (NaN where the command does not tell).
    """
    variables = environment(PYTHONPATH=str(source), SHOW1_CACHE=str(folder / "cache"))
    imports, _ = _timed([sys.executable, "-c", IMPORTS], variables, folder)
    (wall, cores), out = _timed(generating(options), variables, folder)
    result: dict[str, Any] = json.loads(out)
    return {"imports": imports, **split(result, wall - imports[0], joined=joined), "whole": (wall, cores)}


def generating(options: list[str]) -> list[str]:
    """The command that is timed."""
    return [sys.executable, "-c", COMMAND, "generate", PROMPT, "--seed", "1", "-o", "video.mp4", "--json", *options]


def split(result: dict[str, Any], seconds: float, *, joined: bool = False) -> dict[str, Seconds]:
    """What a command spent without its imports, by part.

    Args:
        result: What `show1 generate --json` tells.
        seconds: Wall-clock seconds of the command, without its imports.
        joined: Whether loading and writing are one part.
    """
    stages = {name: float(cost["seconds"]) for name, cost in result["stages"].items()}
    making = float(result["seconds"])  # from the making of the run folder until the file is there
    if joined:
        parts = {**stages, "loading, writing": seconds - sum(stages.values())}
    else:
        parts = {"loading": seconds - making, **stages, "writing": making - sum(stages.values())}
    return {name: (wall, UNKNOWN) for name, wall in parts.items()}


def _timed(command: list[str], variables: dict[str, str], folder: Path) -> tuple[Seconds, str]:
    """The seconds of a command, and what it wrote."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, os.times()
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:2])} failed: {done.stderr[-2000:]}")
    cores = after.children_user + after.children_system - before.children_user - before.children_system
    return (wall, cores), done.stdout


def table(runs: dict[str, list[dict[str, Seconds]]]) -> str:
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


def split_table(arguments: argparse.Namespace) -> str:
    """Runs the command, and that of another checkout, in turn; the seconds of their parts."""
    sources = {"this": OURS}
    if arguments.against is not None:
        sources["other"] = arguments.against.resolve()
    both, own = _options(arguments)
    runs: dict[str, list[dict[str, Seconds]]] = {name: [] for name in sources}
    for _ in range(arguments.repeat):
        for name, source in sources.items():
            with tempfile.TemporaryDirectory() as folder:
                options = both + (own if name == "this" else [])
                runs[name].append(run(source, options, Path(folder), joined=len(sources) > 1))
    preset = f", this one with `{' '.join(own)}`" if own else ""
    return f"{table(runs)}\n\n{_measured(arguments.repeat, both)}{preset}"


def beside_table(command: list[str], count: int, repeat: int) -> str:
    """Times a command alone and beside busy processes, with its threads as it chooses them and without, in turn.

    Args:
        command: The command.
        count: Number of busy processes.
        repeat: Runs of each.

    Returns:
        Medians in Markdown, with ratios to the command alone.
    """
    others = f"beside {count} busy process{'es' * (count > 1)}"
    ways = {"alone": (0, {}), others: (count, {}), f"{others}, threads left to OpenMP": (count, without_policy())}
    taken: dict[str, list[Seconds]] = {name: [] for name in ways}
    for _ in range(repeat):
        for name, (number, threads) in ways.items():
            with tempfile.TemporaryDirectory() as folder, busy(number):
                known = environment(PYTHONPATH=str(OURS), SHOW1_CACHE=folder)
                variables = {key: value for key, value in known.items() if key not in OPENMP} | threads
                taken[name].append(_timed(command, variables, Path(folder))[0])
    medians = {name: [statistics.median(each) for each in zip(*pairs, strict=True)] for name, pairs in taken.items()}
    lines = ["| whole command | s | core-s | ratio | ratio, core-s |", "|---|---:|---:|---:|---:|"]
    for name, pair in medians.items():
        ratios = [value / alone for value, alone in zip(pair, medians["alone"], strict=True)]
        lines.append(f"| {name} | {' | '.join(_number(value) for value in (*pair, *ratios))} |")
    return "\n".join(lines)


def table_name(arguments: argparse.Namespace) -> str:
    """The name of the table on a page, which says what was run: `start`, `start, fast, keyframes, 8 drafts`."""
    drafts = None if arguments.count is None else f"{arguments.count} drafts"
    beside = None if arguments.beside is None else "beside"
    return ", ".join(word for word in ("start", arguments.preset, arguments.until, drafts, beside) if word is not None)


def _options(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The options of the command that another checkout knows too, and those for this one only."""
    given = {"--until": arguments.until, "--count": arguments.count}
    both = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    return both, [] if arguments.preset is None else ["--preset", arguments.preset]


def _measured(repeat: int, options: list[str]) -> str:
    return f"{measured_on()}; {times(repeat)}, `{' '.join(['show1 generate', repr(PROMPT), *options])}`"


def main() -> None:
    """Runs the command in turns and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="SRC", help="the src of another checkout")
    parser.add_argument("--beside", type=int, metavar="N", help="time it beside N processes that compute all the time")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each")
    parser.add_argument("--until", help="last stage")
    parser.add_argument("--count", type=int, help="number of drafts")
    parser.add_argument("--preset", help="preset of the model, in this checkout only")
    write_option(parser)
    arguments = parser.parse_args()
    if arguments.beside is not None and (arguments.against is not None or arguments.beside < 1):
        parser.error("--beside takes a number of processes, 1 or more, and goes without --against")
    name = table_name(arguments)
    page = Page(arguments.write, name)
    if arguments.beside is None:
        text = split_table(arguments)
    else:
        both, own = _options(arguments)
        measured = beside_table(generating(both + own), arguments.beside, arguments.repeat)
        text = f"{measured}\n\n{_measured(arguments.repeat, both + own)}"
    print(text)
    page.write(name, text)


if __name__ == "__main__":
    main()
