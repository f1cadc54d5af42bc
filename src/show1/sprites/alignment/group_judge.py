"""Text alignment beyond one subject: does a video show both subjects, in their places, so many of them, so large?

Frames are read by `show1.sprites.readers.group`; places, numbers and sizes follow from what is found in them.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from show1.data.clips import frame_times
from show1.sprites.alignment.judge import Features, flicker
from show1.sprites.alignment.prompts import GroupPrompt
from show1.sprites.groups import GroupWorld
from show1.sprites.readers.group import Detection, GroupReader, group_reader_sha256
from show1.sprites.readers.tracking import track
from show1.sprites.scenes import LARGEST, SMALLEST, relation, render_tensor
from show1.sprites.world import BACKGROUNDS, COUNTS, RELATIONS, SIZES, SUBJECTS

GROUP_CRITERIA = ("subjects", "background", "arrangement", "all three", "stable")
"""What a video is judged by."""


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """What is measured on one video."""

    detections: tuple[tuple[Detection, ...], ...]
    """What each frame shows."""

    background: int
    """What the background is taken for."""

    motion: int | None
    """What the only subject does; None: none of the motions, or there is no single subject."""

    flicker: float | None
    """Mean change of background pixels from frame to frame, in 8-bit levels; ground truth has 0. None: there is no
    background."""

    sharpness: None = None
    """Not measured."""

    def judged(self, asked: GroupPrompt) -> dict[str, bool]:
        """Which of `GROUP_CRITERIA` hold; what concerns frames, if it holds in most of them."""

        def mostly(holds: Callable[[tuple[Detection, ...]], bool]) -> bool:
            return 2 * sum(map(holds, self.detections)) > len(self.detections)

        subjects = mostly(lambda detections: {detection.subject for detection in detections} == set(asked.subjects))
        background = self.background == asked.background
        arrangement = mostly(lambda detections: _arranged(detections, asked))
        if asked.how in SIZES:
            arrangement = arrangement and self.motion == asked.motion
        return {
            "subjects": subjects,
            "background": background,
            "arrangement": arrangement,
            "all three": subjects and background and arrangement,
            "stable": len(
                {tuple(sorted(detection.subject for detection in detections)) for detections in self.detections}
            )
            == 1,
        }

    def read_as(self) -> str:
        """What the middle frame shows, in words."""
        detections = self.detections[len(self.detections) // 2]
        named = (f"{SUBJECTS[t.subject]} at {t.x:.0%}, {t.y:.0%}, size {t.size:.2f}" for t in detections)
        return f"{'; '.join(named) or 'nothing'} over {BACKGROUNDS[self.background]}"


def _arranged(detections: tuple[Detection, ...], asked: GroupPrompt) -> bool:
    """Whether a frame's detections are as many, as large, or placed as asked, whatever they are where that is not said."""
    if asked.how in COUNTS.values():
        return COUNTS.get(len(detections)) == asked.how
    if asked.how in RELATIONS:
        names = [detection.subject for detection in detections]
        if Counter(names) != Counter(asked.subjects):
            return False
        first, second = (detections[names.index(subject)] for subject in asked.subjects)
        return relation((first.x, first.y), (second.x, second.y)) == asked.how
    if len(detections) != 1:
        return False
    return detections[0].size < SMALLEST if asked.how == "small" else detections[0].size > LARGEST


class GroupJudge:
    """Measures the videos of `GROUP_SETS`: a `Judge`."""

    def __init__(self) -> None:
        self.reader, self.readers = GroupReader.trained(), (group_reader_sha256(),)

    def score(self, video: Tensor) -> tuple[GroupScore, Features | None]:
        """See `Judge.score`; there are no features."""
        reading = self.reader.read(video)
        motion = None
        if all(len(detections) == 1 for detections in reading.detections):
            subject, _ = Counter(detections[0].subject for detections in reading.detections).most_common(1)[0]
            motion = track(video, reading.masks, subject).motion()
        score = GroupScore(
            detections=reading.detections,
            background=reading.background,
            motion=motion,
            flicker=flicker(video, reading.masks),
        )
        return score, None

    def restore(self, values: dict[str, Any]) -> GroupScore:
        """See `Judge.restore`."""
        fields = dict(values)
        frames = fields.pop("detections", None) or fields.pop("things")  # the name in evaluations begun before 0.2
        detections = tuple(tuple(Detection(**detection) for detection in frame) for frame in frames)
        return GroupScore(**fields, detections=detections)

    def truth(self, asked: GroupPrompt, *, seed: int, num_frames: int, height: int, width: int) -> Tensor:
        """See `Judge.truth`."""
        scene = GroupWorld(seed=1000 + seed, split="all").compose(
            asked.subjects, asked.how, asked.background, motion=asked.motion, index=asked.index
        )
        return render_tensor(scene, frame_times(num_frames), height, width)
