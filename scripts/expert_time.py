"""What should a model see that knows more frames per second than a video has? Measured on tracked motion.

    python scripts/expert_time.py --videos 16

Clips of the sprite world are rendered, so that the true place of the subject is known in every frame. There are three
ways to show them to an expert that knows a multiple of their frame rate: `keep` shows them as they are, `blend` puts
blended frames between, `interpolation` those that `mini`'s interpolation makes between frames of 20x32 pixels. Two
tables say what comes of it:

1. Frames are put between those of clips of 29 frames (8 per second: 57), 15 (4 per second: 29) and 8 (2 per second:
   29). How far are the new ones from what was rendered at those times?
2. `mini`'s own expert, which knows 8 frames per second, gets clips of 15 frames (or `--frames 8`) in each of the three
   ways; the last row is what was rendered at 8 frames per second. It redraws them, and the frames of the clip are taken
   from what it gives.

`off`: distance of the subject from where it was rendered, in percent of the frame's width (root mean square over
frames), by the reader that looks at both; `size off`: the same of its size, in percent; `motion`: how many videos still
show their motion, and `all three` subject, background and motion; sharpness and flicker as of `show1 evaluate
alignment`. Errors of pixels are in 8-bit levels.
"""

import argparse
import datetime
import platform
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from show1 import Show1Pipeline
from show1.cli.failures import run_script
from show1.config import StageName
from show1.data.clips import frame_times
from show1.evaluation.intervals import Share
from show1.experts.frames import resized, slowed
from show1.media import contact_sheet, save_sheet
from show1.sprites.alignment.judge import SceneJudge
from show1.sprites.captions import caption
from show1.sprites.readers.subject import SpriteReader
from show1.sprites.readers.tracking import Track, fitted, track
from show1.sprites.scenes import SpriteWorld, render_tensor
from show1.video import Video

FPS = 8
"""Frames per second of clips of 29 frames, and of what the expert knows."""
PACES = {29: 2, 15: 2, 8: 4}
"""How many times as many frames per second are made, by the number of frames of a clip."""
TINY, MIDDLE, LARGE = (20, 32), (80, 128), (160, 256)
INTERPOLATION: StageName = "interpolation"
SUPER_RESOLUTION: StageName = "super_resolution"
TRANSLATION: StageName = "translation"


def tracked(reader: SpriteReader, video: Tensor, subject: int) -> Track:
    """The path of a known subject in a video (3, F, H, W)."""
    masks = reader.read(video.clamp(-1, 1)).masks
    return fitted(track(video, masks, subject), video, masks, subject)


def distance(path: Track, truth: Track, frames: NDArray[np.bool_]) -> tuple[float, float]:
    """Root mean square distance in percent of the width, and of the logarithm of the size in percent."""
    x, y = (path.x - truth.x)[frames], (path.y - truth.y)[frames] / 1.6
    size = np.log(np.maximum(path.size, 1e-3) / np.maximum(truth.size, 1e-3))[frames]
    return 100 * float(np.sqrt((x**2 + y**2).mean())), 100 * float(np.sqrt((size**2).mean()))


def interpolated(pipe: Show1Pipeline, prompt: str, video: Tensor, factor: int, seed: int) -> Tensor:
    """A video (3, F, 20, 32) with the frames between by `mini`: (3, (F - 1) * factor + 1, 20, 32)."""
    settings = {INTERPOLATION: {"factor": factor, "keep_keyframes": True}}
    between = {"start_from": INTERPOLATION, "until": INTERPOLATION, "settings": settings}
    out: Tensor = pipe(prompt, seed=seed, video=video, output_type="pt", **between)
    return out


def mean(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f}"


def pace(frames: int) -> str:
    """A clip of so many frames in words."""
    return f"{frames} frames, {FPS * (frames - 1) // 28} per second"


def new_frames(pipe: Show1Pipeline, reader: SpriteReader, scenes: list[Any]) -> None:
    """The first table."""
    print("| clip | frames between | n | off | size off | error |\n|---|---|---:|---:|---:|---:|")
    for frames, factor in PACES.items():
        total = (frames - 1) * factor + 1
        new = torch.arange(total) % factor != 0
        found: dict[str, list[tuple[float, ...]]] = {"blend": [], "interpolation": []}
        for seed, scene in enumerate(scenes):
            truth = render_tensor(scene, frame_times(total), *MIDDLE)
            true_path = tracked(reader, truth, scene.subject)
            clip, tiny = (render_tensor(scene, frame_times(frames), *size) for size in (MIDDLE, TINY))
            between = interpolated(pipe, caption(scene), tiny, factor, seed)
            made = {"blend": slowed(clip[None], factor)[0], "interpolation": resized(between[None], *MIDDLE)[0]}
            for name, video in made.items():
                path = tracked(reader, video, scene.subject)
                error = float((video - truth)[:, new].abs().mean()) * 127.5
                found[name].append((*distance(path, true_path, new.numpy()), error))
        for name, rows in found.items():
            cells = " | ".join(mean([row[i] for row in rows]) for i in range(3))
            print(f"| {pace(frames)} | {name} | {len(rows)} | {cells} |", flush=True)


def shown(pipe: Show1Pipeline, scene: Any, frames: int, seed: int) -> dict[str, tuple[Tensor, int]]:
    """What the expert sees of a scene, in each way, and how many of its frames stand for one of the video."""

    def enlarged(tiny: Tensor) -> Tensor:
        stage = {"start_from": SUPER_RESOLUTION, "until": SUPER_RESOLUTION, "output_type": "pt"}
        out: Tensor = pipe(caption(scene), seed=seed, video=tiny, **stage)
        return out

    factor = PACES[frames]
    total = (frames - 1) * factor + 1
    tiny = render_tensor(scene, frame_times(frames), *TINY)
    clip = enlarged(tiny)
    between = resized(interpolated(pipe, caption(scene), tiny, factor, seed)[None], *clip.shape[2:])[0]
    between[:, ::factor] = clip
    return {
        "keep": (clip, 1),
        "blend": (slowed(clip[None], factor)[0], factor),
        "interpolation": (between, factor),
        "rendered": (enlarged(render_tensor(scene, frame_times(total), *TINY)), factor),
    }


def redrawn(pipe: Show1Pipeline, scene: Any, video: Tensor, seed: int, level: float) -> Tensor:
    """A video (3, F, H, W) by `mini`'s own expert."""
    settings = {TRANSLATION: {"level": level}}
    out: Tensor = pipe(
        caption(scene), seed=seed, start_from=TRANSLATION, video=video, settings=settings, output_type="pt"
    )
    return out


def by_the_expert(
    pipe: Show1Pipeline, judge: SceneJudge, scenes: list[Any], frames: int, levels: list[float], sheet: Path | None
) -> None:
    """The second table, for clips of so many frames."""
    found: dict[tuple[float, str], list[dict[str, Any]]] = {}
    pictures: list[tuple[str, Any]] = []
    for seed, scene in enumerate(scenes):
        truth = render_tensor(scene, frame_times(frames), *LARGE)
        true_path = tracked(judge.reader, truth, scene.subject)
        for name, (video, step) in shown(pipe, scene, frames, seed).items():
            for level in levels:
                made = redrawn(pipe, scene, video, seed, level)[:, ::step].clamp(-1, 1)
                found.setdefault((level, name), []).append(compared(judge, scene, made, true_path))
                if seed < 2 and level == levels[-1]:
                    pictures.append((f"{name}, {level:g}", Video.from_tensor(made, fps=4.0).frames))
        print(f"{seed + 1} of {len(scenes)} clips", flush=True)
    print(f"\n{pace(frames)}:\n\n| level | shown | n | off | size off | motion | all three | sharpness | flicker |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    for (level, name), rows in sorted(found.items(), key=lambda item: item[0][0]):
        shares = [Share.of(row[key] for row in rows).share for key in ("motion", "all three")]
        numbers = [mean([row[key] for row in rows]) for key in ("off", "size off")]
        looks = [mean([row[key] for row in rows if row[key] is not None]) for key in ("sharpness", "flicker")]
        cells = [*numbers, *(f"{100 * share:.0f}" for share in shares), *looks]
        print(f"| {level:g} | {name} | {len(rows)} | {' | '.join(cells)} |", flush=True)
    if sheet is not None:
        drawn = contact_sheet([v for _, v in pictures], labels=[n for n, _ in pictures], columns=4, max_width=1600)
        save_sheet(drawn, sheet.with_stem(f"{sheet.stem}-{frames}"), overwrite=True)


def compared(judge: SceneJudge, scene: Any, made: Tensor, true_path: Track) -> dict[str, Any]:
    """Measurements of a redrawn video (3, F, H, W)."""
    off, size_off = distance(tracked(judge.reader, made, scene.subject), true_path, np.full(made.shape[1], True))
    score, _ = judge.score(made)
    motion = score.motion == scene.motion
    right = score.subject == scene.subject and score.background == scene.background
    row = {"off": off, "size off": size_off, "motion": motion, "all three": motion and right}
    return {**row, "sharpness": score.sharpness, "flicker": score.flicker}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=16)
    parser.add_argument("--levels", type=float, nargs="+", default=[0.4, 0.6, 0.8])
    parser.add_argument("--frames", type=int, nargs="+", default=[15], choices=list(PACES), help="of the 2nd table")
    parser.add_argument("--table", choices=["1", "2", "both"], default="both")
    parser.add_argument("--sheet", type=Path, help="PNG to draw of the first two clips")
    arguments = parser.parse_args()
    world, pipe, judge = SpriteWorld(seed=79), Show1Pipeline.from_pretrained("mini", dtype="bfloat16"), SceneJudge()
    scenes = [world.scene(index) for index in range(arguments.videos)]
    if arguments.table != "2":
        new_frames(pipe, judge.reader, scenes)
    if arguments.table != "1":
        for frames in arguments.frames:
            by_the_expert(pipe, judge, scenes, frames, arguments.levels, arguments.sheet)
    print(f"\n{platform.machine()}, torch {torch.__version__}, {datetime.date.today()}.")


if __name__ == "__main__":
    run_script(main)
