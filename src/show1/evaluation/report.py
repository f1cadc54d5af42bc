"""Reports of evaluations: tables, and pages that show them beside pictures."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from show1.files import write_text
from show1.media import contact_sheet, save_sheet
from show1.video import Video

ItemT = TypeVar("ItemT")

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1440px;padding:0 1rem;color:#18181b}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}td,th{padding:.3em .7em;text-align:left;"
    "border-bottom:1px solid #d4d4d8}.number{text-align:right;white-space:nowrap}img,svg{max-width:100%;"
    "border-radius:4px}p{white-space:pre-wrap}.warning{background:#fef3c7;padding:.5em 1em}"
)


@dataclass(frozen=True)
class Table:
    """A table of text; cells may hold `*emphasis*` and `**strong emphasis**` as a whole."""

    columns: Sequence[str]
    """Names of the columns."""

    rows: Sequence[Sequence[str]]
    """Cells of each row."""

    words: int | Sequence[int] = 1
    """Which columns hold words, not numbers: their positions, or how many at the left."""

    def markdown(self) -> str:
        """Formats the table as Markdown."""
        marks = ["---" if self._holds_words(i) else "---:" for i in range(len(self.columns))]
        lines = [f"| {' | '.join(self.columns)} |", f"|{'|'.join(marks)}|"]
        return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in self.rows)])

    def html(self) -> str:
        """Formats the table as HTML."""
        head = self._html_row("th", self.columns)
        return f"<table>{head}{''.join(self._html_row('td', row) for row in self.rows)}</table>"

    def _holds_words(self, column: int) -> bool:
        return column < self.words if isinstance(self.words, int) else column in self.words

    def _html_row(self, tag: str, cells: Sequence[str]) -> str:
        row = ""
        for column, cell in enumerate(cells):
            style = "" if self._holds_words(column) else ' class="number"'
            row += f"<{tag}{style}>{html.escape(cell.strip('*'))}</{tag}>"
        return f"<tr>{row}</tr>"


@dataclass(frozen=True, kw_only=True)
class Report:
    """The readable report of an evaluation: `report.md`, and `index.html`, which also shows pictures."""

    title: str
    """Title, as plain text."""

    parts: Sequence[str | Table]
    """Tables, and blocks of Markdown: headings that begin with `## `, warnings with `**Careful:**`, and plain text."""

    pictures: Mapping[str, str] = field(default_factory=dict)
    """By their titles: the file of each, from the page's folder, or its SVG."""

    @property
    def markdown(self) -> str:
        """The whole report as Markdown."""
        return blocks(f"# {self.title}", *self.parts) + "\n"

    @property
    def page(self) -> str:
        """The same as an HTML page, with the pictures."""
        title = html.escape(self.title)
        body = [part.html() if isinstance(part, Table) else _html_block(part) for part in self.parts]
        for name, image in self.pictures.items():
            text = html.escape(name)
            shown = (
                image if image.startswith("<svg") else f'<img src="{html.escape(image)}" alt="{text}" loading="lazy">'
            )
            body.append(f"<h2>{text}</h2>{shown}")
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>{''.join(body)}"
            '<p><a href="report.json">All details</a></p></html>\n'
        )

    def save(self, folder: Path) -> None:
        """Writes the report's files into a folder."""
        write_text(folder / "report.md", self.markdown)
        write_text(folder / "index.html", self.page)


def blocks(*parts: str | Table) -> str:
    """Joins blocks of Markdown and tables to a text."""
    return "\n\n".join(part.markdown() if isinstance(part, Table) else part for part in parts)


def _html_block(text: str) -> str:
    """A heading, a warning or plain text; of further marks, those of code and of strong emphasis are left out."""
    if text.startswith("## "):
        return f"<h2>{html.escape(text[3:])}</h2>"
    style = ' class="warning"' if text.startswith("**Careful:**") else ""
    return f"<p{style}>{html.escape(re.sub(r'```(json)?|[*]{2}', '', text))}</p>"


def number(value: float) -> str:
    """Formats a figure with about four digits."""
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def rounded(value: float | None) -> str:
    """Formats a figure with two decimals; nothing for None."""
    return "" if value is None else f"{value:.2f}"


def percent(share: Mapping[str, Any]) -> str:
    """Formats what `Share.to_dict` gives in percent, with its 95 % interval: "95.3 (91 to 98)"."""
    low, high = share["interval"]
    return f"{100 * share['share']:.1f} ({100 * low:.0f} to {100 * high:.0f})"


def spread(items: Sequence[ItemT], count: int) -> list[ItemT]:
    """Picks some items, evenly spaced; all of them where there are no more."""
    picked = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[i] for i in picked]


def save_contact_sheet(file: Path, videos: Sequence[Path], labels: Sequence[str], **options: int) -> None:
    """Draws frames of some videos with their labels into a PNG file.

    Args:
        file: The picture.
        videos: Files of the videos.
        labels: One text per video.
        options: `columns` and `max_width` of `show1.media.contact_sheet`.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet = contact_sheet([Video.load(video).frames for video in videos], labels=labels, **options)
    save_sheet(sheet, file, overwrite=True)
