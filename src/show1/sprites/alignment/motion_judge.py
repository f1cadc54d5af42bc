"""The judge of scenes with two motions: does each subject move as asked, or the one subject first so and then so?

Frames are read by `show1.sprites.readers.group`; motions follow from where its detections are from frame to frame.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from show1.data.clips import frame_times
from show1.sprites.alignment.appearance import flicker
from show1.sprites.alignment.group_judge import MIN_SEEN, DetectedScore, DetectionJudge
from show1.sprites.alignment.judge import Features
from show1.sprites.alignment.prompts import MotionPrompt
from show1.sprites.readers.tracking import Array, Track
from show1.sprites.scenes import render_tensor
from show1.sprites.two_motions import TwoMotionsWorld
from show1.sprites.world import BACKGROUNDS, MOTIONS, SUBJECTS

MOTION_CRITERIA = ("subjects", "background", "motions", "all three", "stable")
"""Criteria by which `MotionJudge` judges a video."""


@dataclass(frozen=True, kw_only=True)
class MotionScore(DetectedScore):
    """What is measured on one video of two motions."""

    def verdicts(self, prompt: MotionPrompt) -> dict[str, bool]:
        """Says which of `MOTION_CRITERIA` hold for a prompt; the subjects are right if most frames show only them."""
        subjects = self.mostly(lambda frame: sorted(found.subject for found in frame) == sorted(prompt.subjects))
        return self.all_verdicts(prompt, subjects, motions=self._moves(prompt))

    def describe(self) -> str:
        """Says in words what the video shows."""
        seen = sorted({found.subject for frame in self.detections for found in frame})
        moves = []
        for subject in seen:
            way = self.way(subject)
            motion = None if way is None else _motion(*way)
            moves.append(f"{SUBJECTS[subject]} {'moves otherwise' if motion is None else MOTIONS[motion]}")
        return f"{'; '.join(moves) or 'nothing'} over {BACKGROUNDS[self.background]}"

    def way(self, subject: int) -> tuple[Array, Array] | None:
        """Returns the centres x and y, (F,) each, of a subject; None where too few frames show it exactly once."""
        found = [[each for each in frame if each.subject == subject] for frame in self.detections]
        once = [i for i, each in enumerate(found) if len(each) == 1]
        if len(once) < MIN_SEEN * len(found):
            return None
        frames = np.arange(len(found))
        x, y = ([getattr(found[i][0], name) for i in once] for name in ("x", "y"))
        return np.interp(frames, once, x), np.interp(frames, once, y)

    def _moves(self, prompt: MotionPrompt) -> bool:
        ways = [self.way(subject) for subject in prompt.subjects]
        if len(ways) == 2:
            return all(
                way is not None and _motion(*way) == motion for way, motion in zip(ways, prompt.motions, strict=True)
            )
        if ways[0] is None:
            return False
        x, y = ways[0]
        return any(
            (_motion(x[:bend], y[:bend]), _motion(x[bend - 1 :], y[bend - 1 :])) == prompt.motions
            for bend in range(len(x) // 3 + 1, len(x) - len(x) // 3 + 1)
        )


def _motion(x: Array, y: Array) -> int | None:
    """The motion along a way of centres (F,), of a subject that neither turns nor changes its size."""
    return Track(x=x, y=y, size=np.ones_like(x), turns=0.0).motion()


class MotionJudge(DetectionJudge):
    """Measures the videos of `MOTION_SETS`."""

    kind = MotionScore

    def score(self, video: Tensor) -> tuple[MotionScore, Features | None]:
        """Measures a video (3, F, H, W) in [-1, 1]; there are no features."""
        reading = self.reader.read(video)
        score = MotionScore(
            detections=reading.detections, background=reading.background, flicker=flicker(video, reading.masks)
        )
        return score, None

    def truth(self, prompt: MotionPrompt, *, seed: int, num_frames: int, height: int, width: int) -> Tensor:
        """Renders what a prompt asks for: (3, F, H, W) in [-1, 1]."""
        world = TwoMotionsWorld(seed=1000 + seed, split="all")
        scene = world.compose(prompt.subjects, prompt.motions, prompt.background, index=prompt.index)
        return render_tensor(scene, frame_times(num_frames), height, width)
