import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.customization.styles import STYLES, apply_style
from show1.errors import InputError
from show1.sprites.scenes import SpriteWorld, render


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    world = SpriteWorld(seed=5, split="all")
    return np.concatenate([render(world.scene(index), 1, 80, 128) for index in range(4)])


def saturation(frames: NDArray[np.uint8]) -> float:
    return float((frames.max(-1).astype(int) - frames.min(-1)).mean())


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("size", [(20, 32), (37, 51), (160, 256)])
def test_any_size_and_the_same_every_time(name: str, size: tuple[int, int]) -> None:
    frames = render(SpriteWorld().scene(0), 2, *size)
    styled = apply_style(name, frames)
    assert styled.shape == frames.shape and styled.dtype == np.uint8
    np.testing.assert_array_equal(styled, apply_style(name, frames))
    assert np.abs(styled.astype(int) - frames).mean() > 10


def test_pencil_sketch_is_grey_on_light_paper(frames: NDArray[np.uint8]) -> None:
    styled = apply_style("pencil sketch", frames)
    assert saturation(styled) < 20 < saturation(frames)
    assert np.median(styled) > 150


def test_sepia_is_brown_and_its_grain_moves(frames: NDArray[np.uint8]) -> None:
    still = np.repeat(frames[:1], 3, axis=0)
    styled = apply_style("sepia film", still).astype(int)
    assert (styled[..., 0] >= styled[..., 1]).all() and (styled[..., 1] >= styled[..., 2]).all()
    assert np.abs(styled[1] - styled[0]).mean() > 3
    np.testing.assert_array_equal(apply_style("sepia film", still[:2], first_number=1), styled[1:])


def test_neon_is_lines_on_black(frames: NDArray[np.uint8]) -> None:
    styled = apply_style("neon outline", frames)
    assert (styled.max(-1) < 40).mean() > 0.5
    assert styled.max() > 200
    flat = np.full((1, 80, 128, 3), 120, dtype=np.uint8)
    assert apply_style("neon outline", flat).max() < 5


def test_pointillism_is_dots_that_stand_still(frames: NDArray[np.uint8]) -> None:
    flat = np.full((2, 80, 128, 3), (40, 90, 200), dtype=np.uint8)
    styled = apply_style("pointillism", flat)
    np.testing.assert_array_equal(styled[0], styled[1])
    assert len(np.unique(styled[0].reshape(-1, 3), axis=0)) > 100  # paints vary
    assert styled[..., 2].mean() - 20 > styled[..., 1].mean() > styled[..., 0].mean() + 20


@pytest.mark.parametrize("name", STYLES)
def test_small_frames_look_like_large_ones(name: str) -> None:
    """The style of a small frame is roughly the average of the style of a large one."""
    scene = SpriteWorld().scene(1)
    small = apply_style(name, render(scene, 1, 40, 64))[0].astype(float)
    large = apply_style(name, render(scene, 1, 160, 256))[0].reshape(40, 4, 64, 4, 3).mean((1, 3))
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.8


def test_unknown_style_and_wrong_frames(frames: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match="style must be one of pencil sketch, .*'oil'"):
        apply_style("oil", frames)
    with pytest.raises(InputError, match=r"got float64 of shape"):
        apply_style("pointillism", frames / 255)
