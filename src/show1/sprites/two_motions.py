"""Scenes with two motions: two subjects that each move their own way, and one subject that changes its direction.

The first kind asks which subject does what, the second which motion comes first. They are scenes of the sprite world in
every other respect: exact ground truth, the same backgrounds, and pairs that training never sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from show1.errors import InputError
from show1.sprites.scenes import ASPECT, BOTTOM_HEAVY, Scene, faces_away
from show1.sprites.world import (
    BACKGROUNDS,
    MOTIONS,
    SUBJECTS,
    World,
    is_held_out,
    is_order_held_out,
    is_pair_held_out,
)

LEFT, RIGHT, UP, DOWN = (MOTIONS.index(phrase) for phrase in ("moves left", "moves right", "moves up", "moves down"))

PAIR_MOTIONS: tuple[int, ...] = (LEFT, RIGHT, UP, DOWN, MOTIONS.index("stays still"))
"""Motions of which two subjects do two different ones: indices into `MOTIONS`."""

ORDERS: tuple[tuple[int, int], ...] = tuple(
    order
    for order in permutations((LEFT, RIGHT, UP, DOWN), 2)
    if ({*order} & {LEFT, RIGHT}) and ({*order} & {UP, DOWN})
)
"""Motions that one subject does one after the other, the second at a right angle to the first. A subject that turns
back is left out: halfway through it would have to face the other way."""


def two_motions(scene: Scene) -> tuple[int, int] | None:
    """Returns the motions of a scene of `TwoMotionsWorld`, of the first and second subject or half; None: another."""
    if scene.then is not None:
        return scene.motion, scene.then
    if len(scene.others) == 1 and scene.others[0].motion != scene.motion:
        return scene.motion, scene.others[0].motion
    return None


def holds_held_out(scene: Scene) -> bool:
    """Returns whether a scene of `TwoMotionsWorld` holds a pair that training never sees."""
    moves = [(shown.subject, shown.motion) for shown in (scene, *scene.others)]
    if scene.then is not None:
        moves.append((scene.subject, scene.then))
    return is_composition_held_out(scene) or any(is_held_out(*move, scene.background) for move in moves)


def is_composition_held_out(scene: Scene) -> bool:
    """Returns whether a scene shows two subjects, or one in two motions, that training never shows together."""
    if scene.others:
        return is_pair_held_out(scene.subject, scene.others[0].subject)
    return scene.then is not None and is_order_held_out(scene.subject, ORDERS.index((scene.motion, scene.then)))


@dataclass(frozen=True, kw_only=True)
class TwoMotionsWorld(World):
    """An endless, deterministic sequence of scenes with two motions, half of each kind."""

    first_key = 6

    pairs: float | None = None
    """Share of the scenes with two subjects, 0 to 1, where it is not half."""

    def scene(self, index: int) -> Scene:
        """The scene at an index from 0 up.

        Raises:
            InputError: The index is negative.
        """
        rng = self.generator(index)
        pair = bool(rng.random() < (0.5 if self.pairs is None else self.pairs))
        attempt = 0
        while True:
            subjects = self.draw_subjects(rng, 1 + pair, attempt)
            motions = rng.choice(PAIR_MOTIONS, 2, replace=False) if pair else ORDERS[int(rng.integers(len(ORDERS)))]
            first, second = (int(motion) for motion in motions)
            scene = _lay_out(subjects, (first, second), int(rng.integers(len(BACKGROUNDS))), rng)
            if self.shows(holds_held_out(scene)):
                return scene
            attempt += 1

    def compose(self, subjects: Sequence[int], motions: tuple[int, int], background: int, *, index: int = 0) -> Scene:
        """Makes a scene of given parts; the index picks places, sizes and paint.

        Args:
            subjects: Indices into `SUBJECTS`: two different ones with a motion each, or one that does both in turn.
            motions: Indices into `MOTIONS`: two of `PAIR_MOTIONS`, or one of `ORDERS`.
            background: Index into `BACKGROUNDS`.
            index: From 0 up.

        Raises:
            InputError: There is no such scene, or this split does not show it.
        """
        if len(subjects) not in (1, 2) or len(set(subjects)) != len(subjects):
            raise InputError(f"subjects must be one or two different ones, got {list(subjects)}")
        if len(subjects) == 1 and motions not in ORDERS:
            raise InputError(
                "motions: one subject does two of left, right, up and down, at a right angle to each other"
            )
        if len(subjects) == 2 and not (set(motions) <= set(PAIR_MOTIONS) and motions[0] != motions[1]):
            raise InputError("motions: two subjects do two different ones of left, right, up, down and still")
        scene = _lay_out(subjects, motions, background, self.generator(index))
        if not self.shows(holds_held_out(scene)):
            raise InputError(f"split {self.split!r} does not show this scene; use split 'all' to see every one")
        return scene


def _lay_out(subjects: Sequence[int], motions: tuple[int, int], background: int, rng: np.random.Generator) -> Scene:
    if len(subjects) == 2:
        return _pair(subjects, motions, background, rng)
    return _sequence(subjects[0], motions, background, rng)


def _pair(subjects: Sequence[int], motions: tuple[int, int], background: int, rng: np.random.Generator) -> Scene:
    """Two subjects that move, or stay, on ways that do not meet."""
    size, paint_seed = float(rng.uniform(0.36, 0.42)), int(rng.integers(2**31))
    swapped = bool(rng.random() < 0.5)
    ways = [_way(each, motions[1 - i], bool(i) != swapped, rng) for i, each in enumerate(motions)]
    first, second = (
        Scene(
            subject=subject,
            motion=motion,
            background=background,
            start=way[0],
            end=way[1],
            size=size * float(rng.uniform(0.95, 1.05)),
            flip=faces_away(subject, MOTIONS[motion]),
            paint_seed=paint_seed,
        )
        for subject, motion, way in zip(subjects, motions, ways, strict=True)
    )
    return replace(first, others=(second,))


def _way(
    motion: int, other: int, far: bool, rng: np.random.Generator
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Beginning and end of a subject's way, beside that of another subject; `far`: below it, or to its right."""

    def draw(low: float, high: float, mirrored: bool = False) -> float:
        value = float(rng.uniform(low, high))
        return 1 - value if mirrored else value

    across, along = {LEFT, RIGHT}, {UP, DOWN}
    if motion in across:
        crossed = other in along  # whose column is left free
        travel = draw(0.36, 0.42) if crossed else draw(0.45, 0.6)
        low, row = draw(0.14, (0.57 if crossed else 0.86) - travel), draw(0.24, 0.28, far)
        if crossed:
            low, row = (1 - low - travel if far else low), draw(0.3, 0.7)
        ends = (low, row), (low + travel, row)
        return ends if motion == RIGHT else ends[::-1]
    if motion in along:
        column = draw(0.14, 0.18, far) if other in across else draw(0.2, 0.28, far)
        travel = draw(0.4, 0.5)
        top = draw(0.21, 0.78 - travel)
        ends = (column, top), (column, top + travel)
        return ends if motion == DOWN else ends[::-1]
    place = (draw(0.2, 0.8), draw(0.24, 0.28, far)) if other in across else (draw(0.2, 0.28, far), draw(0.25, 0.75))
    return place, place


def _sequence(subject: int, motions: tuple[int, int], background: int, rng: np.random.Generator) -> Scene:
    """One subject that changes its direction in the middle of the clip."""
    size, paint_seed = float(rng.uniform(0.46, 0.58)), int(rng.integers(2**31))
    across, down = float(rng.uniform(0.42, 0.55)), float(rng.uniform(0.36, 0.44))
    steps = {LEFT: (-across, 0.0), RIGHT: (across, 0.0), UP: (0.0, -down), DOWN: (0.0, down)}
    first, second = (steps[motion] for motion in motions)
    moved = first[0] + second[0], first[1] + second[1]
    near = 0.3 * size / ASPECT, 0.3 * size
    lowest = 1 - near[0], 1 - (0.5 - BOTTOM_HEAVY.get(SUBJECTS[subject], 0.2)) * size
    start = tuple(
        float(rng.uniform(near[axis] - min(moved[axis], 0), lowest[axis] - max(moved[axis], 0))) for axis in (0, 1)
    )
    sideways = next(motion for motion in motions if motion in (LEFT, RIGHT))
    return Scene(
        subject=subject,
        motion=motions[0],
        then=motions[1],
        background=background,
        start=(start[0], start[1]),
        via=(start[0] + first[0], start[1] + first[1]),
        end=(start[0] + moved[0], start[1] + moved[1]),
        size=size,
        flip=faces_away(subject, MOTIONS[sideways]),
        paint_seed=paint_seed,
    )
