"""Long videos: the network sees overlapping windows of latent frames, whose predictions are blended at each step.

The video is encoded and decoded once, so that no seam comes from coding a part again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from show1.diffusion import Window, blended, sliding_windows


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
        parts = sliding_windows(frames, window, max(1, window - overlap))

        def predict(seen: Tensor, part: Window) -> Tensor:
            return whole(hidden_states=seen, **_shortened(options, len(part), frames))[0]  # type: ignore[no-any-return]

        return (blended(predict, hidden_states, parts, axis=axis).to(hidden_states.dtype),)

    network.forward = forward
    try:
        yield
    finally:
        del network.forward
        if hooked is not None:
            network.forward = hooked


def _shortened(options: dict[str, Any], length: int, frames: int) -> dict[str, Any]:
    """The network's other arguments for a window: those with an entry per token are those of the first frames."""
    out = dict(options)
    timestep, positions = options.get("timestep"), options.get("image_rotary_emb")
    if isinstance(timestep, Tensor) and timestep.ndim == 2:
        out["timestep"] = timestep[:, : timestep.shape[1] * length // frames]
    if positions is not None:
        out["image_rotary_emb"] = tuple(each[: len(each) * length // frames] for each in positions)
    return out
