"""The vocabulary of the sprite world: subjects, motions, backgrounds, and the pairs that training never sees."""

import json
from importlib.resources import files
from typing import Any, Literal

Split = Literal["train", "held_out", "all"]


def _load() -> dict[str, Any]:
    text = (files("show1.data") / "assets" / "sprite_world.json").read_text(encoding="utf-8")
    world: dict[str, Any] = json.loads(text)
    return world


_WORLD = _load()

SUBJECTS: tuple[str, ...] = tuple(entry["name"] for entry in _WORLD["subjects"])
"""Names of the 32 subjects, in the order of the sprite sheet."""

MOTIONS: tuple[str, ...] = tuple(entry["phrase"] for entry in _WORLD["motions"])
"""Canonical phrases of the 8 motions, such as "moves left"."""

BACKGROUNDS: tuple[str, ...] = tuple(_WORLD["backgrounds"])
"""Canonical phrases of the 8 backgrounds, such as "the snow"."""


def is_held_out(subject: int, motion: int | None, background: int | None) -> bool:
    """Whether a scene holds a pair that is kept for measuring composition and never shown in training.

    Args:
        subject: Index into `SUBJECTS`.
        motion: Index into `MOTIONS`; None asks about the background alone.
        background: Index into `BACKGROUNDS`; None asks about the motion alone.
    """
    by_motion = motion is not None and (subject + motion) % 8 == 5
    by_background = background is not None and (subject + 3 * background) % 8 == 2
    return by_motion or by_background


def combinations(split: Split) -> list[tuple[int, int, int]]:
    """All (subject, motion, background) that a split may show, in lexicographic order."""
    everything = [
        (subject, motion, background)
        for subject in range(len(SUBJECTS))
        for motion in range(len(MOTIONS))
        for background in range(len(BACKGROUNDS))
    ]
    if split == "all":
        return everything
    return [triple for triple in everything if is_held_out(*triple) == (split == "held_out")]
