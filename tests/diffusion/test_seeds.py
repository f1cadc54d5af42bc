import pytest
import torch

from show1.diffusion import IndependentSeeds, PublishedSeeds, randn


def draw(seeds, stage="keyframes", window=0, batch=2):
    return randn((batch, 3, 2, 5, 7), seeds.generators(stage, window))


def test_a_sample_draws_the_same_alone_and_in_a_batch():
    both = draw(IndependentSeeds([3, 8]))
    assert torch.equal(both[:1], draw(IndependentSeeds([3]), batch=1))
    assert torch.equal(both[1:], draw(IndependentSeeds([8]), batch=1))


def test_samples_stages_and_windows_have_streams_of_their_own():
    base = draw(IndependentSeeds([3]), batch=1)
    for other in (
        draw(IndependentSeeds([4]), batch=1),
        draw(IndependentSeeds([3]), stage="interpolation", batch=1),
        draw(IndependentSeeds([3]), window=1, batch=1),
    ):
        correlation = torch.corrcoef(torch.stack([base.flatten(), other.flatten()]))[0, 1]
        assert correlation.abs() < 0.25


def test_streams_stay_the_same_between_releases():
    generator = IndependentSeeds([345]).generators("keyframes", 0)[0]
    assert generator.initial_seed() == 1945809344
    torch.testing.assert_close(torch.randn(20, generator=generator)[:2], torch.tensor([-0.161593, 0.051856]))


def test_published_windows_start_from_the_same_seed_and_draw_the_batch_at_once():
    expected = torch.randn(2, 3, 2, 5, 7, generator=torch.Generator().manual_seed(345))
    seeds = PublishedSeeds(345)
    assert torch.equal(draw(seeds), expected)
    assert torch.equal(draw(seeds, stage="super_resolution", window=3), expected)


def test_samples_must_share_generators_evenly():
    with pytest.raises(ValueError, match="3 samples"):
        randn((3, 1), IndependentSeeds([1, 2]).generators("keyframes", 0))
