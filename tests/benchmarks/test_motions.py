import numpy as np
import pytest

from benchmarks.customization.motions import TEACHING_MOTIONS, teaching_caption, teaching_clip, teaching_scene
from show1.data.clips import frame_times
from show1.errors import InputError
from show1.sprites.scenes import SpriteWorld, render, sprite_layer
from show1.sprites.world import SUBJECTS

NAMES = list(TEACHING_MOTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_clip_is_the_scene_of_its_motion(name: str) -> None:
    clip = teaching_clip(name, num_frames=8, height=20, width=32)
    assert clip.frames.shape == (8, 20, 32, 3)
    assert clip.metadata["prompt"] == teaching_caption(name)
    np.testing.assert_array_equal(clip.frames, render(teaching_scene(name), 8, 20, 32))
    assert np.abs(np.diff(clip.frames.astype(int), axis=0)).max(axis=(1, 2, 3)).min() > 30  # it moves in every frame


@pytest.mark.parametrize("name", NAMES)
def test_subject_stays_in_the_frame_and_follows_the_path(name: str) -> None:
    scene = teaching_scene(name)
    for time in frame_times(8):
        alpha = sprite_layer(scene, float(time), 80, 128)[3].numpy()
        x, y, scale, _ = TEACHING_MOTIONS[name].pose(float(time))
        whole = sprite_layer(teaching_scene("heartbeat", TEACHING_MOTIONS[name].subject), 0.0, 80, 128)[3].numpy()
        assert alpha.sum() > 0.75 * whole.sum() * scale**2
        if alpha[[0, -1]].max() == 0:  # none of it is cut off, so its middle can be found
            column = (alpha.sum(0) * (np.arange(128) + 0.5)).sum() / alpha.sum() / 128
            assert abs(float(column) - x) < 0.03


@pytest.mark.parametrize(
    ("name", "ends"),
    [("circle", (0.5, 0.2)), ("figure of eight", (0.5, 0.5))],
)
def test_closed_paths_close(name: str, ends: tuple[float, float]) -> None:
    scene = teaching_scene(name)
    assert scene.pose(0.0)[:2] == pytest.approx(ends)
    assert scene.pose(1.0)[:2] == pytest.approx(ends)


def test_spiral_winds_outwards_clockwise() -> None:
    places = [TEACHING_MOTIONS["spiral"].pose(t)[:2] for t in np.linspace(0, 1, 6)]  # every quarter turn
    off = np.array([((x - 0.5) * 1.6, y - 0.5) for x, y in places])
    assert np.hypot(*off.T) == pytest.approx(np.linspace(0.06, 0.28, 6))
    directions = [(1, 0), (0, 1), (-1, 0), (0, -1), (1, 0), (0, 1)]  # right, down, left, up, right, down
    assert off / np.hypot(*off.T)[:, None] == pytest.approx(np.array(directions))


def test_circle_is_round_and_clockwise() -> None:
    places = [TEACHING_MOTIONS["circle"].pose(t)[:2] for t in (0.0, 0.25, 0.5, 0.75)]
    radii = [np.hypot((x - 0.5) * 1.6, y - 0.5) for x, y in places]
    assert radii == pytest.approx([0.3] * 4)
    assert places[1][0] > 0.5 > places[3][0]  # from the top to the right


def test_heartbeat_beats_in_place() -> None:
    poses = [TEACHING_MOTIONS["heartbeat"].pose(t) for t in (0.0, 0.125, 0.375, 0.625, 0.875)]
    assert {pose[:2] for pose in poses} == {(0.5, 0.5)}
    assert [round(pose[2], 3) for pose in poses] == [1.0, 1.492, 0.67, 1.492, 0.67]


def test_other_subjects_and_backgrounds() -> None:
    scene = teaching_scene("circle", "lion", "the desert", size=0.6, paint_seed=3)
    assert SUBJECTS[scene.subject] == "lion" and scene.size == 0.6
    assert teaching_caption("circle", "owl", "the snow") == "an owl circles over the snow"


def test_verbs_are_new_words() -> None:
    from show1.sprites.captions import vocabulary

    assert not {motion.verb for motion in TEACHING_MOTIONS.values()} & set(vocabulary())


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="motion must be one of zigzag.*'jump'"):
        teaching_clip("jump")
    with pytest.raises(InputError, match="subject must be one of"):
        teaching_scene("circle", "dragon")
    with pytest.raises(InputError, match="background must be one of"):
        teaching_scene("circle", background="the moon")


def test_scenes_of_the_world_are_unchanged() -> None:
    """A teaching scene goes through the renderer of all scenes, which must not notice."""
    scene = SpriteWorld().scene(3)
    before = render(scene, 2, 20, 32)
    teaching_clip("spiral", num_frames=2, height=20, width=32)
    np.testing.assert_array_equal(render(scene, 2, 20, 32), before)
