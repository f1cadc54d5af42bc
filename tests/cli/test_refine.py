"""`show1 refine`: one stage on a video of the user's."""

from pathlib import Path

import numpy as np
import pytest

from show1 import Show1Pipeline
from show1.config import StageName
from show1.generation.refining import refine_settings
from show1.video import Video
from tests.cli.conftest import Show1
from tests.experts.tiny_experts import build_wan


@pytest.fixture(scope="session")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Wan. Not to be changed: copy it first."""
    return build_wan(tmp_path_factory.mktemp("wan") / "expert")


def test_an_expert_redraws_a_video_of_the_users(show1: Show1, wan: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (7, 30, 70, 3), dtype=np.uint8)
    Video(frames=frames, fps=12.0).save("clip.mkv")
    settings = ["--set", "translation.num_inference_steps=3", "--seed", 1]
    plan = show1("refine", "clip.mkv", "--prompt", "a cat", "--expert", wan, "--dry-run", "--json").json
    assert (plan["frames"], plan["height"], plan["width"], plan["fps"]) == (7, 416, 976, 12.0)
    assert plan["request"]["settings"]["translation"]["window"] == 81
    asked = ["refine", "clip.mkv", "--prompt", "a cat", "--expert", wan, "--dry-run", "--json"]
    sized = [*asked, "--set", "translation.height=32", "--set", "translation.width=72"]
    ways = show1(*sized, "--memory", "6GB").json["plan"]
    assert set(ways) == {"the text encoder of translation", "translation"} and ways["translation"]["peak"] < 6e9
    assert "memory are not enough for the text encoder of translation" in show1(*sized, "--memory", "1MB").err
    Video(frames=frames, fps=8.0).save("slow.mkv")
    for time, factor in (((), 2), (("--time", "resample"), 2), (("--time", "keep"), 1)):
        slow = show1(*asked[:1], "slow.mkv", *asked[2:], *time).json["request"]["settings"]["translation"]
        assert slow["time_factor"] == factor
    usual = show1(*asked)
    assert usual.json["request"]["settings"]["translation"]["time_factor"] == 1 and "as it is" not in usual.err
    near = show1(*asked, "--time", "resample")
    assert "12 frames per second and the expert knows 16; it is shown as it is" in near.err
    small = [*settings, "--set", "translation.height=32", "--set", "translation.width=72", "--level", 0.4]
    made = show1("refine", "clip.mkv", "-p", "a cat", "--expert", wan, *small, "-o", "out.mkv", "--quiet")
    assert made.code == 0, made.err
    video = Video.load("out.mkv")
    assert video.frames.shape == (7, 32, 72, 3) and video.fps == 12.0
    assert video.metadata["settings"]["translation"]["level"] == 0.4 and video.metadata["stages"] == ["translation"]
    shown = show1("inspect", "out.mkv").out
    assert "made from  another video, which the file does not hold" in shown and "--from" not in shown
    refused = show1("refine", "clip.mkv", "--expert", wan)
    assert refused.code == 2 and "give --prompt TEXT" in refused.err


@pytest.mark.parametrize("stage", ["translation", "super_resolution"])
def test_a_stage_of_the_cascade_redraws_a_video_of_the_users(
    show1: Show1, cascade: Path, whole: Path, stage: str
) -> None:
    made = show1("refine", whole, "-m", cascade, "--stage", stage, "--seed", 1, "-o", "out.mkv", "--quiet")
    assert made.code == 0, made.err
    video = Video.load("out.mkv")
    assert video.frames.shape == ((5, 24, 40, 3) if stage == "translation" else (5, 16, 32, 3))
    assert video.metadata["prompt"] == "a panda" and video.metadata["stages"] == [stage]
    smaller = "the result has 16x32, less than the 24x40 of the video; --set super_resolution.height=N"
    assert (smaller in made.err) == (stage == "super_resolution")


@pytest.mark.parametrize(
    ("stage", "before", "clip", "result", "given"),
    [
        ("super_resolution", "keyframes", (40, 64), (80, 128), (20, 32)),
        ("super_resolution", "keyframes", (120, 160), (96, 128), (24, 32)),
        ("super_resolution", "keyframes", (640, 360), (144, 80), (36, 20)),
        ("translation", "super_resolution", (1080, 1920), (144, 256), (72, 128)),
        ("translation", "super_resolution", (10, 10), (192, 192), (96, 96)),
    ],
)
def test_a_stage_of_the_cascade_keeps_the_shape_of_the_video(
    stage: StageName, before: str, clip: tuple[int, int], result: tuple[int, int], given: tuple[int, int]
) -> None:
    pipe = Show1Pipeline.from_pretrained("mini", stages=[stage])
    changes = refine_settings(pipe, stage, *clip)
    assert {name: (each["height"], each["width"]) for name, each in changes.items()} == {stage: result, before: given}


def test_a_size_that_cuts_off_much_is_told(show1: Show1, whole: Path) -> None:
    wide = ["--set", "translation.height=16", "--set", "translation.width=64", "--dry-run"]
    told = show1("refine", whole, "--stage", "translation", *wide).err
    assert "58% of the video are cut off, because 16x64 is of another shape" in told


def test_what_cannot_be_refined_is_refused(show1: Show1, whole: Path) -> None:
    assert "works on no video" in show1("refine", whole, "--stage", "keyframes").err
    paced = show1("refine", whole, "--time", "resample", "--dry-run")
    assert paced.code == 2 and "only an expert knows a pace, and translation has none" in paced.err
    assert "not of 'super_resolution'" in show1("refine", whole, "--stage", "super_resolution", "--expert", "x/y").err
    missing = show1("refine", "nothing.mp4", "--prompt", "x")
    assert missing.code == 2 and "no such file" in missing.err
