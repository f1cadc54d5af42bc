"""Changes of the clips that a motion is learned from, so that it does not come to depend on what they look like."""

import math

import torch
from torch import Tensor


def random_hue(clips: Tensor, chance: float) -> Tensor:
    """Turns the colours of some clips round the grey axis, by an angle of their own; greys stay as they are.

    Draws from the global generator.

    Args:
        clips: (B, 3, F, H, W) in [-1, 1].
        chance: Of each clip, 0 to 1.

    Returns:
        As the clips, colours outside of the range clipped.
    """
    count = len(clips)
    angle = torch.where(torch.rand(count) < chance, torch.rand(count) * 2 * math.pi, 0.0)
    # Rodrigues' rotation formula round (1, 1, 1) / sqrt(3)
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    across = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    turn = cosine * torch.eye(3) + sine * across + (1 - cosine) / 3
    return torch.einsum("bij,bjfhw->bifhw", turn.to(clips), clips).clamp(-1, 1)
