"""What `show1 batch` leaves beside the videos: a report for programs, and a page that shows them all."""

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from show1.cli.console import say, say_json, tell
from show1.cli.jobs import Job
from show1.cli.making import Failed
from show1.cli.progress import duration
from show1.cli.session import short
from show1.errors import OutputError, RunError
from show1.files import check_regular, write_json, write_text
from show1.options import shortened

if TYPE_CHECKING:
    from show1.generation.request import GenerationRequest

_PROGRAM = "show1 batch"
_MARKS = (f'"program": "{_PROGRAM}"', f'name="generator" content="{_PROGRAM}"')
"""One stands at the beginning of each file that a batch has written."""
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{program}"><meta name="color-scheme" content="light dark"><title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1rem; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem; }}
figure {{ margin: 0; }} video {{ width: 100%; aspect-ratio: 8 / 5; background: #888; image-rendering: pixelated; }}
.failed {{ border: 1px solid; padding: .5rem; overflow-wrap: anywhere; }}
</style>
<h1>{title}</h1><p>{summary}</p><main>
{cells}
</main></html>
"""


def check_report(jobs: Sequence[Job], *, shard: str | None) -> None:
    """Makes sure, before any work, that `write_report` replaces no file of somebody else.

    Args:
        jobs: The prompts.
        shard: As for `write_report`.

    Raises:
        OutputError: A file of its name is there that no batch has written, and the prompts do not say `overwrite`.
    """
    from show1.media.destination import check_free

    for file in _files(jobs[0], shard):
        if _is_own(file):
            continue
        if os.path.lexists(file) and not jobs[0].output.overwrite:
            raise OutputError(
                f"{file} exists already, and is not by `show1 batch`, which writes a report there: choose another "
                "folder, or replace it (--overwrite)"
            )
        check_free(file, overwrite=True)


def tell_ended(
    job: Job,
    request: "GenerationRequest",
    reason: str | None,
    place: tuple[int, int, float],
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Says that others have made the videos of a prompt, or why not.

    Args:
        job: The prompt.
        request: What was asked for.
        reason: Why it failed; None: it did not.
        place: How many prompts have ended, of how many, and about how many seconds are left.
        quiet: Whether to write the files' names only.
        as_json: Whether to write JSON, an object per prompt.
    """
    done, count, left = place
    if not quiet and not as_json:
        later = f", about {duration(left)} left" if done < count else ""
        tell(f"[{done}/{count}] {shortened(job.prompt, 100)}{later}")
    if reason is not None:
        tell(f"show1: error: {reason}", style="bold red")
    files = job.output.files(len(request.prompts))
    if as_json:
        say_json({"files": files, "prompt": job.prompt, "error": reason}, compact=True)
    elif reason is None:
        for file in files:
            say(short(file))


def write_report(
    work: "Sequence[tuple[Job, GenerationRequest]]", failed: Sequence[Failed], *, shard: str | None, quiet: bool
) -> None:
    """Writes `report.json` and `index.html` into the folder of the videos.

    Args:
        work: The prompts.
        failed: Those that failed.
        shard: Which part of a file of prompts they are, as `--shard` says.
        quiet: Whether to say nothing.
    """
    reasons = {each.job.output.path: each.reason for each in failed}
    rows = [_row(job, request, reasons.get(job.output.path)) for job, request in work]
    report, page = _files(work[0][0], shard)
    folder, made = page.parent, sum(row["error"] is None for row in rows)
    write_json(report, {"program": _PROGRAM, "made": made, "failed": len(rows) - made, "prompts": rows})
    cells = "\n".join(_cell(row, folder) for row in rows)
    title, summary = html.escape(folder.name), f"{made} of {len(rows)} prompts are made."
    write_text(page, _PAGE.format(program=_PROGRAM, title=title, summary=summary, cells=cells))
    if not quiet:
        tell(f"all on one page: {short(str(page))}")


def _files(job: Job, shard: str | None) -> tuple[Path, Path]:
    """The report and the page, beside the video of a prompt."""
    folder, part = Path(job.output.path).parent, "" if shard is None else f"-{shard.replace('/', '-of-')}"
    return folder / f"report{part}.json", folder / f"index{part}.html"


def _is_own(file: Path) -> bool:
    """Whether a batch has written a file."""
    try:
        check_regular(file)
        with file.open("rb") as opened:
            beginning = opened.read(400).decode(errors="replace")
    except (OSError, ValueError):
        return False
    return any(mark in beginning for mark in _MARKS)


def _row(job: Job, request: "GenerationRequest", reason: str | None) -> dict[str, Any]:
    """What the report says of a prompt."""
    from show1.generation.manifest import read_manifest

    try:
        stages = {} if job.run is None else read_manifest(job.run).stages
    except RunError:
        stages = {}
    return {
        "prompt": job.prompt,
        "seeds": list(request.seeds),
        "files": job.output.files(len(request.prompts)),
        "run": None if job.run is None else str(job.run.absolute()),
        "stages": {name: record.seconds for name, record in stages.items()},
        "error": reason,
    }


def _cell(row: dict[str, Any], folder: Path) -> str:
    """A prompt on the page."""
    prompt = html.escape(row["prompt"])
    if row["error"] is not None:
        return f'<div class="failed"><strong>{prompt}</strong><br>{html.escape(row["error"])}</div>'
    cells = []
    for seed, file in zip(row["seeds"], row["files"], strict=True):
        source = html.escape(Path(os.path.relpath(file, folder)).as_posix())
        video = (
            f'<video src="{source}" controls loop muted playsinline preload="metadata" aria-label="{prompt}"></video>'
        )
        cells.append(f"<figure>{video}<figcaption>{prompt}, seed {seed}</figcaption></figure>")
    return "\n".join(cells)
