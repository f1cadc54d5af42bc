import pytest
import torch

from show1.diffusion import Guidance, guide


@pytest.fixture
def halves():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 6, 2, 3, 3, generator=generator) for _ in range(2))


def test_scale_one_is_the_conditional_prediction_and_zero_the_unconditional(halves):
    uncond, cond = halves
    torch.testing.assert_close(guide(uncond, cond, 1.0, 6), cond)
    torch.testing.assert_close(guide(uncond, cond, 0.0, 6), uncond)


def test_guidance_extrapolates_linearly(halves):
    uncond, cond = halves
    torch.testing.assert_close(guide(uncond, cond, 4.0, 6), 4 * cond - 3 * uncond)


def test_the_variance_is_the_conditional_half_s(halves):
    uncond, cond = halves
    guided = guide(uncond, cond, 7.0, 3)
    assert torch.equal(guided[:, 3:], cond[:, 3:])
    torch.testing.assert_close(guided[:, :3], 7 * cond[:, :3] - 6 * uncond[:, :3])


def test_interval_is_closed_and_scale_one_is_off():
    guidance = Guidance(scale=3.0, interval=(0.2, 0.8))
    assert [guidance.applies(t) for t in (199, 200, 500, 800, 801)] == [False, True, True, True, False]
    assert not Guidance(scale=1.0).applies(500)
