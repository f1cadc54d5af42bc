"""The alignment report, with contact sheets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from show1.evaluation.report import Report, Table, percent, rounded, save_contact_sheet
from show1.options import counted
from show1.sprites.alignment.group_judge import GROUP_CRITERIA
from show1.sprites.alignment.judge import CRITERIA
from show1.sprites.alignment.motion_judge import MOTION_CRITERIA
from show1.sprites.alignment.summary import Measurement

PER_SHEET = 4
"""Videos per contact sheet."""

_FIGURES = {"sharpness": "sharpness", "flicker": "flicker", "frame_distance": "FD frames", "clip_distance": "FD clips"}


def tables(rows: Sequence[dict[str, Any]]) -> list[Table]:
    """Makes a table of the rows of a report for each kind of criteria.

    Shares are in percent with 95 % intervals; a figure that no row of a table has is left out.
    """
    families = (CRITERIA, GROUP_CRITERIA, MOTION_CRITERIA)
    kinds = [(criteria, [r for r in rows if set(criteria) <= set(r)]) for criteria in families]
    return [_table(criteria, own) for criteria, own in kinds if own]


def _table(criteria: tuple[str, ...], rows: Sequence[dict[str, Any]]) -> Table:
    figures = [key for key in _FIGURES if any(row[key] is not None for row in rows)]
    columns = ["videos", "n", *criteria, *(_FIGURES[key] for key in figures)]
    cells = [
        [
            row["name"],
            str(row[criteria[0]]["count"]),
            *(percent(row[criterion]) for criterion in criteria),
            *(rounded(row[key]) for key in figures),
        ]
        for row in rows
    ]
    return Table(columns, cells)


def alignment_report(
    out: Path,
    report: Mapping[str, Any],
    stages: Mapping[str, Sequence[Measurement]],
    folders: Sequence[Path],
    seeds: Sequence[int],
    changed: Sequence[str] = (),
) -> Report:
    """Makes the report of an alignment evaluation, and writes the contact sheets that it shows.

    Args:
        out: Folder of the evaluation.
        report: What `report.json` holds.
        stages: What was measured on each video, after each stage.
        folders: Folder of each video.
        seeds: Seed of each video.
        changed: Settings that are not the model's own, such as "keyframes.guidance_scale=5".
    """
    pictures = {}
    for stage, measured in stages.items():
        for name, picked in _picks(measured).items():
            pictures[f"{stage}: {name}"] = file = f"sheets/{stage}-{name}.png"
            videos = [folders[i] / f"{stage}.mkv" for i in picked]
            labels = [_label(measured[i], seeds[i]) for i in picked]
            save_contact_sheet(out / file, videos, labels, max_width=1400)
    model = report["model"]
    parts: list[str | Table] = [
        f"Protocol {report['protocol']}, evaluation {report['id']}; prompts {_short(report['prompts_sha256'])}, "
        f"reader {_short(report['reader_sha256'])}, weights {str(model['sha256'])[:12]}. "
        f"{counted(report['videos'], 'video')}{' with ' + ', '.join(changed) if changed else ''}.",
        "Shares in percent, with 95 % intervals. FD: Fréchet distance to ground truth in the reader's features; "
        "comparable only at equal numbers of videos.",
        *tables(report["rows"]),
        "What the scores give where the answer is known:",
        *tables(report["validation"]),
    ]
    return Report(title=f"Text alignment of {model['name']}", parts=parts, pictures=pictures)


def _picks(measured: Sequence[Measurement]) -> dict[str, list[int]]:
    """The best, the median and the worst videos, by their positions."""
    order = sorted(range(len(measured)), key=lambda i: _worth(measured[i]), reverse=True)
    middle = max((len(order) - PER_SHEET) // 2, 0)
    return {"best": order[:PER_SHEET], "median": order[middle : middle + PER_SHEET], "worst": order[-PER_SHEET:]}


def _worth(measured: Measurement) -> tuple[float, ...]:
    """Orders videos: by what is right, then by how near their sharpness is to that of ground truth."""
    verdicts = measured.score.verdicts(measured.prompt)
    return (verdicts["all three"], sum(verdicts.values()), -abs((measured.score.sharpness or 0.0) - 1))


def _label(measured: Measurement, seed: int) -> str:
    right = measured.score.verdicts(measured.prompt)
    verdict = "all right" if right["all three"] else f"read as: {measured.score.describe()}"
    return f"{measured.prompt.prompt} (seed {seed}) - {verdict}{'' if right['stable'] else ', not stable'}"


def _short(hashes: Sequence[str]) -> str:
    return " and ".join(each[:12] for each in hashes)
