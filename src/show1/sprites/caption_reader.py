"""Reads what captions of the sprite world, or any other texts, say of a scene."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from show1.sprites.captions import DIRECTIONS, TILTED, TURNED, plural
from show1.sprites.groups import ARRANGEMENTS
from show1.sprites.world import BACKGROUNDS, MOTIONS, RELATIONS, SIZES, SUBJECTS

# The words by which a text names a motion or a background, beyond the wordings above; whole words.
_MOTION_CUES: dict[str, tuple[str, ...]] = {
    "moves left": ("left", "leftward", "leftwards"),
    "moves right": ("right", "rightward", "rightwards"),
    "moves up": ("up", "upward", "upwards", "rises", "rising"),
    "moves down": ("down", "downward", "downwards", "sinks", "sinking"),
    "spins": ("spins", "spinning", "rotates", "rotating", "turns around", "turning around"),
    "grows": ("grows", "growing", "bigger", "larger"),
    "shrinks": ("shrinks", "shrinking", "smaller"),
    "stays still": ("still", "not move", "not moving"),
}
_BACKGROUND_CUES: dict[str, tuple[str, ...]] = {
    "the blue sky": ("blue sky", "sky with clouds"),
    "a green field": ("field",),
    "the night sky": ("night",),
    "a sunset": ("sunset", "setting sun"),
    "the sea": ("sea",),
    "the desert": ("desert",),
    "the snow": ("snow", "snowy"),
    "a pink room": ("room",),
}


@dataclass(frozen=True, kw_only=True)
class CaptionFacts:
    """What a caption says about its scene. Where an attribute may be None, the caption does not mention it."""

    subjects: tuple[int, ...]
    """Indices into `SUBJECTS`, in the order of the text."""

    motions: tuple[int, ...]
    """Indices into `MOTIONS`: all that have a cue in the text, in its order."""

    backgrounds: tuple[int, ...]
    """Indices into `BACKGROUNDS`: all that have a cue in the text."""

    arrangement: int | None
    """Index into `ARRANGEMENTS`."""

    turned: int | None
    """Index into `TURNED`, or one beyond for a subject that is `TILTED`."""

    direction: int | None
    """Index into `DIRECTIONS`."""

    @property
    def subject(self) -> int | None:
        """The first subject."""
        return self.subjects[0] if self.subjects else None

    @property
    def other(self) -> int | None:
        """The second subject."""
        return self.subjects[1] if len(self.subjects) > 1 else None

    @property
    def motion(self) -> int | None:
        """The motion; None also in captions of groups, whose "left of" is not a motion."""
        grouped = self.arrangement is not None and ARRANGEMENTS[self.arrangement] not in SIZES
        return self.motions[0] if self.motions and not grouped else None

    @property
    def then(self) -> int | None:
        """The second motion, of the second subject or of the second half."""
        return self.motions[1] if self.motion is not None and len(self.motions) > 1 else None

    @property
    def background(self) -> int | None:
        """The background."""
        return self.backgrounds[0] if self.backgrounds else None

    @property
    def ordinary(self) -> bool:
        """Whether the scene is one upright subject of ordinary size with one motion."""
        plain = self.arrangement is None and self.turned is None and self.direction is None
        return plain and len(self.subjects) == 1 and len(self.motions) < 2


@dataclass(frozen=True, kw_only=True)
class Mention:
    """A subject where a caption names it, and what the caption says of this subject alone."""

    start: int
    """Where its name begins in the text."""

    end: int
    """Where its name has ended."""

    place: int | None
    """Where it is, seen from the other subject: an index into `RELATIONS`. None: the caption does not say."""

    motion: int | None
    """What it does, at first: an index into `MOTIONS`. None: the caption does not say."""


_NAMES = {name: i for i, subject in enumerate(SUBJECTS) for name in (subject, plural(subject))}
_FROM_THE_OTHER = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def mentions(text: str) -> list[Mention]:
    """Searches a caption for its subjects, and reads what it says of each: its place and its motion.

    Where there are two subjects, the caption's relation is the place of the first; its second motion, if it has two, is
    what the second subject does.
    """
    facts = read_caption(text)
    places: list[int | None] = [None, None]
    if facts.arrangement is not None and (how := ARRANGEMENTS[facts.arrangement]) in RELATIONS:
        places = [RELATIONS.index(how), RELATIONS.index(_FROM_THE_OTHER[how])]
    motions = [facts.motion, facts.then]
    found = re.finditer(_any_of(_NAMES), text.lower())
    return [
        Mention(start=each.start(), end=each.end(), place=place, motion=motion)
        for each, place, motion in zip(found, places, motions, strict=False)
    ]


def read_caption(text: str) -> CaptionFacts:
    """Searches a caption of any scene, or any other text, for the words of the sprite world; case does not matter."""
    text = _normalized(text)
    arrangements = _found(text, [(words,) for words in ARRANGEMENTS])
    turned = _found(text, [(word,) for word in (*TURNED, TILTED)])
    directions = _found(text, [(word,) for word in DIRECTIONS])
    return CaptionFacts(
        subjects=tuple(_NAMES[name] for name in re.findall(_any_of(_NAMES), text)),
        motions=_found(text, [_MOTION_CUES[name] for name in MOTIONS]),
        backgrounds=_found(text, [_BACKGROUND_CUES[name] for name in BACKGROUNDS]),
        arrangement=arrangements[0] if arrangements else None,
        turned=turned[0] if turned else None,
        direction=directions[0] if len(directions) == 1 else None,
    )


def parse_caption(text: str) -> tuple[int, int | None, int] | None:
    """Reads a caption strictly: returns what it asks for only if that is unambiguous.

    Returns:
        Indices (subject, motion, background), the motion None where the text names none; or None where it does not
        name exactly one subject and one background, or names several motions.
    """
    facts, subjects = read_caption(text), set(re.findall(_any_of(SUBJECTS), _normalized(text)))
    if len(subjects) != 1 or len(facts.motions) > 1 or len(facts.backgrounds) != 1:
        return None
    return _NAMES[subjects.pop()], facts.motions[0] if facts.motions else None, facts.backgrounds[0]


def _normalized(text: str) -> str:
    """Lower-case words with one space between them."""
    return " ".join(re.findall(r"[a-z]+", text.lower()))


def _any_of(phrases: Iterable[str]) -> str:
    """A pattern for any of some phrases as whole words, longer ones first."""
    return rf"\b(?:{'|'.join(map(re.escape, sorted(phrases, key=len, reverse=True)))})\b"


def _found(text: str, cues: list[tuple[str, ...]]) -> tuple[int, ...]:
    """Indices of the entries that have a cue in the text, in the order of the first ones."""
    places = {i: match.start() for i, words in enumerate(cues) if (match := re.search(_any_of(words), text))}
    return tuple(sorted(places, key=lambda i: places[i]))
