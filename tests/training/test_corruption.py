"""What later stages learn to repair."""

import torch

from show1.data.clips import frame_times
from show1.sprites.scenes import SpriteWorld, render_tensor
from show1.training.corruption import HIGH, LOW, corrupted, left_in


def clips(count: int) -> torch.Tensor:
    world = SpriteWorld(seed=3, split="train")
    return torch.stack([render_tensor(world.scene(i), frame_times(3), 80, 128) for i in range(count)])


def test_detail_is_lost_and_the_picture_stays() -> None:
    video = clips(4)
    torch.manual_seed(0)
    coarse = corrupted(video, HIGH)
    assert coarse.shape == video.shape and coarse.dtype == video.dtype

    def detail(x: torch.Tensor) -> float:
        return float(x.diff(n=2, dim=-1).abs().mean())

    assert detail(coarse) < 0.8 * detail(video)
    assert (coarse - video).abs().mean() < 0.15
    assert (coarse.mean((2, 3, 4)) - video.mean((2, 3, 4))).abs().max() < 0.05


def test_every_frame_wobbles_its_own_way() -> None:
    still = clips(1)[:, :, :1].expand(-1, -1, 3, -1, -1)
    torch.manual_seed(0)
    first, second, third = corrupted(still, HIGH)[0].unbind(1)
    assert not torch.equal(first, second) and not torch.equal(second, third)
    torch.manual_seed(0)
    assert torch.equal(corrupted(still, HIGH)[0, :, 0], first)


def test_sizes_of_any_kind() -> None:
    for size in ((8, 8), (9, 31), (1, 5)):
        assert corrupted(torch.zeros(1, 3, 2, *size), LOW).shape == (1, 3, 2, *size)


def test_what_is_left_depends_on_the_size():
    assert left_in(20) == LOW and left_in(160) == HIGH
    half = left_in(80)
    assert half.scales == (1.0, 2.5) and half.wobble == HIGH.wobble / 2 and half.noise == HIGH.noise
