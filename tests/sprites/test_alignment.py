"""Alignment scores where the answer is known, and a whole evaluation of a small cascade."""

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from show1.checkpoints.locate import resolve
from show1.data.clips import frame_times
from show1.errors import InputError, RunError
from show1.evaluation.intervals import Share
from show1.evaluation.report import spread
from show1.generation.pipeline import Show1Pipeline
from show1.sprites.alignment.judge import SceneJudge
from show1.sprites.alignment.prompts import PromptFacts, alignment_prompts, prompts_sha256, read_prompt
from show1.sprites.alignment.run import AlignmentPlan, evaluate_alignment
from show1.sprites.alignment.summary import Measurement, summarise, validate
from show1.sprites.caption_reader import parse_caption
from show1.sprites.groups import GroupWorld
from show1.sprites.readers.subject import SpriteReader
from show1.sprites.scenes import SpriteWorld, render_tensor
from show1.sprites.world import BACKGROUNDS, MOTIONS, is_held_out
from show1.video import Video
from tests.published_layout import small_settings


@pytest.fixture(scope="module")
def reader() -> SpriteReader:
    return SpriteReader.trained()


@pytest.fixture(scope="module")
def judge() -> SceneJudge:
    return SceneJudge()


def test_the_prompts_are_what_they_say() -> None:
    prompts = alignment_prompts()
    assert prompts_sha256().startswith("4ee6cae6e9e4bf4a")
    assert [sum(p.set == name for p in prompts) for name in ("held_out", "seen", "paraphrase")] == [128, 128, 64]
    for prompt in prompts:
        assert parse_caption(prompt.prompt) == (prompt.subject, prompt.motion, prompt.background)
        held_out = is_held_out(prompt.subject, prompt.motion, prompt.background)
        assert held_out == (prompt.set != "seen")
    canonical = {p.prompt for p in prompts if p.set != "paraphrase"}
    assert not canonical & {p.prompt for p in prompts if p.set == "paraphrase"}


def test_the_reader_knows_held_out_renders(reader: SpriteReader) -> None:
    world, rng = SpriteWorld(seed=9, split="held_out"), random.Random(0)
    right = []
    for i in range(192):
        scene = world.scene(i)
        height = rng.choice((20, 40, 160))
        reading = reader.read(render_tensor(scene, np.array([rng.random()]), height, int(1.6 * height)))
        right.append(int(reading.subjects.argmax()) == scene.subject)
        assert int(reading.backgrounds.argmax()) == scene.background
    assert np.mean(right) >= 0.98


def test_scores_tell_truth_from_the_rest() -> None:
    prompts = alignment_prompts()[:16]
    true, shuffled, exchanged, noise = validate(prompts, SceneJudge(), num_frames=8, height=80, width=128)
    assert true["all three"]["hits"] >= 15 and true["stable"]["hits"] >= 15
    assert shuffled["all three"]["hits"] == 0
    assert noise["all three"]["hits"] == 0
    assert true["flicker"] is not None and noise["flicker"] is not None and true["flicker"] < 0.1 < noise["flicker"]
    assert true["sharpness"] == pytest.approx(1, abs=0.1)
    assert true["frame_distance"] is not None and noise["frame_distance"] is not None
    assert true["frame_distance"] < 0.5 * noise["frame_distance"]


def test_blur_and_flicker_are_seen(judge: SceneJudge) -> None:
    video = SceneJudge.truth(alignment_prompts()[0], seed=0, num_frames=8, height=80, width=128)
    clean, _ = judge.score(video)
    blurred = torch.nn.functional.avg_pool2d(video.transpose(0, 1), 5, stride=1, padding=2).transpose(0, 1)
    assert judge.score(blurred)[0].sharpness < 0.8 * clean.sharpness
    shaken = video + 0.1 * torch.randn(1, 8, 1, 1, generator=torch.Generator().manual_seed(0))
    assert judge.score(shaken)[0].flicker > clean.flicker + 3


def test_a_frame_without_a_subject_has_no_sharpness(judge: SceneJudge) -> None:
    empty = SpriteWorld(seed=1).compose(0, 0, 0)
    hidden = dataclasses.replace(empty, start=(9.0, 9.0), end=(9.0, 9.0))
    video = render_tensor(hidden, np.linspace(0, 1, 4), 40, 64)
    score, _ = judge.score(video)
    assert score.motion is None and not score.stable and score.sharpness is None
    row = summarise("none", [Measurement(alignment_prompts()[0], score, np.zeros((4, 160), np.float32))])
    json.dumps(row, allow_nan=False)


def test_a_change_of_subject_is_not_stable(judge: SceneJudge) -> None:
    still = next(p for p in alignment_prompts() if p.motion == 7)
    other = dataclasses.replace(still, subject=(still.subject + 5) % 32)
    parts = [SceneJudge.truth(p, seed=0, num_frames=8, height=40, width=64) for p in (still, other)]
    score, _ = judge.score(torch.cat([parts[0][:, :5], parts[1][:, 5:]], dim=1))
    assert not score.stable
    assert judge.score(parts[0])[0].stable


@pytest.mark.parametrize("how", ["two", "three", "left of"])
def test_several_subjects_are_not_the_one_that_was_asked_for(judge: SceneJudge, how: str) -> None:
    still = MOTIONS.index("stays still")
    for background in range(4):
        subjects = (3, 9) if how == "left of" else (3,)
        group = GroupWorld(seed=5, split="all").compose(subjects, how, background, motion=still, index=background)
        score, _ = judge.score(render_tensor(group, frame_times(8), 80, 128))
        asked = [PromptFacts(subject=subject, motion=still, background=background) for subject in (3, 9)]
        assert not any(score.verdicts(a)["all three"] for a in asked), score.describe()


def test_ground_truth_is_validated_once_for_each_prompt() -> None:
    prompts = [p for p in alignment_prompts() if p.set == "paraphrase"]
    chosen = spread(list(dict.fromkeys([*prompts, *prompts])), 64)
    assert len(set(chosen)) == len(chosen) == 64


def test_prompts_that_ask_for_more_are_not_read_as_less() -> None:
    assert read_prompt("an owl spins over a sunset").background == BACKGROUNDS.index("a sunset")
    for text in (
        "a small owl stays still over a sunset",
        "a tilted owl spins over a sunset",
        "three fish stays still over the sea",
        "a fish left of a fish over the sea",
    ):
        with pytest.raises(InputError, match="asks for more"):
            read_prompt(text)


@pytest.mark.parametrize("motion", ["moves down", "grows"])
def test_thin_lines_over_waves_are_followed(judge: SceneJudge, motion: str) -> None:
    prompt = next(p for p in alignment_prompts() if p.prompt == f"a bicycle {motion} over the sea")
    video = SceneJudge.truth(prompt, seed=2, num_frames=8, height=20, width=32)
    score, _ = judge.score(video)
    assert score.verdicts(prompt)["motion"]


def test_intervals() -> None:
    assert Share(hits=50, count=100).interval == pytest.approx((0.4038, 0.5962), abs=1e-4)  # Wilson's, by the book
    low, high = Share(hits=10, count=10).interval
    assert high == pytest.approx(1) and low == pytest.approx(0.7225, abs=1e-4)
    assert Share.of([True, False, False, False]).share == 0.25


def test_a_plan_says_what_is_wrong() -> None:
    with pytest.raises(InputError, match="held_out, seen, paraphrase"):
        AlignmentPlan(sets=("unseen",))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="1 or more"):
        AlignmentPlan(videos=0)
    items = AlignmentPlan(sets=("held_out",), videos=130).items()
    assert len(items) == 130 and items[0][0] == items[128][0] and (items[0][1], items[128][1]) == (1, 2)


def test_a_whole_evaluation(published: Path, tmp_path: Path) -> None:
    cascade = dataclasses.replace(resolve(published), settings=small_settings())
    pipe = Show1Pipeline(cascade, device=torch.device("cpu"), dtype=torch.float32, memory="high")
    plan = AlignmentPlan(sets=("held_out", "seen"), videos=2, until="keyframes", batch_size=3)
    done: list[int] = []
    report = evaluate_alignment(pipe, tmp_path / "run", plan, on_video=lambda n, _: done.append(n))
    assert done == [0, 3, 4]
    assert [row["name"] for row in report["rows"]] == ["held_out, keyframes", "seen, keyframes"]
    assert report["rows"][0]["subject"]["count"] == 2
    assert {p.name for p in (tmp_path / "run").iterdir()} >= {"report.json", "report.md", "index.html", "sheets"}
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report
    assert "sheets/keyframes-worst.png" in (tmp_path / "run" / "index.html").read_text()

    first = alignment_prompts()[0]
    (tmp_path / "run" / "videos" / f"held_out-{first.index:03d}-s1" / "scores.json").unlink()  # as after a kill
    done.clear()
    assert evaluate_alignment(pipe, tmp_path / "run", plan, on_video=lambda n, _: done.append(n)) == report
    assert done == [0, 4]
    with pytest.raises(RunError, match="another plan"):
        evaluate_alignment(pipe, tmp_path / "run", dataclasses.replace(plan, videos=1))


def test_a_curve_of_noise_levels(published: Path, tmp_path: Path) -> None:
    cascade = dataclasses.replace(resolve(published), settings=small_settings())
    pipe = Show1Pipeline(cascade, device=torch.device("cpu"), dtype=torch.float32, memory="high")
    plan = AlignmentPlan(sets=("held_out",), videos=1, levels=(0.3, 0.75))
    report = evaluate_alignment(pipe, tmp_path / "run", plan)
    names = ["keyframes", "super_resolution", "translation at level 0.3", "translation at level 0.75"]
    assert [row["name"] for row in report["rows"]] == [f"held_out, {name}" for name in names]
    [(prompt, seed)] = plan.items()
    expected = pipe(prompt.prompt, seed=seed, settings={"translation": {"level": 0.75}})
    folder = tmp_path / "run" / "videos" / f"held_out-{prompt.index:03d}-s{seed}"
    assert np.array_equal(Video.load(folder / "translation-0.75.mkv").frames, expected.frames)
    with pytest.raises(RunError, match="another plan"):
        evaluate_alignment(pipe, tmp_path / "run", dataclasses.replace(plan, levels=(0.3,)))
    with pytest.raises(InputError, match="levels are those of the translation, and 'keyframes' is the last stage"):
        evaluate_alignment(pipe, tmp_path / "other", dataclasses.replace(plan, until="keyframes"))
    with pytest.raises(InputError, match="trained on noise levels up to 0.893"):
        evaluate_alignment(pipe, tmp_path / "other", dataclasses.replace(plan, levels=(0.3, 0.95)))
    assert not (tmp_path / "other").exists()


def test_other_settings_make_another_evaluation(published: Path, tmp_path: Path) -> None:
    cascade = dataclasses.replace(resolve(published), settings=small_settings())
    pipe = Show1Pipeline(cascade, device=torch.device("cpu"), dtype=torch.float32, memory="high")
    plan = AlignmentPlan(sets=("held_out",), videos=1, until="keyframes")
    changes = {"keyframes": {"guidance_scale": 2.5}}
    evaluate_alignment(pipe, tmp_path / "run", plan, settings=changes)
    assert "1 video with keyframes.guidance_scale=2.5." in (tmp_path / "run" / "report.md").read_text()
    [(prompt, seed)] = plan.items()
    folder = tmp_path / "run" / "videos" / f"held_out-{prompt.index:03d}-s{seed}"
    made = Video.load(folder / "keyframes.mkv").frames
    assert np.array_equal(made, pipe(prompt.prompt, seed=seed, until="keyframes", settings=changes).frames)
    assert not np.array_equal(made, pipe(prompt.prompt, seed=seed, until="keyframes").frames)
    with pytest.raises(RunError, match="other settings"):
        evaluate_alignment(pipe, tmp_path / "run", plan)


def test_summarise_needs_no_ground_truth(judge: SceneJudge) -> None:
    prompt = alignment_prompts()[0]
    video = SceneJudge.truth(prompt, seed=0, num_frames=4, height=20, width=32)
    row = summarise("one", [Measurement.of(prompt, video, judge)])
    assert row["frame_distance"] is None and row["clip_distance"] is None
