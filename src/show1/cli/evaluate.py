"""`show1 evaluate`: measures a model."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from show1.cli.console import say, say_json, tell
from show1.cli.generate import Memory
from show1.cli.session import load_pipeline
from show1.cli.settings import parse_model
from show1.config import StageName

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Measure a model.")


@app.callback()
def group() -> None:
    """Measure a model."""


@app.command()
def alignment(
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="mini, a folder, or STAGE=WHERE,STAGE=WHERE.")
    ] = "mini",
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the evaluation; one that was begun goes on.")
    ] = Path("evaluations/alignment"),
    sets: Annotated[
        str, typer.Option(metavar="SET,SET", help="Prompt sets: held_out, seen, paraphrase.")
    ] = "held_out,seen,paraphrase",
    videos: Annotated[int, typer.Option(metavar="N", min=1, help="Videos of each set, two seeds a prompt.")] = 256,
    until: Annotated[StageName | None, typer.Option(metavar="STAGE", help="Last stage to run and judge.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first look: keyframes alone, of 8 held-out prompts.")
    ] = False,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Videos generated together.")] = 4,
    memory: Annotated[Memory, typer.Option(help="low holds one network at a time, high keeps all.")] = "auto",
    device: Annotated[str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1 or mps.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only the table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON on stdout.")] = False,
) -> None:
    """How often videos show the subject, background and motion of their prompt, in the sprite world.

    Writes report.json, report.md and a page with contact sheets, index.html. An evaluation that was stopped goes on
    when its folder is named again.

    Examples:

    \b
      show1 evaluate alignment --quick --out evaluations/quick
      show1 evaluate alignment --model mini --sets held_out --out evaluations/mini
    """
    from show1.errors import InputError
    from show1.evaluation.alignment_report import markdown
    from show1.evaluation.alignment_run import AlignmentPlan, evaluate_alignment
    from show1.evaluation.prompts import PROMPT_SETS

    names = [name.strip() for name in sets.split(",") if name.strip()]
    if wrong := [name for name in names if name not in PROMPT_SETS]:
        raise InputError(f"--sets: there is no set {wrong[0]!r}; the sets are {', '.join(PROMPT_SETS)}")
    chosen = tuple(s for s in PROMPT_SETS if s in names)
    plan = AlignmentPlan(sets=chosen, videos=videos, until=until, batch_size=batch_size)
    if quick:
        plan = replace(plan, sets=("held_out",), videos=min(videos, 8), until=until or "keyframes")
    pipe = load_pipeline(parse_model(model), quiet=quiet or as_json, memory=memory, device=device)

    def show(done: int, total: int) -> None:
        if not (quiet or as_json):
            tell(f"{done}/{total} videos")

    report = evaluate_alignment(pipe, out, plan, on_video=show)
    if as_json:
        say_json(report)
        return
    say(markdown(report))
    if not quiet:
        tell(f"report and contact sheets: {out / 'index.html'}")
