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
from show1.sprites.readers.group import GroupReader, Thing, group_reader_sha256
from show1.sprites.readers.tracking import track
from show1.sprites.scenes import LARGEST, SMALLEST, relation, render_tensor
from show1.sprites.world import BACKGROUNDS, COUNTS, RELATIONS, SIZES, SUBJECTS

GROUP_CRITERIA = ("subjects", "background", "arrangement", "all three", "stable")
"""What a video is judged by."""


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """What is measured on one video."""

    things: tuple[tuple[Thing, ...], ...]
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

        def mostly(holds: Callable[[tuple[Thing, ...]], bool]) -> bool:
            return 2 * sum(map(holds, self.things)) > len(self.things)

        subjects = mostly(lambda things: {thing.subject for thing in things} == set(asked.subjects))
        background = self.background == asked.background
        arrangement = mostly(lambda things: _arranged(things, asked))
        if asked.how in SIZES:
            arrangement = arrangement and self.motion == asked.motion
        return {
            "subjects": subjects,
            "background": background,
            "arrangement": arrangement,
            "all three": subjects and background and arrangement,
            "stable": len({tuple(sorted(thing.subject for thing in things)) for things in self.things}) == 1,
        }

    def read_as(self) -> str:
        """What the middle frame shows, in words."""
        things = self.things[len(self.things) // 2]
        named = (f"{SUBJECTS[t.subject]} at {t.x:.0%}, {t.y:.0%}, size {t.size:.2f}" for t in things)
        return f"{'; '.join(named) or 'nothing'} over {BACKGROUNDS[self.background]}"


def _arranged(things: tuple[Thing, ...], asked: GroupPrompt) -> bool:
    """Whether a frame's things are as many, as large, or placed as asked, whatever they are where that is not said."""
    if asked.how in COUNTS.values():
        return COUNTS.get(len(things)) == asked.how
    if asked.how in RELATIONS:
        names = [thing.subject for thing in things]
        if Counter(names) != Counter(asked.subjects):
            return False
        first, second = (things[names.index(subject)] for subject in asked.subjects)
        return relation((first.x, first.y), (second.x, second.y)) == asked.how
    if len(things) != 1:
        return False
    return things[0].size < SMALLEST if asked.how == "small" else things[0].size > LARGEST


class GroupJudge:
    """Measures the videos of `GROUP_SETS`: a `Judge`."""

    def __init__(self) -> None:
        self.reader, self.readers = GroupReader.trained(), (group_reader_sha256(),)

    def score(self, video: Tensor) -> tuple[GroupScore, Features | None]:
        """See `Judge.score`; there are no features."""
        reading = self.reader.read(video)
        motion = None
        if all(len(things) == 1 for things in reading.things):
            subject, _ = Counter(things[0].subject for things in reading.things).most_common(1)[0]
            motion = track(video, reading.masks, subject).motion()
        score = GroupScore(
            things=reading.things,
            background=reading.background,
            motion=motion,
            flicker=flicker(video, reading.masks),
        )
        return score, None

    def restore(self, values: dict[str, Any]) -> GroupScore:
        """See `Judge.restore`."""
        things = tuple(tuple(Thing(**thing) for thing in frame) for frame in values["things"])
        return GroupScore(**{**values, "things": things})

    def truth(self, asked: GroupPrompt, *, seed: int, num_frames: int, height: int, width: int) -> Tensor:
        """See `Judge.truth`."""
        scene = GroupWorld(seed=1000 + seed, split="all").compose(
            asked.subjects, asked.how, asked.background, motion=asked.motion, index=asked.index
        )
        return render_tensor(scene, frame_times(num_frames), height, width)
