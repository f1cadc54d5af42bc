"""Losses that look at how frames differ, so that the appearance which they share counts little. Functions of tensors.

Tensors are (B, C, F, H, W): what the network predicts (noise, v, or the clean video), and what it should.
"""

import torch.nn.functional as F
from torch import Tensor


def residual_vector_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
    """One minus the cosine of predicted and wanted differences of neighbouring frames (VMC, arXiv:2312.00845).

    What all frames have in common drops out of the differences.

    Args:
        predicted: (B, C, F, H, W), F at least 2.
        wanted: As predicted.

    Returns:
        Scalar, from 0 to 2: the mean over samples and pairs of frames.
    """
    ours, theirs = (x.float().diff(dim=2).transpose(1, 2).flatten(2) for x in (predicted, wanted))  # (B, F - 1, C*H*W)
    return (1 - F.cosine_similarity(ours, theirs, dim=-1)).mean()


def appearance_debiased_loss(predicted: Tensor, wanted: Tensor, anchor: int, beta: float = 1.0) -> Tensor:
    """Mean squared error between sqrt(beta^2 + 1) e_i - beta e_anchor of both (MotionDirector, arXiv:2310.08465).

    An error that all frames share, which is one of appearance, counts (sqrt(beta^2 + 1) - beta)^2 of itself.

    Args:
        predicted: (B, C, F, H, W).
        wanted: As predicted.
        anchor: The frame that stands for the appearance.
        beta: How much of it is taken away.

    Returns:
        Scalar.
    """
    error = predicted.float() - wanted.float()
    debiased = (beta**2 + 1) ** 0.5 * error - beta * error[:, :, anchor : anchor + 1]
    loss: Tensor = debiased.square().mean()
    return loss
