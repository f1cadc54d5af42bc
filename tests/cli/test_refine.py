"""`show1 refine`: one stage on a video of the user's."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from show1 import Show1Pipeline
from show1.checkpoints.locate import resolve
from show1.config import PUBLISHED, CascadeSettings, StageName
from show1.generation.refining import Size, refine_settings
from show1.video import Video
from tests.cli.conftest import Show1

MINI = resolve("mini").settings


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
    assert "GB of memory are not enough for" in show1(*sized, "--memory", "1MB").err
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
    ("settings", "stage", "clip", "result", "seen"),
    [
        (MINI, "super_resolution", (40, 64), (80, 128), (20, 32)),
        (MINI, "super_resolution", (120, 160), (96, 128), (24, 32)),
        (MINI, "super_resolution", (640, 360), (144, 80), (36, 20)),
        (MINI, "super_resolution", (8, 400), (16, 720), (8, 360)),
        (MINI, "translation", (1080, 1920), (144, 256), (72, 128)),
        (MINI, "translation", (10, 10), (208, 208), (104, 104)),
        (MINI, "interpolation", (640, 360), (32, 16), (32, 16)),
        (PUBLISHED, "translation", (160, 256), (320, 576), (160, 256)),  # as in the whole cascade
        (PUBLISHED, "translation", (320, 576), (320, 576), (151, 272)),
        (PUBLISHED, "translation", (576, 320), (576, 320), (272, 151)),
        (PUBLISHED, "translation", (1024, 1024), (432, 432), (204, 204)),
        (PUBLISHED, "super_resolution", (1080, 1920), (144, 256), (36, 64)),
    ],
)
def test_a_stage_of_the_cascade_keeps_the_shape_of_the_video(
    settings: CascadeSettings, stage: StageName, clip: Size, result: Size, seen: Size
) -> None:
    model: Any = SimpleNamespace(settings=settings, cascade=resolve("mini"))
    changes = refine_settings(model, stage, clip)
    sizes = {name: (each["height"], each["width"]) for name, each in changes.items()}
    before = {"translation": "super_resolution"}.get(stage, "keyframes")
    assert sizes == ({"keyframes": result} if stage == "interpolation" else {stage: result, before: seen})


@pytest.mark.parametrize(
    ("expert", "clip", "asked", "seen"),
    [
        (False, (720, 1280), (720, 1280), (360, 640)),
        (False, (720, 1280), (96, 96), (48, 48)),
        (True, (720, 1280), (720, 1280), (720, 1280)),
        (True, (720, 1280), (480, 480), (480, 480)),
        (True, (100, 200), (480, 480), (100, 100)),
        (True, (100, 150), (480, 736), (100, 150)),  # nearly of one shape
    ],
)
def test_a_size_of_the_users_is_what_the_stage_works_for(
    wan: Path, expert: bool, clip: Size, asked: Size, seen: Size
) -> None:
    pipe = Show1Pipeline.from_pretrained({"translation": str(wan)} if expert else "mini", stages=["translation"])
    sizes = {"height": asked[0], "width": asked[1]}
    changes = refine_settings(pipe, "translation", clip, settings=pipe.settings.replace(translation=sizes))
    assert {key: changes["translation"][key] for key in sizes} == sizes
    assert (changes["super_resolution"]["height"], changes["super_resolution"]["width"]) == seen


def test_what_is_cut_off_is_told_and_nothing_is_stretched(show1: Show1) -> None:
    clip = np.zeros((3, 48, 80, 3), dtype=np.uint8)
    clip[:, :, :12], clip[:, :, -12:] = (255, 0, 0), (0, 0, 255)
    Video(frames=clip, fps=8.0).save("clip.mkv")
    square = ["--set", "translation.height=96", "--set", "translation.width=96"]
    asked = ["refine", "clip.mkv", "-p", "a cat", *square, "--seed", 1, "-o", "square.mkv", "--quiet"]
    made = show1(*asked)
    assert made.code == 0 and "40 % of the video is cut off, because 96x96 is of another shape" in made.err
    means = Video.load("square.mkv").frames.astype(float).mean(axis=(0, 1, 2))
    assert means[0] < 40 and means[2] < 40, means  # the red and the blue edge are gone
    assert show1("refine", "clip.mkv", "-p", "a cat", "--stage", "interpolation", "--dry-run").code == 0


def test_what_cannot_be_refined_is_refused(show1: Show1, whole: Path) -> None:
    assert "works on no video" in show1("refine", whole, "--stage", "keyframes").err
    paced = show1("refine", whole, "--time", "resample", "--dry-run")
    assert paced.code == 2 and "only experts know a frame rate, and translation is none" in paced.err
    assert "not of 'super_resolution'" in show1("refine", whole, "--stage", "super_resolution", "--expert", "x/y").err
    missing = show1("refine", "nothing.mp4", "--prompt", "x")
    assert missing.code == 2 and "no such file" in missing.err
