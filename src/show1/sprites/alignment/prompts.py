"""The fixed prompts of the alignment protocol."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from show1.errors import InputError
from show1.sprites.captions import parse_caption, read_caption
from show1.sprites.world import ASSETS

SceneSet = Literal["held_out", "seen", "paraphrase"]
"""Pairs that training never shows; combinations that it shows; held-out combinations in other words."""

GroupSet = Literal["relations", "relations_held_out", "counts", "counts_held_out", "sizes", "sizes_held_out"]
"""Two subjects and their relation; several of a kind; small and big ones. Training never shows the pairs of the sets
that end in `_held_out`."""

PromptSet = SceneSet | GroupSet

SCENE_SETS: tuple[SceneSet, ...] = get_args(SceneSet)
GROUP_SETS: tuple[GroupSet, ...] = get_args(GroupSet)
PROMPT_SETS: tuple[PromptSet, ...] = (*SCENE_SETS, *GROUP_SETS)

_FILE = ASSETS / "alignment_prompts.jsonl"
_GROUP_FILE = ASSETS / "group_prompts.jsonl"


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
class AlignmentPrompt(PromptFacts):
    """A prompt of the protocol."""

    index: int
    """Line of the prompt file, from 0."""

    set: SceneSet
    """The set that it belongs to."""

    prompt: str
    """The text."""


@dataclass(frozen=True, kw_only=True)
class GroupPrompt:
    """A prompt of the protocol for scenes of `show1.sprites.groups`."""

    index: int
    """Line of the prompt file, from 0."""

    set: GroupSet
    """The set that it belongs to."""

    prompt: str
    """The text."""

    subjects: tuple[int, ...]
    """Indices into `SUBJECTS`: two for a relation, one otherwise."""

    how: str
    """One of `ARRANGEMENTS`."""

    motion: int
    """Index into `MOTIONS`."""

    background: int
    """Index into `BACKGROUNDS`."""


Prompt = AlignmentPrompt | GroupPrompt


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


def prompts_of(name: PromptSet) -> list[Prompt]:
    """Returns the prompts of a set, in the order of its file."""
    everything: tuple[Prompt, ...] = (*alignment_prompts(), *group_prompts())
    return [prompt for prompt in everything if prompt.set == name]


@cache
def prompts_sha256() -> str:
    """Returns the hash of the file of `alignment_prompts`, which every report names."""
    return hashlib.sha256(_FILE.read_bytes()).hexdigest()


@cache
def group_prompts_sha256() -> str:
    """Returns the hash of the file of `group_prompts`."""
    return hashlib.sha256(_GROUP_FILE.read_bytes()).hexdigest()
