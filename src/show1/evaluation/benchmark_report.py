"""The report of a benchmark as Markdown and as a page with plots and a contact sheet."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from show1.evaluation.metrics import HIGHER_IS_BETTER
from show1.files import write_text
from show1.media import contact_sheet, save_sheet
from show1.video import Video

ON_SHEET = 8
"""Videos of the contact sheet, evenly spaced."""

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 320, 70, 20, 20, 45
_COLOURS = ("#2563eb", "#16a34a", "#d97706")
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1440px;padding:0 1rem;color:#18181b}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}td,th{padding:.3em .7em;text-align:left;"
    "border-bottom:1px solid #d4d4d8}img,svg{max-width:100%;border-radius:4px}"
    ".warning{background:#fef3c7;padding:.5em 1em}"
)


def figures_table(figures: Sequence[Mapping[str, Any]]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| metric | value | 95 % interval | at many videos | generated | real | network sha256 |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for figure in figures:
        arrow = "higher is better" if figure["name"] in HIGHER_IS_BETTER else "lower is better"
        interval = f"{number(figure['low'])} to {number(figure['high'])}" if "low" in figure else ""
        if "std" in figure:
            interval = f"deviation {number(figure['std'])} over {figure['splits']} splits"
        limit = number(figure["extrapolation"]["value"]) if "extrapolation" in figure else ""
        real = "" if figure["real"] is None else str(figure["real"])
        cells = [
            f"{figure['metric']} ({arrow})",
            number(figure["value"]),
            interval,
            limit,
            str(figure["generated"]),
            real,
        ]
        lines.append(f"| {' | '.join([*cells, figure['network_sha256'][:12]])} |")
    return "\n".join(lines)


def published_table(report: Mapping[str, Any]) -> str:
    """This model's figures beside published ones; empty where none are known."""
    published = report["published"]
    names = list(dict.fromkeys(figure["name"] for figure in report["figures"] if figure["name"] != "kvd"))
    names += [name for peer in published for name in peer["figures"] if name not in names]
    names = list(dict.fromkeys(names))
    if not published:
        return ""
    own = {figure["name"]: figure["value"] for figure in reversed(report["figures"])}
    rows = [(f"**{report['model']['name']}** (this run)", own, f"protocol {report['protocol_id']}")]
    rows += [(peer["model"], peer["figures"], peer["source"]) for peer in published]
    lines = [f"| model | {' | '.join(names)} | source |", f"|---|{'---:|' * len(names)}---|"]
    for model, values, source in rows:
        cells = [number(values[name]) if name in values else "" for name in names]
        lines.append(f"| {model} | {' | '.join(cells)} | {source} |")
    return "\n".join(lines)


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report of a benchmark."""
    protocol, model = report["protocol"], report["model"]
    frozen = f" (changed: the frozen protocol is {report['frozen_id']})" if "frozen_id" in report else ""
    parts = [
        f"# {protocol['name']}: {model['name']}",
        f"Protocol {report['protocol_id']}{frozen}, benchmark {report['id']}, prompts {report['items_sha256'][:12]}, "
        f"weights {str(model['sha256'])[:12]}. {report['videos']} videos.",
        *(f"**Careful:** {note}." for note in report["warnings"]),
    ]
    if report["figures"]:
        parts.append(figures_table(report["figures"]))
    if protocol["layout"] == "vbench":
        parts.append("`vbench/` holds the videos under the names that VBench's own tool reads; it gives the scores.")
    if "references" in report:
        parts.append(_told("real videos", report["references"]))
    if table := published_table(report):
        parts += ["## Beside published figures", table]
        parts.append("Published figures come from other protocols; what each choice here rests on:")
    else:
        parts.append("What each choice of the protocol rests on:")
    parts.append("\n".join(f"- {name}: {text}" for name, text in protocol["source"].items()) or "- nothing is told")
    return "\n\n".join(parts) + "\n"


def folders_markdown(result: Mapping[str, Any]) -> str:
    """What `score_folders` found."""
    parts = [figures_table(result["figures"]), *(f"**Careful:** {note}." for note in result["warnings"])]
    parts += [_told(f"{side} videos", result[side]) for side in ("real", "generated") if side in result]
    return "\n\n".join(parts)


def write_report(out: Path, report: Mapping[str, Any], videos: Sequence[tuple[Path, str, int]]) -> None:
    """Writes `report.md`, the plots, the contact sheet, and `index.html`.

    Args:
        out: Folder of the benchmark.
        report: What `report.json` holds.
        videos: File, prompt and seed of each video.
    """
    text = markdown(report)
    write_text(out / "report.md", text)
    plots = [(f["metric"], distance_plot(f)) for f in report["figures"] if "extrapolation" in f]
    for label, plot in plots:
        write_text(out / "plots" / f"{label.replace(':', '-')}.svg", plot)
    picked = np.unique(np.linspace(0, len(videos) - 1, min(ON_SHEET, len(videos))).round().astype(int))
    shown = [videos[i] for i in picked]
    labels = [f"{prompt} (seed {seed})" for _, prompt, seed in shown]
    (out / "sheets").mkdir(exist_ok=True)
    sheet = contact_sheet([Video.load(file) for file, _, _ in shown], labels=labels, max_width=1400)
    save_sheet(sheet, out / "sheets" / "samples.png", overwrite=True)
    write_text(out / "index.html", _page(report, plots))


def distance_plot(figure: Mapping[str, Any]) -> str:
    """A Fréchet distance against the number of generated videos, as SVG.

    A colour for each draw of the subsets, the fitted line in 1/N, and its limit.
    """
    line = figure["extrapolation"]
    sizes, curves, limit = line["sizes"], line["distances"], line["value"]
    values = [distance for curve in curves for distance in curve]
    low, high = min([*values, limit]), max([*values, limit])
    room = (high - low or abs(high) or 1.0) * 0.08
    low, high = low - room, high + room

    def x(size: float) -> float:
        return float(_LEFT + (_WIDTH - _LEFT - _RIGHT) * size / max(sizes))

    def y(value: float) -> float:
        return float(_TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low))

    fitted = " ".join(f"{x(n):.1f},{y(limit + line['slope'] / n):.1f}" for n in np.linspace(min(sizes), max(sizes), 60))
    dots = "".join(
        f'<circle cx="{x(n):.1f}" cy="{y(d):.1f}" r="3" fill="{colour}"/>'
        for curve, colour in zip(curves, _COLOURS, strict=False)
        for n, d in zip(sizes, curve, strict=True)
    )
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    marks = "".join(
        f'<text x="{x(n):.1f}" y="{bottom + 18}" text-anchor="middle">{n}</text>' for n in (sizes[0], sizes[-1])
    ) + "".join(
        f'<text x="{_LEFT - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{number(v)}</text>'
        for v in (curves[0][0], curves[0][-1])
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'font-family="system-ui,sans-serif" font-size="12"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#a1a1aa"/>'
        f'<path d="M{_LEFT} {y(limit):.1f}H{right}" stroke="#dc2626" stroke-dasharray="6 4"/>'
        f'<text x="{right}" y="{y(limit) - 6:.1f}" text-anchor="end" fill="#dc2626">at many videos: {number(limit)}'
        "</text>"
        f'<polyline points="{fitted}" fill="none" stroke="#93c5fd" stroke-width="1.5"/>{dots}{marks}'
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">generated videos</text>'
        f'<text x="{_LEFT + 8}" y="{_TOP + 4}">{html.escape(figure["metric"])}</text></svg>\n'
    )


def number(value: float) -> str:
    """With about four digits."""
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _told(what: str, counted: Mapping[str, Any]) -> str:
    """How many were used, and each that was not."""
    lines = [f"{counted['used']} of {counted['listed']} {what} were used."]
    if counted["rejected"]:
        lines += ["Left out:\n", *(f"- {r['key']}: {r['reason']}" for r in counted["rejected"])]
    return "\n".join(lines)


def _page(report: Mapping[str, Any], plots: Sequence[tuple[str, str]]) -> str:
    title = html.escape(f"{report['protocol']['name']}: {report['model']['name']}")
    tables = [_html_table(figures_table(report["figures"]))] if report["figures"] else []
    if table := published_table(report):
        tables += ["<h2>Beside published figures</h2>", _html_table(table.replace("**", ""))]
    notes = "".join(f'<p class="warning">{html.escape(note)}</p>' for note in report["warnings"])
    drawn = "".join(f"<h2>{html.escape(label)} against the number of videos</h2>{plot}" for label, plot in plots)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1><p>Protocol {report['protocol_id']}, benchmark "
        f"{report['id']}, {report['videos']} videos. <a href='report.json'>All details</a></p>{notes}"
        f"{''.join(tables)}{drawn}"
        '<h2>Samples</h2><img src="sheets/samples.png" alt="Frames of evenly spaced videos" loading="lazy"></html>\n'
    )


def _html_table(text: str) -> str:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in lines[0])
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>" for line in lines[2:])
    return f"<table><tr>{head}</tr>{body}</table>"
