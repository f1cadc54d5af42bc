"""What the expert is to repair: videos as low-resolution stages leave them."""

import torch
import torch.nn.functional as F
from torch import Tensor

SCALES = (2, 5)
"""A corrupted video has lost the detail of a reduction by a factor in this range."""

WOBBLE = 2.5
"""Pixels by which edges are out of place, standard deviation."""

WOBBLE_GRID = 16
"""Pixels from one drawn displacement to the next."""

NOISE = 0.05
"""Standard deviation of the noise in the reduced video at most, of values in [-1, 1]."""


def corrupted(video: Tensor) -> Tensor:
    """A coarse copy in which shapes wobble from frame to frame and values are noisy.

    Args:
        video: (B, 3, F, H, W) in [-1, 1].

    Returns:
        As the video; draws from the global generator, for each clip its own scale and noise.
    """
    return torch.stack([_corrupt(clip.transpose(0, 1)).transpose(0, 1) for clip in video])


def _corrupt(frames: Tensor) -> Tensor:
    """(F, 3, H, W) -> the same shape."""
    count, _, height, width = frames.shape
    low, high = SCALES
    scale = low + (high - low) * float(torch.rand(()))
    small = (max(1, round(height / scale)), max(1, round(width / scale)))
    # half of the displacement is the whole clip's, half each frame's own
    grid = (height // WOBBLE_GRID + 2, width // WOBBLE_GRID + 2)
    drawn = (torch.randn(1, 2, *grid) + torch.randn(count, 2, *grid)) * WOBBLE / 2**0.5
    shift = F.interpolate(drawn, size=(height, width), mode="bicubic").to(frames)
    pixels = torch.tensor([2 / width, 2 / height]).to(frames)
    still = torch.eye(2, 3).expand(count, 2, 3).to(frames)
    places = F.affine_grid(still, list(frames.shape), align_corners=False)
    moved = F.grid_sample(
        frames, places + shift.permute(0, 2, 3, 1) * pixels, padding_mode="reflection", align_corners=False
    )
    coarse = F.interpolate(moved, size=small, mode="area")
    coarse = coarse + NOISE * float(torch.rand(())) * torch.randn(coarse.shape).to(frames)
    return F.interpolate(coarse, size=(height, width), mode="bilinear")
