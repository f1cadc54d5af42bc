"""Captions of sprite scenes in plain English, and the parser that reads them back.

A canonical caption is "a|an SUBJECT MOTION over BACKGROUND". Training mixes in paraphrases, so that the text encoder
learns words and not positions. Captions of single frames leave the motion out.
"""

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from show1.sprites.groups import ARRANGEMENTS, arrangement
from show1.sprites.scenes import Scene
from show1.sprites.two_motions import two_motions
from show1.sprites.world import BACKGROUNDS, COUNTS, MOTIONS, RELATIONS, SIZES, SUBJECTS

VERBS: dict[str, tuple[tuple[str, str], ...]] = {
    "moves left": (
        ("moves left", "moving left"),
        ("goes left", "going left"),
        ("moves to the left", "moving to the left"),
        ("travels to the left", "travelling to the left"),
        ("slides left", "sliding left"),
    ),
    "moves right": (
        ("moves right", "moving right"),
        ("goes right", "going right"),
        ("moves to the right", "moving to the right"),
        ("travels to the right", "travelling to the right"),
        ("slides right", "sliding right"),
    ),
    "moves up": (
        ("moves up", "moving up"),
        ("goes up", "going up"),
        ("moves upwards", "moving upwards"),
        ("rises", "rising"),
    ),
    "moves down": (
        ("moves down", "moving down"),
        ("goes down", "going down"),
        ("moves downwards", "moving downwards"),
        ("sinks", "sinking"),
    ),
    "spins": (
        ("spins", "spinning"),
        ("turns around", "turning around"),
        ("rotates", "rotating"),
        ("spins around", "spinning around"),
    ),
    "grows": (
        ("grows", "growing"),
        ("gets bigger", "getting bigger"),
        ("becomes larger", "becoming larger"),
    ),
    "shrinks": (
        ("shrinks", "shrinking"),
        ("gets smaller", "getting smaller"),
        ("becomes smaller", "becoming smaller"),
    ),
    "stays still": (
        ("stays still", "staying still"),
        ("does not move", "not moving"),
        ("stands still", "standing still"),
        ("keeps still", "keeping still"),
    ),
}
"""For each canonical motion its wordings: present tense and progressive, the canonical one first."""

PLACES: dict[str, tuple[str, ...]] = {
    "the blue sky": ("the blue sky", "a blue sky", "the sky with clouds"),
    "a green field": ("a green field", "the green field", "a field of grass"),
    "the night sky": ("the night sky", "a night sky", "a starry night"),
    "a sunset": ("a sunset", "the sunset", "the setting sun"),
    "the sea": ("the sea", "the blue sea", "the waves of the sea"),
    "the desert": ("the desert", "a desert", "the sand of the desert"),
    "the snow": ("the snow", "the white snow", "a snowy land"),
    "a pink room": ("a pink room", "the pink room", "a room with pink walls"),
}
"""For each canonical background its wordings, the canonical one first."""

TILTED = "tilted"
"""Word for a subject that is not upright."""

TURNED: tuple[str, ...] = ("leaning", "toppled", "tumbled", "upended")
"""Words for a subject that is turned by about one, two, three or four eighths of a full turn."""

DIRECTIONS: tuple[str, ...] = ("clockwise", "counterclockwise")
"""Directions in which a subject is turned, or spins."""

CLIP_TEMPLATES: tuple[str, ...] = (
    "{a_subject} {verb} over {place}",
    "over {place}, {a_subject} {verb}",
    "{a_subject} {doing} over {place}",
    "{a_subject} is {doing} over {place}",
    "the {subject} is {doing} over {place}",
    "the {subject} {verb} over {place}",
    "a video of {a_subject} {doing} over {place}",
    "a clip of {a_subject} that {verb} over {place}",
    "{a_subject} that {verb}, with {place} behind it",
    "{place} and {a_subject} {doing}",
)
"""Sentences for clips, the canonical one first."""

IMAGE_TEMPLATES: tuple[str, ...] = (
    "{a_subject} over {place}",
    "over {place}, {a_subject}",
    "the {subject} over {place}",
    "a picture of {a_subject} over {place}",
    "an image of {a_subject} over {place}",
    "{a_subject}, with {place} behind it",
    "{place} and {a_subject}",
    "there is {a_subject} over {place}",
)
"""Sentences for single frames, the canonical one first."""


GROUP_TEMPLATES: tuple[str, ...] = (
    "{group} over {place}",
    "over {place}, {group}",
    "{group}, with {place} behind",
    "{place} and {group}",
)
"""Sentences for groups, whether they are clips or single frames; the canonical one first."""

PAIR_TEMPLATES: tuple[str, ...] = (
    "{a_first} {verb} and {a_second} {other_verb} over {place}",
    "over {place}, {a_first} {verb} while {a_second} {other_verb}",
    "{a_first} {doing} and {a_second} {other_doing} over {place}",
    "{a_first} {verb} while {a_second} {other_verb}, with {place} behind",
)
"""Sentences for clips of two subjects with a motion each, the canonical one first."""

PAIR_IMAGE_TEMPLATES: tuple[str, ...] = (
    "{a_first} and {a_second} over {place}",
    "over {place}, {a_first} and {a_second}",
    "{a_first} and {a_second}, with {place} behind",
)
"""Sentences for single frames of them, the canonical one first."""

SEQUENCE_TEMPLATES: tuple[str, ...] = (
    "{a_first} {verb}, then {direction} over {place}",
    "{a_first} first {verb} and then {other_verb} over {place}",
    "over {place}, {a_first} {verb}, then {other_verb}",
    "{a_first} {doing} and then {direction}, with {place} behind it",
    "{a_first} {verb} before {other_doing} over {place}",
)
"""Sentences for clips of one subject with one motion after another, the canonical one first."""

PLURALS: dict[str, str] = {
    "fox": "foxes",
    "fish": "fish",
    "octopus": "octopuses",
    "butterfly": "butterflies",
    "bus": "buses",
    "cactus": "cactuses",
}
"""Plurals of the subjects that do not take an s."""


def plural(noun: str) -> str:
    """Returns the plural of a subject: "pandas", "foxes"."""
    return PLURALS.get(noun, f"{noun}s")


def with_article(noun: str) -> str:
    """Puts the article before a noun: "a panda", "an owl"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def caption(scene: Scene, rng: random.Random | None = None, *, kind: Literal["clip", "image"] = "clip") -> str:
    """Describes a scene.

    Args:
        scene: What to describe.
        rng: Draws a training caption: canonical half of the time, else a paraphrase. None gives the canonical one.
        kind: "image" leaves the motion out.

    Returns:
        A lower-case caption.
    """
    if motions := two_motions(scene):
        if scene.others or kind == "clip":
            return _two_motions_caption(scene, motions, rng, kind)
    elif scene.others:
        return _group_caption(scene, rng)
    templates = CLIP_TEMPLATES if kind == "clip" else IMAGE_TEMPLATES
    verbs, places = VERBS[MOTIONS[scene.motion]], PLACES[BACKGROUNDS[scene.background]]
    template, (verb, doing), place = templates[0], verbs[0], places[0]
    if rng is not None and rng.random() < 0.5:
        template, (verb, doing), place = rng.choice(templates), rng.choice(verbs), rng.choice(places)
    if scene.turns and rng is not None and rng.random() < 0.5:
        direction = DIRECTIONS[int(scene.turns < 0)]
        verb, doing = f"{verb} {direction}", f"{doing} {direction}"
    adjectives = [scene.sized, _turned(scene.tilt, rng) if scene.tilt else None]
    subject = " ".join([*filter(None, adjectives), SUBJECTS[scene.subject]])
    return template.format(a_subject=with_article(subject), subject=subject, verb=verb, doing=doing, place=place)


def _turned(tilt: float, rng: random.Random | None) -> str:
    """Describes how a subject lies, half of the time with the angle, to the nearest eighth of a turn."""
    if rng is None or rng.random() < 0.5:
        return TILTED
    eighths = round(8 * tilt)
    if eighths == 4:
        return TURNED[3]
    return f"{DIRECTIONS[int(eighths > 4)]} {TURNED[min(eighths, 8 - eighths) - 1]}"


def _group_caption(scene: Scene, rng: random.Random | None) -> str:
    template, place = GROUP_TEMPLATES[0], PLACES[BACKGROUNDS[scene.background]][0]
    if rng is not None and rng.random() < 0.5:
        template, place = rng.choice(GROUP_TEMPLATES), rng.choice(PLACES[BACKGROUNDS[scene.background]])
    how, first, second = arrangement(scene), SUBJECTS[scene.subject], SUBJECTS[scene.others[0].subject]
    group = f"{with_article(first)} {how} {with_article(second)}" if how in RELATIONS else f"{how} {plural(first)}"
    return template.format(group=group, place=place)


def _two_motions_caption(
    scene: Scene, motions: tuple[int, int], rng: random.Random | None, kind: Literal["clip", "image"]
) -> str:
    templates = SEQUENCE_TEMPLATES
    if scene.others:
        templates = PAIR_TEMPLATES if kind == "clip" else PAIR_IMAGE_TEMPLATES
    first, second = MOTIONS[motions[0]], MOTIONS[motions[1]]
    wordings, places = (VERBS[first], VERBS[second]), PLACES[BACKGROUNDS[scene.background]]
    template, chosen, place = templates[0], [verbs[0] for verbs in wordings], places[0]
    if rng is not None and rng.random() < 0.5:
        template, place = rng.choice(templates), rng.choice(places)
        chosen = [rng.choice(verbs) for verbs in wordings]
    return template.format(
        a_first=with_article(SUBJECTS[scene.subject]),
        a_second=with_article(SUBJECTS[scene.others[0].subject]) if scene.others else "",
        verb=chosen[0][0],
        doing=chosen[0][1],
        other_verb=chosen[1][0],
        other_doing=chosen[1][1],
        direction=second.removeprefix("moves "),
        place=place,
    )


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


_NAMES = {name: i for i, subject in enumerate(SUBJECTS) for name in (subject, plural(subject))}


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


def vocabulary(*, groups: bool = False, two_motions: bool = False) -> list[str]:
    """Lists all words that captions can hold, sorted, in lower case and without punctuation.

    Args:
        groups: Whether to include those of the captions of `show1.sprites.groups`.
        two_motions: Whether to include those of the captions of `show1.sprites.two_motions`.
    """
    parts: list[str] = ["a", "an", TILTED, *TURNED, *DIRECTIONS, *SUBJECTS]
    parts += [wording for verbs in VERBS.values() for pair in verbs for wording in pair]
    parts += [wording for places in PLACES.values() for wording in places]
    parts += [re.sub(r"{\w+}", " ", template) for template in CLIP_TEMPLATES + IMAGE_TEMPLATES]
    if groups:
        parts += [*RELATIONS, *COUNTS.values(), *SIZES, *(plural(name) for name in SUBJECTS)]
        parts += [re.sub(r"{\w+}", " ", template) for template in GROUP_TEMPLATES]
    if two_motions:
        templates = PAIR_TEMPLATES + PAIR_IMAGE_TEMPLATES + SEQUENCE_TEMPLATES
        parts += [re.sub(r"{\w+}", " ", template) for template in templates]
    return sorted({word for part in parts for word in re.findall(r"[a-z]+", part)})
