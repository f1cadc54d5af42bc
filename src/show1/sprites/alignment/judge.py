"""Judges of the sprite world: does a video show the subject, the background and the motion of its prompt?

Subject and background are read by a classifier, the motion is measured (`show1.sprites.readers.tracking`). The same
scores are given to ground truth, to ground truth under other prompts and to noise, so that a table says what they are
worth (`show1.sprites.alignment.summary`).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from show1.data.clips import frame_times
from show1.sprites.alignment.appearance import flicker, sharpness
from show1.sprites.alignment.prompts import AlignmentPrompt, PromptFacts
from show1.sprites.readers.group import GroupReader
from show1.sprites.readers.subject import SpriteReader
from show1.sprites.readers.tracking import fitted, track
from show1.sprites.scenes import SpriteWorld, render_tensor
from show1.sprites.world import BACKGROUNDS, MOTIONS, SUBJECTS

CRITERIA = ("subject", "background", "motion", "all three", "stable")
"""Criteria by which `SceneJudge` judges a video."""

Features = NDArray[np.float32]
"""The reader's features of a clip's frames: (F, 160)."""


@dataclass(frozen=True, kw_only=True)
class Score(ABC):
    """What is measured on one video, in JSON types."""

    background: int
    """The background that is seen: index into `BACKGROUNDS`."""

    flicker: float | None
    """Mean change of background pixels from frame to frame, in 8-bit levels; ground truth has 0. None: there is no
    background."""

    sharpness: float | None = None
    """Abruptness of edges around the subject's outline, over that of a render with the same track; None: there is no
    outline, or it is not measured."""

    @abstractmethod
    def verdicts(self, prompt: Any) -> dict[str, bool]:
        """Says which criteria hold for a prompt."""

    @abstractmethod
    def describe(self) -> str:
        """Says in words what the video shows."""


class Judge(ABC):
    """Measures the videos of some prompt sets."""

    kind: ClassVar[type[Score]]
    """Class of its scores."""

    readers: tuple[str, ...]
    """Hashes of the networks that read frames."""

    @abstractmethod
    def score(self, video: Tensor) -> tuple[Score, Features | None]:
        """Measures a video.

        Args:
            video: (3, F, H, W) in [-1, 1].

        Returns:
            The score; and the features (F, 160) for Fréchet distances, where the judge has some.
        """

    @abstractmethod
    def truth(self, prompt: Any, *, seed: int, num_frames: int, height: int, width: int) -> Tensor:
        """Renders what a prompt asks for: (3, F, H, W) in [-1, 1]."""

    def restore(self, values: dict[str, Any]) -> Score:
        """Restores a score from its fields as JSON."""
        return self.kind(**values)


@dataclass(frozen=True, kw_only=True)
class VideoScore(Score):
    """What is measured on one video of a single subject."""

    subject: int
    """The subject that is seen over all frames: index into `SUBJECTS`."""

    alone: bool
    """Whether no more than one subject is seen, in most frames."""

    motion: int | None
    """What the subject does: index into `MOTIONS`; None: none of the motions."""

    stable: bool
    """Whether every single frame shows the same subject."""

    travel: float
    """Displacement to the right, share of the width."""

    fall: float
    """Displacement downwards, share of the height."""

    scaling: float
    """Size at the end over size at the beginning."""

    turns: float
    """Full turns clockwise."""

    def verdicts(self, prompt: PromptFacts) -> dict[str, bool]:
        """Says which of `CRITERIA` hold for a prompt."""
        subject, background = self.subject == prompt.subject and self.alone, self.background == prompt.background
        motion = self.motion == prompt.motion
        right = subject and background and motion
        return dict(zip(CRITERIA, (subject, background, motion, right, self.stable), strict=True))

    def describe(self) -> str:
        """Says in words what the video shows."""
        motion = "moves otherwise" if self.motion is None else MOTIONS[self.motion]
        others = "" if self.alone else " beside others"
        return f"{SUBJECTS[self.subject]}{others} {motion} over {BACKGROUNDS[self.background]}"


class SceneJudge(Judge):
    """Measures the videos of `SCENE_SETS`."""

    kind = VideoScore

    def __init__(self) -> None:
        self.reader, self.counter = SpriteReader.trained(), GroupReader.trained()
        self.readers = SpriteReader.sha256(), GroupReader.sha256()

    def score(self, video: Tensor) -> tuple[VideoScore, Features | None]:
        """Measures a video (3, F, H, W) in [-1, 1]; see `Judge.score`."""
        reading = self.reader.read(video)
        frames, subject = reading.subjects.argmax(1), reading.subject
        path = fitted(track(video, reading.masks, subject), video, reading.masks, subject)
        crowded = sum(len(detections) > 1 for detections in self.counter.read(video).detections)
        score = VideoScore(
            subject=subject,
            alone=2 * crowded <= len(frames),
            background=reading.background,
            motion=path.motion() if reading.visible else None,
            stable=reading.visible and bool((frames == subject).all()),
            travel=round(path.travel, 4),
            fall=round(path.fall, 4),
            scaling=round(path.scaling, 4),
            turns=round(path.turns, 4),
            sharpness=sharpness(video, reading.masks, path, subject),
            flicker=flicker(video, reading.masks),
        )
        return score, reading.features.numpy()

    @staticmethod
    def truth(prompt: AlignmentPrompt, *, seed: int, num_frames: int, height: int, width: int) -> Tensor:
        """Renders what a prompt asks for: (3, F, H, W) in [-1, 1]."""
        world = SpriteWorld(seed=1000 + seed, split="all")
        scene = world.compose(prompt.subject, prompt.motion, prompt.background, prompt.index)
        return render_tensor(scene, frame_times(num_frames), height, width)


def clip_moments(features: Features) -> Features:
    """Returns mean and deviation over a clip's frames, which stand for the clip: (F, D) -> (2 D,)."""
    return np.concatenate([features.mean(0), features.std(0)])
