"""Alignment of groups where the answer is known."""

import dataclasses
import json

import numpy as np
import pytest

from show1.sprites.alignment.group_judge import GroupJudge, GroupScore
from show1.sprites.alignment.prompts import GROUP_SETS, GroupPrompt, group_prompts, prompts_sha256
from show1.sprites.alignment.report import tables
from show1.sprites.alignment.run import AlignmentPlan
from show1.sprites.alignment.summary import Measurement, summarise, validate
from show1.sprites.captions import caption
from show1.sprites.groups import GroupWorld, arrangement, is_arrangement_held_out
from show1.sprites.readers.group import Detection, GroupReader
from show1.sprites.scenes import SpriteWorld, render_tensor
from show1.sprites.world import SUBJECTS

CAT, BUS, PANDA = (SUBJECTS.index(name) for name in ("cat", "bus", "panda"))
STILL, LEFT = 7, 0


@pytest.fixture(scope="module")
def judge() -> GroupJudge:
    return GroupJudge()


def asked(how: str, *subjects: int, motion: int = STILL) -> GroupPrompt:
    return GroupPrompt(index=0, set="relations", prompt="", subjects=subjects, how=how, motion=motion, background=0)


def seen(*detections: tuple[int, float, float, float], motion: int | None = None) -> GroupScore:
    frame = tuple(Detection(subject=s, x=x, y=y, size=size) for s, x, y, size in detections)
    return GroupScore(detections=(frame,) * 8, background=0, motion=motion, flicker=0.0)


def test_the_prompts_are_what_they_say() -> None:
    prompts = group_prompts()
    assert prompts_sha256(GROUP_SETS).startswith("b92e9bae843f7559")
    assert [sum(p.set == name for p in prompts) for name in GROUP_SETS] == [64] * 6
    world = GroupWorld(split="all")
    for prompt in prompts:
        scene = world.compose(prompt.subjects, prompt.how, prompt.background, motion=prompt.motion)
        assert caption(scene) == prompt.prompt and arrangement(scene) == prompt.how
        assert is_arrangement_held_out(scene) == prompt.set.endswith("_held_out")
        GroupWorld(split="held_out" if prompt.set.endswith("_held_out") else "train").compose(
            prompt.subjects, prompt.how, prompt.background, motion=prompt.motion
        )


def test_the_reader_finds_what_renders_show() -> None:
    reader, right, backgrounds = GroupReader.trained(), [], []
    for world in (GroupWorld(seed=9, split="held_out"), SpriteWorld(seed=9, split="held_out")):
        for index in range(80):
            scene = world.scene(index)
            height = (20, 40, 160)[index % 3]
            reading = reader.read(render_tensor(scene, np.array([0.3]), height, int(1.6 * height)))
            names = sorted(detection.subject for detection in reading.detections[0])
            right.append(names == sorted(s.subject for s in (scene, *scene.others)))
            backgrounds.append(reading.background == scene.background)
    assert np.mean(right) >= 0.97 and np.mean(backgrounds) >= 0.99


def test_places_and_sizes_are_those_of_the_render() -> None:
    scene = GroupWorld(split="all").compose((CAT, BUS), "left of", 0)
    detections = GroupReader.trained().read(render_tensor(scene, np.array([0.0]), 80, 128)).detections[0]
    for shown in (scene, *scene.others):
        (detection,) = (t for t in detections if t.subject == shown.subject)
        assert detection.x == pytest.approx(shown.start[0], abs=0.03) and detection.y == pytest.approx(
            shown.start[1], abs=0.05
        )
        assert detection.size == pytest.approx(shown.size, rel=0.12)


def test_scores_tell_truth_from_the_rest(judge: GroupJudge) -> None:
    prompts = group_prompts()[::16]
    true, shuffled, exchanged, noise = validate(prompts, judge, num_frames=4, height=80, width=128)
    assert true["all three"]["hits"] >= len(prompts) - 1 and true["stable"]["hits"] >= len(prompts) - 1
    assert exchanged["subjects"]["hits"] == len(prompts) and exchanged["all three"]["hits"] == 0
    assert shuffled["all three"]["hits"] == noise["all three"]["hits"] == 0
    assert true["flicker"] is not None and true["flicker"] < 0.1 and true["frame_distance"] is None


def test_relations_are_judged_by_where_things_are() -> None:
    cat, bus = (CAT, 0.2, 0.5, 0.4), (BUS, 0.8, 0.6, 0.4)
    assert seen(cat, bus).verdicts(asked("left of", CAT, BUS)) == dict.fromkeys(
        ("subjects", "background", "arrangement", "all three", "stable"), True
    )
    assert seen(cat, bus).verdicts(asked("right of", BUS, CAT))["all three"]
    wrong = seen(cat, bus).verdicts(asked("right of", CAT, BUS))
    assert wrong["subjects"] and not wrong["arrangement"] and not wrong["all three"]
    assert not seen(cat, bus).verdicts(asked("above", CAT, BUS))["arrangement"]
    assert seen((CAT, 0.5, 0.2, 0.4), (BUS, 0.55, 0.8, 0.4)).verdicts(asked("above", CAT, BUS))["all three"]
    for shown in ((cat,), (cat, cat), (cat, bus, bus), (cat, (PANDA, 0.8, 0.5, 0.4)), ()):
        assert not seen(*shown).verdicts(asked("left of", CAT, BUS))["all three"]


def test_counts_and_sizes() -> None:
    three = [(CAT, x, 0.5, 0.4) for x in (0.2, 0.5, 0.8)]
    assert seen(*three).verdicts(asked("three", CAT))["all three"]
    two = seen(*three[:2]).verdicts(asked("three", CAT))
    assert two["subjects"] and not two["arrangement"]
    assert seen(*three).verdicts(asked("three", BUS)) | {"stable": True} == {
        "subjects": False,
        "background": True,
        "arrangement": True,
        "all three": False,
        "stable": True,
    }
    small = seen((CAT, 0.5, 0.5, 0.35), motion=LEFT)
    assert small.verdicts(asked("small", CAT, motion=LEFT))["all three"]
    assert not small.verdicts(asked("small", CAT))["arrangement"]  # it should not move
    assert not small.verdicts(asked("big", CAT, motion=LEFT))["arrangement"]
    assert seen((CAT, 0.5, 0.5, 0.95), motion=STILL).verdicts(asked("big", CAT))["all three"]


def test_most_frames_decide_and_all_of_them_are_stable() -> None:
    whole = (Detection(subject=CAT, x=0.2, y=0.5, size=0.4), Detection(subject=BUS, x=0.8, y=0.5, size=0.4))
    for missing, right in ((3, True), (4, False)):
        detections = (whole,) * (8 - missing) + (whole[:1],) * missing
        score = GroupScore(detections=detections, background=0, motion=None, flicker=None)
        judged = score.verdicts(asked("left of", CAT, BUS))
        assert judged["all three"] == right and not judged["stable"]


def test_a_score_survives_the_disk(judge: GroupJudge) -> None:
    prompt = group_prompts()[0]
    score, features = judge.score(judge.truth(prompt, seed=0, num_frames=2, height=40, width=64))
    assert features is None and judge.restore(json.loads(json.dumps(dataclasses.asdict(score)))) == score
    assert f"{SUBJECTS[prompt.subjects[0]]} at " in score.describe()
    saved = dataclasses.asdict(score)
    assert judge.restore({"things": saved.pop("detections"), **saved}) == score  # as earlier versions saved it


def test_tables_of_both_kinds(judge: GroupJudge) -> None:
    prompt = group_prompts()[0]
    row = summarise("relations, keyframes", [Measurement(prompt, seen(), None)])
    (table,) = tables([row])
    text = table.markdown()
    assert text.startswith("| videos | n | subjects | background | arrangement | all three | stable | flicker |")
    assert "FD" not in text and "sharpness" not in text
    plan = AlignmentPlan(sets=("held_out", "counts"), videos=3)
    judges = plan.judges()
    assert set(judges) == {"held_out", "counts"} and isinstance(judges["counts"], GroupJudge)
    assert [item[0].set for item in plan.items()] == ["held_out"] * 3 + ["counts"] * 3
