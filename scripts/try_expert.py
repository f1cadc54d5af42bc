"""Runs an expert with real weights and writes what a table needs: time, memory, and sheets to look at.

For a reader with a GPU; see "What was tested" in docs/experts.md:

    python scripts/try_expert.py THUDM/CogVideoX-2b --video clip.mp4 --prompt "a dog runs along the beach" -o tried/

For each level it redraws the video, and measures seconds, peak memory, how much of the video is left (PSNR and
correlation of its small version), sharpness and flicker beside those of the video itself. `tried/report.md` holds a
table and the versions, ready to be posted; `tried/level-0.7.mp4` and `.png` are what it shows. Without --video it makes
a clip by `mini`.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from show1 import Show1Pipeline, Video, make_request
from show1.cli.failures import run_script
from show1.cli.refine import suiting
from show1.cli.settings import apply_changes, parse_change
from show1.errors import OutputError
from show1.generation.metadata import environment
from show1.media import contact_sheet, save_sheet
from show1.runtime import measure

FIELDS = ("level", "seconds", "peak GB", "PSNR", "kept", "sharpness", "flicker")


def compared(video: Video, source: Video) -> dict[str, float]:
    """How a redrawn video compares with what it was made from.

    `kept`: correlation of both at an eighth of the size, where only the layout is left. `sharpness` and `flicker`: the
    mean Laplacian, and the mean change from frame to frame, each divided by that of the source at the same size.
    """
    ours = torch.from_numpy(video.frames).permute(0, 3, 1, 2).float() / 255
    theirs = torch.from_numpy(source.frames).permute(0, 3, 1, 2).float() / 255
    theirs = F.interpolate(theirs, size=ours.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
    small = [F.avg_pool2d(x, 8).flatten() for x in (ours, theirs)]
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(3, 1, 3, 3)
    edges = [F.conv2d(x, kernel, groups=3).abs().mean() for x in (ours, theirs)]
    changes = [x.diff(dim=0).abs().mean() if len(x) > 1 else torch.tensor(1.0) for x in (ours, theirs)]
    return {
        "PSNR": float(-10 * torch.log10((ours - theirs).square().mean())),
        "kept": float(torch.corrcoef(torch.stack(small))[0, 1]),
        "sharpness": float(edges[0] / edges[1]),
        "flicker": float(changes[0] / changes[1]),
    }


def numbers(text: str) -> list[float]:
    """Numbers with commas between them."""
    return [float(each) for each in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("expert", help="Hub repository or folder")
    parser.add_argument("--video", help="clip to redraw")
    parser.add_argument("--prompt", default="a panda spins over the snow")
    parser.add_argument("--levels", type=numbers, default="0.4,0.55,0.7,0.85", help="with commas between them")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="setting of a stage, such as translation.num_inference_steps=20",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    options = parser.parse_args()
    changes = [parse_change(pair) for pair in options.set]
    if options.output.exists():
        raise OutputError(f"{options.output} exists already; name a new folder")
    if options.video is None:
        source = Show1Pipeline.from_pretrained("mini")(options.prompt, seed=options.seed, until="super_resolution")
    else:
        source = Video.load(options.video)
    began = time.monotonic()
    pipe = Show1Pipeline.from_pretrained({"translation": options.expert}, device=options.device, dtype=options.dtype)
    found = f"{time.monotonic() - began:.0f} s to find or download it"
    settings = apply_changes(pipe.settings, [*suiting(pipe, "translation", source, "keep", changes), *changes])
    how = {"start_from": "translation", "video": source, "seed": options.seed}
    requests = {
        level: make_request(options.prompt, model=pipe, settings=settings.replace(translation={"level": level}), **how)
        for level in options.levels
    }
    for request in requests.values():
        pipe.check(request)
    options.output.mkdir(parents=True)
    if options.video is None:
        source.save(options.output / "source.mkv")
    rows = []
    for level, request in requests.items():
        with measure(pipe.device) as cost:
            (video,) = pipe.generate(request, video=source)
        video.save(options.output / f"level-{level:g}.mp4")
        sheet = contact_sheet([source.frames, video.frames], labels=["the video", f"level {level:g}"])
        save_sheet(sheet, options.output / f"level-{level:g}.png")
        row = {"level": level, "seconds": cost.seconds, "peak GB": cost.peak_memory / 1e9, **compared(video, source)}
        rows.append(row)
        print(", ".join(f"{name} {value:.3g}" for name, value in row.items()), flush=True)
    lines = [f"| {' | '.join(FIELDS)} |", "|" + "---|" * len(FIELDS)]
    lines += [f"| {' | '.join(f'{row[name]:.3g}' for name in FIELDS)} |" for row in rows]
    card = torch.cuda.get_device_name(pipe.device) if pipe.device.type == "cuda" else platform.processor() or "CPU"
    place = environment(pipe.device, pipe.dtype).model_dump(exclude_none=True)
    frames, height, width = np.asarray(source.frames).shape[:3]
    head = [f"# {options.expert} on {card}", "", f"{frames} frames of {height}x{width}; {found}.", ""]
    used = request.settings.translation.to_dict()
    tail = ["", f"Settings: `{json.dumps(used)}`", "", f"Environment: `{json.dumps(place)}`", ""]
    (options.output / "report.md").write_text("\n".join([*head, *lines, *tail]), encoding="utf-8")
    print(options.output / "report.md")


if __name__ == "__main__":
    run_script(main)
