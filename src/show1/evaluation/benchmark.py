"""`show1 evaluate run` and `show1 evaluate score`: figures of the standard benchmarks.

::

    OUT/
      benchmark.json           protocol, model, prompts: a folder takes one benchmark, which goes on where it stopped
      videos/00000.mkv ...     every generated video, lossless, with prompt and seed
      vbench/PROMPT-0.mp4 ...  the same for VBench's own tool, where the protocol says so
      features/                of the generated videos
      report.json report.md index.html plots/ sheets/
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from show1.errors import InputError, MediaError, RunError
from show1.evaluation.benchmark_items import Item, read_entries, real_clips, resolve, work_items
from show1.evaluation.benchmark_protocol import NEEDS_REAL, Metric, Protocol, published_figures
from show1.evaluation.datasets import ClipRule, ClipSet, Entry, Rejected, cut_clip, file_clips, read_video_folder
from show1.evaluation.feature_cache import ClipFeatures, Probe, clip_features
from show1.evaluation.identity import claim, identify
from show1.evaluation.metrics import NEEDS_PROMPTS, FeatureOptions, figures_of, load_probes
from show1.files import cache_dir, read_json_object, write_json
from show1.media import read_metadata
from show1.sprites.alignment.prompts import read_prompt
from show1.video import Video

if TYPE_CHECKING:
    from show1.generation.pipeline import Show1Pipeline

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are."""

_LONGEST_NAME = 240


def run_benchmark(
    pipe: "Show1Pipeline",
    protocol: Protocol,
    out: str | Path,
    *,
    data: str | Path | None = None,
    shard: tuple[int, int] = (1, 1),
    videos: int | None = None,
    batch_size: int = 4,
    options: FeatureOptions | None = None,
    resamples: int = 200,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Generates what is missing, and once every video is there, scores them and writes the report.

    Args:
        pipe: The model.
        protocol: What is asked.
        out: Folder of the benchmark, new or begun; several processes may share it, each with a shard of its own.
        data: Folder of the data set; the file of prompts where the protocol has none.
        shard: (i, n): this process generates the i-th of n parts, i from 1.
        videos: Another number of videos than the protocol's; it changes the protocol's id.
        batch_size: Videos generated together: always the same ones.
        options: Feature networks.
        resamples: Of the bootstrap intervals; 0: none.
        on_progress: Told how it goes.

    Returns:
        What `report.json` holds; `{"complete": False, ...}` while other shards are missing.

    Raises:
        InputError: The data, a shard or a number cannot be used.
        RunError: The folder holds another benchmark.
    """
    from show1.evaluation.benchmark_report import write_report

    out, options, frozen = Path(out), options or FeatureOptions(), protocol
    if not 1 <= shard[0] <= shard[1] or batch_size < 1:
        raise InputError(f"shard must be i/n with 1 <= i <= n and batch_size 1 or more, got {shard} and {batch_size}")
    protocol = resolve(protocol, data, videos)
    entries = read_entries(protocol, data)
    items = work_items(protocol, entries)
    _check_vbench_names(protocol, items)
    if any(metric.name == "alignment" for metric in protocol.metrics):
        for item in items:
            read_prompt(item.prompt)  # raises before days of generating, not after
    probes = load_probes(protocol.metrics, options) if shard[1] == 1 else {}
    claim(out / "benchmark.json", _identity(pipe, protocol, items, batch_size), "a benchmark")
    _generate(pipe, out, protocol, items, shard, batch_size, on_progress)
    made = sum(_video_file(out, item).is_file() for item in items)
    if made < len(items):
        return {"complete": False, "videos": made, "of": len(items)}
    probes = probes or load_probes(protocol.metrics, options)
    report = _score_run(out, protocol, items, entries, probes, resamples, on_progress)
    if protocol.id != frozen.id:
        report |= {"frozen_id": frozen.id, "frozen_videos": frozen.videos}
        if frozen.videos not in (0, len(items)):
            note = f"{len(items)} videos instead of the {frozen.videos} of {frozen.name}: not figures of that protocol"
            report["warnings"] = [note, *report["warnings"]]
    write_json(out / "report.json", report)
    write_report(out, report, [(_video_file(out, item), item.prompt, item.seed) for item in items])
    return report


def score_folders(
    real: str | Path | None,
    fake: str | Path,
    metrics: Sequence[Metric],
    *,
    rule: ClipRule | None = None,
    options: FeatureOptions | None = None,
    resamples: int = 200,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Scores videos made elsewhere.

    Args:
        real: Folder of real videos; None where no metric compares with any.
        fake: Folder of generated videos; for CLIPSIM and alignment with prompts in `captions.jsonl`, or in the files.
        metrics: What is computed.
        rule: How clips are cut, on both sides.
        options: Feature networks.
        resamples: Of the bootstrap intervals; 0: none.
        on_progress: Told how it goes.

    Returns:
        Figures, and which files were left out.

    Raises:
        InputError: A folder is empty, nothing in it can be read, or a metric lacks what it needs.
    """
    rule, options, fake = rule or ClipRule(), options or FeatureOptions(), Path(fake)
    compared = [m for m in metrics if m.name in NEEDS_REAL]
    if compared and real is None:
        raise InputError(f"{compared[0].label} compares with real videos: give their folder (--real)")
    entries = {"generated": read_video_folder(fake)}
    prompts = _folder_prompts(fake, entries["generated"]) if any(m.name in NEEDS_PROMPTS for m in metrics) else []
    sets = {"generated": file_clips(entries["generated"], rule, prompts=prompts, with_times=True)}
    if compared and real is not None:
        sets["real"] = file_clips(read_video_folder(Path(real)), rule, with_times=True)
    probes = load_probes(metrics, options)
    rule_id = hashlib.sha256(json.dumps(dataclasses.asdict(rule), sort_keys=True).encode()).hexdigest()[:16]
    features = {}
    for side, clips in sets.items():
        wanted = metrics if side == "generated" else compared
        features[side] = _features(side, clips, wanted, probes, cache_dir() / "references", rule_id, on_progress)
    figures = figures_of(metrics, probes, features["generated"], features.get("real", {}), resamples=resamples)
    return {
        "clips": dataclasses.asdict(rule),
        **{side: _counted(clips, features[side]) for side, clips in sets.items()},
        "figures": figures,
        "warnings": _warnings(figures),
    }


def _identity(pipe: "Show1Pipeline", protocol: Protocol, items: Sequence[Item], batch_size: int) -> dict[str, Any]:
    """What the videos depend on, and its hash."""
    model = pipe.model_record
    asked = json.dumps([[item.prompt, item.seed] for item in items])
    parts = {
        "protocol_id": protocol.id,
        "protocol": protocol.to_dict(),
        "items_sha256": hashlib.sha256(asked.encode()).hexdigest(),
        "model": {key: model[key] for key in ("name", "sha256")},
        "settings": pipe.settings.to_dict(),
        "batch_size": batch_size,
    }
    return identify(parts)


def _video_file(out: Path, item: Item) -> Path:
    return out / "videos" / f"{item.index:05d}.mkv"


def _generate(
    pipe: "Show1Pipeline",
    out: Path,
    protocol: Protocol,
    items: Sequence[Item],
    shard: tuple[int, int],
    batch_size: int,
    on_progress: Progress | None,
) -> None:
    """A batch that was killed is made again as a whole: its noise does not depend on it, its last digits might."""
    batches = [items[i : i + batch_size] for i in range(0, len(items), batch_size)][shard[0] - 1 :: shard[1]]
    total, done = sum(map(len, batches)), 0
    for batch in batches:
        if not all(_video_file(out, item).is_file() for item in batch):
            videos: list[Video] = pipe([item.prompt for item in batch], seed=[item.seed for item in batch])
            _check_fit(videos[0], protocol)
            for item, video in zip(batch, videos, strict=True):
                video.save(_video_file(out, item), overwrite=True)
        for item in batch if protocol.layout == "vbench" else ():
            _export_vbench(out, item)
        done += len(batch)
        if on_progress is not None:
            on_progress("generated", done, total)


def _check_fit(video: Video, protocol: Protocol) -> None:
    """Says at once, and not after days, that the model's videos are too short for the protocol."""
    try:
        cut_clip(video, ClipRule.of_generated(protocol))
    except InputError as error:
        raise InputError(f"the model's videos do not fit the protocol {protocol.name}: {error}") from error


def _export_vbench(out: Path, item: Item) -> None:
    target = out / "vbench" / f"{item.prompt}-{item.sample}.mp4"
    if not target.is_file():
        Video.load(_video_file(out, item)).save(target)


def _check_vbench_names(protocol: Protocol, items: Sequence[Item]) -> None:
    if protocol.layout != "vbench":
        return
    for item in items:
        if "/" in item.prompt or len(item.prompt.encode()) > _LONGEST_NAME:
            raise InputError(
                f"VBench wants files called by their prompt, and {item.prompt[:60]!r}... cannot be one: leave out "
                f"slashes, and stay below {_LONGEST_NAME} bytes"
            )


def _score_run(
    out: Path,
    protocol: Protocol,
    items: Sequence[Item],
    entries: Sequence[Entry],
    probes: Mapping[str, Probe],
    resamples: int,
    on_progress: Progress | None,
) -> dict[str, Any]:
    made = [Entry(key=_video_file(out, item).name, file=_video_file(out, item)) for item in items]
    rule = ClipRule.of_generated(protocol)
    clips = file_clips(made, rule, prompts=[item.prompt for item in items])
    fake = _features("generated", clips, protocol.metrics, probes, out / "features", protocol.id, on_progress)
    if bad := [r for features in fake.values() for r in features.rejected]:
        shutil.rmtree(out / "features", ignore_errors=True)
        video = out / "videos" / bad[0].key
        raise RunError(f"{video} cannot be scored ({bad[0].reason}); delete it and run the same command again")
    compared = [m for m in protocol.metrics if m.name in NEEDS_REAL]
    real: dict[str, ClipFeatures] = {}
    report = {"complete": True, **read_json_object(out / "benchmark.json"), "videos": len(items)}
    if compared:
        reference = real_clips(protocol, entries)
        where = cache_dir() / "references"
        real = _features("real", reference, compared, probes, where, protocol.reference_id, on_progress)
        report["references"] = _counted(reference, real)
    figures = figures_of(protocol.metrics, probes, fake, real, resamples=resamples)
    record = read_metadata(made[0].file)
    return report | {
        "figures": figures,
        "published": published_figures(protocol.dataset),
        "warnings": _warnings(figures),
        "environment": {key: record[key] for key in ("versions", "device", "dtype", "threads") if key in record},
    }


def _features(
    side: str,
    clips: ClipSet,
    metrics: Sequence[Metric],
    probes: Mapping[str, Probe],
    folder: Path,
    rule: str,
    on_progress: Progress | None,
) -> dict[str, ClipFeatures]:
    used = {probe.name: probe for probe in (probes[metric.label] for metric in metrics)}

    def show(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(f"features of {side} videos", done, total)

    features = clip_features(clips, list(used.values()), folder, rule=rule, on_clip=show)
    for found in features.values():
        if not len(found.rows):
            first: Rejected = found.rejected[0]
            raise InputError(
                f"none of the {len(clips)} {side} videos can be read; the first is {first.key}: {first.reason}"
            )
    return features


def _counted(clips: ClipSet, features: Mapping[str, ClipFeatures]) -> dict[str, Any]:
    rejected = next((found.rejected for found in features.values()), ())
    return {
        "listed": len(clips),
        "used": len(clips) - len(rejected),
        "rejected": [{"key": r.key, "reason": r.reason} for r in rejected],
        "fingerprint": clips.fingerprint,
    }


def _warnings(figures: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{figure['metric']}: {note}" for figure in figures for note in figure["warnings"]]


def _prompt_in(file: Path) -> str:
    """What a video says that it shows; of one that cannot be read, which is left out later, that."""
    try:
        return str(read_metadata(file).get("prompt", ""))
    except MediaError as error:
        return str(error)


def _folder_prompts(folder: Path, entries: Sequence[Entry]) -> list[str]:
    """Prompts from the list of captions, else from the videos' own metadata."""
    from show1.data.folder import read_captions

    if any((folder / name).exists() for name in ("captions.jsonl", "captions.csv")):
        listed = {entry.file.resolve(): entry.caption for entry in read_captions(folder, frame_folders=True)}
        prompts = [listed.get(entry.file.resolve(), "") for entry in entries]
    else:
        prompts = [_prompt_in(entry.file) for entry in entries]
    if "" in prompts:
        missing = entries[int(np.argmin([bool(prompt) for prompt in prompts]))].key
        raise InputError(
            f"CLIPSIM and alignment need prompts, and {missing} has none: write captions.jsonl into {folder}, with a "
            f'line such as {{"file": "{missing}", "caption": "a dog runs"}} for each video'
        )
    return prompts
