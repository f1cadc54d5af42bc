"""The alignment report as Markdown and as a page with contact sheets."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from show1.config import StageName
from show1.files import write_text
from show1.media import contact_sheet, save_sheet
from show1.sprites.alignment.group_judge import GROUP_CRITERIA
from show1.sprites.alignment.judge import CRITERIA, Measured
from show1.sprites.alignment.prompts import Prompt
from show1.video import Video

PER_SHEET = 4
"""Videos of a contact sheet."""


_FIGURES = {"sharpness": "sharpness", "flicker": "flicker", "frame_distance": "FD frames", "clip_distance": "FD clips"}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of a report as Markdown: shares in percent with 95 % intervals, then figures. One table for each kind of
    criteria; figures that no row of it has are left out."""
    kinds = [(criteria, [r for r in rows if set(criteria) <= set(r)]) for criteria in (CRITERIA, GROUP_CRITERIA)]
    return "\n\n".join(_table(criteria, own) for criteria, own in kinds if own)


def _table(criteria: tuple[str, ...], rows: Sequence[dict[str, Any]]) -> str:
    figures = [key for key in _FIGURES if any(row[key] is not None for row in rows)]
    columns = ["videos", "n", *criteria, *(_FIGURES[key] for key in figures)]
    lines = [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    for row in rows:
        cells = [row["name"], str(row[criteria[0]]["count"])]
        for criterion in criteria:
            low, high = row[criterion]["interval"]
            cells.append(f"{100 * row[criterion]['share']:.1f} ({100 * low:.0f} to {100 * high:.0f})")
        cells += ["" if row[key] is None else f"{row[key]:.2f}" for key in figures]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _short(hashes: Sequence[str]) -> str:
    return " and ".join(each[:12] for each in hashes)


def markdown(report: dict[str, Any]) -> str:
    """The whole report."""
    model = report["model"]
    return (
        f"# Text alignment of {model['name']}\n\n"
        f"Protocol {report['protocol']}, evaluation {report['id']}; prompts {_short(report['prompts_sha256'])}, "
        f"reader {_short(report['reader_sha256'])}, weights {str(model['sha256'])[:12]}. {report['videos']} videos.\n\n"
        "Shares in percent, with 95 % intervals. FD: Fréchet distance to ground truth in the reader's features; "
        "comparable only at equal numbers of videos.\n\n"
        f"{table(report['rows'])}\n\n"
        "What the scores give where the answer is known:\n\n"
        f"{table(report['validation'])}\n"
    )


def write_report(
    out: Path,
    report: dict[str, Any],
    stages: Sequence[tuple[StageName, Sequence[Measured]]],
    items: Sequence[tuple[Prompt, int]],
) -> None:
    """Writes `report.md`, the contact sheets, and `index.html`."""
    write_text(out / "report.md", markdown(report))
    (out / "sheets").mkdir(exist_ok=True)
    pictures = []
    for stage, measured in stages:
        order = sorted(range(len(measured)), key=lambda i: _worth(measured[i]), reverse=True)
        middle = max((len(order) - PER_SHEET) // 2, 0)
        parts = {"best": order[:PER_SHEET], "median": order[middle : middle + PER_SHEET], "worst": order[-PER_SHEET:]}
        for name, picked in parts.items():
            file = f"sheets/{stage}-{name}.png"
            videos = [Video.load(_video_file(out, *items[i], stage)) for i in picked]
            sheet = contact_sheet(videos, labels=[_label(measured[i], items[i][1]) for i in picked], max_width=1400)
            save_sheet(sheet, out / file, overwrite=True)
            pictures.append((f"{stage}: {name}", file))
    write_text(out / "index.html", _page(report, pictures))


def _video_file(out: Path, prompt: Prompt, seed: int, stage: StageName) -> Path:
    return out / "videos" / f"{prompt.set}-{prompt.index:03d}-s{seed}" / f"{stage}.mkv"


def _worth(measured: Measured) -> tuple[float, ...]:
    """Orders videos from best to worst: what is right, then how sharp it is."""
    asked, score, _ = measured
    judged = score.judged(asked)
    return (judged["all three"], sum(judged.values()), -abs((score.sharpness or 0.0) - 1))


def _label(measured: Measured, seed: int) -> str:
    asked, score, _ = measured
    right = score.judged(asked)
    verdict = "all right" if right["all three"] else f"read as: {score.read_as()}"
    return f"{asked.prompt} (seed {seed}) - {verdict}{'' if right['stable'] else ', not stable'}"


def _page(report: dict[str, Any], pictures: Sequence[tuple[str, str]]) -> str:
    def rows(listed: Sequence[dict[str, Any]]) -> str:
        return "".join(map(_html_table, table(listed).split("\n\n")))

    title = f"Text alignment of {html.escape(str(report['model']['name']))}"
    images = "".join(
        f'<h2>{html.escape(name)}</h2><img src="{html.escape(file)}" alt="{html.escape(name)}" loading="lazy">'
        for name, file in pictures
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1440px;"
        "padding:0 1rem;color:#18181b}table{border-collapse:collapse;display:block;overflow-x:auto}td,th{padding:.3em "
        ".7em;border-bottom:1px solid #d4d4d8;text-align:right;white-space:nowrap}td:first-child,th:first-child"
        "{text-align:left}img{max-width:100%;border-radius:4px}</style>"
        f"<h1>{title}</h1><p>Evaluation {report['id']}, {report['videos']} videos.</p>{rows(report['rows'])}"
        f"<h2>Where the answer is known</h2>{rows(report['validation'])}{images}</html>\n"
    )


def _html_table(markdown: str) -> str:
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in markdown.splitlines()]
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in lines[0])
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in line)}</tr>" for line in lines[2:])
    return f"<table><tr>{head}</tr>{body}</table>"
