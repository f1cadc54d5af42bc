"""The fixed prompts of the alignment protocol."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

PromptSet = Literal["held_out", "seen", "paraphrase"]
"""Pairs that training never shows; combinations that it shows; held-out combinations in other words."""

PROMPT_SETS: tuple[PromptSet, ...] = get_args(PromptSet)

_FILE = files("show1.evaluation") / "assets" / "alignment_prompts.jsonl"


@dataclass(frozen=True, kw_only=True)
class AlignmentPrompt:
    """A prompt and what it asks for."""

    index: int
    """Line of the prompt file."""

    set: PromptSet
    """Which of the sets it belongs to."""

    prompt: str
    """The text."""

    subject: int
    """Index into `SUBJECTS`."""

    motion: int
    """Index into `MOTIONS`."""

    background: int
    """Index into `BACKGROUNDS`."""


@cache
def alignment_prompts() -> tuple[AlignmentPrompt, ...]:
    """All prompts, in the order of the file; each set lists every subject equally often."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return tuple(AlignmentPrompt(index=i, **json.loads(line)) for i, line in enumerate(lines))


@cache
def prompts_sha256() -> str:
    """Hash of the prompt file, which every report names."""
    return hashlib.sha256(_FILE.read_bytes()).hexdigest()
