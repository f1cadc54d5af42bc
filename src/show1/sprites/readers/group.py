"""A network that reads frames with any number of subjects: what they are, where, and how large.

`show1.sprites.readers.subject` takes a frame to show one subject. This one is trained on ground-truth renders of
groups, of single subjects of all sizes, and of empty backgrounds (`scripts/train_group_reader.py`). As in CenterNet
(arXiv:1904.07850), a detection is a peak in a map of middles; other maps give its
subject and size there.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from show1.sprites.readers.subject import UNetTrunk, most_likely, weighted_mean
from show1.sprites.world import ASSETS, BACKGROUNDS, SUBJECTS

PEAK_DISTANCE = 3
"""Peaks of the map of middles, which is 20x32, are further apart than this."""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """A subject that is found in a frame."""

    subject: int
    """Index into `SUBJECTS`."""

    x: float
    """Middle of its box, share of the frame's width."""

    y: float
    """Middle of its box, share of the frame's height."""

    size: float
    """Side of its box, share of the frame's height."""


@dataclass(frozen=True, kw_only=True)
class GroupReading:
    """What a video shows, frame by frame."""

    detections: tuple[tuple[Detection, ...], ...]
    """Detections of each frame, the largest first."""

    backgrounds: Tensor
    """(F, 8) probabilities."""

    masks: Tensor
    """(F, 40, 64) coverage of each pixel by any subject, 0 to 1."""

    @property
    def background(self) -> int:
        """The background of the whole video."""
        return most_likely(self.backgrounds)


class GroupReader(UNetTrunk):
    """A small U-shaped network: a mask, a map of middles, what is there and how large, and a frame's background."""

    weights = ASSETS / "group_reader.safetensors"

    def __init__(self, channels: tuple[int, int, int] = (48, 96, 128)) -> None:
        super().__init__(channels)
        fine, middle, _ = channels
        self.mask = nn.Conv2d(fine, 4, 1)
        out = nn.Conv2d(64, 2 + len(SUBJECTS), 1)
        with torch.no_grad():
            cast(Tensor, out.bias)[0] = -3.0  # few places are middles
        self.things = nn.Sequential(  # the name in the trained weights
            nn.Conv2d(fine, 64, 3, padding=1), nn.SiLU(), out
        )
        self.background = nn.Sequential(nn.Linear(middle, 32), nn.SiLU(), nn.Linear(32, len(BACKGROUNDS)))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Reads frames.

        Args:
            frames: (N, 3, 40, 64) in [-1, 1].

        Returns:
            Mask logits (N, 40, 64); logits of middles (N, 20, 32), logarithms of sides in shares of the height
            (N, 20, 32), subject logits (N, 32, 20, 32); background logits (N, 8).
        """
        fine, middle, _ = self.levels(frames)
        mask = F.pixel_shuffle(self.mask(fine), 2)
        outside = weighted_mean(middle, 1 - F.avg_pool2d(mask.sigmoid().detach(), 4))
        middles, sides, subjects = self.things(fine).split([1, 1, len(SUBJECTS)], dim=1)
        return mask[:, 0], middles[:, 0], sides[:, 0], subjects, self.background(outside)

    @torch.inference_mode()
    def read(self, video: Tensor) -> GroupReading:
        """Reads a video.

        Args:
            video: (3, F, H, W) in [-1, 1], of any size.
        """
        masks, middles, sides, subjects, backgrounds = self.outputs(video)
        maps = zip(middles.sigmoid(), sides.exp(), subjects.log_softmax(1), strict=True)
        return GroupReading(
            detections=tuple(_detections(*each) for each in maps),
            backgrounds=backgrounds.softmax(1),
            masks=masks.sigmoid(),
        )


def _detections(middles: Tensor, sides: Tensor, names: Tensor) -> tuple[Detection, ...]:
    """The detections of a frame, of its probabilities of middles (H, W), sides (H, W), log probabilities (32, H, W)."""
    height, width = middles.shape
    highest = F.max_pool2d(middles[None], 2 * PEAK_DISTANCE + 1, stride=1, padding=PEAK_DISTANCE)[0]
    found = []
    for row, column in ((middles == highest) & (middles > 0.5)).nonzero().tolist():
        near = (slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2))
        weight = middles[near] / middles[near].sum()
        found.append(
            Detection(
                subject=int((names[:, *near] * weight).sum((1, 2)).argmax()),
                x=float((weight.sum(0) * (torch.arange(width)[near[1]] + 0.5)).sum()) / width,
                y=float((weight.sum(1) * (torch.arange(height)[near[0]] + 0.5)).sum()) / height,
                size=float((sides[near] * weight).sum()),
            )
        )
    return tuple(sorted(found, key=lambda detection: -detection.size))
