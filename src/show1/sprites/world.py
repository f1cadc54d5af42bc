"""The vocabulary of the sprite world: subjects, motions, backgrounds, and the pairs that training never sees."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from show1.errors import InputError

if TYPE_CHECKING:
    import numpy as np

Split = Literal["train", "held_out", "all"]

ASSETS = files("show1.sprites") / "assets"
"""Files of the sprite world: vocabulary, sprites, prompts, and the weights of the readers."""

_WORLD: dict[str, Any] = json.loads((ASSETS / "sprite_world.json").read_text(encoding="utf-8"))

SUBJECTS: tuple[str, ...] = tuple(entry["name"] for entry in _WORLD["subjects"])
"""Names of the 32 subjects, in the order of the sprite sheet."""

MOTIONS: tuple[str, ...] = tuple(entry["phrase"] for entry in _WORLD["motions"])
"""Canonical phrases of the 8 motions, such as "moves left"."""

BACKGROUNDS: tuple[str, ...] = tuple(_WORLD["backgrounds"])
"""Canonical phrases of the 8 backgrounds, such as "the snow"."""

RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")
"""Places of the first of two subjects, seen from the second."""

COUNTS: dict[int, str] = {2: "two", 3: "three"}
"""Numbers of a subject beyond one, with their words."""

SIZES: tuple[str, ...] = ("small", "big")
"""Sizes other than the ordinary one."""


def is_held_out(subject: int, motion: int | None, background: int | None) -> bool:
    """Returns whether a scene holds a pair that is kept for measuring composition and never shown in training.

    Args:
        subject: Index into `SUBJECTS`.
        motion: Index into `MOTIONS`; None asks about the background only.
        background: Index into `BACKGROUNDS`; None asks about the motion only.
    """
    by_motion = motion is not None and (subject + motion) % 8 == 5
    by_background = background is not None and (subject + 3 * background) % 8 == 2
    return by_motion or by_background


def is_pair_held_out(first: int, second: int) -> bool:
    """Returns whether two subjects (indices into `SUBJECTS`), in either order, are held out beside each other."""
    return (first + second) % 8 == 5


def is_count_held_out(subject: int, count: int) -> bool:
    """Returns whether a subject is held out in a number, which is a key of `COUNTS`."""
    return (subject + count) % 8 == 0


def is_order_held_out(subject: int, order: int) -> bool:
    """Returns whether a subject is held out in two motions in turn, an index into `two_motions.ORDERS`."""
    return (subject + order) % 8 == 3


def is_size_held_out(subject: int, size: int) -> bool:
    """Returns whether a subject is held out at a size, which is an index into `SIZES`."""
    return (subject + 3 * size) % 8 == 4


def combinations(split: Split) -> list[tuple[int, int, int]]:
    """Lists all (subject, motion, background) that a split may show, in lexicographic order."""
    everything = [
        (subject, motion, background)
        for subject in range(len(SUBJECTS))
        for motion in range(len(MOTIONS))
        for background in range(len(BACKGROUNDS))
    ]
    if split == "all":
        return everything
    return [triple for triple in everything if is_held_out(*triple) == (split == "held_out")]


def check_subject_shares(shares: Iterable[tuple[str, float]]) -> None:
    """Checks the shares with which a world shows some subjects.

    Args:
        shares: Names of subjects, each with its share of all scenes, 0 to 1.

    Raises:
        InputError: There is no such subject, or a share, or all together, are not from 0 to 1.
    """
    total = 0.0
    for name, share in shares:
        if name not in SUBJECTS:
            raise InputError(f"there is no subject {name!r}; they are {', '.join(SUBJECTS)}")
        if not 0 <= share <= 1:
            raise InputError(f"the share of {name!r} must be from 0 to 1, got {share}")
        total += share
    if total > 1 + 1e-9:  # sums of decimal fractions round
        raise InputError(f"the shares of subjects must be at most 1 together, got {total:g}")


@dataclass(frozen=True, kw_only=True)
class World:
    """An endless, deterministic sequence of scenes. A subclass lays them out."""

    first_key: ClassVar[int]
    """Sets the random numbers of one kind of world apart from those of others; each split adds its number."""

    seed: int = 0
    """Seed of the sequence of scenes."""

    split: Split = "train"
    """"train" never shows a held-out pair, "held_out" shows only scenes with at least one, "all" shows every scene."""

    subject_shares: tuple[tuple[str, float], ...] = ()
    """Subjects that are shown more often, such as thin ones, which take longest to learn: each with its share of the
    scenes, together at most 1. The rest is drawn from all subjects."""

    def __post_init__(self) -> None:
        check_subject_shares(self.subject_shares)
        if self.split not in get_args(Split):
            raise InputError(f"split must be one of {', '.join(get_args(Split))}, got {self.split!r}")

    def shows(self, holds_held_out: bool) -> bool:
        """Returns whether this split shows a scene that holds a held-out pair, or one that holds none."""
        return self.split == "all" or holds_held_out == (self.split == "held_out")

    def generator(self, index: int) -> "np.random.Generator":
        """Returns the random generator of the scene at an index.

        Raises:
            InputError: The index is negative.
        """
        if index < 0:
            raise InputError(f"scene index must not be negative, got {index}")
        import numpy as np  # the options of the command line stand on this module, and help is to be fast

        return np.random.default_rng((self.seed, self.first_key + get_args(Split).index(self.split), index))

    def preferred(self, rng: "np.random.Generator") -> int | None:
        """Draws one of the subjects that are shown more often, an index into `SUBJECTS`; None: any subject."""
        if not self.subject_shares:
            return None
        drawn, total = rng.random(), 0.0
        for name, share in self.subject_shares:
            total += share
            if drawn < total:
                return SUBJECTS.index(name)
        return None

    def draw_subjects(self, rng: "np.random.Generator", count: int, attempt: int) -> list[int]:
        """Draws different subjects, indices into `SUBJECTS`, for a scene that may turn out to be held out.

        Args:
            rng: The random generator.
            count: Number of subjects.
            attempt: Number of scenes that were held out before. After 20, `subject_shares` no longer counts: there may
                be no such scene of a subject that is shown more often.
        """
        preferred = self.preferred(rng) if attempt < 20 else None
        if preferred is None:
            return [int(subject) for subject in rng.choice(len(SUBJECTS), count, replace=False)]
        others = rng.choice([each for each in range(len(SUBJECTS)) if each != preferred], count - 1, replace=False)
        return [int(subject) for subject in rng.permutation([preferred, *others])]
