"""Captions of sprite scenes in plain English; `caption_reader` reads them back.

A canonical caption is "a|an SUBJECT MOTION over BACKGROUND". Training mixes in paraphrases, so that the text encoder
learns words and not positions. Captions of single frames leave the motion out.
"""

import random
import re
from typing import Literal

from show1.sprites.groups import arrangement
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
