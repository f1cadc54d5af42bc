"""What of a text a text encoder cannot read: words that its tokenizer does not know, and ends that are cut off."""

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

SHOWN = 8
"""Number of words that a message lists."""


@dataclass(frozen=True, kw_only=True)
class Unread:
    """What of some captions a text encoder cannot read."""

    captions: int
    """Number of captions."""

    with_unknown: int
    """Number of captions with unknown words."""

    unknown: dict[str, int]
    """The unknown words, the most frequent ones first, and how many captions have them."""

    cut: tuple[str, ...]
    """The captions whose end is cut off."""

    max_tokens: int
    """Number of tokens at which they are cut."""

    def sentences(self) -> list[str]:
        """Says it in sentences; none where everything is read."""
        said = []
        if self.unknown:
            words = ", ".join(f"{word} ({count})" for word, count in list(self.unknown.items())[:SHOWN])
            more = f" and {len(self.unknown) - SHOWN} more" if len(self.unknown) > SHOWN else ""
            said.append(
                f"{self.with_unknown} of {self.captions} captions have words that the text encoder does not know: "
                f"{words}{more}"
            )
        if self.cut:
            said.append(
                f"{len(self.cut)} of {self.captions} captions are longer than the {self.max_tokens} tokens that the "
                f"text encoder reads, and are cut off, such as {self.cut[0][:100]!r}"
            )
        return said


def unread(tokenize: Callable[..., Any], unknown: int, captions: Iterable[str], max_tokens: int) -> Unread:
    """Finds what of some captions is not read.

    Args:
        tokenize: A tokenizer of transformers.
        unknown: Its token of what it does not know.
        captions: The captions.
        max_tokens: Number of tokens to which they are cut, special ones included.
    """
    known = functools.cache(lambda word: not unknown_words(tokenize, unknown, word))
    counts: Counter[str] = Counter()
    number, with_unknown, cut = 0, 0, []
    for caption in captions:
        number += 1
        words = [word for word in _words(caption) if not known(word)]
        counts.update(words)
        with_unknown += bool(words)
        if len(tokenize(caption, verbose=False)["input_ids"]) > max_tokens:
            cut.append(caption)
    return Unread(
        captions=number,
        with_unknown=with_unknown,
        unknown=dict(counts.most_common()),
        cut=tuple(cut),
        max_tokens=max_tokens,
    )


def unknown_words(tokenize: Callable[..., Any], unknown: int, text: str) -> list[str]:
    """Lists the words of a text that are not fully in a tokenizer's vocabulary.

    Args:
        tokenize: The tokenizer.
        unknown: Its token of what it does not know.
        text: The text.
    """

    def tokens(text: str) -> list[int]:
        ids: list[int] = tokenize(text, add_special_tokens=False)["input_ids"]
        return ids

    def dropped(word: str) -> bool:
        """Whether the tokenizer leaves out an emoji or another symbol of the word."""
        return any(unicodedata.category(c) == "So" and not tokens(c) for c in word)

    return [word for word in _words(text) if unknown in tokens(word) or dropped(word)]


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"[^\s.,;:!?]+", text)))
