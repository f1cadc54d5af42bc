"""Imitations of the errors that earlier stages make, for later stages to learn to repair."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """Strength of a corruption."""

    scales: tuple[float, float]
    """Range of the factor by which frames are reduced and enlarged again, which loses detail."""

    wobble: float
    """Standard deviation of the displacement of edges, in pixels."""

    wobble_grid: int
    """Distance between independently drawn displacements, in pixels."""

    noise: float
    """Largest standard deviation of the noise in the reduced video, for values in [-1, 1]."""

    def resized(self, factor: float) -> "Corruption":
        """Scales the corruption for frames that are larger by a factor."""
        low, high = (max(1.0, factor * scale) for scale in self.scales)
        grid = max(1, round(factor * self.wobble_grid))
        return Corruption(scales=(low, high), wobble=factor * self.wobble, wobble_grid=grid, noise=self.noise)


HIGH = Corruption(scales=(2.0, 5.0), wobble=2.5, wobble_grid=16, noise=0.05)
"""The errors of a super-resolution at 160x256 pixels, for the expert."""

LOW = Corruption(scales=(1.0, 1.25), wobble=0.4, wobble_grid=4, noise=0.12)
"""The errors of keyframes and interpolation at 20x32 pixels, for interpolation and super-resolution."""


def left_in(height: int) -> Corruption:
    """Chooses the corruption of frames before super-resolution by their height: small ones are keyframes."""
    return LOW if height <= 40 else left_by_super_resolution(height)


def left_by_super_resolution(height: int) -> Corruption:
    """Scales the corruption that super-resolution leaves to frames of a height."""
    return HIGH.resized(height / 160)


def corrupted(video: Tensor, kind: Corruption) -> Tensor:
    """Makes a coarse copy in which shapes wobble from frame to frame and values are noisy.

    Args:
        video: (B, 3, F, H, W) in [-1, 1].
        kind: Strength of the corruption.

    Returns:
        (B, 3, F, H, W). Scale and noise are drawn for each clip, from the global generator.
    """
    return torch.stack([_corrupt(clip.transpose(0, 1), kind).transpose(0, 1) for clip in video])


def _corrupt(frames: Tensor, kind: Corruption) -> Tensor:
    """(F, 3, H, W) -> the same shape."""
    count, _, height, width = frames.shape
    low, high = kind.scales
    scale = low + (high - low) * float(torch.rand(()))
    small = (max(1, round(height / scale)), max(1, round(width / scale)))
    # half of the displacement is common to all frames of the clip, half is drawn per frame
    grid = (height // kind.wobble_grid + 2, width // kind.wobble_grid + 2)
    drawn = (torch.randn(1, 2, *grid) + torch.randn(count, 2, *grid)) * kind.wobble / 2**0.5
    shift = F.interpolate(drawn, size=(height, width), mode="bicubic").to(frames)
    pixels = torch.tensor([2 / width, 2 / height]).to(frames)
    still = torch.eye(2, 3).expand(count, 2, 3).to(frames)
    places = F.affine_grid(still, list(frames.shape), align_corners=False)
    moved = F.grid_sample(
        frames, places + shift.permute(0, 2, 3, 1) * pixels, padding_mode="reflection", align_corners=False
    )
    coarse = F.interpolate(moved, size=small, mode="area")
    coarse = coarse + kind.noise * float(torch.rand(())) * torch.randn(coarse.shape).to(frames)
    return F.interpolate(coarse, size=(height, width), mode="bilinear")


def draw_clips(count: int, share: float) -> Tensor:
    """Draws which of a batch's clips are corrupted: their indices, (N,)."""
    return (torch.rand(count) < share).nonzero()[:, 0]


def corrupted_share(frames: Tensor, share: float) -> Tensor:
    """Corrupts some clips of low-resolution frames (B, 3, F, H, W) as an earlier stage leaves them: the same shape."""
    chosen = draw_clips(len(frames), share).to(frames.device)
    if not len(chosen):
        return frames
    return frames.index_copy(0, chosen, corrupted(frames[chosen], left_in(frames.shape[-2])))
