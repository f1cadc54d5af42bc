import hashlib
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from show1.data.clips import frame_times
from show1.errors import InputError
from show1.sprites.backgrounds import paint_background
from show1.sprites.scenes import Scene, SpriteWorld, render, render_tensor, sprite_layer
from show1.sprites.world import BACKGROUNDS, MOTIONS, SUBJECTS, combinations, is_held_out


def centroid(layer: torch.Tensor) -> tuple[float, float]:
    """Centre of the alpha in fractions of the frame."""
    alpha = layer[3].numpy()
    height, width = alpha.shape
    x = (alpha.sum(0) * (np.arange(width) + 0.5)).sum() / alpha.sum() / width
    y = (alpha.sum(1) * (np.arange(height) + 0.5)).sum() / alpha.sum() / height
    return float(x), float(y)


def visible_share(scene: Scene, time: float) -> float:
    """Share of the sprite's drawn area that is inside the frame."""
    inside = sprite_layer(scene, time, 40, 64)[3].sum()
    middle = replace(scene, start=(0.5, 0.5), end=(0.5, 0.5), size=scene.size / 3)
    return float(inside / sprite_layer(middle, time, 120, 192)[3].sum())


def test_the_vocabulary() -> None:
    assert len(SUBJECTS) == 32 and len(MOTIONS) == 8 and len(BACKGROUNDS) == 8
    assert SUBJECTS[0] == "panda" and SUBJECTS[-1] == "robot" and MOTIONS[4] == "spins" and BACKGROUNDS[6] == "the snow"


def test_a_scene_is_a_function_of_its_index() -> None:
    assert [SpriteWorld().scene(i) for i in range(50)] == [SpriteWorld().scene(i) for i in range(50)]
    assert len({SpriteWorld().scene(i).paint_seed for i in range(50)}) == 50
    assert SpriteWorld(seed=1).scene(3) != SpriteWorld(seed=0).scene(3)


def test_rendering_is_the_same_in_another_process() -> None:
    code = (
        "import hashlib; from show1.sprites.scenes import *; w = SpriteWorld(seed=5)\n"
        "print(hashlib.sha256(b''.join(render(w.scene(i), 3, 20, 32).tobytes() for i in range(4))).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    world = SpriteWorld(seed=5)
    here = hashlib.sha256(b"".join(render(world.scene(i), 3, 20, 32).tobytes() for i in range(4))).hexdigest()
    assert there.strip() == here


def test_rendering_in_threads_equals_rendering_alone() -> None:
    scenes = [SpriteWorld().scene(i) for i in range(16)]
    alone = [render(scene, 2, 20, 32) for scene in scenes]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda scene: render(scene, 2, 20, 32), scenes))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_never_shows_a_held_out_pair() -> None:
    world = SpriteWorld(split="train")
    refused = 0
    for subject, motion, background in combinations("all"):
        if (subject + motion) % 8 == 5 or (subject + 3 * background) % 8 == 2:
            with pytest.raises(InputError, match="does not show"):
                world.compose(subject, motion, background)
            refused += 1
        else:
            scene = world.compose(subject, motion, background)
            assert (scene.subject, scene.motion, scene.background) == (subject, motion, background)
    assert refused == 2048 - 2048 * 49 // 64
    for index in range(2000):
        scene = world.scene(index)
        assert (scene.subject + scene.motion) % 8 != 5
        assert (scene.subject + 3 * scene.background) % 8 != 2


def test_the_other_splits() -> None:
    held_out = SpriteWorld(split="held_out")
    assert all(is_held_out(s.subject, s.motion, s.background) for s in map(held_out.scene, range(500)))
    with pytest.raises(InputError, match="does not show"):
        held_out.compose(0, 0, 0)
    shown = {(s.subject, s.motion) for s in map(SpriteWorld(split="all").scene, range(2000))}
    assert len(shown) > 250
    with pytest.raises(InputError, match="split must be one of"):
        SpriteWorld(split="validation")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="subject must be from 0 to 31"):
        SpriteWorld(split="all").compose(32, 0, 0)
    with pytest.raises(InputError, match="must not be negative"):
        SpriteWorld().scene(-1)


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("motion", MOTIONS)
def test_what_is_drawn_moves_as_it_should(motion: str, index: int) -> None:
    world = SpriteWorld(split="all", seed=index)
    ball = SUBJECTS.index("basketball")  # round: its centroid stays put when it spins
    scene = world.compose(ball, MOTIONS.index(motion), 0, index)
    assert 0.5 <= scene.size <= 0.8
    # Far smaller, so that nothing is cut off, with its centre on the same way.
    small = replace(scene, size=0.2)
    layers = [sprite_layer(small, t, 80, 128) for t in (0.0, 0.5, 1.0)]
    places = [centroid(layer) for layer in layers]
    dx, dy = places[2][0] - places[0][0], places[2][1] - places[0][1]
    growth = math.sqrt(float(layers[2][3].sum() / layers[0][3].sum()))
    sign = -1 if motion in ("moves left", "moves up") else 1
    if motion in ("moves left", "moves right"):
        assert 0.495 <= sign * dx <= 0.705 and abs(dy) < 0.003
    elif motion in ("moves up", "moves down"):
        assert 0.395 <= sign * dy <= 0.605 and abs(dx) < 0.003
    else:
        assert abs(dx) < 0.003 and abs(dy) < 0.003
    assert growth == pytest.approx({"grows": 1.4 / 0.6, "shrinks": 0.6 / 1.4}.get(motion, 1.0), rel=0.02)
    np.testing.assert_allclose(np.array(places[1]), (np.array(places[0]) + np.array(places[2])) / 2, atol=0.003)


def test_a_spin_is_one_full_turn_either_way() -> None:
    world = SpriteWorld(split="all")
    scenes = [world.compose(SUBJECTS.index("car"), MOTIONS.index("spins"), 0, i) for i in range(20)]
    assert {scene.turns for scene in scenes} == {-1.0, 1.0}
    scene = replace(scenes[0], size=0.5, start=(0.5, 0.5), end=(0.5, 0.5), turns=1.0)
    start, quarter, end = (sprite_layer(scene, t, 80, 128) for t in (0.0, 0.25, 1.0))
    torch.testing.assert_close(start, end, atol=1e-3, rtol=0)
    # A quarter turn clockwise of the square round the centre.
    square = start[:, :, 24:104].rot90(-1, dims=(1, 2))
    torch.testing.assert_close(quarter[:, :, 24:104], square, atol=1e-3, rtol=0)


def test_the_scale_is_that_of_the_box() -> None:
    scene = SpriteWorld(split="all").compose(SUBJECTS.index("basketball"), MOTIONS.index("stays still"), 0)
    alpha = sprite_layer(replace(scene, size=0.75, start=(0.5, 0.5), end=(0.5, 0.5)), 0.0, 160, 256)[3] > 0.5
    assert int(alpha.any(1).sum()) == pytest.approx(120, abs=2)
    assert int(alpha.any(0).sum()) == pytest.approx(120, abs=2)


def test_what_has_a_front_faces_where_it_goes() -> None:
    world = SpriteWorld(split="all")
    car, left, right = SUBJECTS.index("car"), MOTIONS.index("moves left"), MOTIONS.index("moves right")
    assert not world.compose(car, left, 0).flip and world.compose(car, right, 0).flip
    scene = replace(world.compose(car, right, 0), start=(0.5, 0.5), end=(0.5, 0.5))
    mirrored = sprite_layer(replace(scene, flip=False), 0.0, 40, 64).flip(-1)
    torch.testing.assert_close(sprite_layer(scene, 0.0, 40, 64), mirrored, atol=1e-4, rtol=0)


def test_three_quarters_stay_inside() -> None:
    world = SpriteWorld(split="all")
    for subject in range(32):
        for motion in range(8):
            scene = world.compose(subject, motion, 0, index=subject)
            assert min(visible_share(scene, t) for t in (0.0, 1 / 3, 1.0)) >= 0.75, scene
    for name in ("sailboat", "robot", "balloon", "whale"):  # with much of their area at one edge
        for motion in range(4):
            scenes = [world.compose(SUBJECTS.index(name), motion, 0, i) for i in range(6)]
            assert min(visible_share(scene, t) for scene in scenes for t in (0.0, 1.0)) >= 0.75, name


def test_the_share_that_spins() -> None:
    for share in (0.0, 0.5, 1.0):
        world = SpriteWorld(spins=share)
        scenes = [world.scene(index) for index in range(400)]
        assert abs(sum(MOTIONS[s.motion] == "spins" for s in scenes) / 400 - share) < 0.1
        assert not any(is_held_out(s.subject, s.motion, s.background) for s in scenes)
    with pytest.raises(InputError, match="spins must be from 0 to 1"):
        SpriteWorld(spins=-0.1)


def test_the_share_that_is_tilted() -> None:
    scenes = [SpriteWorld(tilts=0.4, spins=0.3).scene(index) for index in range(400)]
    for spin in (True, False):
        tilts = [s.tilt for s in scenes if (s.turns != 0) == spin]
        assert abs(sum(tilt != 0 for tilt in tilts) / len(tilts) - 0.4) < 0.1
    assert not any(is_held_out(s.subject, s.motion, s.background) for s in scenes)
    # upright, they are the scenes of a world without tilts
    upright = [SpriteWorld(spins=0.3).scene(index) for index in range(400)]
    assert [replace(s, tilt=0.0) for s in scenes] == upright
    with pytest.raises(InputError, match="tilts must be from 0 to 1"):
        SpriteWorld(tilts=1.1)


def test_a_tilted_sprite_is_a_spinning_one_at_that_moment() -> None:
    spinning = Scene(subject=0, motion=4, background=0, start=(0.5, 0.5), end=(0.5, 0.5), size=0.7, turns=1.0)
    tilted = replace(spinning, turns=0.0, tilt=0.2)
    moment = np.array([0.2])
    torch.testing.assert_close(render_tensor(spinning, moment, 40, 64), render_tensor(tilted, moment, 40, 64))


def test_siblings_differ_in_their_motion_alone() -> None:
    world = SpriteWorld()
    for index in range(20):
        scenes = [world.sibling(index, member) for member in range(4)]
        assert len({scene.motion for scene in scenes}) == 4
        assert len({(s.subject, s.background, s.size, s.paint_seed) for s in scenes}) == 1
        assert scenes[0].subject == world.scene(index).subject
        assert not any(is_held_out(s.subject, s.motion, s.background) for s in scenes)
    assert len({world.sibling(index, 0).motion for index in range(20)}) > 4
    many = [world.sibling(0, member) for member in range(20)]
    assert len({scene.motion for scene in many}) in (6, 7, 8)


@pytest.mark.parametrize("motion", range(8))
def test_keyframes_are_every_fourth_frame(motion: int) -> None:
    scene = SpriteWorld(split="all").compose(9, motion, motion)
    np.testing.assert_array_equal(render(scene, 8, 20, 32), render(scene, 29, 20, 32)[::4])
    np.testing.assert_array_equal(frame_times(8), frame_times(29)[::4])


def test_any_moments_and_the_tensor_agree_with_the_frames() -> None:
    scene = SpriteWorld().scene(11)
    frames = render(scene, 29, 20, 32)
    assert frames.shape == (29, 20, 32, 3) and frames.dtype == np.uint8
    np.testing.assert_array_equal(render(scene, 29, 20, 32, times=frame_times(29)[5:7]), frames[5:7])
    video = render_tensor(scene, frame_times(29), 20, 32)
    assert video.shape == (3, 29, 20, 32) and video.dtype == torch.float32
    assert -1 <= float(video.min()) and float(video.max()) <= 1
    np.testing.assert_allclose((video.permute(1, 2, 3, 0).numpy() + 1) * 127.5, frames, atol=0.51)
    assert render(scene, 1, 20, 32).shape == (1, 20, 32, 3)
    with pytest.raises(InputError, match="num_frames"):
        frame_times(0)


@pytest.mark.parametrize("height", [20, 80])
def test_small_renderings_are_area_averages_of_large_ones(height: int) -> None:
    world = SpriteWorld(split="all")
    for index in range(24):
        scene = world.compose(index, index % 8, (index + index // 8) % 8, index)
        large = render_tensor(scene, np.array([0.4]), 160, 256)[:, 0]
        small = render_tensor(scene, np.array([0.4]), height, height * 8 // 5)[:, 0]
        difference = (F.avg_pool2d(large[None], 160 // height)[0] - small).abs() * 127.5  # in 8-bit grey levels
        assert float(difference.mean()) < 1.5, scene
        assert float(difference.quantile(0.98)) < 10, scene


@pytest.mark.parametrize("size", [(16, 8), (64, 8), (8, 64)])
def test_frames_may_be_higher_than_wide(size: tuple[int, int]) -> None:
    world = SpriteWorld(split="all")
    for kind in range(8):
        frames = render(world.compose(3, kind, kind), 2, *size)
        assert frames.shape == (2, *size, 3) and frames.std() > 5


def test_backgrounds_differ_from_one_another_and_vary() -> None:
    means = torch.stack(
        [
            F.avg_pool2d(torch.from_numpy(np.stack([paint_background(b, s, 20, 32) for s in range(6)])), (4, 8))
            for b in range(8)
        ]
    )  # (8 backgrounds, 6 seeds, 3, 5, 4)
    flat = means.flatten(2)
    between = [float((flat[a].mean(0) - flat[b].mean(0)).norm()) for a in range(8) for b in range(a)]
    spread = float((flat - flat.mean(1, keepdim=True)).norm(dim=-1).mean())
    assert spread > 0.05  # scenes vary
    assert min(between) > 1.2 * spread  # but never as much as one background differs from another
    for background in range(8):
        image = paint_background(background, 3, 20, 32)
        assert image.shape == (3, 20, 32) and image.dtype == np.float32
        assert 0 <= image.min() and image.max() <= 1
