"""`show1 data`: looks at training data."""

import statistics
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from show1.cli.console import say, say_json
from show1.cli.progress import duration, starting
from show1.cli.training import now_and_then
from show1.data.options import CLIP_FRAMES, DataOptions
from show1.errors import InputError
from show1.files import user_path
from show1.options import counted

if TYPE_CHECKING:
    from show1.data.decoding import Probe
    from show1.data.media_clips import MediaClips

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Look at training data.")

SHOWN = 3
"""Number of sizes and of frame rates that are listed."""

MOST_LISTED = 100
"""Most lines about clips that are too short, and about bad ones."""


@app.callback()
def group() -> None:
    """Look at training data."""


@app.command()
def check(
    data: Annotated[
        str, typer.Argument(metavar="DIR", help="What --data of `show1 train` takes: a folder, shards, or hf:NAME.")
    ],
    frames: Annotated[int, typer.Option(metavar="N", help="Number of frames of a training clip.")] = CLIP_FRAMES,
    fps: Annotated[float, typer.Option(metavar="X", help="Frame rate of a training clip, per second.")] = 8.0,
    text: Annotated[
        Path | None,
        typer.Option(
            parser=user_path,
            metavar="DIR",
            help="Folder with a tokenizer: says which words of the captions it cannot read.",
        ),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode every frame of every video, which also finds damage further on.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Say which training clips can be used, and for what, and which are too short or bad and why.

    The exit code is 2 if any clip is bad.

    Examples:

    \b
      show1 data check clips
      show1 data check clips --frames 17 --fps 4 --text runs/text/export --deep
      show1 data check "shards/{000..010}.tar" --json
    """
    if text is not None and not text.is_dir():
        raise InputError(f"--text: there is no folder {text}; name one that holds a tokenizer")
    with starting(quiet=quiet or as_json):
        from show1.data.open import open_clips

    clips = open_clips(data, DataOptions(frames=frames, fps=fps, skip_bad=True))
    probes = clips.probe_all(None if quiet else now_and_then("clips checked"))
    if deep:
        probes = clips.decode_all(None if quiet else now_and_then("clips decoded"))
    report = _report(clips, probes, text)
    if as_json:
        say_json(report)
    else:
        for name, value in _rows(report):
            say(f"{name:<14}{value}".rstrip())
    if report["bad"]:
        raise typer.Exit(2)


def _report(clips: "MediaClips", probes: "Iterable[Probe | str]", text: Path | None) -> dict[str, Any]:
    """What the command says, as JSON."""
    probes = list(probes)
    good = [each for each in probes if not isinstance(each, str)]
    videos = [each for each in good if each.seconds > 0]
    captions = [entry.caption for entry in clips.listed]
    counts = [len(caption.split()) for caption in captions if caption]
    return {
        "data": clips.spec,
        "clips": len(probes),
        "videos": len(videos),
        "pictures": len(good) - len(videos),
        "usable": _usable(clips, probes),
        "seconds": _spread([each.seconds for each in videos]),
        "total_seconds": sum(each.seconds for each in videos),
        "sizes": _common(f"{each.width}x{each.height}" for each in good),
        "fps": _common(f"{each.fps:g}" for each in videos),
        "captions": sum(bool(caption) for caption in captions),
        "empty_captions": captions.count(""),
        "without_caption": captions.count(None),
        "words": _spread(counts),
        "unread": _unread(captions, text),
        "bad": [each for each in probes if isinstance(each, str)],
        "too_short": _too_short(clips, probes),
    }


def _usable(clips: "MediaClips", probes: "list[Probe | str]") -> dict[str, int]:
    """Number of clips that the tasks can use, by the tasks that need the same of a clip: seconds, and a caption."""
    from show1.training.presets import preset
    from show1.training.tasks.options import AutoencoderOptions

    bare = any(entry.caption is None for entry in clips.listed)
    tasks: dict[tuple[float, bool], list[str]] = {}
    for task, view in preset("mini").views.items():
        try:
            need = view.of_frames(clips.options.frames).span * clips.options.duration
        except InputError:  # these tasks cannot have clips of so many frames
            continue
        tasks.setdefault((need, bare and task != AutoencoderOptions.task), []).append(task)
    pairs = list(zip(clips.listed, probes, strict=True))
    return {
        ", ".join(names): sum(
            not isinstance(found, str) and found.seconds >= need and not (captioned and entry.caption is None)
            for entry, found in pairs
        )
        for (need, captioned), names in sorted(tasks.items())
    }


def _too_short(clips: "MediaClips", probes: "list[Probe | str]") -> list[str]:
    """Which videos and stills are shorter than a clip, so that tasks that learn from whole clips cannot use them."""
    need = clips.options.duration
    problems = [clips.problem(i, need) for i, each in enumerate(probes) if not isinstance(each, str)]
    return [problem for problem in problems if problem is not None]


def _unread(captions: list[str | None], folder: Path | None) -> list[str]:
    """What a text encoder cannot read of the captions."""
    if folder is None:
        return []
    from show1.text.encoder import PromptEncoder

    said = [caption for caption in captions if caption]
    return PromptEncoder(folder).unread(said).sentences() or ["it knows every word, and cuts nothing"]


def _spread(values: list[Any]) -> list[float]:
    """Least, middle and largest value; nothing of no values."""
    return [min(values), statistics.median(values), max(values)] if values else []


def _common(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _rows(report: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """The lines of the table: a name and a value."""
    yield "data", report["data"]
    yield "clips", str(report["clips"])
    yield "", f"videos: {report['videos']}, pictures: {report['pictures']}, bad: {len(report['bad'])}"
    for number, (tasks, count) in enumerate(report["usable"].items()):
        yield "" if number else "usable", f"{count} for {tasks}"
    if report["seconds"]:
        least, middle, most = report["seconds"]
        total = duration(report["total_seconds"])
        yield "lengths", f"{least:.2f} to {most:.2f} s, half of them up to {middle:.2f} s, {total} in all"
    for name, key in (("sizes", "sizes"), ("frame rates", "fps")):
        if report[key]:
            found = list(report[key].items())
            others = f", {len(found) - SHOWN} others" if len(found) > SHOWN else ""
            yield name, ", ".join(f"{value} ({count})" for value, count in found[:SHOWN]) + others
    without = f"without: {report['without_caption']}" + (" (only for vae)" if report["without_caption"] else "")
    yield "captions", f"{report['captions']}, empty: {report['empty_captions']}, {without}"
    if report["words"]:
        least, middle, most = report["words"]
        yield "", f"of {least} to {counted(most, 'word')}, half of them up to {middle:g}"
    for number, sentence in enumerate(report["unread"]):
        yield "" if number else "text encoder", sentence
    for name, key in (("too short", "too_short"), ("bad", "bad")):
        found = report[key]
        more = [f"and {len(found) - MOST_LISTED} more; --json lists them"] if len(found) > MOST_LISTED else []
        for number, problem in enumerate([*found[:MOST_LISTED], *more]):
            yield "" if number else name, problem
