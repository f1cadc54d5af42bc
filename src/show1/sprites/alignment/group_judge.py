"""The judge of groups: does a video show its subjects in the places, in the number and of the size that it should?

Frames are read by `show1.sprites.readers.group`; places, numbers and sizes follow from what is found in them.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from show1.data.clips import frame_times
from show1.sprites.alignment.appearance import flicker
from show1.sprites.alignment.judge import Features, Judge, Score
from show1.sprites.alignment.prompts import GroupPrompt, MotionPrompt
from show1.sprites.groups import GroupWorld
from show1.sprites.readers.group import Detection, GroupReader
from show1.sprites.readers.tracking import fitted, track
from show1.sprites.scenes import SMALLEST, relation, render_tensor
from show1.sprites.world import BACKGROUNDS, COUNTS, RELATIONS, SIZES, SUBJECTS

GROUP_CRITERIA = ("subjects", "background", "arrangement", "all three", "stable")
"""Criteria by which `GroupJudge` judges a video."""

MIN_SEEN = 0.75
"""A subject's motion is measured if this share of the frames, or more, shows it exactly once."""

MIN_BIG = 0.8
"""A subject is big if it is read as larger than the largest ordinary one; big ones are drawn 0.9 to 1 high."""

Frame = tuple[Detection, ...]
"""The subjects that are found in a frame."""


@dataclass(frozen=True, kw_only=True)
class DetectedScore(Score):
    """What is measured on one video from the subjects that are found in its frames."""

    detections: tuple[Frame, ...]
    """What each frame shows."""

    @property
    def stable(self) -> bool:
        """Whether every single frame shows the same subjects."""
        return len({tuple(sorted(found.subject for found in frame)) for frame in self.detections}) == 1

    def mostly(self, holds: Callable[[Frame], bool]) -> bool:
        """Whether something holds in most frames."""
        return 2 * sum(map(holds, self.detections)) > len(self.detections)

    def all_verdicts(self, prompt: GroupPrompt | MotionPrompt, subjects: bool, **other: bool) -> dict[str, bool]:
        """Returns the verdicts, in their order: those on the subjects and on one other criterion are given."""
        background = self.background == prompt.background
        right = subjects and background and all(other.values())
        return {"subjects": subjects, "background": background, **other, "all three": right, "stable": self.stable}


@dataclass(frozen=True, kw_only=True)
class GroupScore(DetectedScore):
    """What is measured on one video of a group, or of a small or big subject."""

    motion: int | None
    """What the only subject does; None: none of the motions, or there is no single subject."""

    def verdicts(self, prompt: GroupPrompt) -> dict[str, bool]:
        """Says which of `GROUP_CRITERIA` hold for a prompt; those about frames hold if they do in most of them."""
        subjects = self.mostly(lambda frame: {found.subject for found in frame} == set(prompt.subjects))
        arrangement = self.mostly(lambda frame: _is_arranged(frame, prompt))
        if prompt.how in SIZES:
            arrangement = arrangement and self.motion == prompt.motion
        return self.all_verdicts(prompt, subjects, arrangement=arrangement)

    def describe(self) -> str:
        """Says in words what the middle frame shows."""
        middle = self.detections[len(self.detections) // 2]
        named = (f"{SUBJECTS[d.subject]} at {d.x:.0%}, {d.y:.0%}, size {d.size:.2f}" for d in middle)
        return f"{'; '.join(named) or 'nothing'} over {BACKGROUNDS[self.background]}"


def _is_arranged(frame: Frame, prompt: GroupPrompt) -> bool:
    """Whether the number, size or places of the subjects are as asked; which subjects they are counts for places."""
    if prompt.how in COUNTS.values():
        return COUNTS.get(len(frame)) == prompt.how
    if prompt.how in RELATIONS:
        names = [found.subject for found in frame]
        if Counter(names) != Counter(prompt.subjects):
            return False
        first, second = (frame[names.index(subject)] for subject in prompt.subjects)
        return relation((first.x, first.y), (second.x, second.y)) == prompt.how
    if len(frame) != 1:
        return False
    return frame[0].size < SMALLEST if prompt.how == "small" else frame[0].size > MIN_BIG


class DetectionJudge(Judge):
    """A judge by the subjects that are found in frames; it has no features."""

    def __init__(self) -> None:
        self.reader, self.readers = GroupReader.trained(), (GroupReader.sha256(),)

    def restore(self, values: dict[str, Any]) -> Score:
        """See `Judge.restore`."""
        fields = dict(values)
        frames = fields.pop("things" if "things" in fields else "detections")  # "things": as earlier versions saved it
        return super().restore(fields | {"detections": tuple(tuple(Detection(**found) for found in f) for f in frames)})


class GroupJudge(DetectionJudge):
    """Measures the videos of `GROUP_SETS`."""

    kind = GroupScore

    def score(self, video: Tensor) -> tuple[GroupScore, Features | None]:
        """Measures a video (3, F, H, W) in [-1, 1]; there are no features."""
        reading = self.reader.read(video)
        motion, alone = None, [frame[0].subject for frame in reading.detections if len(frame) == 1]
        if len(alone) >= MIN_SEEN * len(reading.detections):
            subject, _ = Counter(alone).most_common(1)[0]
            motion = fitted(track(video, reading.masks, subject), video, reading.masks, subject).motion()
        score = GroupScore(
            detections=reading.detections,
            background=reading.background,
            motion=motion,
            flicker=flicker(video, reading.masks),
        )
        return score, None

    def truth(self, prompt: GroupPrompt, *, seed: int, num_frames: int, height: int, width: int) -> Tensor:
        """Renders what a prompt asks for: (3, F, H, W) in [-1, 1]."""
        scene = GroupWorld(seed=1000 + seed, split="all").compose(
            prompt.subjects, prompt.how, prompt.background, motion=prompt.motion, index=prompt.index
        )
        return render_tensor(scene, frame_times(num_frames), height, width)
