"""The gate: what a change of speed must not cost `mini`. Alignment, Fréchet distances, solver error, flicker, seams.

    python -m benchmarks quality                            # mini as it is: hours on a CPU
    python -m benchmarks quality --quick                    # the same with few videos, in minutes
    python -m benchmarks quality "mini keyframes.num_inference_steps=8" --write docs/speed.md

Variants are models followed by changes of settings, as `python -m benchmarks gate` takes them; each is judged on the
same prompts and seeds as `mini` itself, after each stage. Solver errors are those of `python -m benchmarks
solver_errors`, seams those of `python -m benchmarks length --seams`. Shares of videos have 95 % intervals.
"""

import argparse
from pathlib import Path

from benchmarks.gate import gate_table
from benchmarks.length import seams_table
from benchmarks.pages import Page, write_option
from benchmarks.solver_errors import SAMPLED, errors_table
from show1.sprites.alignment.run import AlignmentPlan


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help="models to compare with mini")
    parser.add_argument("--out", type=Path, default=Path("evaluations/gate"), help="folder of videos, which resumes")
    parser.add_argument("--videos", type=int, default=256, help="held-out prompts, with one or two seeds each")
    parser.add_argument("--until", help="last stage; by default the model's last")
    parser.add_argument("--quick", action="store_true", help="4 videos of keyframes, and solver errors of Gaussians")
    parser.add_argument("--dtype", default="bfloat16")
    write_option(parser)
    arguments = parser.parse_args()
    page = Page(arguments.write, "gate", "seams")
    videos, until = (4, "keyframes") if arguments.quick else (arguments.videos, arguments.until)
    plan = AlignmentPlan(sets=("held_out",), videos=videos, until=until, batch_size=min(8, videos))
    gate = gate_table(["mini", *arguments.variants], plan, out=arguments.out, dtype=arguments.dtype)
    page.write("gate", gate)
    errors = errors_table(["gaussians"] if arguments.quick else SAMPLED)
    seams = seams_table()
    page.write("seams", seams)
    print("\n".join(text.splitlines()[-1] for text in (gate, errors, seams)))


if __name__ == "__main__":
    main()
