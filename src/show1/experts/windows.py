"""Long videos: the network sees overlapping windows of latent frames, whose predictions are blended at each step.

The video is encoded and decoded once, so that no seam comes from coding a part again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from show1.diffusion import sliding_windows


@contextmanager
def windowed(network: Any, *, window: int, overlap: int, axis: int) -> Iterator[None]:
    """Lets a transformer predict in windows inside the block.

    Args:
        network: The transformer; its latents are the argument `hidden_states`.
        window: Latent frames that it sees at once. Shorter videos are seen whole, as without windows.
        overlap: Latent frames that neighbouring windows share.
        axis: The axis of its latents that counts frames.
    """
    hooked, whole = vars(network).get("forward"), network.forward

    def forward(*, hidden_states: Tensor, **options: Any) -> tuple[Tensor]:
        frames = hidden_states.shape[axis]
        if frames <= window:
            out: tuple[Tensor] = whole(hidden_states=hidden_states, **options)
            return out
        total, weights = torch.zeros_like(hidden_states, dtype=torch.float32), torch.zeros(frames)
        for part in sliding_windows(frames, window, max(1, window - overlap)):
            seen = hidden_states.narrow(axis, part.start, len(part))
            prediction = whole(hidden_states=seen, **_shortened(options, len(part), frames))[0]
            weight = _triangle(len(part))
            weights[part.start : part.stop] += weight
            total.narrow(axis, part.start, len(part)).add_(prediction.float() * _along(weight, axis, total))
        return ((total / _along(weights, axis, total)).to(hidden_states.dtype),)

    network.forward = forward
    try:
        yield
    finally:
        del network.forward
        if hooked is not None:
            network.forward = hooked


def _triangle(length: int) -> Tensor:
    """Weights (length,) that rise from the ends of a window to its middle."""
    ramp = torch.arange(1, length + 1, dtype=torch.float32)
    return torch.minimum(ramp, ramp.flip(0))


def _along(weights: Tensor, axis: int, like: Tensor) -> Tensor:
    """Weights (f,) shaped to broadcast along an axis of `like`, (B, ...)."""
    shape = [1] * like.ndim
    shape[axis] = -1
    return weights.to(like).view(shape)


def _shortened(options: dict[str, Any], length: int, frames: int) -> dict[str, Any]:
    """The network's other arguments for a window: those with an entry per token are those of the first frames."""
    out = dict(options)
    timestep, positions = options.get("timestep"), options.get("image_rotary_emb")
    if isinstance(timestep, Tensor) and timestep.ndim == 2:
        out["timestep"] = timestep[:, : timestep.shape[1] * length // frames]
    if positions is not None:
        out["image_rotary_emb"] = tuple(each[: len(each) * length // frames] for each in positions)
    return out
