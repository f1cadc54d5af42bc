"""`show1 evaluate`: measures a model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from show1.cli.console import say, say_json, tell
from show1.cli.flags import DeviceFlag, MemoryFlag
from show1.cli.progress import starting
from show1.cli.session import load_pipeline
from show1.cli.settings import Change, apply_changes, parse_change, parse_model, with_expert
from show1.config import StageName
from show1.errors import InputError
from show1.files import user_path
from show1.launch import is_first
from show1.options import counted

if TYPE_CHECKING:
    from show1.evaluation.feature_networks import FeatureOptions
    from show1.sprites.alignment.prompts import PromptSet

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Measure how good a model's videos are.")

Model = Annotated[
    str, typer.Option("--model", "-m", metavar="MODEL", help="mini, a folder, or STAGE=WHERE,STAGE=WHERE.")
]
BatchSize = Annotated[int, typer.Option(metavar="N", min=1, help="Number of videos generated together.")]
Features = Annotated[
    Path | None,
    typer.Option(
        parser=user_path, metavar="DIR", help="Folder with feature networks; networks that it lacks are downloaded."
    ),
]
Resamples = Annotated[
    int, typer.Option(metavar="N", min=0, help="Bootstrap resamples for the 95 % intervals; 0: no intervals.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Do not download feature networks.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress, only the result.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Sets = Annotated[
    str,
    typer.Option(
        metavar="SET,SET",
        help="Prompt sets: held_out, seen, paraphrase; relations, counts, sizes, motion_binding, motion_order, and "
        "each of these five with _held_out.",
    ),
]
Levels = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL,LEVEL",
        help="Noise levels, above 0 and at most 1, from which the translation, or an expert in its place, redraws each "
        "video; it is judged at each of them.",
    ),
]
Expert = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Latent video model of diffusers for the translation (docs/experts.md)."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of a stage; can be repeated."),
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"] | None,
    typer.Option(help="Precision. By default float32 on CPUs; bfloat16 is faster on those that compute in it."),
]
Frames = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Frames per clip, from the start of a video; by default 16, and all frames for alignment.",
    ),
]
Metrics = Annotated[
    list[str],
    typer.Option(
        metavar="NAME[:NETWORK]", help="fvd, fid-vid, kvd, is, clipsim or alignment; may be given several times."
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(parser=user_path, metavar="PATH", help="Folder of the data set, or VBench's file of prompts."),
]
ProtocolName = Annotated[
    str, typer.Argument(metavar="PROTOCOL", help="A name that `show1 evaluate protocols` lists, or a JSON file.")
]


@app.callback()
def group() -> None:
    """Measure how good a model's videos are."""


@app.command()
def alignment(
    model: Model = "mini",
    out: Annotated[
        Path,
        typer.Option(parser=user_path, metavar="DIR", help="Folder of the evaluation; an interrupted one resumes."),
    ] = Path("evaluations/alignment"),
    sets: Sets = "held_out,seen,paraphrase",
    videos: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of videos per set; each prompt has two seeds.")
    ] = 256,
    until: Annotated[StageName | None, typer.Option(metavar="STAGE", help="Last stage to run and judge.")] = None,
    expert: Expert = None,
    level: Levels = None,
    set_: Changes = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first look: only the keyframes of 8 held-out prompts.")
    ] = False,
    batch_size: BatchSize = 4,
    memory: MemoryFlag = "auto",
    device: DeviceFlag = None,
    dtype: Dtype = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure text alignment in the sprite world, for models such as mini that are trained on it.

    Reports how often videos show the subject, background and motion of their prompt. Writes report.json, report.md
    and a page with contact sheets, index.html. To resume an interrupted evaluation, name its folder again.

    Examples:

    \b
      show1 evaluate alignment --quick --out evaluations/quick
      show1 evaluate alignment --model mini --sets held_out --out evaluations/mini
      show1 evaluate alignment --level 0.2,0.4,0.6,0.8 --sets held_out --videos 32 --out evaluations/levels
      show1 evaluate alignment --expert my-expert/ --set translation.num_inference_steps=10 --out evaluations/expert
    """
    changes = [parse_change(pair) for pair in set_ or ()]
    with starting(quiet=quiet or as_json):
        from show1.sprites.alignment.run import REDRAWN, AlignmentPlan, evaluate_alignment

    chosen, levels = _prompt_sets(sets), _levels(level, changes)
    plan = AlignmentPlan(sets=chosen, videos=videos, until=until, levels=levels, batch_size=batch_size)
    if quick:
        plan = replace(plan, sets=("held_out",), videos=min(videos, 8), until=until or "keyframes")
    silent = quiet or as_json
    precision = dtype or _exact(device)
    if expert is not None and plan.until not in (None, REDRAWN):
        last = plan.until
        raise InputError(f"--expert is the {REDRAWN}, and {last!r} is the last stage; leave out --expert or --until")
    named = parse_model(model) if expert is None else with_expert(parse_model(model), expert)
    pipe = load_pipeline(named, quiet=silent, memory=memory, device=device, dtype=precision)
    show = None if silent else lambda done, total: tell(f"{done}/{total} videos")
    report = evaluate_alignment(pipe, out, plan, settings=apply_changes(pipe.settings, changes), on_video=show)
    if not is_first():
        return
    if as_json:
        say_json(report)
    else:
        _say_report(out, quiet)


def _exact(device: str | None) -> str | None:
    """Float32 on CPUs, so that scores of one folder, and of different machines, can be compared."""
    from show1.runtime import choose_devices

    return "float32" if choose_devices(device).main.type == "cpu" else None


@app.command()
def protocols(as_json: AsJson = False) -> None:
    """List the frozen protocols of `show1 evaluate run` with their ids."""
    from show1.sprites.benchmark import CATALOGUE

    found = [CATALOGUE.load_protocol(name) for name in CATALOGUE.protocol_names]
    if as_json:
        say_json([{"id": protocol.id, **protocol.to_dict()} for protocol in found])
        return
    for protocol in found:
        metrics = ", ".join(metric.label for metric in protocol.metrics) or "scored by its own tool"
        each = counted(protocol.samples_per_prompt, "video")
        count = counted(protocol.videos, "video") if protocol.videos else f"{each} per prompt"
        say(f"{protocol.name}  {protocol.id}  {count}; {metrics}")


@app.command()
def run(
    protocol: ProtocolName,
    model: Model = "mini",
    out: Annotated[
        Path | None,
        typer.Option(parser=user_path, metavar="DIR", help="Folder of the benchmark; an interrupted one resumes."),
    ] = None,
    data: Data = None,
    features: Features = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Generate only the I-th of N parts.")] = "1/1",
    videos: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Number of videos instead of the protocol's; changes the protocol's id."),
    ] = None,
    batch_size: BatchSize = 4,
    resamples: Resamples = 200,
    offline: Offline = False,
    memory: MemoryFlag = "auto",
    device: DeviceFlag = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Generate the videos of a frozen protocol, score them, and report them beside published figures.

    To resume an interrupted benchmark, name its folder again. Machines that share the folder take one shard each; the
    one that finishes last scores all videos.

    Examples:

    \b
      show1 evaluate run ucf101-2048x16 --model my-cascade/ --data /data/ucf101 --out evaluations/ucf101
      show1 evaluate run ucf101-2048x16 --model my-cascade/ --data /data/ucf101 --shard 1/4 --out /shared/ucf101
    """
    with starting(quiet=quiet or as_json):
        from show1.evaluation.benchmark import run_benchmark
        from show1.sprites.benchmark import CATALOGUE

    chosen, part, silent = CATALOGUE.load_protocol(protocol), _shard(shard), quiet or as_json
    folder = out or Path("evaluations") / chosen.name
    report = run_benchmark(
        load_pipeline(parse_model(model), quiet=silent, memory=memory, device=device, dtype=_exact(device)),
        chosen,
        folder,
        data=data,
        shard=part,
        videos=videos,
        batch_size=batch_size,
        options=_feature_options(features, device, offline),
        resamples=resamples,
        on_progress=None if silent else _tell_progress,
        catalogue=CATALOGUE,
    )
    if is_first():
        _say_benchmark(report, folder, quiet=quiet, as_json=as_json)


@app.command()
def score(
    fake: Annotated[Path, typer.Option(parser=user_path, metavar="DIR", help="Folder of generated videos.")],
    metric: Metrics,
    real: Annotated[Path | None, typer.Option(parser=user_path, metavar="DIR", help="Folder of real videos.")] = None,
    features: Features = None,
    frames: Frames = None,
    stride: Annotated[int, typer.Option(metavar="N", min=1, help="Take every N-th frame.")] = 1,
    fps: Annotated[
        float | None, typer.Option(metavar="N", help="Frame rate at which videos are read; by default their own.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="Size to resize clips to, such as 256x256; by default their own."),
    ] = None,
    resize: Annotated[Literal["squash", "crop"], typer.Option(help="What to do where proportions differ.")] = "squash",
    resamples: Resamples = 200,
    offline: Offline = False,
    device: DeviceFlag = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Score videos that were made elsewhere: folders of video files, or of folders of PNG frames.

    Examples:

    \b
      show1 evaluate score --real real/ --fake made/ --metric fvd:i3d-stylegan-v --features networks/
      show1 evaluate score --fake made/ --metric clipsim --metric is
    """
    with starting(quiet=quiet or as_json):
        from show1.evaluation.benchmark_report import folders_markdown
        from show1.evaluation.clips import ClipRule
        from show1.evaluation.folder_scores import score_folders
        from show1.sprites.benchmark import CATALOGUE

    metrics = [CATALOGUE.parse_metric(text) for text in dict.fromkeys(metric)]
    width, height = _size(size)
    count = _clip_frames(frames, {m.name for m in metrics})
    rule = ClipRule(frames=count, stride=stride, fps=fps, height=height, width=width, resize=resize)
    result = score_folders(
        real,
        fake,
        metrics,
        rule=rule,
        options=_feature_options(features, device, offline),
        resamples=resamples,
        on_progress=None if quiet or as_json else _tell_progress,
        catalogue=CATALOGUE,
    )
    if as_json:
        say_json(result)
    else:
        say(folders_markdown(result))


def _feature_options(folder: Path | None, device: str | None, offline: bool) -> "FeatureOptions":
    from show1.evaluation.feature_networks import FeatureOptions
    from show1.runtime.processes import own_devices

    return FeatureOptions(folder=folder, device=str(own_devices(device).main), local_files_only=offline)


def _say_benchmark(report: dict[str, Any], folder: Path, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        say_json(report)
    elif not report["complete"]:
        done = f"{report['videos']} of {counted(report['of'], 'video')} finished"
        say(f"{done}; the shard that finishes last scores them")
    else:
        _say_report(folder, quiet)


def _say_report(folder: Path, quiet: bool) -> None:
    say((folder / "report.md").read_text(encoding="utf-8"))
    if not quiet:
        tell(f"report with pictures: {folder / 'index.html'}")


def _tell_progress(what: str, done: int, total: int) -> None:
    if done == total or done % 50 == 0 or what == "generated":
        tell(f"{what}: {done}/{total}")


def _prompt_sets(text: str) -> "tuple[PromptSet, ...]":
    from show1.sprites.alignment.prompts import PROMPT_SETS

    names = [name.strip() for name in text.split(",") if name.strip()]
    if wrong := [name for name in names if name not in PROMPT_SETS]:
        raise InputError(f"--sets: there is no set {wrong[0]!r}; the sets are {', '.join(PROMPT_SETS)}")
    return tuple(s for s in PROMPT_SETS if s in names)


def _levels(text: str | None, changes: Sequence[Change]) -> tuple[float, ...]:
    if text is not None and ("translation", "level") in {change.path for change in changes}:
        raise InputError("--set translation.level and --level say the same; leave one of them out")
    try:
        return tuple(float(part) for part in text.split(",")) if text is not None else ()
    except ValueError:
        raise InputError(f"--level must be numbers with commas between them, such as 0.4,0.6, got {text!r}") from None


def _clip_frames(frames: int | None, metrics: set[str]) -> int | None:
    """Frames per clip; None: all."""
    if frames is not None:
        return frames
    if "alignment" not in metrics:
        return 16
    if metrics != {"alignment"}:
        raise InputError(
            "alignment reads whole videos, other metrics read clips: ask for it separately, or give --frames"
        )
    return None


def _shard(text: str) -> tuple[int, int]:
    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise InputError(f"--shard must be I/N with 1 <= I <= N, such as 1/4, got {text!r}")
    return int(first), int(last)


def _size(text: str | None) -> tuple[int, int] | tuple[None, None]:
    if text is None:
        return None, None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise InputError(f"--size must be WIDTHxHEIGHT, such as 256x256, got {text!r}")
    return int(width), int(height)
