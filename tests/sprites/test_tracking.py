"""Motion measured on ground truth, whose motion is known."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from show1.data.clips import frame_times
from show1.sprites.readers.tracking import Track, fitted, track
from show1.sprites.scenes import SpriteWorld, render_tensor, sprite_layer
from show1.sprites.world import MOTIONS


def both(video: torch.Tensor, masks: torch.Tensor, subject: int) -> list[Track]:
    """The track of the masks' areas, and the one that is fitted to their shapes."""
    path = track(video, masks, subject)
    return [path, fitted(path, video, masks, subject)]


def tracked(motion: int, subject: int, frames: int, height: int):
    scene = SpriteWorld(seed=3, split="all").compose(subject, motion, subject % 8, index=motion)
    times = frame_times(frames)
    video = render_tensor(scene, times, height, int(1.6 * height))
    masks = torch.stack([sprite_layer(scene, float(time), 40, 64)[3] for time in times])
    return scene, both(video, masks, subject)


@pytest.mark.parametrize("motion", range(len(MOTIONS)))
@pytest.mark.parametrize(("frames", "height"), [(8, 20), (8, 80)])
def test_every_motion_is_read(motion: int, frames: int, height: int) -> None:
    for subject in (3, 16, 24):  # a face, a vehicle, a ball
        _, found = tracked(motion, subject, frames, height)
        assert [path.motion() for path in found] == [motion] * 2


@pytest.mark.parametrize("way", [0, 1])
def test_measures_are_those_of_the_scene(way: int) -> None:
    scene, found = tracked(MOTIONS.index("moves right"), 12, 8, 80)
    np.testing.assert_allclose(found[way].x, np.linspace(scene.start[0], scene.end[0], 8), atol=0.03)
    np.testing.assert_allclose(found[way].y, scene.start[1], atol=0.03)
    assert found[way].travel == pytest.approx(scene.end[0] - scene.start[0], abs=0.04)
    scene, found = tracked(MOTIONS.index("grows"), 12, 8, 80)
    assert found[way].scaling == pytest.approx(1.4 / 0.6, rel=0.15)
    scene, found = tracked(MOTIONS.index("spins"), 12, 8, 80)
    assert found[way].turns == pytest.approx(scene.turns, abs=0.07)


def test_a_mask_with_holes_is_fitted() -> None:
    scene = SpriteWorld(seed=3, split="all").compose(22, MOTIONS.index("moves down"), 4)
    times = frame_times(8)
    video = render_tensor(scene, times, 40, 64)
    masks = torch.stack([sprite_layer(scene, float(time), 40, 64)[3] for time in times])
    masks[:, 20:] *= 0.4  # half of a bicycle's mask is lost over the sea
    by_area, by_shape = both(video, masks, 22)
    assert by_area.scaling < 0.8 and by_area.motion() is None
    assert by_shape.scaling == pytest.approx(1, abs=0.1) and MOTIONS[by_shape.motion() or 0] == "moves down"
    np.testing.assert_allclose(by_shape.y, np.linspace(scene.start[1], scene.end[1], 8), atol=0.03)


def test_half_a_motion_is_none() -> None:
    world = SpriteWorld(seed=3, split="all")
    scene = world.compose(3, MOTIONS.index("moves left"), 1)
    times = frame_times(8) * 0.3  # the first third of the way
    video = render_tensor(scene, times, 40, 64)
    masks = torch.stack([sprite_layer(scene, float(time), 40, 64)[3] for time in times])
    assert [path.motion() for path in both(video, masks, 3)] == [None] * 2


WAYS: dict[str, Callable[[float], tuple[float, float, float]]] = {
    "away and back": lambda t: (0.2 + 0.55 * (1 - abs(2 * t - 1)), 0.5, 0.4),
    "a leap half-way": lambda t: (0.25 if t < 0.5 else 0.75, 0.5, 0.4),
    "to and fro": lambda t: (0.5 + 0.25 * (-1) ** round(7 * t), 0.5, 0.4),
    "round": lambda t: (0.5 - 0.25 * math.cos(2 * math.pi * t), 0.5 + 0.2 * math.sin(2 * math.pi * t), 0.4),
    "larger and small again": lambda t: (0.5, 0.5, 0.25 * 2.3 ** (1 - abs(2 * t - 1))),
    "across while it grows": lambda t: (0.25 + 0.5 * t, 0.5, 0.25 * 2.3**t),
}


@pytest.mark.parametrize("frames", [8, 29])
@pytest.mark.parametrize("way", WAYS)
def test_a_way_that_no_caption_tells_is_none(way: str, frames: int) -> None:
    still = SpriteWorld(seed=3, split="all").compose(3, MOTIONS.index("stays still"), 1)
    drawn, masks = [], []
    for time in frame_times(frames):
        x, y, size = WAYS[way](float(time))
        scene = dataclasses.replace(still, start=(x, y), end=(x, y), size=size)
        drawn.append(render_tensor(scene, np.array([0.0]), 80, 128))
        masks.append(sprite_layer(scene, 0.0, 40, 64)[3])
    assert [path.motion() for path in both(torch.cat(drawn, dim=1), torch.stack(masks), 3)] == [None] * 2


def test_an_empty_mask_does_not_fail() -> None:
    for found in both(torch.zeros(3, 4, 20, 32), torch.zeros(4, 40, 64), 0):
        assert np.isfinite(found.size).all()
