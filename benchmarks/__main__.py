"""Runs a benchmark: `python -m benchmarks cost`, with the benchmark's own options after its name."""

import argparse
import runpy
import sys

from benchmarks.processes import choose_threads
from show1.cli.failures import run_script

BENCHMARKS = {
    "cost": "parameters, operations and bytes of the published networks, counted on any machine",
    "deep_features": "what the reuse of deep features between steps saves, and what it costs",
    "devices": "several processes against one; started by torchrun",
    "gate": "alignment of variants of a model on the same prompts",
    "gpu_full": "the whole cascade at the published sizes on a GPU, with random weights",
    "length": "time and memory by the length of the video, and the seams of windows",
    "memory": "what each part takes of memory, and what the plan makes of a budget",
    "network": "choices in the pixel UNet that are about speed",
    "page": "seconds until drafts are seen on the page of a server, in a browser, and pictures of it",
    "quality": "the gate on mini: alignment, distances, solver error, flicker, seams",
    "solver_errors": "how far samplers stay from the exact path",
    "speed": "the networks, and a whole run, as the published run computes them, against ours",
    "storage": "weights in fewer bits: sizes and errors",
    "start": "from the command to the file, split into imports, loading, stages and writing",
}
"""Modules of this package, and what they measure."""


def main() -> None:
    """Runs the benchmark that the command line names."""
    listed = "\n".join(f"  {name:14} {what}" for name, what in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benchmark", choices=BENCHMARKS)
    name = parser.parse_args(sys.argv[1:2]).benchmark
    sys.argv = [f"python -m benchmarks {name}", *sys.argv[2:]]
    choose_threads()  # before torch is imported
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")


if __name__ == "__main__":
    run_script(main)
