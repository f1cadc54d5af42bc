"""Tables on pages of the documentation that scripts write themselves, and what they were measured on."""

import argparse
import datetime
import os
import platform
import re
from pathlib import Path

import torch

END = "<!-- end -->"


def write_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--write`, whose value is the `file` of a `Page`."""
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="page of the documentation, whose tables between marks are replaced"
    )


class Page:
    """A page of the documentation, in which a benchmark replaces tables between the marks `<!-- NAME -->` and `END`.

    Make it before anything is measured, so that a mark that is missing is told at once.
    """

    def __init__(self, file: Path | None, *names: str) -> None:
        """Looks for the marks of all tables.

        Args:
            file: The page; None: tables are written nowhere.
            names: Names of the tables that will be written.

        Raises:
            SystemExit: There is no such page, or it lacks marks.
        """
        self.file = file
        if file is None:
            return
        if not file.is_file():
            raise SystemExit(f"{file} is no page: --write takes a file, such as docs/speed.md")
        missing = [name for name in names if self._span(name) is None]
        if missing:
            marks = " and ".join(f"`<!-- {name} -->`" for name in missing)
            below = "it" if len(missing) == 1 else "each"
            raise SystemExit(
                f"{file} has no table to replace: put a line with {marks}, and below {below} a line with `{END}`, "
                "where the table belongs on that page"
            )

    def table(self, name: str) -> str:
        """What stands between the marks of a table; nothing without a page."""
        span = self._span(name)
        return "" if span is None else self._text()[slice(*span)].strip("\n")

    def write(self, name: str, table: str) -> None:
        """Replaces what stands between the marks of a table, if there is a page."""
        if self.file is None:
            return
        span = self._span(name)
        if span is None:
            raise SystemExit(f"{self.file} lost the mark `<!-- {name} -->` while its table was measured")
        text = self._text()
        self.file.write_text(f"{text[: span[0]]}{table}\n{text[span[1] :]}", encoding="utf-8")

    def _text(self) -> str:
        return "" if self.file is None else self.file.read_text(encoding="utf-8")

    def _span(self, name: str) -> tuple[int, int] | None:
        """Where the text between the marks of a table begins and ends, unless they are missing."""
        found = re.search(rf"^<!-- {re.escape(name)} -->\n((?:(?!<!-- ).*\n)*?){END}", self._text(), re.MULTILINE)
        return None if found is None else found.span(1)


def merged(old: str, new: str) -> str:
    """A table with the rows of a new one, and those rows of the old one whose first cell the new one does not have.

    The line below a table says what its rows were measured on. Where rows differ in that, there is one line for each
    measurement, which begins with the first cells of its rows.

    Args:
        old: What stood on the page; what is no table, or has other columns, is left out.
        new: The table that takes precedence, with one line below it.
    """
    head, rows, notes = _parsed(new)
    old_head, old_rows, old_notes = _parsed(old)
    if old_head != head or set(old_rows) <= set(rows):
        return new
    rows, notes = {**old_rows, **rows}, {**old_notes, **notes}
    lines = [*head, *(line for name in rows for line in rows[name])]
    texts = [text for text in dict.fromkeys(notes[name] for name in rows) if text]
    for text in texts:
        names = "; ".join(name for name in rows if notes[name] == text)
        lines += ["", text if len(texts) == 1 else f"{names}: {text}"]
    return "\n".join(lines)


def _parsed(table: str) -> tuple[list[str], dict[str, list[str]], dict[str, str]]:
    """The head of a table, its rows by their first cells, and what stands below it for each of these."""
    lines = table.splitlines()
    barred = [line for line in lines if line.startswith("|")]
    rows: dict[str, list[str]] = {}
    for line in barred[2:]:
        rows.setdefault(line.split("|")[1].strip(), []).append(line)
    notes = dict.fromkeys(rows, "")
    for line in lines:
        if line and not line.startswith("|"):
            before, colon, text = line.partition(": ")
            named = before.split("; ")
            own = bool(colon) and set(named) <= set(rows)
            notes.update(dict.fromkeys(named if own else rows, text if own else line))
    return barred[:2], rows, notes


def counted_on() -> str:
    """The version of torch and the date, for what is counted and not measured."""
    return f"torch {torch.__version__}, {datetime.date.today()}"


def measured_on() -> str:
    """The processor, its load, the version of torch and the date, as a line below a table."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    threads = f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
    return f"{processor()}, {threads}{load}; {counted_on()}"


def times(count: int, what: str = "run") -> str:
    """How often each thing was timed in turn, and what the figures therefore are."""
    return f"one {what} of each, in turn" if count == 1 else f"medians of {count} {what}s in turn"


def processor() -> str:
    """The processor's own name, where it has one."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    wide = ["with AVX-512 BF16"] if getattr(torch.cpu, "_is_avx512_bf16_supported", bool)() else []
    return " ".join([platform.machine(), *names[:1], *wide])
