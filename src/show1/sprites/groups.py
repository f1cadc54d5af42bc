"""Scenes beyond one subject of ordinary size: two subjects and their relation, several of one kind, small and big ones.

They are scenes of the sprite world in every other respect: exact ground truth, the same backgrounds, and pairs that
training never sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from show1.errors import InputError
from show1.sprites.scenes import Scene, SpriteWorld, tilted
from show1.sprites.world import (
    BACKGROUNDS,
    COUNTS,
    MOTIONS,
    RELATIONS,
    SIZES,
    World,
    is_count_held_out,
    is_held_out,
    is_pair_held_out,
    is_size_held_out,
)

ARRANGEMENTS: tuple[str, ...] = (*RELATIONS, *COUNTS.values(), *SIZES)
"""What distinguishes these scenes from one subject of ordinary size: a relation of two, a number, or a size."""

_STILL = MOTIONS.index("stays still")


def arrangement(scene: Scene) -> str | None:
    """Returns the one of `ARRANGEMENTS` that a scene has; None: none."""
    if not scene.others:
        return scene.sized
    alike = len({each.subject for each in (scene, *scene.others)}) == 1
    return COUNTS[scene.count] if alike else scene.relation


def holds_held_out(scene: Scene) -> bool:
    """Returns whether a scene of `GroupWorld` holds a pair that training never sees."""
    shown = (scene, *scene.others)
    if any(is_held_out(each.subject, each.motion, scene.background) for each in shown):
        return True
    return is_arrangement_held_out(scene)


def is_arrangement_held_out(scene: Scene) -> bool:
    """Returns whether a scene's arrangement is held out: its two subjects, or its subject with its number or size."""
    how = arrangement(scene)
    if how in SIZES:
        return is_size_held_out(scene.subject, SIZES.index(how))
    if how in RELATIONS:
        return is_pair_held_out(scene.subject, scene.others[0].subject)
    return is_count_held_out(scene.subject, scene.count)


@dataclass(frozen=True, kw_only=True)
class GroupWorld(World):
    """An endless, deterministic sequence of scenes with relations, numbers or sizes, a third of each."""

    first_key = 3

    relations: float | None = None
    """Share of the scenes with a relation, 0 to 1, where it is another one; numbers and sizes share the rest."""

    tilts: float = 0.0
    """Share of the small and big subjects that lie at some angle, or spin from there, as their captions say, 0 to 1;
    see `show1.sprites.scenes.SpriteWorld`."""

    def scene(self, index: int) -> Scene:
        """The scene at an index from 0 up.

        Raises:
            InputError: The index is negative.
        """
        rng = self.generator(index)
        kind = (RELATIONS, tuple(COUNTS.values()), SIZES)[self._kind(rng)]
        attempt = 0
        while True:
            how = kind[int(rng.integers(len(kind)))]
            subjects = self.draw_subjects(rng, 2 if how in RELATIONS else 1, attempt)
            motions = range(len(MOTIONS)) if how == "small" else _ROOM_FOR_BIG if how == "big" else (_STILL,)
            motion = motions[int(rng.integers(len(motions)))]
            scene = _lay_out(subjects, how, motion, int(rng.integers(len(BACKGROUNDS))), rng)
            if self.shows(holds_held_out(scene)):
                break
            attempt += 1
        return tilted(scene, self.tilts, rng) if how in SIZES else scene

    def _kind(self, rng: np.random.Generator) -> int:
        if self.relations is None:
            return int(rng.integers(3))
        return 0 if rng.random() < self.relations else 1 + int(rng.integers(2))

    def compose(
        self, subjects: Sequence[int], how: str, background: int, *, motion: int = _STILL, index: int = 0
    ) -> Scene:
        """A scene of given parts; the index picks places, sizes and paint.

        Args:
            subjects: Indices into `SUBJECTS`: two for a relation, one otherwise.
            how: One of `ARRANGEMENTS`.
            background: Index into `BACKGROUNDS`.
            motion: Index into `MOTIONS`. Only small subjects do all of them; big ones stay still or spin.
            index: From 0 up.

        Raises:
            InputError: There is no such scene, or this split does not show it.
        """
        if how not in ARRANGEMENTS:
            raise InputError(f"how must be one of {', '.join(ARRANGEMENTS)}, got {how!r}")
        if len(set(subjects)) != (2 if how in RELATIONS else 1) or len(set(subjects)) != len(subjects):
            raise InputError(f"subjects: {how!r} takes {'two different ones' if how in RELATIONS else 'one'}")
        if how != "small" and motion not in (_ROOM_FOR_BIG if how == "big" else (_STILL,)):
            raise InputError(f"motion: no scene that is {how!r} has {MOTIONS[motion]!r}")
        scene = _lay_out(subjects, how, motion, background, self.generator(index))
        if not self.shows(holds_held_out(scene)):
            raise InputError(f"split {self.split!r} does not show this scene; use split 'all' to see every one")
        return scene


_ROOM_FOR_BIG = (_STILL, MOTIONS.index("spins"))


def _lay_out(subjects: Sequence[int], how: str, motion: int, background: int, rng: np.random.Generator) -> Scene:
    if how in RELATIONS:
        return _related(subjects, how, background, rng)
    if how in SIZES:
        return _sized(subjects[0], how, motion, background, rng)
    return _counted(subjects[0], next(n for n, word in COUNTS.items() if word == how), background, rng)


def _related(subjects: Sequence[int], relation: str, background: int, rng: np.random.Generator) -> Scene:
    """Two subjects, one beside or above the other."""
    if relation in ("left of", "right of"):
        size, across = float(rng.uniform(0.4, 0.5)), float(rng.uniform(0.35, 0.65))
        places = [(float(rng.uniform(*x)), across + float(rng.uniform(-0.06, 0.06))) for x in ((0.2, 0.3), (0.7, 0.8))]
    else:
        size, along = float(rng.uniform(0.36, 0.42)), float(rng.uniform(0.25, 0.75))
        rows = ((0.22, 0.28), (0.72, 0.78))
        places = [(along + float(rng.uniform(-0.06, 0.06)), float(rng.uniform(*y))) for y in rows]
    if relation in ("right of", "below"):
        places.reverse()
    return _group(subjects, places, size, background, rng)


def _counted(subject: int, count: int, background: int, rng: np.random.Generator) -> Scene:
    """Several of one subject, in a row that is not straight."""
    middles = [(i + 0.5) / count for i in range(count)]
    places = [(x + float(rng.uniform(-0.04, 0.04)), float(rng.uniform(0.3, 0.7))) for x in middles]
    return _group([subject] * count, places, float(rng.uniform(0.36, 0.45)), background, rng)


def _sized(subject: int, size: str, motion: int, background: int, rng: np.random.Generator) -> Scene:
    """One subject that is small, and may move, or big, and stays where it is."""
    scene = SpriteWorld(split="all").compose(subject, motion, background, int(rng.integers(2**31)))
    if size == "small":
        return replace(scene, size=float(rng.uniform(0.3, 0.4)))
    place = (float(rng.uniform(0.33, 0.67)), float(rng.uniform(0.48, 0.52)))
    return replace(scene, size=float(rng.uniform(0.9, 1.0)), start=place, end=place)


def _group(
    subjects: Sequence[int],
    places: Sequence[tuple[float, float]],
    size: float,
    background: int,
    rng: np.random.Generator,
) -> Scene:
    paint_seed = int(rng.integers(2**31))
    first, *others = (
        Scene(
            subject=subject,
            motion=_STILL,
            background=background,
            start=place,
            end=place,
            size=size * float(rng.uniform(0.95, 1.05)),
            paint_seed=paint_seed,
        )
        for subject, place in zip(subjects, places, strict=True)
    )
    return replace(first, others=tuple(others))
