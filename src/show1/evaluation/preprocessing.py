"""The preprocessing of videos for feature networks.

All videos are uint8 RGB (B, F, H, W, 3) in 0..255. The order of channels cannot be seen in the numbers: OpenCV gives
BGR, which must be reversed first, or every score is silently wrong.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from show1.errors import InputError

Preprocessing = Literal["as-is", "squash", "crop", "clean-fid", "torch-fidelity", "clip"]
Videos = Tensor | NDArray[np.uint8]
"""(B, F, H, W, 3), uint8 RGB."""


def check_videos(videos: Videos) -> Tensor:
    """Checks that videos are uint8 (B, F, H, W, 3), and returns them as a tensor.

    Raises:
        InputError: Another type or shape.
    """
    tensor = videos if isinstance(videos, Tensor) else torch.from_numpy(np.require(videos, requirements=["C", "W"]))
    if tensor.dtype != torch.uint8:
        raise InputError(
            f"videos must be uint8 in 0..255, got {tensor.dtype}: scale to 0..255, round and convert; metrics are "
            "computed on what a viewer gets"
        )
    if tensor.ndim != 5 or tensor.shape[-1] != 3 or not tensor.numel():
        raise InputError(f"videos must be (B, F, H, W, 3), got {tuple(tensor.shape)}; channels come last, in RGB")
    return tensor


def preprocess(videos: Videos, rule: Preprocessing) -> Tensor:
    """Makes a network's input from videos (B, F, H, W, 3), uint8 RGB.

    Args:
        videos: (B, F, H, W, 3), uint8 RGB.
        rule: `as-is`: (B, 3, F, H, W) in 0..255, the network resizes. `squash`, `crop`: see there. `clean-fid`,
            `torch-fidelity`: frames (B*F, 3, 299, 299) in [-1, 1). `clip` belongs to transformers.

    Raises:
        InputError: Not such videos, or no such rule.
    """
    rules: dict[str, Callable[[Videos], Tensor]] = {
        "as-is": _as_is,
        "squash": squash,
        "crop": crop,
        "clean-fid": clean_fid,
        "torch-fidelity": torch_fidelity,
    }
    if rule not in rules:
        raise InputError(f"there is no such preprocessing here: {rule!r}; there are {', '.join(rules)}")
    return rules[rule](videos)


def squash(videos: Videos, size: int = 224) -> Tensor:
    """Bilinear without antialias to a square, whatever the proportions, as TATS and StyleGAN-V do.

    Returns:
        (B, 3, F, size, size) in [-1, 1].
    """
    frames, count = _frames(videos)
    resized = functional.interpolate(frames, size=(size, size), mode="bilinear", align_corners=False)
    return _as_videos(resized, count)


def crop(videos: Videos, size: int = 224) -> Tensor:
    """Bilinear without antialias until the shorter side fits, then the centre, as common_metrics_on_video_quality does.

    Returns:
        (B, 3, F, size, size) in [-1, 1].
    """
    frames, count = _frames(videos)
    height, width = frames.shape[-2:]
    short = min(height, width)
    target = [-(-side * size // short) for side in (height, width)]  # rounded up
    resized = functional.interpolate(frames, size=target, mode="bilinear", align_corners=False)
    top, left = ((side - size) // 2 for side in target)
    return _as_videos(resized[..., top : top + size, left : left + size], count)


def clean_fid(videos: Videos, size: int = 299) -> Tensor:
    """Pillow's bicubic with antialias, in float32 and not clipped, as clean-fid does (arXiv:2104.11222).

    Returns:
        Frames (B*F, 3, size, size) in [-1, 1), and a little beyond where bicubic overshoots.
    """
    from PIL import Image

    frames, _ = _frames(videos)
    resized = np.empty((len(frames), 3, size, size), dtype=np.float32)
    for frame, out in zip(frames.numpy(force=True), resized, strict=True):
        for channel in range(3):
            out[channel] = np.asarray(Image.fromarray(frame[channel]).resize((size, size), Image.Resampling.BICUBIC))
    return (torch.from_numpy(resized) - 128) / 128


def torch_fidelity(videos: Videos, size: int = 299) -> Tensor:
    """TensorFlow 1's bilinear (corners aligned at the top left, no antialias), as torch-fidelity and the first FID do.

    Returns:
        Frames (B*F, 3, size, size) in [-1, 1).
    """
    frames, _ = _frames(videos)
    for axis in (3, 2):
        places = torch.arange(size, dtype=torch.float32, device=frames.device) * (frames.shape[axis] / size)
        low = places.floor().long()
        high = (low + 1).clamp(max=frames.shape[axis] - 1)
        share = (places - low).view([-1 if axis == a else 1 for a in range(4)])
        start = frames.index_select(axis, low)
        frames = start + (frames.index_select(axis, high) - start) * share
    return (frames - 128) / 128


def _as_is(videos: Videos) -> Tensor:
    return check_videos(videos).permute(0, 4, 1, 2, 3).float().contiguous()


def _frames(videos: Videos) -> tuple[Tensor, int]:
    """(B*F, 3, H, W) float32 in 0..255, and B."""
    checked = check_videos(videos)
    return checked.flatten(0, 1).permute(0, 3, 1, 2).float().contiguous(), len(checked)


def _as_videos(frames: Tensor, count: int) -> Tensor:
    """(B*F, 3, H, W) in 0..255 as (B, 3, F, H, W) in [-1, 1]."""
    return frames.reshape(count, -1, *frames.shape[1:]).transpose(1, 2).contiguous() * 2 / 255 - 1
