"""Brings videos to the lengths and sizes that a latent model takes, and back."""

import torch.nn.functional as F
from torch import Tensor

from show1.diffusion import fold_frames, unfold_frames


def resized(video: Tensor, height: int, width: int) -> Tensor:
    """Resizes frames (B, 3, F, h, w), smoothed where they get smaller; returns (B, 3, F, H, W) in [-1, 1]."""
    if video.shape[-2:] == (height, width):
        return video.clamp(-1, 1)
    frames = F.interpolate(fold_frames(video), size=(height, width), mode="bicubic", antialias=True)
    return unfold_frames(frames.clamp(-1, 1), len(video))


def slowed(video: Tensor, factor: int) -> Tensor:
    """Puts `factor` - 1 blended frames between any two of (B, 3, F, H, W): (B, 3, (F - 1) * factor + 1, H, W)."""
    if factor == 1 or video.shape[2] == 1:
        return video
    size = ((video.shape[2] - 1) * factor + 1, *video.shape[3:])
    return F.interpolate(video, size=size, mode="trilinear", align_corners=True)


def padded(video: Tensor, *, frame_multiple: int, size_multiple: int) -> Tensor:
    """Appends copies of the last frame, and of the last row and column of pixels.

    Args:
        video: (B, 3, F, H, W).
        frame_multiple: M such that the model takes M * k + 1 frames.
        size_multiple: What heights and widths have to be multiples of.

    Returns:
        (B, 3, F', H', W'), the smallest that the model takes.
    """
    had = video.shape[2:]
    has = padded_shape(tuple(had), frame_multiple=frame_multiple, size_multiple=size_multiple)
    after, bottom, right = (new - old for new, old in zip(has, had, strict=True))
    return F.pad(video, (0, right, 0, bottom, 0, after), mode="replicate")


def padded_shape(shape: tuple[int, ...], *, frame_multiple: int, size_multiple: int) -> tuple[int, int, int]:
    """Frames, height and width that `padded` makes of others."""
    frames, height, width = shape
    return (
        frames + -(frames - 1) % frame_multiple,
        height + -height % size_multiple,
        width + -width % size_multiple,
    )


def cropped(video: Tensor, frames: int, height: int, width: int) -> Tensor:
    """Undoes `padded`: the first frames, rows and columns of (B, 3, F', H', W')."""
    return video[:, :, :frames, :height, :width]
