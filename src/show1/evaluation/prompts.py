"""The fixed prompts of the alignment protocol."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

from show1.data.captions import parse_caption
from show1.errors import InputError

PromptSet = Literal["held_out", "seen", "paraphrase"]
"""Pairs that training never shows; combinations that it shows; held-out combinations in other words."""

PROMPT_SETS: tuple[PromptSet, ...] = get_args(PromptSet)

_FILE = files("show1.evaluation") / "assets" / "alignment_prompts.jsonl"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a prompt asks for."""

    subject: int
    """Index into `SUBJECTS`."""

    motion: int
    """Index into `MOTIONS`."""

    background: int
    """Index into `BACKGROUNDS`."""


@dataclass(frozen=True, kw_only=True)
class AlignmentPrompt(Asked):
    """A prompt of the protocol."""

    index: int
    """Line of the prompt file."""

    set: PromptSet
    """Which of the sets it belongs to."""

    prompt: str
    """The text."""


def read_prompt(text: str) -> Asked:
    """What any prompt of the sprite world asks for.

    Raises:
        InputError: It does not name one subject, one motion and one background.
    """
    found = parse_caption(text)
    if found is None or found[1] is None:
        raise InputError(
            f"{text!r} does not name one subject, one motion and one background of the sprite world, such as 'a panda "
            "spins over the snow'"
        )
    return Asked(subject=found[0], motion=found[1], background=found[2])


@cache
def alignment_prompts() -> tuple[AlignmentPrompt, ...]:
    """All prompts, in the order of the file; each set lists every subject equally often."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return tuple(AlignmentPrompt(index=i, **json.loads(line)) for i, line in enumerate(lines))


@cache
def prompts_sha256() -> str:
    """Hash of the prompt file, which every report names."""
    return hashlib.sha256(_FILE.read_bytes()).hexdigest()
