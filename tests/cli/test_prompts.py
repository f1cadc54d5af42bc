"""`show1 generate --prompts FILE`, and one stage on a video of one's own."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from show1.generation.run import Run
from show1.video import Video
from tests.cli.conftest import Show1, signalled_at


def test_each_prompt_has_its_video_and_the_same_command_resumes(show1: Show1, cascade: Path) -> None:
    Path("my prompts.txt").write_text("# two\na panda\n\n  a cat jumps  \n")
    asked = ["generate", "--prompts", "my prompts.txt", "-m", cascade, "--until", "interpolation"]
    names = ["my prompts/0001-a-panda.mp4", "my prompts/0002-a-cat-jumps.mp4"]
    planned = show1(*asked, "--dry-run")
    assert planned.code == 0 and all(f"{name} " in planned.out for name in names) and not Path("runs").exists()

    with signalled_at("keyframes: done", times=2):
        stopped = show1(*asked)
    assert stopped.code == 130 and stopped.out == f"{names[0]}\n"
    assert "[2/2] a cat jumps" in stopped.err and "The same command makes the videos that are left." in stopped.err
    first = Path(names[0]).read_bytes()
    resumed = show1(*asked)
    assert resumed.code == 0 and resumed.out.splitlines() == names
    assert "keyframes: done" not in resumed.err and resumed.err.count("interpolation: done") == 1
    assert Path(names[0]).read_bytes() == first and Video.load(names[1]).metadata["seed"] == 0
    assert resumed.err.count("already finished, run ") == 1
    hint = "To take one of them through the other stages: show1 resume 'runs/prompts-my prompts/0001' --pick 1"
    assert resumed.err.splitlines()[-1] == hint and resumed.err.count("To take") == 1


def test_tables_name_seeds_and_files_and_one_failure_stops_nothing(show1: Show1, cascade: Path, tmp_path: Path) -> None:
    Path("p.csv").write_text('prompt,seed,negative_prompt\na panda,7,\n"a cat, jumping",,blur\n')
    asked = ["generate", "--prompts", "p.csv", "-m", cascade, "--until", "keyframes", "-o", "out/take.mkv", "--json"]
    Path("runs/prompts-p").mkdir(parents=True)
    Path("runs/prompts-p/0001").write_text("in the way")
    failed = show1(*asked, "--seed", 3)
    assert failed.code == 1 and "1 of 2 prompts failed" in failed.err
    results = [json.loads(line) for line in failed.out.splitlines()]
    assert "cannot be made" in results[0]["error"] and results[1]["seed"] == 3
    assert results[1]["file"] == str(tmp_path / "out" / "take-0002.mkv")
    record = Video.load("out/take-0002.mkv").metadata
    assert record["prompt"] == "a cat, jumping" and record["settings"]["keyframes"]["negative_prompt"] == "blur"
    Path("runs/prompts-p/0001").unlink()
    assert show1(*asked, "--seed", 3).code == 0 and Video.load("out/take-0001.mkv").metadata["seed"] == 7


def test_options_of_files_count_for_finished_runs_too(show1: Show1, cascade: Path) -> None:
    Path("p.txt").write_text("a panda\n")
    video, sheet = Path("out/0001-a-panda.mp4"), Path("s-0001.png")
    asked = ["generate", "--prompts", "p.txt", "-m", cascade, "--until", "keyframes", "-o", "out", "--quiet"]
    assert show1(*asked, "--quality", 100).code == 0
    best = video.read_bytes()
    worse = show1(*asked, "--quality", 0)
    assert worse.code == 2 and "exists already" in worse.err and video.read_bytes() == best
    assert show1(*asked, "--quality", 0, "--overwrite").code == 0 and len(video.read_bytes()) < len(best)
    written = video.stat().st_mtime_ns

    sheet.write_text("mine")
    asked += ["--quality", 0, "--sheet", "s.png"]
    refused = show1(*asked)
    assert refused.code == 2 and "s-0001.png exists already" in refused.err and sheet.read_text() == "mine"
    sheet.unlink()
    for _ in range(2):  # then it is the run's own
        assert show1(*asked).code == 0 and sheet.read_bytes().startswith(b"\x89PNG")
    assert video.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.txt", "\n# none\n", "p.txt holds no prompt"),
        ("p.csv", "prompt,seed\na,x\n", "p.csv, line 2: its seed 'x' is no whole number"),
        ("p.csv", "caption\na\n", "p.csv, line 2 has the column 'caption'; there are prompt, seed, negative_prompt"),
        ("p.csv", "prompt,seed\n,1\n", "p.csv, line 2: the prompt is empty"),
        ("p.jsonl", '{"prompt": "a"}\n{"prompt": 3}\n', "p.jsonl, line 2: prompt must be text"),
        ("p.jsonl", "{\n", "p.jsonl, line 1 is not JSON"),
        ("p.txt", None, "p.txt cannot be read"),
    ],
)
def test_faulty_files_of_prompts(show1: Show1, cascade: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        Path(name).write_text(text)
    failed = show1("generate", "--prompts", name, "-m", cascade)
    assert failed.code == 2 and said in failed.err


def film(frames: int, height: int, width: int) -> Video:
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    moved = [np.broadcast_to(np.roll(ramp, 3 * i)[None, :, None], (height, width, 3)) for i in range(frames)]
    return Video(frames=np.stack(moved), fps=10)


@pytest.mark.parametrize(
    ("stage", "frames", "expected"),
    [
        ("interpolation", 4, (7, 20.0)),
        ("interpolation", 1, (1, 20.0)),
        ("super_resolution", 11, (11, 10.0)),
        ("translation", 3, (3, 10.0)),
    ],
)
def test_one_stage_on_a_video_of_ones_own(
    show1: Show1, cascade: Path, stage: str, frames: int, expected: tuple[int, float]
) -> None:
    film(frames, 30, 34).save("mine.mkv")
    settings = show1("generate", "x", "-m", cascade, "--dry-run", "--json").json["request"]["settings"]
    asked = ["generate", "a panda", "-m", cascade, "--start-from", stage, "--until", stage, "--video", "mine.mkv"]
    plan = show1(*asked, "--dry-run")
    assert plan.code == 0 and re.search(rf"\b{expected[0]} frames? of", plan.out)
    made = show1(*asked, "-o", "made.mkv", "--run", "run", "-q")
    assert made.code == 0, made.err
    video = Video.load("made.mkv")
    height, width = (settings[stage if stage != "interpolation" else "keyframes"][side] for side in ("height", "width"))
    assert (len(video), video.fps) == expected and video.frames.shape[1:3] == (height, width)
    Path("mine.mkv").unlink()
    Path(f"run/{stage}.safetensors").unlink()
    assert show1("resume", "run", "-o", "again.mkv", "-q").code == 0
    assert (Video.load("again.mkv").frames == video.frames).all()
    repeated = show1("generate", "--from", "made.mkv")
    assert repeated.code == 2 and "made from another video" in repeated.err


def test_the_middle_of_a_wide_video_is_kept(show1: Show1, cascade: Path) -> None:
    """Resized to cover the keyframes' size and cropped at the centre: nothing is stretched."""
    wide = np.zeros((2, 60, 400, 3), np.uint8)
    wide[:, :, 130:270] = 255
    Video(frames=wide, fps=8).save("wide.mkv")
    asked = ["generate", "x", "-m", cascade, "--start-from", "interpolation", "--until", "interpolation", "-q"]
    assert show1(*asked, "--video", "wide.mkv", "--run", "run", "-o", "x.mkv").code == 0
    begun = Run.open("run").load_input()
    assert begun is not None and float(begun.mean()) > 0.95


def test_wrong_uses_of_a_video(show1: Show1, cascade: Path) -> None:
    film(2, 16, 16).save("mine.mkv")
    Path("text.mp4").write_text("no video")
    for options, said in (
        (["--video", "mine.mkv"], "--video needs --start-from STAGE"),
        (["--start-from", "interpolation"], "needs `video`"),
        (["--start-from", "keyframes", "--video", "mine.mkv"], "only for start_from="),
        (["--start-from", "translation", "--video", "nothing.mp4"], "no such file"),
        (["--start-from", "translation", "--video", "text.mp4"], "it is no video"),
        (["--prompts", "p.txt"], "give a prompt or --prompts FILE"),
    ):
        failed = show1("generate", "a panda", "-m", cascade, *options)
        assert failed.code == 2 and said in failed.err
