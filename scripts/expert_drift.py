"""Does a long video drift where an expert sees it in windows? Colour, place and seams along the clip.

    python scripts/expert_drift.py mini --videos 4
    python scripts/expert_drift.py sprite-expert/model --size 80 128 --videos 4

Clips of 113 frames of the sprite world (14 seconds at 8 per second), so that every colour and place is known, are made
small and redrawn by the expert (`mini`: the cascade's own) in three ways: `whole` at once, in `windows` of latent
frames that are blended at each step, and in `pieces` that are redrawn by themselves and blended in pixels where they
overlap, as is left for families whose networks see videos whole. Columns are quarters of the clip: the
mean colour's distance from the render (8-bit levels), and the subject's (percent of the width, root mean
square). `seams`: the mean change from one frame to the next where a window or a piece begins or ends, divided by that
of all other frames; 1 means that nothing is seen of them.
"""

import argparse
import datetime
import platform
import statistics
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from show1 import Show1Pipeline
from show1.cli.failures import run_script
from show1.config import StageName
from show1.data.clips import frame_times
from show1.diffusion import Window, sliding_windows
from show1.experts.frames import resized
from show1.sprites.captions import caption
from show1.sprites.readers.subject import SpriteReader
from show1.sprites.readers.tracking import track
from show1.sprites.scenes import SpriteWorld, render_tensor

STAGE: StageName = "translation"
FRAMES, WINDOW, OVERLAP = 113, 29, 8
QUARTERS = 4


def pieces() -> list[Window]:
    """The windows of the clip."""
    return sliding_windows(FRAMES, WINDOW, WINDOW - OVERLAP)


def redrawn(pipe: Show1Pipeline, prompt: str, video: Tensor, settings: dict[str, Any]) -> Tensor:
    """A video (3, F, H, W) by the expert."""
    out: Tensor = pipe(prompt, seed=1, start_from=STAGE, video=video, settings={STAGE: settings}, output_type="pt")
    return out


def in_pieces(pipe: Show1Pipeline, prompt: str, video: Tensor, settings: dict[str, Any]) -> Tensor:
    """The same of each window by itself, blended in pixels."""
    total, weights = torch.zeros(()), torch.zeros(FRAMES)
    for window in pieces():
        made = redrawn(pipe, prompt, video[:, window.start : window.stop], settings)
        inside = torch.arange(1, len(window) + 1)
        ramp = torch.minimum(inside, inside.flip(0)).float().clamp(max=OVERLAP)
        if total.ndim == 0:
            total = made.new_zeros(3, FRAMES, *made.shape[2:])
        total[:, window.start : window.stop] += made * ramp[:, None, None]
        weights[window.start : window.stop] += ramp
    return total / weights[:, None, None]


def measured(reader: SpriteReader, scene: Any, made: Tensor, truth: Tensor) -> dict[str, NDArray[np.float64]]:
    """Distances of a video (3, F, H, W) from the render, frame by frame, and the seams."""
    made = made.clamp(-1, 1)
    colour = (made.mean((2, 3)) - truth.mean((2, 3))).square().mean(0).sqrt().numpy() * 127.5
    path, true = (track(video, reader.read(video).masks, scene.subject) for video in (made, truth))
    place = 100 * np.hypot(path.x - true.x, (path.y - true.y) / 1.6)
    change = (made - truth).diff(dim=1).abs().mean((0, 2, 3)).numpy()
    borders = {edge - 1 for window in pieces() for edge in (window.start, window.stop)} - {-1, FRAMES - 1}
    at = np.isin(np.arange(FRAMES - 1), list(borders))
    return {"colour": colour, "place": place, "seams": np.array([change[at].mean() / change[~at].mean()])}


def quarters(values: list[NDArray[np.float64]], *, squared: bool) -> str:
    """Means over videos of each quarter of the clip."""
    cells = []
    for number in range(QUARTERS):
        parts = np.concatenate([np.array_split(each, QUARTERS)[number] for each in values])
        cells.append(f"{float(np.sqrt((parts**2).mean()) if squared else parts.mean()):.2f}")
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("expert")
    parser.add_argument("--size", type=int, nargs=2, default=[160, 256], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--level", type=float, default=0.4)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    world, reader, size = SpriteWorld(seed=79), SpriteReader.trained(), tuple(arguments.size)
    pipe = Show1Pipeline.from_pretrained({STAGE: arguments.expert}, dtype="bfloat16")
    settings = {"level": arguments.level, "num_inference_steps": arguments.steps, "guidance_scale": 1.0}
    settings |= {"height": size[0], "width": size[1]}
    found: dict[str, list[dict[str, NDArray[np.float64]]]] = {"whole": [], "windows": [], "pieces": []}
    for number in range(arguments.videos):
        scene = world.scene(number)
        truth = render_tensor(scene, frame_times(FRAMES), *size)
        low = resized(truth[None], size[0] // 4, size[1] // 4)[0]
        whole = {**settings, "window": FRAMES, "overlap": OVERLAP}
        for name, rows in found.items():
            redraw = in_pieces if name == "pieces" else redrawn
            made = redraw(pipe, caption(scene), low, {**whole, "window": WINDOW} if name == "windows" else whole)
            rows.append(measured(reader, scene, made, truth))
        print(f"{number + 1} of {arguments.videos}", flush=True)
    print("| way | colour off, by quarter | | | | place off, by quarter | | | | seams |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name, rows in found.items():
        colour = quarters([row["colour"] for row in rows], squared=False)
        place = quarters([row["place"] for row in rows], squared=True)
        print(f"| {name} | {colour} | {place} | {statistics.mean(float(row['seams'][0]) for row in rows):.2f} |")
    print(f"\nlevel {arguments.level:g}, {platform.machine()}, torch {torch.__version__}, {datetime.date.today()}.")


if __name__ == "__main__":
    run_script(main)
