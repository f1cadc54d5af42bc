"""The report of a benchmark, with plots and a contact sheet."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from show1.evaluation.benchmark_protocol import HIGHER_IS_BETTER
from show1.evaluation.report import Report, Table, blocks, number, save_contact_sheet, spread
from show1.files import write_text
from show1.options import counted

ON_SHEET = 8
"""Videos of the contact sheet, evenly spaced."""

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 320, 70, 20, 20, 45
_COLOURS = ("#2563eb", "#16a34a", "#d97706")


def figures_table(figures: Sequence[Mapping[str, Any]]) -> Table:
    """Makes the table of the figures."""
    columns = ("metric", "value", "95 % interval", "at many videos", "generated", "real", "network sha256")
    return Table(columns, [_figure_row(figure) for figure in figures], words=(0, 6))


def _figure_row(figure: Mapping[str, Any]) -> list[str]:
    arrow = "higher is better" if figure["name"] in HIGHER_IS_BETTER else "lower is better"
    interval = f"{number(figure['low'])} to {number(figure['high'])}" if "low" in figure else ""
    if "std" in figure:
        interval = f"deviation {number(figure['std'])} over {figure['splits']} splits"
    return [
        f"{figure['metric']} ({arrow})",
        number(figure["value"]),
        interval,
        number(figure["extrapolation"]["value"]) if "extrapolation" in figure else "",
        str(figure["generated"]),
        "" if figure["real"] is None else str(figure["real"]),
        figure["network_sha256"][:12],
    ]


def published_table(report: Mapping[str, Any]) -> Table | None:
    """Makes the table of this model's figures beside published ones; None where none are known."""
    published = report["published"]
    if not published:
        return None
    names = [figure["name"] for figure in report["figures"] if figure["name"] != "kvd"]
    names = list(dict.fromkeys([*names, *(name for peer in published for name in peer["figures"])]))
    own = {figure["name"]: figure["value"] for figure in reversed(report["figures"])}
    rows = [(f"**{report['model']['name']}** (this run)", own, f"protocol {report['protocol_id']}")]
    rows += [(peer["model"], peer["figures"], peer["source"]) for peer in published]
    cells = [
        [model, *(number(values[name]) if name in values else "" for name in names), source]
        for model, values, source in rows
    ]
    return Table(("model", *names, "source"), cells, words=(0, len(names) + 1))


def folders_markdown(result: Mapping[str, Any]) -> str:
    """Formats what `score_folders` found."""
    used = [_usage(f"{side} video", result[side]) for side in ("real", "generated") if side in result]
    return blocks(figures_table(result["figures"]), *_cautions(result), *used)


def benchmark_report(out: Path, report: Mapping[str, Any], videos: Sequence[tuple[Path, str, int]]) -> Report:
    """Makes the report of a benchmark, and writes the plots and the contact sheet that it shows.

    Args:
        out: Folder of the benchmark.
        report: What `report.json` holds.
        videos: File, prompt and seed of each video.
    """
    pictures = {}
    for figure in report["figures"]:
        if "extrapolation" in figure:
            label, plot = figure["metric"], distance_plot(figure)
            write_text(out / "plots" / f"{label.replace(':', '-')}.svg", plot)
            pictures[f"{label} against the number of videos"] = plot
    shown = spread(videos, ON_SHEET)
    labels = [f"{prompt} (seed {seed})" for _, prompt, seed in shown]
    save_contact_sheet(out / "sheets" / "samples.png", [file for file, _, _ in shown], labels, max_width=1400)
    pictures["Frames of evenly spaced videos"] = "sheets/samples.png"
    title = f"{report['protocol']['name']}: {report['model']['name']}"
    return Report(title=title, parts=_parts(report), pictures=pictures)


def _parts(report: Mapping[str, Any]) -> list[str | Table]:
    protocol, model = report["protocol"], report["model"]
    frozen = f" (changed: the frozen protocol is {report['frozen_id']})" if "frozen_id" in report else ""
    parts: list[str | Table] = [
        f"Protocol {report['protocol_id']}{frozen}, benchmark {report['id']}, prompts {report['items_sha256'][:12]}, "
        f"weights {str(model['sha256'])[:12]}. {counted(report['videos'], 'video')}.",
        *_cautions(report),
    ]
    if report["figures"]:
        parts.append(figures_table(report["figures"]))
    if protocol["layout"] == "vbench":
        parts.append("`vbench/` holds the videos under the names that VBench's own tool reads; it gives the scores.")
    if "references" in report:
        parts.append(_usage("real video", report["references"]))
    if table := published_table(report):
        parts += ["## Beside published figures", table]
        parts.append("Published figures come from other protocols; what each choice here rests on:")
    else:
        parts.append("What each choice of the protocol rests on:")
    sources = "\n".join(f"- {name}: {text}" for name, text in protocol["source"].items())
    return [*parts, sources or "- the protocol does not say"]


def _cautions(report: Mapping[str, Any]) -> list[str]:
    return [f"**Careful:** {note}." for note in report["warnings"]]


def distance_plot(figure: Mapping[str, Any]) -> str:
    """Draws a Fréchet distance against the number of generated videos, as SVG.

    Each draw of the subsets has a colour; a line shows the fit in 1/N, another its limit.
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


def _usage(what: str, count: Mapping[str, Any]) -> str:
    """Says how many videos were used, and lists those that were not."""
    lines = [f"{count['used']} of {counted(count['listed'], what)} {'was' if count['used'] == 1 else 'were'} used."]
    if count["rejected"]:
        lines += ["Left out:\n", *(f"- {r['key']}: {r['reason']}" for r in count["rejected"])]
    return "\n".join(lines)
