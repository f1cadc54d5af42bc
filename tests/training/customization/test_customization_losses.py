"""Losses against values computed by hand, and against shifts of the appearance."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from show1.training.customization.losses import appearance_debiased_loss, residual_vector_loss


def frames(*values: float) -> Tensor:
    """A video of one pixel: (1, 1, F, 1, 1)."""
    return torch.tensor(values).view(1, 1, -1, 1, 1)


def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(2, 3, 4, 5, 6, generator=generator) for _ in range(2))
    return first, second


def test_residual_vectors_by_hand() -> None:
    # differences (1, -2) and (3, 1): cosines 1 and -1
    assert float(residual_vector_loss(frames(0, 1, -1), frames(5, 8, 9))) == pytest.approx((0 + 2) / 2)
    # two pixels: differences (1, 0) and (1, 1) are at 45 degrees
    ours = torch.tensor([[[[[0.0, 0.0]], [[1.0, 0.0]]]]])
    theirs = torch.tensor([[[[[0.0, 0.0]], [[1.0, 1.0]]]]])
    assert float(residual_vector_loss(ours, theirs)) == pytest.approx(1 - math.sqrt(0.5))


def test_residual_vectors_do_not_see_what_frames_share() -> None:
    predicted, wanted = pair()
    shift = torch.randn(2, 3, 1, 5, 6)
    loss = residual_vector_loss(predicted, wanted)
    assert_close(residual_vector_loss(predicted + shift, wanted - 2 * shift), loss)
    assert_close(residual_vector_loss(predicted * 3, wanted), loss)
    assert float(residual_vector_loss(wanted + shift, wanted)) == pytest.approx(0, abs=1e-6)
    assert float(loss) > 0.5


def test_debiased_by_hand() -> None:
    # errors (1, 2), anchor 0: sqrt(2) * 1 - 1 and sqrt(2) * 2 - 1
    loss = appearance_debiased_loss(frames(1, 2), frames(0, 0), 0)
    assert float(loss) == pytest.approx(((2**0.5 - 1) ** 2 + (2 * 2**0.5 - 1) ** 2) / 2)
    assert float(appearance_debiased_loss(frames(1, 2), frames(0, 0), 1, beta=0.0)) == pytest.approx(2.5)


def test_debiased_counts_a_shared_error_little() -> None:
    predicted, wanted = pair()
    shared = torch.randn(2, 3, 1, 5, 6)
    plain = shared.square().mean()
    for anchor in range(4):
        assert_close(appearance_debiased_loss(wanted + shared, wanted, anchor), (2**0.5 - 1) ** 2 * plain)
        both = appearance_debiased_loss(predicted + shared, wanted + shared, anchor)
        assert_close(both, appearance_debiased_loss(predicted, wanted, anchor))
