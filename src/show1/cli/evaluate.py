"""`show1 evaluate`: measures a model."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from show1.cli.console import say, say_json, tell
from show1.cli.generate import Memory
from show1.cli.session import load_pipeline
from show1.cli.settings import parse_model
from show1.config import StageName

if TYPE_CHECKING:
    from show1.evaluation.metrics import FeatureOptions

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
        str,
        typer.Option(
            metavar="SET,SET",
            help="Prompt sets: held_out, seen, paraphrase; relations, counts, sizes, and each of these with _held_out.",
        ),
    ] = "held_out,seen,paraphrase",
    videos: Annotated[int, typer.Option(metavar="N", min=1, help="Videos of each set, two seeds a prompt.")] = 256,
    until: Annotated[StageName | None, typer.Option(metavar="STAGE", help="Last stage to run and judge.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first look: keyframes alone, of 8 held-out prompts.")
    ] = False,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Videos generated together.")] = 4,
    memory: Annotated[Memory, typer.Option(help="low holds one network at a time, high keeps all.")] = "auto",
    device: Annotated[str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Precision. By default float32 on CPUs; bfloat16 is faster on those that compute in it."),
    ] = None,
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
    from show1.sprites.alignment.prompts import PROMPT_SETS
    from show1.sprites.alignment.report import markdown
    from show1.sprites.alignment.run import AlignmentPlan, evaluate_alignment

    names = [name.strip() for name in sets.split(",") if name.strip()]
    if wrong := [name for name in names if name not in PROMPT_SETS]:
        raise InputError(f"--sets: there is no set {wrong[0]!r}; the sets are {', '.join(PROMPT_SETS)}")
    chosen = tuple(s for s in PROMPT_SETS if s in names)
    plan = AlignmentPlan(sets=chosen, videos=videos, until=until, batch_size=batch_size)
    if quick:
        plan = replace(plan, sets=("held_out",), videos=min(videos, 8), until=until or "keyframes")
    import torch

    precision = None if dtype is None else getattr(torch, dtype)
    pipe = load_pipeline(parse_model(model), quiet=quiet or as_json, memory=memory, device=device, dtype=precision)

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


@app.command()
def protocols(
    as_json: Annotated[bool, typer.Option("--json", help="Every field as JSON on stdout.")] = False,
) -> None:
    """The frozen protocols of `show1 evaluate run`, with their ids."""
    from show1.evaluation.benchmark_protocol import Protocol, protocol_names

    found = [Protocol.load(name) for name in protocol_names()]
    if as_json:
        say_json([{"id": protocol.id, **protocol.to_dict()} for protocol in found])
        return
    for protocol in found:
        metrics = ", ".join(metric.label for metric in protocol.metrics) or "scored by its own tool"
        count = f"{protocol.videos} videos" if protocol.videos else f"{protocol.samples_per_prompt} videos a prompt"
        say(f"{protocol.name}  {protocol.id}  {count}; {metrics}")


@app.command()
def run(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="A name of `protocols`, or a JSON file.")],
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="mini, a folder, or STAGE=WHERE,STAGE=WHERE.")
    ] = "mini",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the benchmark; one that was begun goes on.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Folder of the data set, or VBench's file of prompts.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of feature networks; else they are downloaded.")
    ] = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Generate the I-th of N parts.")] = "1/1",
    videos: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Another number of videos; changes the protocol's id.")
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Videos generated together.")] = 4,
    resamples: Annotated[int, typer.Option(metavar="N", min=0, help="Of the intervals; 0: no intervals.")] = 200,
    offline: Annotated[bool, typer.Option("--offline", help="Download no feature network.")] = False,
    memory: Annotated[Memory, typer.Option(help="low holds one network at a time, high keeps all.")] = "auto",
    device: Annotated[str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1 or mps.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only the report.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON on stdout.")] = False,
) -> None:
    """Generate the videos of a frozen protocol, score them, and report them beside published figures.

    A benchmark that was stopped goes on when its folder is named again. Machines that share the folder each take a
    shard; the one that finishes last scores.

    Examples:

    \b
      show1 evaluate run sprites --videos 16 --out benchmarks/sprites
      show1 evaluate run ucf101-2048x16 --model my-cascade/ --data /data/ucf101 --shard 1/4 --out /shared/ucf
    """
    from show1.evaluation.benchmark import run_benchmark
    from show1.evaluation.benchmark_protocol import Protocol
    from show1.evaluation.benchmark_report import markdown

    chosen, part = Protocol.load(protocol), _shard(shard)
    folder = out or Path("evaluations") / chosen.name
    pipe = load_pipeline(parse_model(model), quiet=quiet or as_json, memory=memory, device=device)
    report = run_benchmark(
        pipe,
        chosen,
        folder,
        data=data,
        shard=part,
        videos=videos,
        batch_size=batch_size,
        options=_feature_options(features, device, offline),
        resamples=resamples,
        on_progress=None if quiet or as_json else _tell_progress,
    )
    if as_json:
        say_json(report)
    elif not report["complete"]:
        say(f"{report['videos']} of {report['of']} videos are there; the shard that finishes last scores them")
    else:
        say(markdown(report))
        if not quiet:
            tell(f"report, plots and contact sheet: {folder / 'index.html'}")


@app.command()
def score(
    fake: Annotated[Path, typer.Option(metavar="DIR", help="Folder of generated videos.")],
    metric: Annotated[
        list[str],
        typer.Option(
            metavar="NAME[:NETWORK]", help="fvd, fid-vid, kvd, is, clipsim or alignment; may be given several times."
        ),
    ],
    real: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of real videos.")] = None,
    features: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of feature networks; else they are downloaded.")
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Frames of a clip, from the start of a video; else 16, for alignment all."
        ),
    ] = None,
    stride: Annotated[int, typer.Option(metavar="N", min=1, help="Take every N-th frame.")] = 1,
    fps: Annotated[
        float | None, typer.Option(metavar="N", help="Read all videos at this rate; else each at its own.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WIDTHxHEIGHT", help="Resize clips, such as 256x256; else as they are.")
    ] = None,
    resize: Annotated[str, typer.Option(metavar="RULE", help="squash or crop, where proportions differ.")] = "squash",
    resamples: Annotated[int, typer.Option(metavar="N", min=0, help="Of the intervals; 0: no intervals.")] = 200,
    offline: Annotated[bool, typer.Option("--offline", help="Download no feature network.")] = False,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1 or mps.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only the table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")] = False,
) -> None:
    """Score videos made elsewhere: folders of video files, or of folders of PNG frames.

    Examples:

    \b
      show1 evaluate score --real real/ --fake made/ --metric fvd:i3d-stylegan-v --features networks/
      show1 evaluate score --fake made/ --metric clipsim --metric is
    """
    from show1.errors import InputError
    from show1.evaluation.benchmark import score_folders
    from show1.evaluation.benchmark_protocol import Metric
    from show1.evaluation.benchmark_report import folders_markdown
    from show1.evaluation.datasets import ClipRule

    if resize not in ("squash", "crop"):
        raise InputError(f"--resize: squash or crop, got {resize!r}")
    width, height = _size(size)
    metrics = [Metric.parse(text) for text in dict.fromkeys(metric)]
    if frames is None:
        of_prompt = {m.name == "alignment" for m in metrics}
        if len(of_prompt) > 1:
            raise InputError("alignment reads whole videos, other metrics clips: ask for it alone, or give --frames")
        frames = None if True in of_prompt else 16
    result = score_folders(
        real,
        fake,
        metrics,
        rule=ClipRule(frames=frames, stride=stride, fps=fps, height=height, width=width, resize=resize),  # type: ignore[arg-type]
        options=_feature_options(features, device, offline),
        resamples=resamples,
        on_progress=None if quiet or as_json else _tell_progress,
    )
    if as_json:
        say_json(result)
        return
    say(folders_markdown(result))


def _feature_options(folder: Path | None, device: str | None, offline: bool) -> "FeatureOptions":
    from show1.evaluation.metrics import FeatureOptions
    from show1.runtime import choose_device

    return FeatureOptions(folder=folder, device=str(choose_device(device)), local_files_only=offline)


def _tell_progress(what: str, done: int, total: int) -> None:
    if done == total or done % 50 == 0 or what == "generated":
        tell(f"{what}: {done}/{total}")


def _shard(text: str) -> tuple[int, int]:
    from show1.errors import InputError

    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise InputError(f"--shard must be I/N with 1 <= I <= N, such as 1/4, got {text!r}")
    return int(first), int(last)


def _size(text: str | None) -> tuple[int, int] | tuple[None, None]:
    from show1.errors import InputError

    if text is None:
        return None, None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise InputError(f"--size must be WIDTHxHEIGHT, such as 256x256, got {text!r}")
    return int(width), int(height)
