"""Trains the embedded cascade `mini` from scratch, and puts it into the package.

    python scripts/train_mini.py train --out training-runs            # every run in order; resumes
    python scripts/train_mini.py train --out training-runs --only keyframes --steps 4000
    python scripts/train_mini.py assemble --out training-runs --weights src/show1/weights/mini
    python scripts/train_mini.py report --out training-runs           # the tables of the model card

Each run is `show1.training.train` with the options below, which are also what `show1 train` takes; those of the sprite
world stand there behind `--data sprites:`.
"""

import argparse
import contextlib
import dataclasses
import json
import logging
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from show1.cli.failures import run_script

# glibc returns large blocks to the system after each use unless told otherwise, and every step asks for them again
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**33)}

_TURNED: dict[str, Any] = {
    "task": "keyframes",
    "batch_size": 16,
    "optimizer": "muon",
    "lr_schedule": "linear",
    "temporal_dropout": 0.0,
    "ema_decay": 0.99,
    "mixed_precision": "bf16",
}
"""What the runs have in common that show turned subjects."""

_LARGE: dict[str, Any] = {
    **_TURNED,
    "batch_size": 96,
    "learning_rate": 2e-3,
    "warmup_steps": 40,
    "timestep_logit": [1.2, 1.6],
}
"""The same in large batches."""

_GROUPS: dict[str, Any] = {
    **_TURNED,
    "task": "keyframe_images",
    "batch_size": 64,
    "learning_rate": 2e-3,
    "timestep_logit": [1.2, 1.6],
    "spins": 0.2,
    "tilts": 0.2,
}
"""What the runs have in common that show single frames, mostly of groups."""

_BETWEEN: dict[str, Any] = {
    "task": "interpolation",
    "batch_size": 8,
    "optimizer": "muon",
    "lr_schedule": "linear",
    "temporal_dropout": 0.0,
    "ema_decay": 0.99,
    "timestep_logit": [3.0, 1.5],
    "prediction_type": "sample",
    "add_condition": True,
    "mixed_precision": "bf16",
}
"""What the runs of the interpolation have in common."""

_LATER: dict[str, Any] = {
    "optimizer": "muon",
    "learning_rate": 1.2e-3,
    "lr_schedule": "linear",
    "warmup_steps": 20,
    "temporal_dropout": 0.0,
    "corruption": 0.5,
    "mixed_precision": "bf16",
    "tilts": 0.2,
    "groups": 0.35,
    "relations": 0.2,
    "two_motions": 0.5,
    "text": "text_composition",
}
"""What the trainings with compositions of the stages after the interpolation have in common."""

RECIPE: dict[str, dict[str, Any]] = {
    "text": {"steps": 400, "batch_size": 128, "learning_rate": 3e-3},
    "keyframe_images": {
        "steps": 6000,
        "batch_size": 64,
        "learning_rate": 2e-3,
        "optimizer": "muon",
        "lr_schedule": "constant",
        "text": "text",
    },
    "keyframes_clips": {
        "task": "keyframes",
        "steps": 2000,
        "batch_size": 8,
        "learning_rate": 2e-3,
        "optimizer": "muon",
        "lr_schedule": "constant",
        "inherited_lr_scale": 0.35,
        "temporal_dropout": 0.0,
        "timestep_logit": [0.9, 1.2],
        "init": "keyframe_images",
        "text": "text",
    },
    # which way a subject moves: at noise levels where the input does not show it, on scenes that differ in nothing else
    "keyframes_motions": {
        "task": "keyframes",
        "steps": 200,
        "batch_size": 8,
        "learning_rate": 1.2e-3,
        "optimizer": "muon",
        "lr_schedule": "constant",
        "temporal_dropout": 0.0,
        "ema_decay": 0.98,
        "timestep_logit": [3.5, 0.8],
        "motions_per_scene": 4,
        "init": "keyframes_clips",
        "text": "text",
    },
    "keyframes_levels": {
        "task": "keyframes",
        "steps": 2000,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "optimizer": "muon",
        "lr_schedule": "linear",
        "temporal_dropout": 0.0,
        "ema_decay": 0.99,
        "timestep_logit": [1.3, 1.4],
        "init": "keyframes_motions",
        "text": "text",
    },
    # turned subjects: those that spin, and those that never do
    "keyframes_tilts": {
        **_TURNED,
        "steps": 1120,
        "learning_rate": 1.3e-3,
        "timestep_logit": [1.0, 1.7],
        "spins": 0.25,
        "tilts": 0.35,
        "init": "keyframes_levels",
        "text": "text",
    },
    # more of them than anything else
    "keyframes_spins": {
        **_TURNED,
        "steps": 1040,
        "learning_rate": 1.6e-3,
        "timestep_logit": [1.5, 1.7],
        "spins": 0.45,
        "tilts": 0.5,
        "init": "keyframes_tilts",
        "text": "text",
    },
    "keyframes_groups": {
        **_TURNED,
        "steps": 1400,
        "learning_rate": 1.3e-3,
        "timestep_logit": [1.5, 1.7],
        "spins": 0.4,
        "tilts": 0.55,
        "groups": 0.15,
        "init": "keyframes_spins",
        "text": "text",
    },
    "text_groups": {
        "task": "text",
        "steps": 1500,
        "batch_size": 128,
        "learning_rate": 2e-3,
        "lr_schedule": "linear",
        "groups": 0.5,
        "tilts": 0.3,
        "spins": 0.3,
        "init": "text",
    },
    "keyframes_together": {
        **_TURNED,
        "steps": 1650,
        "learning_rate": 1.2e-3,
        "timestep_logit": [1.2, 1.6],
        "spins": 0.25,
        "tilts": 0.25,
        "groups": 0.2,
        "init": "keyframes_groups",
        "text": "text_groups",
    },
    # the same once more: the loss was still falling
    "keyframes_longer": {
        **_TURNED,
        "steps": 1300,
        "learning_rate": 1.2e-3,
        "timestep_logit": [1.2, 1.6],
        "spins": 0.25,
        "tilts": 0.2,
        "groups": 0.25,
        "init": "keyframes_together",
        "text": "text_groups",
    },
    # and in large batches: six minutes each on an H200 with `--cuda-graphs --workers 8`, many hours on a CPU
    "keyframes_large": {
        **_LARGE,
        "steps": 1936,
        "spins": 0.3,
        "tilts": 0.2,
        "groups": 0.2,
        "seed": 81,
        "init": "keyframes_longer",
        "text": "text_groups",
    },
    # the same once more, with more spins: the loss was still falling
    "keyframes_turning": {
        **_LARGE,
        "steps": 1850,
        "spins": 0.35,
        "tilts": 0.25,
        "groups": 0.15,
        "seed": 91,
        "init": "keyframes_large",
        "text": "text_groups",
    },
    # thin lines, and round things whose spins are held out, are learned last
    "keyframes_bicycles": {
        **_TURNED,
        "steps": 680,
        "learning_rate": 1e-3,
        "warmup_steps": 30,
        "timestep_logit": [1.0, 1.6],
        "spins": 0.25,
        "tilts": 0.2,
        "groups": 0.12,
        "subject_share": ["bicycle:0.35", "fish:0.06", "basketball:0.04"],
        "seed": 101,
        "init": "keyframes_turning",
        "text": "text_groups",
    },
    # composition: the text encoder learns what is said of each subject, single frames where each is, clips what it does
    "text_composition": {
        "task": "text",
        "steps": 3500,
        "batch_size": 128,
        "learning_rate": 2e-3,
        "lr_schedule": "linear",
        "mixed_precision": "bf16",
        "spins": 0.2,
        "tilts": 0.25,
        "groups": 0.35,
        "two_motions": 0.45,
        "seed": 5,
        "init": "text_groups",
    },
    "keyframe_groups": {
        **_GROUPS,
        "steps": 1083,
        "lr_schedule": "constant",
        "ema_decay": 0.98,
        "groups": 0.8,
        "relations": 0.6,
        "seed": 201,
        "init": "keyframes_bicycles",
        "text": "text_groups",
    },
    "keyframe_relations": {
        **_GROUPS,
        "steps": 1800,
        "groups": 0.85,
        "relations": 0.65,
        "seed": 202,
        "init": "keyframe_groups",
        "text": "text_composition",
    },
    "keyframes_pairs": {
        **_TURNED,
        "steps": 700,
        "learning_rate": 2e-3,
        "lr_schedule": "constant",
        "warmup_steps": 50,
        "timestep_logit": [1.2, 1.6],
        "spins": 0.25,
        "tilts": 0.15,
        "groups": 0.25,
        "relations": 0.45,
        "two_motions": 0.85,
        "pairs": 0.8,
        "subject_share": ["bicycle:0.08"],
        "seed": 203,
        "init": "keyframe_relations",
        "temporal_init": "keyframes_bicycles",
        "text": "text_composition",
    },
    "keyframes_kinds": {
        **_TURNED,
        "steps": 1750,
        "learning_rate": 2e-3,
        "warmup_steps": 30,
        "timestep_logit": [1.2, 1.6],
        "spins": 0.3,
        "tilts": 0.2,
        "groups": 0.32,
        "relations": 0.2,
        "two_motions": 0.62,
        "pairs": 0.88,
        "subject_share": ["bicycle:0.12", "fish:0.06", "basketball:0.06"],
        "seed": 204,
        "init": "keyframes_pairs",
        "text": "text_composition",
    },
    # and once more, more of everything that failed
    "keyframes_failures": {
        **_TURNED,
        "steps": 2600,
        "learning_rate": 1.5e-3,
        "warmup_steps": 30,
        "timestep_logit": [1.2, 1.6],
        "spins": 0.3,
        "tilts": 0.2,
        "groups": 0.33,
        "relations": 0.35,
        "two_motions": 0.6,
        "pairs": 0.8,
        "subject_share": ["bicycle:0.12", "fish:0.06", "basketball:0.06"],
        "seed": 206,
        "init": "keyframes_kinds",
        "text": "text_composition",
    },
    # sizes and counts again, and for the first time small and big subjects that lie at some angle
    "keyframes": {
        **_TURNED,
        "steps": 2200,
        "learning_rate": 1.5e-3,
        "warmup_steps": 30,
        "timestep_logit": [1.2, 1.6],
        "spins": 0.3,
        "tilts": 0.25,
        "groups": 0.4,
        "relations": 0.25,
        "two_motions": 0.6,
        "pairs": 0.88,
        "subject_share": ["bicycle:0.12", "fish:0.06", "basketball:0.06"],
        "seed": 207,
        "init": "keyframes_failures",
        "text": "text_composition",
    },
    # a small network of its own: how things move from one keyframe to the next, and nothing else
    "interpolation_ordinary": {
        **_BETWEEN,
        "steps": 3000,
        "learning_rate": 3e-3,
        "spins": 0.25,
        "tilts": 0.35,
        "text": "text",
    },
    # and how two subjects do, and one that turns off
    "interpolation": {
        **_BETWEEN,
        "steps": 600,
        "learning_rate": 1.5e-3,
        "spins": 0.2,
        "tilts": 0.2,
        "groups": 0.3,
        "two_motions": 0.6,
        "seed": 205,
        "init": "interpolation_ordinary",
        "text": "text_composition",
    },
    "super_resolution_images": {
        "steps": 3400,
        "batch_size": 64,
        "learning_rate": 2e-3,
        "optimizer": "muon",
        "lr_schedule": "linear",
        "ema_decay": 0.995,
        "noise_level": [0, 0],
        "prediction_type": "sample",
        "add_condition": True,
        "loss": "absolute",
        "corruption": 0.5,
        "mixed_precision": "bf16",
        "text": "text",
    },
    "super_resolution_ordinary": {
        "task": "super_resolution",
        "steps": 860,
        "batch_size": 8,
        "learning_rate": 1.5e-3,
        "optimizer": "muon",
        "lr_schedule": "linear",
        "temporal_dropout": 0.0,
        "ema_decay": 0.99,
        "timestep_logit": [1.0, 1.7],
        "noise_level": [0, 0],
        "loss": "absolute",
        "corruption": 0.5,
        "spins": 0.25,
        "tilts": 0.35,
        "mixed_precision": "bf16",
        "init": "super_resolution_images",
        "text": "text",
    },
    # two subjects, and one that changes its way
    "super_resolution": {
        **_LATER,
        "steps": 860,
        "batch_size": 8,
        "timestep_logit": [1.0, 1.7],
        "noise_level": [0, 0],
        "loss": "absolute",
        "prediction_type": "sample",
        "add_condition": True,
        "spins": 0.25,
        "ema_decay": 0.99,
        "seed": 210,
        "init": "super_resolution_ordinary",
    },
    "vae": {
        "steps": 6000,
        "batch_size": 4,
        "learning_rate": 2e-3,
        "optimizer": "muon",
        "warmup_steps": 50,
        "ema_decay": 0.99,
    },
    # low noise levels more than others: sampling begins at one
    "translation_images": {
        "steps": 2000,
        "batch_size": 32,
        "learning_rate": 2e-3,
        "optimizer": "muon",
        "lr_schedule": "constant",
        "ema_decay": 0.99,
        "timestep_logit": [-0.6, 1.2],
        "corruption": 0.5,
        "crop": [80, 128],
        "text": "text",
        "vae": "vae",
        "max_timestep": 900,
    },
    "translation_ordinary": {
        "task": "translation",
        "steps": 1200,
        "batch_size": 2,
        "learning_rate": 1.6e-3,
        "optimizer": "muon",
        "ema_decay": 0.98,
        "timestep_logit": [-1.2, 1.0],
        "corruption": 0.5,
        "crop": [80, 128],
        "temporal_dropout": 0.0,
        "init": "translation_images",
        "text": "text",
        "vae": "vae",
        "max_timestep": 900,
    },
    "translation": {
        **_LATER,
        "steps": 1200,
        "batch_size": 2,
        "timestep_logit": [-1.2, 1.0],
        "crop": [80, 128],
        "spins": 0.2,
        "ema_decay": 0.98,
        "seed": 211,
        "init": "translation_ordinary",
        "vae": "vae",
        "max_timestep": 900,
    },
    # the expert of mini:fast: a smaller network, which learns from latents of a tiny autoencoder: these come sooner
    "tiny_vae": {
        "steps": 3000,
        "batch_size": 8,
        "learning_rate": 2e-3,
        "optimizer": "muon",
        "lr_schedule": "linear",
        "warmup_steps": 50,
        "ema_decay": 0.99,
        "mixed_precision": "bf16",
        "spins": 0.2,
        "tilts": 0.2,
        "groups": 0.3,
        "seed": 1,
        "vae": "vae",
    },
    "translation_fast": {
        **_LATER,
        "task": "translation",
        "network": "mini-fast",
        "steps": 3000,
        "batch_size": 2,
        "learning_rate": 2e-3,
        "warmup_steps": 50,
        "timestep_logit": [-1.3, 0.8],
        "crop": [80, 128],
        "spins": 0.2,
        "ema_decay": 0.99,
        "seed": 212,
        "vae": "tiny_vae",
        "max_timestep": 900,
    },
}
"""Options of each run, in order; "task" where that is not its name; "init", "temporal_init", "text" and "vae" name runs
whose exports it takes."""

SETTINGS: dict[str, Any] = {
    "keyframes": {
        "num_inference_steps": 12,
        "time_grid": "logsnr",
        "guidance_scale": 3.0,
        "guidance_interval": [0.2, 1.0],
        "num_frames": 8,
        "height": 20,
        "width": 32,
        "fps": 2.0,
    },
    "interpolation": {"num_inference_steps": 1, "guidance_scale": 1.0, "factor": 4},
    "super_resolution": {
        "num_inference_steps": 2,
        "guidance_scale": 1.0,
        "height": 80,
        "width": 128,
        "noise_level": 0,
        "window": 8,
        "stride": 7,
    },
    "translation": {
        "num_inference_steps": 10,
        "guidance_scale": 1.0,
        "height": 160,
        "width": 256,
        "strength": 0.2,
        "max_timestep": 900,
    },
    "clean_prompt": "lower",
    "max_text_tokens": 24,
}
"""How `mini` samples unless asked otherwise."""

FAST: dict[str, Any] = {
    "keyframes": {"num_inference_steps": 8, "guidance_scale": 1.0, "guidance_interval": [0.0, 1.0]},
    "super_resolution": {"num_inference_steps": 1},
    "translation": {"num_inference_steps": 5},
}
"""How `mini:fast` samples where it does so in another way."""

FAST_FOLDERS = {"keyframes": "keyframes_fast", "translation": "translation_fast"}
"""The stages that have networks of their own in `mini:fast`, and their folders."""

PARTS: dict[str, tuple[str, ...]] = {
    "keyframes": ("unet", "scheduler", "text_encoder", "tokenizer"),
    "interpolation": ("unet", "scheduler"),
    "super_resolution": ("unet", "scheduler"),
    "translation": ("unet", "vae", "scheduler"),
    "keyframes_fast": ("unet", "scheduler"),
    "translation_fast": ("unet", "scheduler"),
}
"""The folders of the cascade, and what they hold."""


def options(run: str, out: Path, steps: int | None) -> dict[str, Any]:
    """The options of a run, with paths in place of runs."""
    chosen = with_data({"task": run, "out": str(out / run), **RECIPE[run]})
    for key in ("init", "temporal_init", "text", "vae"):
        if key in chosen:
            chosen[key] = str(out / chosen[key] / "export")
    if steps is not None:
        chosen["steps"] = steps
    return chosen


def shown_in(options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that are of the sprite world: which clips are shown."""
    from show1.sprites.options import SpriteOptions

    names = {field.name for field in dataclasses.fields(SpriteOptions)}
    return {name: value for name, value in options.items() if name in names}


def with_data(options: dict[str, Any]) -> dict[str, Any]:
    """Puts the options of the sprite world into the name of the data."""
    from show1.sprites.options import SpriteOptions

    shown = shown_in(options)
    others = {name: value for name, value in options.items() if name not in shown}
    return {**others, "data": SpriteOptions.from_dict(shown).spec}


def train_runs(out: Path, only: list[str], steps: int | None, minutes: float | None) -> None:
    """Does runs in turn, each for at most `minutes`; the next call resumes one that was stopped.

    Ctrl-C, or SIGTERM, stops at the next step, with a checkpoint and an export.
    """
    from show1.errors import Cancelled
    from show1.sprites.clips import SpriteClips
    from show1.sprites.options import TextOptions
    from show1.training import TASKS, TrainingConfig, train
    from show1.training.checkpoint import last_checkpoint, step_of

    with stop_when_asked() as stop:
        for run in only or list(RECIPE):
            config = TrainingConfig.from_dict(options(run, out, steps), [TextOptions, *TASKS])
            loop, clips = config.loop, SpriteClips.from_spec(config.data, config.loop.seed)
            logging.info("%s", json.dumps(config.to_dict()))
            end = time.monotonic() + minutes * 60 if minutes is not None else math.inf
            try:
                train(config.options, loop, clips, stop=lambda end=end: stop() or time.monotonic() > end)
            except Cancelled:
                done = step_of(last_checkpoint(loop.folder))
                # a run that has reached its last step writes the export and ends
                train(config.options, dataclasses.replace(loop, steps=done), clips)
            if stop():
                break


@contextlib.contextmanager
def stop_when_asked() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM end nothing meanwhile; what is given says whether one came."""
    asked: list[int] = []
    usual = {n: signal.signal(n, lambda n, _: asked.append(n)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def assemble(out: Path, weights: Path) -> None:
    """Gathers the exports into a cascade folder: the UNets' matrices as int8, all else in bfloat16.

    The keyframes of `mini:fast` are the export of the run `keyframes_fast` of scripts/distil_mini.py, and its expert
    has the autoencoder of the other one. Stages that were not trained in `out` stay as they are.
    """
    from show1.config import STAGES, CascadeSettings

    if (out / "keyframes" / "export").is_dir() and not (out / "keyframes_fast" / "export").is_dir():
        raise SystemExit(f"{out} has new keyframes; distil them as well: scripts/distil_mini.py --only keyframes_fast")
    settings = CascadeSettings.from_dict(SETTINGS).to_dict()
    new = weights.with_name(weights.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    for part, components in PARTS.items():
        export = out / part / "export"
        if not export.is_dir():
            shutil.copytree(weights / part, new / part)
            continue
        for component in components:
            shutil.copytree(export / component, new / part / component)
        for file in (new / part).rglob("*.safetensors"):
            _compress(file)
    shutil.copytree(new / "translation/vae", new / "translation_fast/vae", dirs_exist_ok=True)
    presets = {"fast": {"stages": FAST_FOLDERS, "settings": FAST}}
    index = {"format": 1, "name": "mini", "stages": {stage: stage for stage in STAGES}, "presets": presets}
    index["settings"] = settings
    advice = json.loads((weights / "show1.json").read_text())["customization"]  # found by experiments, not by training
    (new / "show1.json").write_text(json.dumps({**index, "customization": advice}, indent=2) + "\n")
    shutil.rmtree(weights, ignore_errors=True)
    new.replace(weights)
    print(f"{weights}: {sum(f.stat().st_size for f in weights.rglob('*') if f.is_file()) / 1e6:.1f} MB")


def _compress(file: Path) -> None:
    """Replaces the matrices of a UNet by int8 with scales, and all else by bfloat16."""
    import torch
    from safetensors.torch import load_file, save_file

    from show1.checkpoints.weight_files import pack_int8

    tensors = load_file(file)
    kept = pack_int8(tensors) if file.parent.name == "unet" else tensors
    half = {name: kept[name].to(torch.bfloat16) for name in kept.keys() & tensors.keys()}
    save_file({**kept, **half}, file, metadata={"format": "pt"})


def report(out: Path) -> None:
    """Prints what each run's log says: steps, samples, time, and the loss on the way."""
    columns = ["run", "steps", "batch", "samples", "hours", "loss at 1 %", "at 10 %", "at 50 %", "last"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for run in RECIPE:
        log = out / run / "log.jsonl"
        if not log.exists():
            continue
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        batch = json.loads((out / run / "config.json").read_text())["batch_size"]
        steps = [line["step"] for line in lines]
        spans = [b - a for a, b in zip([0, *steps], steps, strict=False)]
        hours = sum(n * batch / line["samples_per_second"] for n, line in zip(spans, lines, strict=True)) / 3600
        at = [next(line["loss"] for line in lines if line["step"] >= steps[-1] * part) for part in (0.01, 0.1, 0.5, 1)]
        losses = " | ".join(f"{loss:.4f}" for loss in at)
        print(f"| {run} | {steps[-1]} | {batch} | {steps[-1] * batch} | {hours:.2f} | {losses} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("train", "assemble", "report"):
        command = commands.add_parser(name)
        command.add_argument("--out", type=Path, default=Path("training-runs"))
        if name == "train":
            command.add_argument("--only", action="append", default=[], choices=list(RECIPE))
            command.add_argument("--steps", type=int, help="number of steps instead of the recipe's")
            command.add_argument("--minutes", type=float, help="stop each run after this many minutes, and export it")
        elif name == "assemble":
            command.add_argument("--weights", type=Path, default=Path("src/show1/weights/mini"))
    arguments = parser.parse_args()
    if arguments.command == "assemble":
        assemble(arguments.out, arguments.weights)
        return
    if arguments.command == "report":
        report(arguments.out)
        return
    if any(key not in os.environ for key in _MALLOC):
        os.environ.update(_MALLOC)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train_runs(arguments.out, arguments.only, arguments.steps, arguments.minutes)


if __name__ == "__main__":
    run_script(main)
