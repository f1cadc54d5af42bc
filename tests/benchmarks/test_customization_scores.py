from collections import Counter

import numpy as np
import pytest
import torch

from benchmarks.customization.motions import TEACHING_MOTIONS, teaching_clip
from benchmarks.customization.scores import (
    ContentPrompt,
    MotionScore,
    StyleScore,
    motion_prompts,
    score_motion,
    score_style,
    style_prompts,
    summarise_motion,
    summarise_style,
    teaching_track,
    track_correlation,
    true_motion,
    validate_motion,
)
from benchmarks.customization.style_reader import KINDS, StyleReader
from benchmarks.customization.styles import apply_style
from show1.data.clips import frame_times
from show1.errors import InputError
from show1.sprites.caption_reader import parse_caption
from show1.sprites.readers.subject import SpriteReader
from show1.sprites.scenes import SpriteWorld, render, render_tensor
from show1.sprites.world import BACKGROUNDS, SUBJECTS, is_held_out

NAMES = list(TEACHING_MOTIONS)


@pytest.fixture(scope="module")
def reader() -> SpriteReader:
    return SpriteReader.trained()


@pytest.mark.parametrize("name", NAMES)
def test_a_teaching_clip_follows_itself(name: str, reader: SpriteReader) -> None:
    motion = TEACHING_MOTIONS[name]
    score = score_motion(teaching_clip(name, num_frames=8, height=80, width=128).to_tensor(), name, reader)
    assert score.correlation > 0.97
    assert 0.8 < score.extent < 1.2
    assert (SUBJECTS[score.subject], BACKGROUNDS[score.background]) == (motion.subject, motion.background)


@pytest.mark.parametrize("name", NAMES)
def test_other_subjects_on_the_path_follow_and_other_motions_do_not(name: str, reader: SpriteReader) -> None:
    checks = validate_motion(name, reader, count=4, num_frames=8, height=20, width=32)
    right, wrong = checks["ground truth"], checks["other motions"]
    assert right["correlation"]["median"] > 0.93 and right["follows"]["hits"] >= 3
    assert right["subject_leak"]["hits"] == right["background_leak"]["hits"] == 0
    assert wrong["correlation"]["median"] < 0.6 and wrong["follows"]["hits"] <= 1


def test_paths_are_told_apart() -> None:
    tracks = {name: teaching_track(name, 29) for name in NAMES if TEACHING_MOTIONS[name].measured == "position"}
    for a in tracks:
        for b in tracks:
            correlation = track_correlation(tracks[a], tracks[b])
            assert correlation == pytest.approx(1) if a == b else abs(correlation) < 0.75


def test_a_path_in_reverse_does_not_follow(reader: SpriteReader) -> None:
    video = teaching_clip("circle", num_frames=8, height=40, width=64).to_tensor().flip(1)
    assert score_motion(video, "circle", reader).correlation < 0.5


def test_correlation_knows_neither_place_nor_size() -> None:
    taught = teaching_track("spiral", 8)
    assert track_correlation(taught * 0.4 + 3, taught) == pytest.approx(1)
    assert track_correlation(-taught, taught) == pytest.approx(-1)
    assert track_correlation(np.ones_like(taught), taught) == 0.0
    # by hand: (1 * 2 + 1 * 0) / sqrt(2 * 4), coordinates taken together
    assert track_correlation(np.array([[1.0, 1], [0, 0]]), np.array([[2.0, 0], [0, 0]])) == pytest.approx(2**-0.5)
    with pytest.raises(InputError, match="shape"):
        track_correlation(taught, taught[:4])


def test_nothing_to_be_seen_scores_nothing(reader: SpriteReader) -> None:
    video = torch.full((3, 8, 20, 32), -0.2)
    score = score_motion(video, "circle", reader)
    assert (score.correlation, score.extent) == (0.0, 0.0)


def test_position_does_not_count_for_the_heartbeat(reader: SpriteReader) -> None:
    video = teaching_clip("circle", num_frames=8, height=40, width=64).to_tensor()
    assert abs(score_motion(video, "heartbeat", reader).correlation) < 0.6


@pytest.mark.parametrize("name", NAMES)
def test_motion_prompts_ask_for_other_things_than_the_clip(name: str) -> None:
    asked, motion = motion_prompts(name, 64), TEACHING_MOTIONS[name]
    assert len({a.prompt for a in asked}) == 64
    subjects = [SUBJECTS[a.subject] for a in asked]
    assert motion.subject not in subjects and len(set(subjects)) == 31
    assert all(BACKGROUNDS[a.background] != motion.background for a in asked)
    counts = Counter(a.background for a in asked)
    assert len(counts) == 7 and max(counts.values()) - min(counts.values()) <= 2
    assert asked == motion_prompts(name, 128)[:64] and len({a.prompt for a in motion_prompts(name, 128)}) == 128
    for a in asked:
        assert not is_held_out(a.subject, None, a.background)
        assert parse_caption(a.prompt) == (a.subject, None, a.background)
        assert motion.verb in a.prompt


def test_style_prompts() -> None:
    plain, styled = style_prompts(None, 10), style_prompts("neon outline", 10)
    assert [f"{a.prompt}, neon outline" for a in plain] == [a.prompt for a in styled]
    assert all(parse_caption(a.prompt) for a in plain)


def test_summary_of_motions_by_hand() -> None:
    panda, sea = SUBJECTS.index("panda"), BACKGROUNDS.index("the sea")  # of the circle's clip
    asked = [ContentPrompt(prompt="", subject=1, background=b) for b in (1, 1, 1, sea)]
    assert panda != 1 != sea
    scores = [
        MotionScore(correlation=c, extent=1.0, subject=s, background=b)
        for c, s, b in ((0.95, 1, 1), (0.9, panda, 1), (0.5, 2, sea), (-0.2, 1, sea))
    ]
    summary = summarise_motion("circle", asked, scores)
    assert summary["correlation"]["median"] == 0.7
    assert [summary[key]["hits"] for key in ("follows", "subject", "background")] == [2, 2, 3]
    assert [summary[key]["hits"] for key in ("subject_leak", "background_leak")] == [1, 1]
    assert summary["videos"] == summary["subject_leak"]["count"] == 4


def test_summary_of_styles_by_hand() -> None:
    asked = [ContentPrompt(prompt="", subject=1, background=1)] * 3
    scores = [
        StyleScore(style=s, subject=1, background=b) for s, b in (("plain", 1), ("neon outline", 1), ("plain", 2))
    ]
    summary = summarise_style("neon outline", asked, scores)
    assert [summary[key]["hits"] for key in ("style", "subject", "background", "content")] == [1, 3, 2, 2]


def test_true_motions_vary_in_size_and_not_in_path(reader: SpriteReader) -> None:
    asked = ContentPrompt(prompt="", subject=SUBJECTS.index("lion"), background=BACKGROUNDS.index("the snow"))
    first, second = (true_motion("spiral", asked, i, num_frames=8, height=40, width=64) for i in (0, 3))
    assert (first != second).any()
    assert all(score_motion(video, "spiral", reader).correlation > 0.95 for video in (first, second))


@pytest.mark.parametrize("size", [(20, 32), (80, 128)])
def test_the_style_reader_reads_held_out_renders(size: tuple[int, int]) -> None:
    """A sample of what `benchmarks/customization/train_style_reader.py --check` measures."""
    reader, world = StyleReader.trained(), SpriteWorld(seed=991, split="held_out")
    styles = subjects = backgrounds = count = 0
    for kind in KINDS:
        for index in range(8):
            scene = world.scene(index)
            frames = render(scene, 2, *size)
            styled = frames if kind == "plain" else apply_style(kind, frames)
            video = torch.from_numpy(styled).permute(3, 0, 1, 2).float() / 127.5 - 1
            score = score_style(video, reader)
            styles += score.style == kind
            subjects += score.subject == scene.subject
            backgrounds += score.background == scene.background
            count += 1
    assert styles >= 0.9 * count
    assert subjects >= 0.6 * count and backgrounds >= 0.95 * count  # chance: 3 % and 12 %


def test_plain_videos_have_no_style() -> None:
    scene = SpriteWorld(seed=5).scene(0)
    assert score_style(render_tensor(scene, frame_times(4), 20, 32), StyleReader.trained()).style == "plain"
