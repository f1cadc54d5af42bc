"""Changes of the clips that a motion is learned from, so that it does not come to depend on what they look like."""

import math

import torch
import torch.nn.functional as F
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


def random_shift(clips: Tensor, most: float) -> Tensor:
    """Moves all frames of a clip by the same way, each clip by one of its own; edges are continued.

    Draws from the global generator.

    Args:
        clips: (B, C, F, H, W).
        most: Of the frame's height and width, 0 to 0.5.
    """
    height, width = clips.shape[-2:]
    down, right = round(most * height), round(most * width)
    padded = F.pad(clips.flatten(1, 2), (right, right, down, down), mode="replicate").unflatten(1, clips.shape[1:3])
    tops = torch.randint(2 * down + 1, (len(clips),)).tolist()
    lefts = torch.randint(2 * right + 1, (len(clips),)).tolist()
    moved = [x[..., t : t + height, n : n + width] for x, t, n in zip(padded, tops, lefts, strict=True)]
    return torch.stack(moved)
