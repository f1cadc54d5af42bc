"""Lists in text files, read strictly: CSV, JSON objects in lines, and plain lines.

Nothing is repaired or guessed: a row that cannot be what its writer meant is an error that names the file and the line.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from show1.errors import InputError
from show1.files import check_regular
from show1.limits import MAX_JSON_BYTES
from show1.options import counted

Row = tuple[int, dict[str, Any]]
"""Line on which a row begins, from 1, and its values by column or key."""


@contextmanager
def opened_text(path: Path) -> Iterator[TextIO]:
    """Opens a text file in UTF-8, with or without a byte order mark.

    Raises:
        InputError: The file cannot be read, or is not UTF-8, which may show only while it is read.
    """
    try:
        check_regular(path)
        file = path.open(encoding="utf-8-sig", newline="")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} cannot be read ({reason}); give a text file that you may read") from error
    with file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error


def read_rows(path: Path) -> Iterator[Row]:
    """Reads the rows of a `.csv` or `.jsonl` file; see `csv_rows` and `json_rows`."""
    with opened_text(path) as file:
        lines = iter(lambda: _line(file, path), "")
        yield from (csv_rows if path.suffix.lower() == ".csv" else json_rows)(lines, str(path))


def _line(file: TextIO, path: Path) -> str:
    line = file.readline(MAX_JSON_BYTES)
    if len(line) == MAX_JSON_BYTES:
        raise InputError(f"{path} has a line of {MAX_JSON_BYTES:,} letters or more; write one row per line")
    return line


def text_lines(text: str) -> list[str]:
    """Lists the lines of a text that are not blank, stripped.

    Only line feeds and carriage returns end a line, not the other characters at which `str.splitlines` splits.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.strip() for line in lines if line.strip()]


def csv_rows(lines: Iterable[str], name: str) -> Iterator[Row]:
    """Reads comma-separated values whose first row names the columns.

    Each row is one line: a value of several lines looks like a quote that was never closed and took later rows with it.

    Args:
        lines: The text, line by line, with their ends as they are.
        name: Name of the file for messages.

    Raises:
        InputError: A quote is not closed on its line, a row has more or fewer values than there are columns, or a
            column's name stands twice.
    """
    reader = csv.reader(lines, strict=True, skipinitialspace=True)
    columns: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{name}, line {line} is not CSV ({error}); put a value that holds commas or quotes in double quotes, "
                "write its own quotes twice, and close each quote"
            ) from error
        if values is None:
            return
        if not values:
            continue
        if any(end in value.strip() for value in values for end in "\r\n"):
            raise InputError(
                f"{name}, line {line} has a value of several lines; close its quote on that line, or write the rows as "
                'JSON lines, where "\\n" is a line break'
            )
        if columns is None:
            columns = [value.strip() for value in values]
            if twice := next((column for column in columns if columns.count(column) > 1), None):
                raise InputError(f"{name}, line {line} names the column {twice!r} twice; give each column its own name")
            continue
        if len(values) != len(columns):
            raise InputError(
                f"{name}, line {line} has {counted(len(values), 'value')} for {counted(len(columns), 'column')} "
                f"({', '.join(columns)}); put a value that holds commas in double quotes"
            )
        yield line, dict(zip(columns, values, strict=True))


def json_rows(lines: Iterable[str], name: str) -> Iterator[Row]:
    """Reads JSON objects, one per line; blank lines are left out.

    Args:
        lines: The text, line by line.
        name: Name of the file for messages.

    Raises:
        InputError: A line is not a JSON object, or has a key twice.
    """
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text, object_pairs_hook=without_repeats)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{name}, line {line} is not JSON ({error}); write one object per line, such as "
                '{"file": "a.mp4", "caption": "a dog runs"}'
            ) from error
        if not isinstance(row, dict):
            raise InputError(f"{name}, line {line} must be a JSON object, got {text.strip()[:80]}")
        yield line, row


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes the mapping of a JSON object, for `json.loads(..., object_pairs_hook=without_repeats)`.

    Raises:
        ValueError: A key stands twice.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return values
