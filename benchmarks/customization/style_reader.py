"""A network that reads styled frames of the sprite world: which style, which subject and which background.

`show1.sprites.readers.subject` is trained on clean renders only and fails on sketches. This one is trained on renders
in every style of `benchmarks.customization.styles` and in none (`benchmarks/customization/train_style_reader.py`).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.customization.styles import STYLES
from show1.sprites.readers.subject import ContentReading, FrameReader, SpriteReader, most_likely

KINDS: tuple[str, ...] = ("plain", *STYLES)
"""Classes of the reader: no style, and each of `STYLES`."""


@dataclass(frozen=True, kw_only=True)
class StyleReading(ContentReading):
    """What a video shows, frame by frame."""

    kinds: Tensor
    """(F, 5) probabilities of `KINDS`."""

    @property
    def kind(self) -> str:
        """The style of the whole video."""
        return KINDS[most_likely(self.kinds)]


class StyleReader(FrameReader):
    """A small convolutional network for the style, and a `SpriteReader` for the content."""

    weights = Path(__file__).with_suffix(".safetensors")

    def __init__(self, channels: tuple[int, int, int] = (24, 32, 32)) -> None:
        super().__init__()
        a, b, c = channels
        self.content = SpriteReader()
        self.style = nn.Sequential(
            *_layer(12, a), nn.MaxPool2d(2), *_layer(a, b), nn.MaxPool2d(2), *_layer(b, c), nn.AdaptiveAvgPool2d(1)
        )
        self.kind = nn.Linear(c, len(KINDS))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reads frames.

        Args:
            frames: (N, 3, 40, 64) in [-1, 1].

        Returns:
            Logits of `KINDS` (N, 5), of subjects (N, 32), of backgrounds (N, 8).
        """
        subject, background, _, _ = self.content(frames)
        return self.kind(self.style(F.pixel_unshuffle(frames, 2)).flatten(1)), subject, background

    @torch.inference_mode()
    def read(self, video: Tensor) -> StyleReading:
        """Reads a video.

        Args:
            video: (3, F, H, W) in [-1, 1], of any size.
        """
        kinds, subjects, backgrounds = (scores.softmax(1) for scores in self.outputs(video))
        return StyleReading(kinds=kinds, subjects=subjects, backgrounds=backgrounds)


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
