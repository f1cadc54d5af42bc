"""Scenes with two motions, and their judge where the answer is known."""

import dataclasses
import json
import random
from collections import Counter

import numpy as np
import pytest
import torch

from show1.errors import InputError
from show1.sprites.alignment.motion_judge import MotionJudge, MotionScore
from show1.sprites.alignment.prompts import MOTION_SETS, MotionPrompt, motion_prompts, prompts_sha256, swapped
from show1.sprites.alignment.report import tables
from show1.sprites.alignment.run import AlignmentPlan
from show1.sprites.alignment.summary import Measurement, summarise, validate
from show1.sprites.caption_reader import mentions, read_caption
from show1.sprites.captions import caption, vocabulary
from show1.sprites.clips import SpriteClips
from show1.sprites.options import TextOptions
from show1.sprites.readers.group import Detection
from show1.sprites.scenes import Scene, render_tensor
from show1.sprites.text_task import TextTask
from show1.sprites.two_motions import (
    DOWN,
    LEFT,
    ORDERS,
    RIGHT,
    UP,
    TwoMotionsWorld,
    is_composition_held_out,
    two_motions,
)
from show1.sprites.world import MOTIONS, RELATIONS, SUBJECTS, is_held_out

CAT, BUS, BALL = (SUBJECTS.index(name) for name in ("cat", "bus", "soccer ball"))
SEA = 4


def scenes(count: int = 600, **options: object) -> list[Scene]:
    world = TwoMotionsWorld(**options)  # type: ignore[arg-type]
    return [world.scene(index) for index in range(count)]


def test_training_never_shows_a_held_out_pair() -> None:
    found = scenes()
    assert 250 < sum(bool(scene.others) for scene in found) < 350
    assert {two_motions(scene) for scene in found if not scene.others} == set(ORDERS)
    for scene in found:
        assert not is_composition_held_out(scene)
        moves = [(shown.subject, shown.motion) for shown in (scene, *scene.others)]
        moves += [(scene.subject, scene.then)] if scene.then is not None else []
        assert not any(is_held_out(subject, motion, scene.background) for subject, motion in moves)
    held_out = scenes(400, split="held_out")
    assert any(map(is_composition_held_out, held_out)) and not all(map(is_composition_held_out, held_out))
    assert found[5] == TwoMotionsWorld().scene(5) != TwoMotionsWorld(seed=1).scene(5)


def test_every_subject_is_held_out_in_one_order_and_no_more() -> None:
    found = scenes(4000, split="all")
    orders = {(s.subject, s.motion, s.then): is_composition_held_out(s) for s in found if s.then is not None}
    assert Counter(subject for (subject, _, _), held_out in orders.items() if held_out) == dict.fromkeys(range(32), 1)


def test_subjects_stay_apart_and_inside() -> None:
    for scene in scenes(1000, split="all"):
        ways = [[shown.pose(time) for time in np.linspace(0, 1, 9)] for shown in (scene, *scene.others)]
        for shown, way in zip((scene, *scene.others), ways, strict=True):
            assert all(0.2 * shown.size < y < 1 - 0.2 * shown.size for _, y, _, _ in way)
            assert all(0.2 * shown.size < 1.6 * x < 1.6 - 0.2 * shown.size for x, _, _, _ in way)
        if scene.others:
            apart = min(np.hypot(1.6 * (a[0] - b[0]), a[1] - b[1]) for a, b in zip(*ways, strict=True))
            assert apart > 0.9 * scene.size


def test_a_subject_turns_off_in_the_middle() -> None:
    scene = TwoMotionsWorld(split="all").compose((BALL,), (RIGHT, UP), SEA)
    (x0, y0), (x1, y1), (x2, y2) = (scene.pose(time)[:2] for time in (0.0, 0.5, 1.0))
    assert x1 - x0 > 0.4 and y1 == y0 and x2 == x1 and y1 - y2 > 0.35
    assert caption(scene) == "a soccer ball moves right, then up over the sea"
    assert caption(scene, kind="image") == "a soccer ball over the sea"


def test_captions_say_which_subject_does_what() -> None:
    scene = TwoMotionsWorld(split="all").compose((CAT, BUS), (LEFT, UP), SEA)
    assert caption(scene) == "a cat moves left and a bus moves up over the sea"
    assert caption(scene, kind="image") == "a cat and a bus over the sea"
    rng, texts = random.Random(0), set()
    for scene in scenes(400):
        text = caption(scene, rng)
        texts.add(text)
        read = read_caption(text)
        assert read.motions == two_motions(scene) and read.backgrounds == (scene.background,)
        assert read.subjects == tuple(shown.subject for shown in (scene, *scene.others))
        assert {*text.replace(",", "").split()} <= {*vocabulary(two_motions=True)}
    assert len(texts) > 390
    assert {*vocabulary(two_motions=True)} - {*vocabulary(groups=True)} == {"first", "before", "while", "then"}


def test_a_text_encoder_learns_both_motions() -> None:
    clips = SpriteClips.from_spec("sprites:two_motions=1", seed=3)
    task = TextTask(TextOptions(network="mini"), clips)
    values = task({"caption": [clips.caption(index) for index in range(8)]})
    assert values["loss"].isfinite() and task.heads["then"].out_features == len(MOTIONS) + 1
    facts = read_caption("a cat moves left and a bus moves up over the sea")
    assert (facts.motion, facts.then, facts.ordinary) == (LEFT, UP, False)
    assert read_caption("a cat moves left over the sea").then is None
    assert "then" not in TextTask(TextOptions(network="mini"), SpriteClips()).heads


def test_captions_say_of_each_subject_where_it_is_and_what_it_does() -> None:
    def said(text: str) -> list[tuple[str, str | None, str | None]]:
        return [
            (
                text[each.start : each.end],
                None if each.place is None else RELATIONS[each.place],
                None if each.motion is None else MOTIONS[each.motion],
            )
            for each in mentions(text)
        ]

    assert said("A soccer ball left of a cat, with the sea behind") == [
        ("soccer ball", "left of", None),
        ("cat", "right of", None),
    ]
    assert said("over a sunset, a bus below an owl") == [("bus", "below", None), ("owl", "above", None)]
    assert said("a cat moves left and a bus moves up over the sea") == [
        ("cat", None, "moves left"),
        ("bus", None, "moves up"),
    ]
    assert said("a cat moves left, then up over the sea") == [("cat", None, "moves left")]
    assert said("two foxes over the sea") == [("foxes", None, None)]
    assert said("nothing over the sea") == []


def test_a_text_encoder_learns_which_of_two_subjects_is_where() -> None:
    task = TextTask(TextOptions(network="mini"), SpriteClips.from_spec("sprites:groups=1", seed=3))
    texts = [f"a {name} {how} a dog over the sea" for how in RELATIONS for name in ("cat", "pig", "fox", "bee")]
    optimizer = torch.optim.Adam(task.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        task({"caption": texts})["loss"].backward()
        optimizer.step()
    first_names = task.text(texts)[:, 1]  # each follows an article
    assert task.heads["place"](first_names).argmax(1).tolist() == [how for how in range(4) for _ in range(4)]


def test_what_there_is_not() -> None:
    world = TwoMotionsWorld(split="all")
    for subjects, motions in (
        ((CAT,), (LEFT, RIGHT)),
        ((CAT,), (UP, UP)),
        ((CAT, CAT), (LEFT, UP)),
        ((CAT, BUS), (UP, UP)),
        ((CAT, BUS), (LEFT, MOTIONS.index("spins"))),
        ((), (LEFT, UP)),
    ):
        with pytest.raises(InputError, match="subjects|motions"):
            world.compose(subjects, motions, SEA)
    scene = next(s for s in scenes(100, split="held_out") if s.others)
    subjects = (scene.subject, scene.others[0].subject)
    with pytest.raises(InputError, match="split 'train' does not show this scene"):
        TwoMotionsWorld().compose(subjects, (scene.motion, scene.others[0].motion), scene.background)
    with pytest.raises(InputError, match="split must be one of"):
        TwoMotionsWorld(split="some")  # type: ignore[arg-type]


def test_clips_show_them_on_request() -> None:
    clips = SpriteClips.from_spec("sprites:two_motions=0.5")
    assert clips.spec == "sprites:two_motions=0.5"
    shown = [two_motions(clips.scene(index)) is not None for index in range(400)]
    assert 160 < sum(shown) < 240
    plain = SpriteClips()
    assert all(clips.scene(i) == plain.scene(i) for i in range(400) if not shown[i])


def test_pairs_can_have_another_share() -> None:
    clips = SpriteClips.from_spec("sprites:two_motions=1,pairs=0.8")
    assert clips.spec == "sprites:two_motions=1.0,pairs=0.8"
    assert 290 < sum(bool(clips.scene(index).others) for index in range(400)) < 350
    never = SpriteClips.from_spec("sprites:two_motions=1,pairs=0")
    assert not any(never.scene(index).others for index in range(50))
    with pytest.raises(InputError, match="pairs must be from 0 to 1"):
        SpriteClips.from_spec("sprites:two_motions=1,pairs=2")


def test_the_prompts_are_what_they_say() -> None:
    prompts = motion_prompts()
    assert prompts_sha256(MOTION_SETS).startswith("e8308f0efd6bd062")
    assert [sum(p.set == name for p in prompts) for name in MOTION_SETS] == [64] * 4
    for prompt in prompts:
        split = "held_out" if prompt.set.endswith("_held_out") else "train"
        scene = TwoMotionsWorld(split=split).compose(prompt.subjects, prompt.motions, prompt.background)
        assert caption(scene) == prompt.prompt and two_motions(scene) == prompt.motions
        assert is_composition_held_out(scene) == (split == "held_out")
        assert len(prompt.subjects) == (2 if "binding" in prompt.set else 1)


def test_the_judge_tells_truth_from_the_nearest_wrong_prompts() -> None:
    prompts = motion_prompts()[::8]
    true, shuffled, exchanged, noise = validate(prompts, MotionJudge(), num_frames=8, height=20, width=32)
    assert true["all three"]["hits"] == len(prompts)
    assert shuffled["all three"]["hits"] == exchanged["all three"]["hits"] == noise["all three"]["hits"] == 0
    assert exchanged["subjects"]["hits"] == len(prompts)


def way(subject: int, start: tuple[float, float], end: tuple[float, float], frames: int = 8) -> list[Detection]:
    places = np.linspace(start, end, frames)
    return [Detection(subject=subject, x=float(x), y=float(y), size=0.4) for x, y in places]


def seen(*ways: list[Detection]) -> MotionScore:
    return MotionScore(detections=tuple(zip(*ways, strict=True)), background=SEA, flicker=0.0)


def asked(subjects: tuple[int, ...], motions: tuple[int, int]) -> MotionPrompt:
    return MotionPrompt(index=0, set="motion_binding", prompt="", subjects=subjects, motions=motions, background=SEA)


def test_motions_belong_to_their_subjects() -> None:
    score = seen(way(CAT, (0.8, 0.25), (0.3, 0.25)), way(BUS, (0.2, 0.8), (0.2, 0.4)))
    assert score.verdicts(asked((CAT, BUS), (LEFT, UP))) == dict.fromkeys(
        ("subjects", "background", "motions", "all three", "stable"), True
    )
    assert score.verdicts(asked((BUS, CAT), (UP, LEFT)))["all three"]
    for prompt in (asked((CAT, BUS), (UP, LEFT)), asked((CAT, BUS), (RIGHT, UP)), asked((CAT, BUS), (LEFT, DOWN))):
        judged = score.verdicts(prompt)
        assert judged["subjects"] and not judged["motions"] and not judged["all three"]
    assert not score.verdicts(asked((CAT, BALL), (LEFT, UP)))["subjects"]
    assert score.describe() == "cat moves left; bus moves up over the sea"


def test_the_first_motion_comes_first() -> None:
    bent = [*way(BALL, (0.2, 0.7), (0.7, 0.7), 4), *way(BALL, (0.7, 0.6), (0.7, 0.3), 4)]
    score = seen(bent)
    assert score.verdicts(asked((BALL,), (RIGHT, UP)))["all three"]
    for motions in ((UP, RIGHT), (RIGHT, DOWN), (LEFT, UP)):
        assert not score.verdicts(asked((BALL,), motions))["motions"]
    slanted = seen(way(BALL, (0.2, 0.7), (0.7, 0.3)))
    assert not any(slanted.verdicts(asked((BALL,), order))["motions"] for order in ORDERS)


def test_a_subject_that_is_mostly_missing_does_not_move() -> None:
    ways = (way(CAT, (0.8, 0.25), (0.3, 0.25)), way(BUS, (0.2, 0.8), (0.2, 0.4)))
    for missing, right in ((2, True), (3, False)):
        frames = tuple(pair if i >= missing else pair[:1] for i, pair in enumerate(zip(*ways, strict=True)))
        score = MotionScore(detections=frames, background=SEA, flicker=None)
        judged = score.verdicts(asked((CAT, BUS), (LEFT, UP)))
        assert judged["motions"] == right and not judged["stable"]
    assert MotionScore(detections=((),) * 8, background=SEA, flicker=None).describe() == "nothing over the sea"


def test_swapped_prompts_ask_for_the_nearest_wrong_thing() -> None:
    assert swapped(asked((CAT, BUS), (LEFT, UP))) == asked((CAT, BUS), (UP, LEFT))


def test_a_score_survives_the_disk_and_has_a_table() -> None:
    judge, prompt = MotionJudge(), motion_prompts()[0]
    score, features = judge.score(judge.truth(prompt, seed=0, num_frames=4, height=40, width=64))
    assert features is None and judge.restore(json.loads(json.dumps(dataclasses.asdict(score)))) == score
    (table,) = tables([summarise("motion_binding, keyframes", [Measurement(prompt, score, None)])])
    header = "| videos | n | subjects | background | motions | all three | stable | flicker |"
    assert table.markdown().startswith(header)
    plan = AlignmentPlan(sets=("motion_order", "motion_binding_held_out"), videos=3)
    assert isinstance(plan.judges()["motion_order"], MotionJudge)
    assert [item[0].set for item in plan.items()] == ["motion_order"] * 3 + ["motion_binding_held_out"] * 3


def test_frames_show_both_subjects() -> None:
    scene = TwoMotionsWorld(split="all").compose((CAT, BUS), (LEFT, UP), SEA)
    reading = MotionJudge().reader.read(render_tensor(scene, np.array([0.0, 1.0]), 80, 128))
    for frame in reading.detections:
        assert sorted(found.subject for found in frame) == sorted((CAT, BUS))
