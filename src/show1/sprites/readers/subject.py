"""A network that reads frames of the sprite world: which subject, which background, and where the subject is.

It is trained only on ground-truth renders (`scripts/train_reader.py`), never on a model's frames. It decides subject
and background and draws a mask; motion is measured from the masks by `show1.sprites.readers.tracking`.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from show1.sprites.world import ASSETS, BACKGROUNDS, SUBJECTS

HEIGHT, WIDTH = 40, 64
"""Size at which frames are read; others are resized to it."""

MIN_COVERAGE = 0.005
"""A frame shows a subject if its mask covers at least this share of it. At 20x32 pixels, a small bicycle over the sea
is read with 0.008, and all but one of 96 empty backgrounds with less than 0.004."""


@dataclass(frozen=True, kw_only=True)
class ContentReading:
    """Which subject and background a video shows, frame by frame."""

    subjects: Tensor
    """(F, 32) probabilities."""

    backgrounds: Tensor
    """(F, 8) probabilities."""

    @property
    def subject(self) -> int:
        """The subject of the whole video."""
        return most_likely(self.subjects)

    @property
    def background(self) -> int:
        """The background of the whole video."""
        return most_likely(self.backgrounds)


@dataclass(frozen=True, kw_only=True)
class Reading(ContentReading):
    """What a video shows, frame by frame."""

    masks: Tensor
    """(F, 40, 64) coverage of each pixel by the subject, 0 to 1."""

    features: Tensor
    """(F, 160) float32: the subject's features then the background's, for Fréchet distances."""

    @property
    def visible(self) -> bool:
        """Whether every frame shows a subject."""
        return bool((self.masks.mean((1, 2)) >= MIN_COVERAGE).all())


class FrameReader(nn.Module):
    """A network that reads frames, and whose trained weights lie in a file."""

    weights: ClassVar[Traversable]
    """File of the trained weights."""

    @classmethod
    def trained(cls) -> Self:
        """Loads the trained reader in float32, ready to read."""
        from safetensors.torch import load

        weights, reader = load(cls.weights.read_bytes()), cls()
        reader.load_state_dict({name: w.float() if w.is_floating_point() else w for name, w in weights.items()})
        return reader.eval()

    @classmethod
    def sha256(cls) -> str:
        """Returns the hash of the trained weights, which every report names."""
        return hashlib.sha256(cls.weights.read_bytes()).hexdigest()

    def outputs(self, video: Tensor) -> list[Tensor]:
        """Runs the network on all frames of a video.

        Args:
            video: (3, F, H, W) in [-1, 1], of any size.

        Returns:
            What the network gives, (F, ...) each.
        """
        parts = [self(chunk) for chunk in torch.split(resize(video.transpose(0, 1).float()), 64)]
        return [torch.cat(part) for part in zip(*parts, strict=True)]


class UNetTrunk(FrameReader):
    """The U-shaped part of networks that read frames."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        a, b, c = channels
        self.down = nn.ModuleList([_block(12, a), _block(a, b), _block(b, c)])
        self.up = nn.ModuleList([_layer(c + b, b), _layer(b + a, a)])

    def levels(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Computes features at three sizes.

        Args:
            frames: (N, 3, 40, 64) in [-1, 1].

        Returns:
            (N, A, 20, 32), (N, B, 10, 16) and (N, C, 5, 8) for channels (A, B, C).
        """
        fine = self.down[0](F.pixel_unshuffle(frames, 2))
        middle = self.down[1](F.max_pool2d(fine, 2))
        deep = self.down[2](F.max_pool2d(middle, 2))
        middle = self.up[0](torch.cat([_double(deep), middle], dim=1))
        return self.up[1](torch.cat([_double(middle), fine], dim=1)), middle, deep


class SpriteReader(UNetTrunk):
    """A small U-shaped network with a mask, and two classifiers that look at the masked and the unmasked features."""

    weights = ASSETS / "sprite_reader.safetensors"

    def __init__(self, channels: tuple[int, int, int] = (32, 64, 128)) -> None:
        super().__init__(channels)
        a, b, c = channels
        self.mask = nn.Conv2d(a, 4, 1)
        self.subject_features = nn.Sequential(nn.Linear(b + c, 128), nn.SiLU())
        self.background_features = nn.Sequential(nn.Linear(b, 32), nn.SiLU())
        self.subject = nn.Linear(128, len(SUBJECTS))
        self.background = nn.Linear(32, len(BACKGROUNDS))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reads frames.

        Args:
            frames: (N, 3, 40, 64) in [-1, 1].

        Returns:
            Subject logits (N, 32), background logits (N, 8), mask logits (N, 40, 64), features (N, 160).
        """
        fine, middle, deep = self.levels(frames)
        mask = F.pixel_shuffle(self.mask(fine), 2)
        weight = F.avg_pool2d(mask.sigmoid().detach(), 4)
        inside, outside = weighted_mean(middle, weight), weighted_mean(middle, 1 - weight)
        subject = self.subject_features(torch.cat([inside, deep.amax((2, 3))], dim=1))
        background = self.background_features(outside)
        return self.subject(subject), self.background(background), mask[:, 0], torch.cat([subject, background], dim=1)

    @torch.inference_mode()
    def read(self, video: Tensor) -> Reading:
        """Reads a video.

        Args:
            video: (3, F, H, W) in [-1, 1], of any size.
        """
        subjects, backgrounds, masks, features = self.outputs(video)
        return Reading(
            subjects=subjects.softmax(1), backgrounds=backgrounds.softmax(1), masks=masks.sigmoid(), features=features
        )


def most_likely(probabilities: Tensor) -> int:
    """Returns the class of a whole video from the probabilities (F, C) of its frames."""
    return int(probabilities.log().mean(0).argmax())


def resize(frames: Tensor) -> Tensor:
    """Resizes frames (N, 3, H, W) to (N, 3, 40, 64): area averages of larger ones, bilinear for smaller ones."""
    if frames.shape[-2:] == (HEIGHT, WIDTH):
        return frames
    shrink = frames.shape[-2] >= HEIGHT and frames.shape[-1] >= WIDTH
    return F.interpolate(frames, size=(HEIGHT, WIDTH), mode="bilinear", antialias=shrink, align_corners=False)


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU())


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_layer(inputs, outputs), *_layer(outputs, outputs))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def weighted_mean(x: Tensor, weight: Tensor) -> Tensor:
    """Averages (N, C, h, w) over the pixels, weighted by (N, 1, h, w): (N, C)."""
    return (x * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1e-3)
