"""Motions that the sprite world does not show: clips to teach them from, and ground truth to measure them by.

Each is a function from time (0 to 1) to a place, a scale and an angle, rendered as any scene is. None of their verbs
is a word of the sprite world's captions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from show1.errors import InputError
from show1.sprites.captions import CLIP_TEMPLATES, with_article
from show1.sprites.scenes import ASPECT, Scene, render
from show1.sprites.world import BACKGROUNDS, MOTIONS, SUBJECTS
from show1.video import Video

Pose = tuple[float, float, float, float]
"""Centre x and y (fractions of the frame), scale, clockwise angle in radians."""


@dataclass(frozen=True, kw_only=True)
class TeachingMotion:
    """A motion to be taught."""

    verb: str
    """Verb of its captions."""

    pose: Callable[[float], Pose]
    """Pose of the subject at a time from 0 to 1."""

    measured: Literal["position", "scale"] = "position"
    """The quantity that changes, and so is compared with the teaching clip."""

    subject: str
    """The subject of its teaching clip, one of `SUBJECTS`."""

    background: str
    """The background of its teaching clip, one of `BACKGROUNDS`."""


def _zigzag(time: float) -> Pose:
    leg = (3.5 * time) % 2  # three strokes and a half
    return 0.18 + 0.64 * time, 0.26 + 0.48 * min(leg, 2 - leg), 1.0, 0.0


def _circle(time: float) -> Pose:
    return *_polar(0.3, time - 0.25), 1.0, 0.0


def _figure_of_eight(time: float) -> Pose:
    angle = 2 * math.pi * time
    return 0.5 + 0.3 * math.sin(angle), 0.5 + 0.24 * math.sin(2 * angle), 1.0, 0.0


def _spiral(time: float) -> Pose:
    return *_polar(0.06 + 0.22 * time, 1.25 * time), 1.0, 0.0  # keeps the subject in the picture


def _heartbeat(time: float) -> Pose:
    return 0.5, 0.5, math.exp(0.4 * math.sin(4 * math.pi * time)), 0.0


def _polar(radius: float, turns: float) -> tuple[float, float]:
    """A place round the middle: the radius in heights, turns clockwise from the right."""
    angle = 2 * math.pi * turns
    return 0.5 + radius * math.cos(angle) / ASPECT, 0.5 + radius * math.sin(angle)


TEACHING_MOTIONS: dict[str, TeachingMotion] = {
    "zigzag": TeachingMotion(verb="zigzags", pose=_zigzag, subject="frog", background="the snow"),
    "circle": TeachingMotion(verb="circles", pose=_circle, subject="panda", background="the sea"),
    "figure of eight": TeachingMotion(verb="loops", pose=_figure_of_eight, subject="car", background="the sea"),
    "spiral": TeachingMotion(verb="spirals", pose=_spiral, subject="lion", background="the sea"),
    "heartbeat": TeachingMotion(
        verb="throbs", pose=_heartbeat, measured="scale", subject="apple", background="the sea"
    ),
}
"""The motions by name."""


@dataclass(frozen=True, kw_only=True)
class TeachingScene(Scene):
    """A scene whose subject follows a path of `TEACHING_MOTIONS`, shifted by as much as `start` is off the middle."""

    path: str
    """Name of the motion."""

    def pose(self, time: float) -> Pose:
        """Returns the pose at a time in [0, 1]; see `Scene.pose`."""
        x, y, scale, angle = TEACHING_MOTIONS[self.path].pose(time)
        return x + self.start[0] - 0.5, y + self.start[1] - 0.5, scale, angle


def teaching_scene(
    name: str, subject: str | None = None, background: str | None = None, *, size: float = 0.5, paint_seed: int = 0
) -> TeachingScene:
    """Makes a scene with a motion of `TEACHING_MOTIONS`.

    Args:
        name: Name of the motion.
        subject: One of `SUBJECTS`; None: that of the motion's teaching clip.
        background: One of `BACKGROUNDS`; None: that of the teaching clip.
        size: Side of the sprite's box at scale 1, in fractions of the height.
        paint_seed: Picks the variation of the background.

    Raises:
        InputError: No such motion, subject or background.
    """
    motion = _motion(name)
    subject, background = subject or motion.subject, background or motion.background
    for kind, value, known in (("subject", subject, SUBJECTS), ("background", background, BACKGROUNDS)):
        if value not in known:
            raise InputError(f"{kind} must be one of {', '.join(known)}, got {value!r}")
    return TeachingScene(
        path=name,
        subject=SUBJECTS.index(subject),
        motion=MOTIONS.index("stays still"),  # which the path replaces
        background=BACKGROUNDS.index(background),
        start=(0.5, 0.5),
        end=(0.5, 0.5),
        size=size,
        paint_seed=paint_seed,
    )


def teaching_caption(name: str, subject: str | None = None, background: str | None = None) -> str:
    """Describes a scene as the sprite world's captions do: "a panda circles over the sea".

    Args:
        name: Of the motion.
        subject: None: that of the motion's teaching clip.
        background: None: that of the teaching clip.

    Raises:
        InputError: No such motion.
    """
    motion = _motion(name)
    return CLIP_TEMPLATES[0].format(
        a_subject=with_article(subject or motion.subject), verb=motion.verb, place=background or motion.background
    )


def teaching_clip(name: str, *, num_frames: int = 29, height: int = 160, width: int = 256, fps: float = 8.0) -> Video:
    """Renders the clip that a motion is taught from: one subject over one background.

    Args:
        name: Of the motion.
        num_frames: Frames.
        height: Rows of pixels.
        width: Columns of pixels.
        fps: Frames per second.

    Raises:
        InputError: No such motion.
    """
    return Video(
        frames=render(teaching_scene(name), num_frames, height, width),
        fps=fps,
        metadata={"prompt": teaching_caption(name)},
    )


def _motion(name: str) -> TeachingMotion:
    if name not in TEACHING_MOTIONS:
        raise InputError(f"the motion must be one of {', '.join(TEACHING_MOTIONS)}, got {name!r}")
    return TEACHING_MOTIONS[name]
