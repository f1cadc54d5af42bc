"""Renders what the cells are taught from, and teaches them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.customization.motions import teaching_caption, teaching_clip
from benchmarks.customization.plan import PLAIN, USE, Cell, Plan, settings_of
from benchmarks.customization.styles import apply_style
from show1.files import write_text
from show1.sprites.captions import caption
from show1.sprites.scenes import SpriteWorld, render
from show1.training.customization import CustomizationConfig


def write_clips(out: Path, plan: Plan) -> None:
    """Renders the clips and images that cells are taught from."""
    for name in plan.motions:
        file = motion_file(out, name)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            teaching_clip(name).save(file)
    world = SpriteWorld(seed=3000)
    for style in (PLAIN, *plan.styles) if plan.styles else ():
        folder = style_folder(out, style)
        if (folder / "captions.jsonl").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        scenes = [world.scene(number) for number in range(plan.style_images)]
        for number, scene in enumerate(scenes):
            frames = render(scene, 1, 80, 128, times=np.array([0.37 * number % 1]))
            drawn = frames if style == PLAIN else apply_style(style, frames, first_number=number)
            Image.fromarray(drawn[0]).save(folder / f"{number:04d}.png")
        lines = [{"file": f"{number:04d}.png", "caption": caption(scene)} for number, scene in enumerate(scenes)]
        write_text(folder / "captions.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def motion_file(out: Path, name: str) -> Path:
    """Returns the clip of a motion."""
    return out / "clips" / f"{name.replace(' ', '_')}.mkv"


def style_folder(out: Path, style: str) -> Path:
    """Returns the folder of the images in a style."""
    return out / "clips" / style.replace(" ", "_")


def configure(out: Path, plan: Plan, cell: Cell) -> CustomizationConfig:
    """Returns the options of a cell's customization."""
    folder = cell.folder(out)
    tuned = {name: value for name, value in settings_of(plan, cell).items() if name not in USE}
    options: dict[str, Any] = {
        "kind": cell.kind,
        "output": str(folder / "adapter.safetensors"),
        "run": str(folder / "run"),
        "model": plan.model,
        "method": cell.method,
        "stage": cell.stage,
        **tuned,
    }
    if cell.kind == "motion":
        options |= {"video": (str(motion_file(out, cell.name)),), "prompt": (teaching_caption(cell.name),)}
    else:
        options |= {"images": str(style_folder(out, cell.name)), "name": cell.name}
        if cell.stage == "super_resolution":
            options |= {"source": (str(style_folder(out, PLAIN)),)}
    return CustomizationConfig(**options)
