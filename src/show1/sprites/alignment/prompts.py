"""The fixed prompts of the alignment protocol."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, get_args

from show1.errors import InputError
from show1.sprites.caption_reader import parse_caption, read_caption
from show1.sprites.world import ASSETS, COUNTS, MOTIONS, RELATIONS, SIZES

SceneSet = Literal["held_out", "seen", "paraphrase"]
"""Pairs that training never shows; combinations that it shows; held-out combinations in other words."""

GroupSet = Literal["relations", "relations_held_out", "counts", "counts_held_out", "sizes", "sizes_held_out"]
"""Two subjects and their relation; several of a kind; small and big ones. Training never shows the pairs of the sets
that end in `_held_out`."""

MotionSet = Literal["motion_binding", "motion_binding_held_out", "motion_order", "motion_order_held_out"]
"""Two subjects with a motion each; one subject with one motion after another. Training never shows the subjects
together, or the subject in both motions, of the sets that end in `_held_out`."""

PromptSet = SceneSet | GroupSet | MotionSet

SCENE_SETS: tuple[SceneSet, ...] = get_args(SceneSet)
GROUP_SETS: tuple[GroupSet, ...] = get_args(GroupSet)
MOTION_SETS: tuple[MotionSet, ...] = get_args(MotionSet)
PROMPT_SETS: tuple[PromptSet, ...] = (*SCENE_SETS, *GROUP_SETS, *MOTION_SETS)

_FILE = ASSETS / "alignment_prompts.jsonl"
_GROUP_FILE = ASSETS / "group_prompts.jsonl"
_MOTION_FILE = ASSETS / "motion_prompts.jsonl"


@dataclass(frozen=True, kw_only=True)
class _Prompt:
    index: int
    """Line of the prompt file, from 0."""

    set: PromptSet
    """The set that it belongs to."""

    prompt: str
    """The text."""


@dataclass(frozen=True, kw_only=True)
class PromptFacts:
    """What a prompt about a single subject asks for."""

    subject: int
    """Index into `SUBJECTS`."""

    motion: int
    """Index into `MOTIONS`."""

    background: int
    """Index into `BACKGROUNDS`."""


@dataclass(frozen=True, kw_only=True)
class AlignmentPrompt(PromptFacts, _Prompt):
    """A prompt of the protocol for scenes of one subject with one motion."""


@dataclass(frozen=True, kw_only=True)
class GroupPrompt(_Prompt):
    """A prompt of the protocol for scenes of `show1.sprites.groups`."""

    subjects: tuple[int, ...]
    """Indices into `SUBJECTS`: two for a relation, one otherwise."""

    how: str
    """One of `ARRANGEMENTS`."""

    motion: int
    """Index into `MOTIONS`."""

    background: int
    """Index into `BACKGROUNDS`."""


@dataclass(frozen=True, kw_only=True)
class MotionPrompt(_Prompt):
    """A prompt of the protocol for scenes of `show1.sprites.two_motions`."""

    subjects: tuple[int, ...]
    """Indices into `SUBJECTS`: two with a motion each, or one that does both in turn."""

    motions: tuple[int, int]
    """Indices into `MOTIONS`: of the first and second subject, or of the first and second half."""

    background: int
    """Index into `BACKGROUNDS`."""


Prompt = AlignmentPrompt | GroupPrompt | MotionPrompt


def read_prompt(text: str) -> PromptFacts:
    """Reads what any prompt of the sprite world asks for.

    Raises:
        InputError: It does not name one subject, one motion and one background.
    """
    found = parse_caption(text)
    if found is not None and not read_caption(text).ordinary:
        raise InputError(
            f"{text!r} asks for more than a subject, a motion and a background; `show1 evaluate alignment --sets "
            "relations,counts,sizes` judges relations, numbers and sizes; nothing judges angles"
        )
    if found is None or found[1] is None:
        raise InputError(
            f"{text!r} does not name one subject, one motion and one background of the sprite world, such as 'a panda "
            "spins over the snow'"
        )
    return PromptFacts(subject=found[0], motion=found[1], background=found[2])


@cache
def alignment_prompts() -> tuple[AlignmentPrompt, ...]:
    """Returns all prompts, in the order of the file; each set lists every subject equally often."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return tuple(AlignmentPrompt(index=i, **json.loads(line)) for i, line in enumerate(lines))


@cache
def group_prompts() -> tuple[GroupPrompt, ...]:
    """Returns all prompts of `GROUP_SETS`, in the order of the file."""
    lines = map(json.loads, _GROUP_FILE.read_text(encoding="utf-8").splitlines())
    return tuple(GroupPrompt(index=i, **{**line, "subjects": tuple(line["subjects"])}) for i, line in enumerate(lines))


@cache
def motion_prompts() -> tuple[MotionPrompt, ...]:
    """Returns all prompts of `MOTION_SETS`, in the order of the file."""
    lines = map(json.loads, _MOTION_FILE.read_text(encoding="utf-8").splitlines())
    tuples = ({**line, "subjects": tuple(line["subjects"]), "motions": tuple(line["motions"])} for line in lines)
    return tuple(MotionPrompt(index=i, **line) for i, line in enumerate(tuples))


def prompts_of(name: PromptSet) -> list[Prompt]:
    """Returns the prompts of a set, in the order of its file."""
    everything: tuple[Prompt, ...] = (*alignment_prompts(), *group_prompts(), *motion_prompts())
    return [prompt for prompt in everything if prompt.set == name]


def swapped(prompt: Prompt) -> Prompt:
    """Returns the nearest wrong prompt, of the same words: what a judge that only looks for words cannot tell apart.

    Motions and relations turn round, numbers are off by one, sizes change, and subjects or halves exchange their
    motions. The text is left as it is.
    """
    if isinstance(prompt, AlignmentPrompt):
        return replace(prompt, motion=_exchanged(MOTIONS, _OPPOSITE_MOTIONS, MOTIONS[prompt.motion]))
    if isinstance(prompt, GroupPrompt):
        hows = (*RELATIONS, *COUNTS.values(), *SIZES)
        return replace(prompt, how=hows[_exchanged(hows, _OPPOSITE_ARRANGEMENTS, prompt.how)])
    return replace(prompt, motions=(prompt.motions[1], prompt.motions[0]))


_OPPOSITE_MOTIONS = (
    ("moves left", "moves right"),
    ("moves up", "moves down"),
    ("grows", "shrinks"),
    ("spins", "stays still"),
)
_OPPOSITE_ARRANGEMENTS = ((RELATIONS[0], RELATIONS[1]), (RELATIONS[2], RELATIONS[3]), tuple(COUNTS.values()), SIZES)


def _exchanged(names: Sequence[str], opposites: Iterable[tuple[str, ...]], name: str) -> int:
    """The index of a name's opposite."""
    pair = next(pair for pair in opposites if name in pair)
    return names.index(pair[1 - pair.index(name)])


@cache
def prompts_sha256(sets: tuple[PromptSet, ...] = SCENE_SETS) -> str:
    """Returns the hash of the file that holds `SCENE_SETS`, `GROUP_SETS` or `MOTION_SETS`, for reports."""
    file = {SCENE_SETS: _FILE, GROUP_SETS: _GROUP_FILE, MOTION_SETS: _MOTION_FILE}[sets]
    return hashlib.sha256(file.read_bytes()).hexdigest()
