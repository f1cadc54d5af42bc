"""How sharp and how steady a video looks."""

import math

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from show1.sprites.readers.tracking import Track
from show1.sprites.scenes import Scene, sprite_layer
from show1.sprites.world import MOTIONS


def flicker(video: Tensor, masks: Tensor) -> float | None:
    """Measures the mean change of pixels from frame to frame where there is no subject, in 8-bit levels.

    Args:
        video: (3, F, H, W) in [-1, 1].
        masks: (F, h, w) coverage by subjects, 0 to 1.

    Returns:
        0 or more; None: subjects are everywhere.
    """
    if video.shape[1] < 2:
        return 0.0
    empty = F.interpolate(masks[:, None], size=video.shape[-2:], mode="bilinear")[:, 0] < 0.02
    still = empty[1:] & empty[:-1]
    change = (video[:, 1:] - video[:, :-1]).abs().mean(0)
    return round(float(change[still].mean() * 127.5), 4) if still.any() else None


def sharpness(video: Tensor, masks: Tensor, path: Track, subject: int) -> float | None:
    """Measures how abrupt the subject's outline is, over that of a render with the same track, in a few frames.

    Abruptness is the ratio of second to first differences near the outline, which does not change with contrast.

    Args:
        video: (3, F, H, W) in [-1, 1].
        masks: (F, h, w) coverage by the subject, 0 to 1.
        path: Track of the subject.
        subject: Index into `SUBJECTS`.

    Returns:
        0 or more; None: there is no outline.
    """
    height, width = video.shape[-2:]
    ratios = []
    for i in sorted({0, video.shape[1] // 2, video.shape[1] - 1}):
        outline = F.interpolate(_outline(masks[i]), size=(height, width), mode="nearest")[0, 0]
        drawn = _redrawn(path, i, video.shape[1], subject, video[:, i], outline)
        wanted = _abruptness(drawn, outline)
        ratios.append(_abruptness(video[:, i], outline) / wanted if wanted else math.nan)
    mean = float(np.mean(ratios))
    return round(mean, 4) if math.isfinite(mean) else None


def _outline(mask: Tensor) -> Tensor:
    """Pixels within about two of the mask's border: (h, w) -> (1, 1, h, w) of 0 and 1."""
    inside = (mask > 0.5).float()[None, None]
    grown = F.max_pool2d(inside, 5, stride=1, padding=2)
    shrunk = 1 - F.max_pool2d(1 - inside, 5, stride=1, padding=2)
    return grown - shrunk


def _redrawn(path: Track, frame: int, frames: int, subject: int, seen: Tensor, outline: Tensor) -> Tensor:
    """The subject drawn where it was tracked, on the mean colour of the frame's background."""
    time = frame / max(frames - 1, 1)
    place = (float(path.x[frame]), float(path.y[frame]))
    scene = Scene(
        subject=subject,
        motion=MOTIONS.index("stays still"),
        background=0,
        start=place,
        end=place,
        size=float(path.size[frame]),
        turns=path.turns,
        flip=path.mirrored,
    )
    layer = sprite_layer(scene, time, *seen.shape[-2:])
    clear = (layer[3] < 0.01) & (outline == 0)
    colour = seen[:, clear].mean(1) if clear.any() else seen.mean((1, 2))
    return (2 * layer[:3] - layer[3:]) + (1 - layer[3:]) * colour[:, None, None]


def _abruptness(frame: Tensor, zone: Tensor) -> float:
    """Mean second difference over mean first difference of brightness in a zone: (3, H, W), (H, W) of 0 and 1."""
    grey = frame.mean(0)
    first = grey.diff(dim=1)[1:-1, :-1].abs() + grey.diff(dim=0)[:-1, 1:-1].abs()
    second = grey.diff(n=2, dim=1)[1:-1].abs() + grey.diff(n=2, dim=0)[:, 1:-1].abs()
    inner = zone[1:-1, 1:-1]
    return float((second * inner).sum() / (first * inner).sum()) if (first * inner).sum() > 0 else math.nan
