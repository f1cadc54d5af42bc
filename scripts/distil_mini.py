"""Distils the keyframes of `mini`: first their guidance, which gives those of `mini:fast`, then steps to 16, 8 and 4.

    python scripts/distil_mini.py --out training-runs                      # every run in order; resumes
    python scripts/distil_mini.py --out training-runs --teacher training-runs/keyframes/export
    python scripts/distil_mini.py --out training-runs --only keyframes_fast --steps 240 --batch-size 8
    python -m benchmarks gate mini training-runs/distil_8/export training-runs/distil_4/export --videos 256

Each run is `show1 distil keyframes` with the options below. Its export is a stage folder that samples as it was
taught. Stop the chain where alignment falls by more than two points.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import train_mini

from show1.cli.failures import run_script

_SHARED: dict[str, Any] = {
    "task": "distil_keyframes",
    "steps": 1000,
    "batch_size": 16,
    "optimizer": "muon",
    "lr_schedule": "linear",
    "warmup_steps": 20,
    "ema_decay": 0.99,
    "mixed_precision": "bf16",
    "timestep_logit": [1.2, 1.6],
    "checkpoint_every": 100,
}
"""What the runs have in common. Learning rates are a third to a half of those of the keyframes' trainings."""

RECIPE: dict[str, dict[str, Any]] = {
    "keyframes_fast": {"steps": 440, "learning_rate": 7e-4, "seed": 2},
    "distil_16": {"teacher": "keyframes_fast", "student_steps": 16, "learning_rate": 6e-4, "seed": 2},
    "distil_8": {"teacher": "distil_16", "student_steps": 8, "learning_rate": 6e-4, "seed": 3},
    "distil_4": {"teacher": "distil_8", "student_steps": 4, "learning_rate": 6e-4, "seed": 4},
}
"""Options of each run, in order; "teacher" names the run whose export it takes."""


def options(run: str, out: Path, teacher: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The options of a run, with paths in place of runs."""
    data = train_mini.with_data(train_mini.RECIPE["keyframes"])["data"]  # as in the last training of the keyframes
    chosen = {**_SHARED, **RECIPE[run], "data": data, "out": str(out / run), **changes}
    before = RECIPE[run].get("teacher")
    return {**chosen, "teacher": teacher if before is None else str(out / before / "export")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("training-runs"))
    parser.add_argument("--teacher", help="what the first run distils; by default OUT/keyframes/export, or mini")
    parser.add_argument("--only", action="append", default=[], choices=list(RECIPE))
    parser.add_argument("--steps", type=int, help="number of steps instead of the recipe's")
    parser.add_argument("--batch-size", type=int, help="clips per step instead of the recipe's")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    from show1.errors import Cancelled
    from show1.sprites.clips import SpriteClips
    from show1.training import TrainingConfig, train
    from show1.training.tasks.distillation_options import DISTILLATIONS

    trained = arguments.out / "keyframes" / "export"
    teacher = arguments.teacher or (str(trained) if trained.is_dir() else "mini")
    changes = {"steps": arguments.steps, "batch_size": arguments.batch_size}
    given = {name: value for name, value in changes.items() if value is not None}
    with train_mini.stop_when_asked() as stop:
        for run in arguments.only or list(RECIPE):
            config = TrainingConfig.from_dict(options(run, arguments.out, teacher, given), DISTILLATIONS)
            clips = SpriteClips.from_spec(config.data, config.loop.seed)
            try:
                train(config.options, config.loop, clips, stop=stop)
            except Cancelled as error:
                logging.info("%s; the same command resumes", error)
                break


if __name__ == "__main__":
    run_script(main)
