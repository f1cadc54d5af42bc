"""Scenes beyond one subject of ordinary size: two subjects and their relation, several of one kind, small and big ones.

They are scenes of the sprite world in every other respect: exact ground truth, the same backgrounds, and pairs that
training never sees.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from show1.data.sprites import Scene, SpriteWorld, check_split, scene_generator
from show1.data.world import (
    BACKGROUNDS,
    COUNTS,
    MOTIONS,
    SIZES,
    SUBJECTS,
    Split,
    is_count_held_out,
    is_held_out,
    is_pair_held_out,
    is_size_held_out,
)

_STILL = MOTIONS.index("stays still")

_SPLIT_KEYS = {"train": 3, "held_out": 4, "all": 5}


def holds_held_out(scene: Scene) -> bool:
    """Whether a scene of `GroupWorld` holds a pair that training never sees."""
    shown = (scene, *scene.others)
    if any(is_held_out(each.subject, each.motion, scene.background) for each in shown):
        return True
    if scene.sized is not None:
        return is_size_held_out(scene.subject, SIZES.index(scene.sized))
    if len({each.subject for each in shown}) == 1:
        return is_count_held_out(scene.subject, scene.count)
    return is_pair_held_out(scene.subject, scene.others[0].subject)


@dataclass(frozen=True, kw_only=True)
class GroupWorld:
    """An endless, deterministic sequence of such scenes, a third of them of each kind."""

    seed: int = 0
    """Picks the sequence."""

    split: Split = "train"
    """"train" never shows a held-out pair, "held_out" shows only scenes with at least one, "all" shows every scene."""

    def __post_init__(self) -> None:
        check_split(self.split)

    def scene(self, index: int) -> Scene:
        """The scene at an index from 0 up.

        Raises:
            InputError: The index is negative.
        """
        rng = scene_generator(self.seed, _SPLIT_KEYS[self.split], index)
        kind = _KINDS[int(rng.integers(len(_KINDS)))]
        while True:
            scene = kind(rng)
            if self.split == "all" or holds_held_out(scene) == (self.split == "held_out"):
                return scene


def _related(rng: np.random.Generator) -> Scene:
    """Two subjects, one beside or above the other."""
    first, second = (int(subject) for subject in rng.choice(len(SUBJECTS), 2, replace=False))
    if rng.random() < 0.5:
        size, across = float(rng.uniform(0.4, 0.5)), float(rng.uniform(0.35, 0.65))
        places = [(float(rng.uniform(*x)), across + float(rng.uniform(-0.06, 0.06))) for x in ((0.2, 0.3), (0.7, 0.8))]
    else:
        size, along = float(rng.uniform(0.36, 0.42)), float(rng.uniform(0.25, 0.75))
        rows = ((0.22, 0.28), (0.72, 0.78))
        places = [(along + float(rng.uniform(-0.06, 0.06)), float(rng.uniform(*y))) for y in rows]
    if rng.random() < 0.5:
        places.reverse()
    return _group([first, second], places, size, rng)


def _counted(rng: np.random.Generator) -> Scene:
    """Several of one subject, in a row that is not straight."""
    count = int(rng.choice(list(COUNTS)))
    middles = [(i + 0.5) / count for i in range(count)]
    places = [(x + float(rng.uniform(-0.04, 0.04)), float(rng.uniform(0.3, 0.7))) for x in middles]
    return _group([int(rng.integers(len(SUBJECTS)))] * count, places, float(rng.uniform(0.36, 0.45)), rng)


def _sized(rng: np.random.Generator) -> Scene:
    """One subject that is small, and may move, or big, and stays where it is."""
    subject, background = int(rng.integers(len(SUBJECTS))), int(rng.integers(len(BACKGROUNDS)))
    world, index = SpriteWorld(split="all"), int(rng.integers(2**31))
    if rng.random() < 0.5:
        scene = world.compose(subject, int(rng.integers(len(MOTIONS))), background, index)
        return replace(scene, size=float(rng.uniform(0.3, 0.4)))
    scene = world.compose(subject, int(rng.choice([_STILL, MOTIONS.index("spins")])), background, index)
    place = (float(rng.uniform(0.33, 0.67)), float(rng.uniform(0.48, 0.52)))
    return replace(scene, size=float(rng.uniform(0.9, 1.0)), start=place, end=place)


_KINDS: tuple[Callable[[np.random.Generator], Scene], ...] = (_related, _counted, _sized)


def _group(subjects: list[int], places: list[tuple[float, float]], size: float, rng: np.random.Generator) -> Scene:
    background, paint_seed = int(rng.integers(len(BACKGROUNDS))), int(rng.integers(2**31))
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
