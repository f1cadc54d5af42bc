"""Windows over frames: where they lie, and predictions in overlapping ones that are blended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from show1.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Window:
    """Frames `start` to `stop` (exclusive) of a video."""

    start: int
    """First frame."""
    stop: int
    """Frame after the last."""

    def __len__(self) -> int:
        return self.stop - self.start


def sliding_windows(num_frames: int, window: int, stride: int) -> list[Window]:
    """Covers `num_frames` frames with windows whose neighbours share one frame or more.

    The last window is moved back to the end of the video, so that it is as long as the others; a video shorter
    than the window is one short window.

    Args:
        num_frames: Frames of the video, 1 or more.
        window: Frames of a window, 1 or more.
        stride: Frames from a window's start to the next one's; less than `window`, so that they share a frame.

    Raises:
        InputError: A window would have no frame in common with the one before.
    """
    if num_frames < 1 or window < 1 or stride < 1:
        raise InputError(f"frames, window and stride must be 1 or more, got {num_frames}, {window}, {stride}")
    if num_frames <= window:
        return [Window(start=0, stop=num_frames)]
    if stride >= window:
        raise InputError(
            f"stride must be less than the window of {window} frames so that windows overlap, got {stride}"
        )
    last = num_frames - window
    return [Window(start=s, stop=s + window) for s in [*range(0, last, stride), last]]


def segments(num_keyframes: int, factor: int) -> list[Window]:
    """Segments between neighbouring keyframes, in frames of the interpolated video.

    Segment k has `factor + 1` frames, from `factor * k`; neighbours share the keyframe between them. One keyframe
    has no segment.
    """
    return [Window(start=k * factor, stop=(k + 1) * factor + 1) for k in range(num_keyframes - 1)]


def blended(
    predict: Callable[[Tensor, Window], Tensor], x: Tensor, windows: Sequence[Window], *, axis: int = 2
) -> Tensor:
    """Predicts in windows and blends what they predict: each counts most in its middle and least at its ends.

    Args:
        predict: Maps the part of `x` in a window to a prediction of the same frames.
        x: Noisy samples, (B, ...).
        windows: Cover all frames.
        axis: The axis of `x` that counts frames.

    Returns:
        The prediction for all frames, float32.
    """
    total, weights = None, torch.zeros(x.shape[axis])
    for part in windows:
        prediction = predict(x.narrow(axis, part.start, len(part)), part).float()
        if total is None:
            shape = list(prediction.shape)
            shape[axis] = x.shape[axis]
            total = prediction.new_zeros(shape)
        weight = _triangle(len(part))
        weights[part.start : part.stop] += weight
        total.narrow(axis, part.start, len(part)).add_(prediction * _along(weight, axis, total))
    assert total is not None, "there is a window"
    return total / _along(weights, axis, total)


def _triangle(length: int) -> Tensor:
    """Weights (length,) that rise from the ends of a window to its middle."""
    ramp = torch.arange(1, length + 1, dtype=torch.float32)
    return torch.minimum(ramp, ramp.flip(0))


def _along(weights: Tensor, axis: int, like: Tensor) -> Tensor:
    """Weights (f,) shaped to broadcast along an axis of `like`, (B, ...)."""
    shape = [1] * like.ndim
    shape[axis] = -1
    return weights.to(like).view(shape)
