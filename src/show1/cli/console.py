"""What the command line writes: results on stdout; progress, warnings and errors on stderr."""

import json
import logging
import os
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

ERR = Console(stderr=True, highlight=False, soft_wrap=True)
"""The console for progress, warnings and errors."""

_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories of control, format and surrogate characters, and of line and paragraph separators."""
_JOINERS = "\u200c\u200d"
"""Format characters that belong to ordinary words and emoji."""

_QUIET_LIBRARIES = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


def debugging() -> bool:
    """Whether `SHOW1_DEBUG` asks for tracebacks and for everything that is logged."""
    return os.environ.get("SHOW1_DEBUG", "0") not in ("", "0")


def say(text: str) -> None:
    """Writes a result to stdout, where nothing else goes, so that it can be piped."""
    sys.stdout.write(f"{printable(text)}\n")


def say_fact(name: str, value: object) -> None:
    """Writes a name and a value to stdout, on one line whatever the value holds."""
    say(_fact(name, value))


def tell_fact(name: str, value: object) -> None:
    """Writes a name and a value to stderr, as `say_fact` does to stdout."""
    tell(_fact(name, value))


def tell(text: str, *, style: str | None = None) -> None:
    """Writes a line for people to stderr."""
    ERR.print(printable(text), markup=False, emoji=False, style=style)


def _fact(name: str, value: object) -> str:
    return f"{name:10} {printable(str(value), keep='')}"


def printable(text: str, *, keep: str = "\n\t") -> str:
    """A text without what a terminal obeys rather than shows: escape codes, changes of direction, broken characters.

    Each becomes `\\u001b`, as JSON writes it. Texts of files by others are full of surprises.

    Args:
        text: Any text.
        keep: Control characters that stay.
    """
    return "".join(
        c if c in keep or unicodedata.category(c) not in _OBEYED or c in _JOINERS else _escaped(c) for c in text
    )


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}" if character <= "\uffff" else json.dumps(character)[1:-1]


def say_json(value: Any, *, compact: bool = False) -> None:
    """Writes JSON to stdout, on one line if compact."""
    say(json.dumps(value, indent=None if compact else 2, ensure_ascii=False))


@contextmanager
def own_messages_only() -> Iterator[None]:
    """Shows the warnings of show1 on stderr and hides the noise of other packages, unless `SHOW1_DEBUG` is set."""
    logger, root = logging.getLogger("show1"), logging.getLogger()
    handler, silent = _ConsoleHandler(), logging.NullHandler()
    handler.setLevel(logging.DEBUG if debugging() else logging.WARNING)
    level = logger.level
    logger.addHandler(handler)
    root.addHandler(silent)  # without any handler, Python prints the warnings of every logger
    try:
        with warnings.catch_warnings():
            if debugging():
                logger.setLevel(logging.DEBUG)
            else:
                warnings.simplefilter("ignore")
                for name, value in _QUIET_LIBRARIES.items():
                    os.environ.setdefault(name, value)
            yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        root.removeHandler(silent)


class _ConsoleHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        styles = {"WARNING": "yellow", "ERROR": "red"}
        tell(f"{record.levelname.lower()}: {record.getMessage()}", style=styles.get(record.levelname))
