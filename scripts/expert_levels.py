"""At which noise levels does an expert keep what the keyframes show, and what does the picture gain?

    python scripts/expert_levels.py sprite-expert/model mini --out levels

`mini` makes videos of held-out prompts up to a stage (`--until`), once. Each expert redraws each of them from every
level that it knows; `mini` stands for the cascade's own expert, at 160x256. What is judged and how is that of
`show1 evaluate alignment`: sharpness is relative to a render of the same size, flicker in 8-bit levels. Run it again to
resume; results are kept by the hash of the expert's weights, so that one that was trained further is measured anew.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from show1 import Show1Pipeline, make_request
from show1.cli.failures import run_script
from show1.config import StageName
from show1.errors import InputError
from show1.evaluation.intervals import Share
from show1.experts.frames import resized
from show1.files import write_json
from show1.media import contact_sheet, save_sheet
from show1.sprites.alignment.judge import CRITERIA, SceneJudge
from show1.sprites.alignment.prompts import prompts_of
from show1.video import Video

STAGE: StageName = "translation"
OWN_SIZE = (160, 256)
"""Height and width of what mini's own expert makes."""
SHOWN = 4
"""Videos of each level on the contact sheet."""
COLUMNS = [*CRITERIA[:4], "sharpness", "flicker"]


def given(out: Path, until: StageName, prompts: list[Any], dtype: str) -> list[Tensor]:
    """The videos (3, F, h, w) that experts redraw, made once and kept."""
    folder = out / until
    folder.mkdir(parents=True, exist_ok=True)
    pipe = None
    for number, prompt in enumerate(prompts):
        file = folder / f"{number:03}.pt"
        if not file.is_file():
            pipe = pipe or Show1Pipeline.from_pretrained("mini", dtype=dtype)
            made = pipe(prompt.prompt, seed=number, until=until, output_type="pt")
            torch.save(made[0] if made.ndim == 5 else made, file)
            print(f"{until}: {number + 1} of {len(prompts)}", flush=True)
    return [torch.load(folder / f"{number:03}.pt", weights_only=True) for number in range(len(prompts))]


def redrawn(pipe: Show1Pipeline, prompt: Any, video: Tensor, number: int, settings: dict[str, Any]) -> Tensor:
    """A video (3, F, H, W) by the expert."""
    made: Any = pipe(
        prompt.prompt, seed=number, start_from=STAGE, video=video, settings={STAGE: settings}, output_type="pt"
    )
    return made[0] if made.ndim == 5 else made


def measured(video: Tensor, prompt: Any, judge: SceneJudge) -> dict[str, Any]:
    """Verdicts and measurements of a video (3, F, H, W)."""
    score, _ = judge.score(video.float().clamp(-1, 1))
    return {**score.verdicts(prompt), "sharpness": score.sharpness, "flicker": score.flicker}


def row(name: str, scores: list[dict[str, Any]]) -> str:
    cells = []
    for criterion in COLUMNS[:4]:
        found = Share.of(score[criterion] for score in scores)
        low, high = found.interval
        cells.append(f"{100 * found.share:.1f} ({100 * low:.0f} to {100 * high:.0f})")
    for value in COLUMNS[4:]:
        known = [score[value] for score in scores if score[value] is not None]
        cells.append(f"{statistics.mean(known):.2f}" if known else "")
    return f"| {name} | {len(scores)} | {' | '.join(cells)} |"


def curve(expert: str, given_videos: list[Tensor], prompts: list[Any], judge: SceneJudge, options: Any) -> None:
    """The rows of an expert, and a sheet of its first videos."""
    height, width = OWN_SIZE if expert == "mini" else options.size
    pipe = Show1Pipeline.from_pretrained({STAGE: expert}, dtype=options.dtype)
    how = f"{height}x{width} {options.steps} steps guidance {options.guidance:g}"
    folder = options.out / f"{pipe.model_record.sha256[:8]} from {options.until} {how}"
    folder.mkdir(exist_ok=True)
    enlarged = [resized(video[None], height, width)[0] for video in given_videos]
    scores = [measured(video, prompt, judge) for video, prompt in zip(enlarged, prompts, strict=True)]
    print(row(f"enlarged to {height}x{width}", scores), flush=True)
    shown = [("enlarged", Video.from_tensor(video, fps=8.0).frames) for video in enlarged[:SHOWN]]
    for level in options.levels:
        settings = {"level": level, "num_inference_steps": options.steps, "guidance_scale": options.guidance}
        settings |= {"height": height, "width": width}
        try:
            pipe.check(
                make_request("a cat", model=pipe, start_from=STAGE, video=enlarged[0], settings={STAGE: settings})
            )
        except InputError as error:
            print(f"{expert}, level {level:g}: left out ({error})", flush=True)
            continue
        scores = []
        for number, (prompt, video) in enumerate(zip(prompts, given_videos, strict=True)):
            file = folder / f"{level:g}-{number:03}.json"
            if not file.is_file():
                made = redrawn(pipe, prompt, video, number, settings)
                if number < SHOWN:
                    Video.from_tensor(made, fps=8.0).save(file.with_suffix(".mkv"), overwrite=True)
                write_json(file, measured(made, prompt, judge))
            if number < SHOWN and file.with_suffix(".mkv").is_file():
                shown.append((f"level {level:g}", Video.load(file.with_suffix(".mkv")).frames))
            scores.append(json.loads(file.read_text()))
        print(row(f"{expert}, level {level:g}", scores), flush=True)
    sheet = contact_sheet([v for _, v in shown], labels=[n for n, _ in shown], columns=SHOWN, max_width=1500)
    save_sheet(sheet, folder / "sheet.png", overwrite=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experts", nargs="+", help="folders or repositories of experts; mini: the cascade's own")
    parser.add_argument("--out", type=Path, default=Path("levels"))
    parser.add_argument("--levels", type=float, nargs="+", default=[0.2, 0.4, 0.6, 0.8, 0.9])
    parser.add_argument("--videos", type=int, default=32)
    parser.add_argument("--until", choices=("interpolation", "super_resolution"), default="super_resolution")
    parser.add_argument("--size", type=int, nargs=2, default=(80, 128), metavar=("HEIGHT", "WIDTH"), help="but of mini")
    parser.add_argument("--steps", type=int, default=10, help="steps of the whole schedule")
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    prompts, judge = prompts_of("held_out")[: options.videos], SceneJudge()
    low = given(options.out, options.until, prompts, options.dtype)
    print(f"| video | n | {' | '.join(COLUMNS)} |\n|---|---:|---:|---:|---:|---:|---:|---:|")
    for expert in options.experts:
        curve(expert, low, prompts, judge, options)


if __name__ == "__main__":
    run_script(main)
