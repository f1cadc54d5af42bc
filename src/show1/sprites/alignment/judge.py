"""Text alignment in the sprite world: does a video show the subject, the background and the motion of its prompt?

Subject and background are read by a classifier, the motion is measured (`show1.sprites.readers.tracking`). The same
scores are given to ground truth, to ground truth under other prompts and to noise, so that a table says what they are
worth.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from show1.data.clips import frame_times
from show1.evaluation.frechet import Gaussian, frechet_distance
from show1.sprites.alignment.prompts import AlignmentPrompt, PromptFacts
from show1.sprites.readers.group import GroupReader, group_reader_sha256
from show1.sprites.readers.subject import SpriteReader, reader_sha256
from show1.sprites.readers.tracking import Track, fitted, track
from show1.sprites.scenes import Scene, SpriteWorld, render_tensor, sprite_layer
from show1.sprites.world import BACKGROUNDS, MOTIONS, SUBJECTS

CRITERIA = ("subject", "background", "motion", "all three", "stable")
"""What a video is judged by."""

Features = NDArray[np.float32]
"""The reader's features of a clip's frames: (F, 160)."""


class Score(Protocol):
    """What is measured on one video: a dataclass of JSON types."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def sharpness(self) -> float | None:
        """How abrupt the subject's outline is, over that of a render; None: not known."""

    @property
    def flicker(self) -> float | None:
        """Mean change of background pixels from frame to frame, in 8-bit levels; None: not known."""

    def judged(self, asked: Any) -> dict[str, bool]:
        """Which criteria hold, for what was asked for."""

    def read_as(self) -> str:
        """What is seen, in words."""


class Judge(Protocol):
    """Measures the videos of some prompt sets."""

    @property
    def readers(self) -> tuple[str, ...]:
        """Hashes of the networks that read frames."""

    def score(self, video: Tensor) -> tuple[Score, Features | None]:
        """Measures a video (3, F, H, W) in [-1, 1]; and its features for Fréchet distances, where there are some."""

    def restore(self, values: dict[str, Any]) -> Score:
        """A score from its fields as JSON."""

    def truth(self, asked: Any, *, seed: int, num_frames: int, height: int, width: int) -> Tensor:
        """A render of what a prompt asks for: (3, F, H, W) in [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class VideoScore:
    """What is measured on one video."""

    subject: int
    """What the subject is taken for, over all frames."""

    alone: bool
    """Whether no more than one subject is seen, in most frames."""

    background: int
    """What the background is taken for."""

    motion: int | None
    """What the subject does; None: none of the motions."""

    stable: bool
    """Whether every frame alone shows the same subject."""

    travel: float
    """Displacement to the right, share of the width."""

    fall: float
    """Displacement downwards, share of the height."""

    scaling: float
    """Size at the end over size at the beginning."""

    turns: float
    """Full turns clockwise."""

    sharpness: float | None
    """How abrupt edges are round the subject's outline, over the same of a render with the same track; None: there is
    no outline."""

    flicker: float | None
    """Mean change of background pixels from frame to frame, in 8-bit levels; ground truth has 0. None: there is no
    background."""

    def judged(self, asked: PromptFacts) -> dict[str, bool]:
        """Which of `CRITERIA` hold."""
        subject, background = self.subject == asked.subject and self.alone, self.background == asked.background
        motion = self.motion == asked.motion
        right = subject and background and motion
        return dict(zip(CRITERIA, (subject, background, motion, right, self.stable), strict=True))

    def read_as(self) -> str:
        """What is seen, in words."""
        motion = "moves otherwise" if self.motion is None else MOTIONS[self.motion]
        others = "" if self.alone else " beside others"
        return f"{SUBJECTS[self.subject]}{others} {motion} over {BACKGROUNDS[self.background]}"


def score_video(video: Tensor, reader: SpriteReader, counter: GroupReader) -> tuple[VideoScore, Features]:
    """Measures a video.

    Args:
        video: (3, F, H, W) in [-1, 1].
        reader: See `SpriteReader.trained`.
        counter: Sees whether there are several subjects; see `GroupReader.trained`.

    Returns:
        The score, and the features (F, 160) of its frames.
    """
    reading = reader.read(video)
    frames = reading.subjects.argmax(1)
    subject, background = reading.subject, reading.background
    path = fitted(track(video, reading.masks, subject), video, reading.masks, subject)
    crowded = sum(len(detections) > 1 for detections in counter.read(video).detections)
    score = VideoScore(
        subject=subject,
        alone=2 * crowded <= len(frames),
        background=background,
        motion=path.motion() if reading.visible else None,
        stable=reading.visible and bool((frames == subject).all()),
        travel=round(path.travel, 4),
        fall=round(path.fall, 4),
        scaling=round(path.scaling, 4),
        turns=round(path.turns, 4),
        sharpness=_rounded(_sharpness(video, reading.masks, path, subject)),
        flicker=flicker(video, reading.masks),
    )
    return score, reading.features.numpy()


class SceneJudge:
    """Measures the videos of `SCENE_SETS`: a `Judge`."""

    def __init__(self) -> None:
        self.reader, self.counter = SpriteReader.trained(), GroupReader.trained()
        self.readers = reader_sha256(), group_reader_sha256()

    def score(self, video: Tensor) -> tuple[VideoScore, Features | None]:
        """See `Judge.score`."""
        return score_video(video, self.reader, self.counter)

    def restore(self, values: dict[str, Any]) -> VideoScore:
        """See `Judge.restore`."""
        return VideoScore(**values)

    def truth(self, asked: AlignmentPrompt, *, seed: int, num_frames: int, height: int, width: int) -> Tensor:
        """See `Judge.truth`."""
        return truth(asked, seed=seed, num_frames=num_frames, height=height, width=width)


def truth(asked: AlignmentPrompt, *, seed: int, num_frames: int, height: int, width: int) -> Tensor:
    """A render of what a prompt asks for: (3, F, H, W) in [-1, 1]."""
    scene = SpriteWorld(seed=1000 + seed, split="all").compose(
        asked.subject, asked.motion, asked.background, asked.index
    )
    return render_tensor(scene, frame_times(num_frames), height, width)


def flicker(video: Tensor, masks: Tensor) -> float | None:
    """Mean change of pixels from frame to frame where there is no subject, in 8-bit levels.

    Args:
        video: (3, F, H, W) in [-1, 1].
        masks: (F, h, w) coverage by subjects, 0 to 1.

    Returns:
        0 and more; None: subjects are everywhere.
    """
    if video.shape[1] < 2:
        return 0.0
    empty = F.interpolate(masks[:, None], size=video.shape[-2:], mode="bilinear")[:, 0] < 0.02
    still = empty[1:] & empty[:-1]
    change = (video[:, 1:] - video[:, :-1]).abs().mean(0)
    return round(float(change[still].mean() * 127.5), 4) if still.any() else None


def _rounded(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def _sharpness(video: Tensor, masks: Tensor, path: Track, subject: int) -> float:
    """Second over first differences in the zone of the outline, which contrast does not change, in a few frames."""
    height, width = video.shape[-2:]
    ratios = []
    for i in sorted({0, video.shape[1] // 2, video.shape[1] - 1}):
        outline = F.interpolate(_outline(masks[i]), size=(height, width), mode="nearest")[0, 0]
        drawn = _redrawn(path, i, video.shape[1], subject, video[:, i], outline)
        wanted = _abruptness(drawn, outline)
        ratios.append(_abruptness(video[:, i], outline) / wanted if wanted else math.nan)
    return float(np.mean(ratios))


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


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many of some videos, with a 95 % interval (Wilson, 1927)."""

    hits: int
    """Videos for which it holds."""

    count: int
    """Videos."""

    @classmethod
    def of(cls, values: Iterable[bool]) -> Self:
        """Counts."""
        listed = list(values)
        return cls(hits=sum(listed), count=len(listed))

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.hits / self.count if self.count else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end."""
        if not self.count:
            return math.nan, math.nan
        z, n, p = 1.959964, self.count, self.share
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(middle - half, 0.0), min(middle + half, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        low, high = self.interval
        return {"hits": self.hits, "count": self.count, "share": round(self.share, 4)} | {
            "interval": [round(low, 4), round(high, 4)]
        }


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: a group of videos."""

    name: str
    """Which videos."""

    shares: dict[str, Share]
    """One for each criterion of its judge."""

    sharpness: float | None
    """Mean over the videos that have one."""

    flicker: float | None
    """Mean over the videos that have one."""

    frame_distance: float | None
    """Fréchet distance of the frames' features to those of ground truth."""

    clip_distance: float | None
    """Fréchet distance of the clips' features (mean and deviation over frames)."""

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "name": self.name,
            **{name: share.to_dict() for name, share in self.shares.items()},
            "sharpness": self.sharpness,
            "flicker": self.flicker,
            "frame_distance": None if self.frame_distance is None else round(self.frame_distance, 4),
            "clip_distance": None if self.clip_distance is None else round(self.clip_distance, 4),
        }


Measured = tuple[Any, Score, Features | None]
"""What was asked for, what was measured, and the features of the frames, where there are some."""


def summarise(name: str, videos: Sequence[Measured], real: Sequence[Features] | None = None) -> Row:
    """Makes a line of the table.

    Args:
        name: Of the line.
        videos: At least one.
        real: Ground truth for the Fréchet distances, which need at least two clips each; None: they are left out.
    """
    judged = [score.judged(asked) for asked, score, _ in videos]
    distances: list[float | None] = [None, None]
    if real is not None and min(len(videos), len(real)) > 1:
        made = [features for _, _, features in videos if features is not None]
        frames = [Gaussian.of(np.concatenate(clips)) for clips in (made, real)]
        moments = [Gaussian.of([clip_moments(features) for features in clips]) for clips in (made, real)]
        distances = [frechet_distance(*frames), frechet_distance(*moments)]
    return Row(
        name=name,
        shares={criterion: Share.of(j[criterion] for j in judged) for criterion in judged[0]},
        sharpness=_mean(score.sharpness for _, score, _ in videos),
        flicker=_mean(score.flicker for _, score, _ in videos),
        frame_distance=distances[0],
        clip_distance=distances[1],
    )


def clip_moments(features: Features) -> Features:
    """Mean and deviation over a clip's frames, which stand for the clip: (F, D) -> (2 D,)."""
    return np.concatenate([features.mean(0), features.std(0)])


def validate(prompts: Sequence[Any], judge: Judge, *, num_frames: int, height: int, width: int) -> list[Row]:
    """What the scores give where the answer is known: ground truth, ground truth under other prompts, noise.

    Args:
        prompts: Of sets of the judge.
        judge: What scores.
        num_frames: Frames of a clip.
        height: Rows of pixels.
        width: Columns of pixels.
    """
    size = {"num_frames": num_frames, "height": height, "width": width}
    real: list[Measured] = [(asked, *judge.score(judge.truth(asked, seed=0, **size))) for asked in prompts]
    half = max(len(prompts) // 2, 1)
    shuffled = [
        (asked, score, features)
        for (asked, _, _), (_, score, features) in zip(real, [*real[half:], *real[:half]], strict=True)
    ]
    generator = torch.Generator().manual_seed(0)
    noise: list[Measured] = [
        (asked, *judge.score(torch.rand(3, num_frames, height, width, generator=generator) * 2 - 1))
        for asked in prompts
    ]
    other = true_features(judge, prompts, [1] * len(prompts), **size)
    return [
        summarise("ground truth", real, other),
        summarise("ground truth, other prompts", shuffled, other),
        summarise("noise", noise, other),
    ]


def true_features(
    judge: Judge, prompts: Sequence[Any], seeds: Sequence[int], *, num_frames: int, height: int, width: int
) -> list[Features] | None:
    """Features of renders of what prompts ask for, one for each; None where the judge has none."""
    found = []
    for asked, seed in zip(prompts, seeds, strict=True):
        _, features = judge.score(judge.truth(asked, seed=seed, num_frames=num_frames, height=height, width=width))
        if features is None:
            return None
        found.append(features)
    return found
