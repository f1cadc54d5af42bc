"""`show1 evaluate run`: figures of the standard benchmarks.

::

    OUT/
      benchmark.json           protocol, model, prompts: a folder takes one benchmark, which resumes if interrupted
      videos/00000.mkv ...     every generated video, lossless, with prompt and seed
      vbench/PROMPT-0.mp4 ...  the same for VBench's own tool, where the protocol says so
      features/                features of the generated videos
      report.json report.md index.html plots/ sheets/
"""

import dataclasses
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from show1.errors import InputError, RunError
from show1.evaluation.benchmark_protocol import BenchmarkProtocol, published_figures
from show1.evaluation.benchmark_report import benchmark_report
from show1.evaluation.catalogue import STANDARD, Catalogue
from show1.evaluation.clips import ClipRule, Entry, cut_clip, file_clips
from show1.evaluation.datasets import Dataset
from show1.evaluation.feature_cache import ClipFeatures
from show1.evaluation.feature_networks import FeatureOptions
from show1.evaluation.metrics import Progress, count_used, figures_of, read_features, warnings_of
from show1.evaluation.probes import Probe, load_probes
from show1.evaluation.suite import Suite, identify
from show1.files import cache_dir
from show1.generation.pipeline import Show1Pipeline
from show1.media import read_metadata
from show1.options import counted
from show1.video import Video

_LONGEST_NAME = 240


@dataclass(frozen=True, kw_only=True)
class Item:
    """A video to be generated."""

    index: int
    """Position in the benchmark."""

    prompt: str
    """Prompt of the video."""

    seed: int
    """Seed of its noise."""

    sample: int
    """Number of the video among those of the same prompt, from 0."""


def work_items(protocol: BenchmarkProtocol, dataset: Dataset, entries: Sequence[Entry] = ()) -> list[Item]:
    """Lists the videos that a protocol asks for, in order.

    Args:
        protocol: The protocol.
        dataset: Its data set.
        entries: Real videos of its split, where prompts come from them.

    Raises:
        InputError: A class has no prompt, or there are fewer captions than videos.
    """
    seen: Counter[str] = Counter()
    items = []
    for i, prompt in enumerate(dataset.list_prompts(protocol, entries)):
        items.append(Item(index=i, prompt=prompt, seed=protocol.seed + i, sample=seen[prompt]))
        seen[prompt] += 1
    return items


def resolve(
    protocol: BenchmarkProtocol, datasets: Mapping[str, Dataset], data: Path | None, videos: int | None
) -> BenchmarkProtocol:
    """Puts the user's number of videos and file of prompts into a protocol.

    Args:
        protocol: The frozen protocol.
        datasets: All data sets by name.
        data: The data that the user gave.
        videos: The number of videos that the user gave.

    Raises:
        InputError: The data set is unknown or lacks what the protocol asks for, there is no file of prompts, or the
            number is below 1.
    """
    if protocol.dataset not in datasets:
        raise InputError(f"dataset must be one of {', '.join(datasets)}, got {protocol.dataset!r}")
    dataset = datasets[protocol.dataset]
    if protocol.prompts not in dataset.prompt_rules:
        fitting = " or ".join(name for name, other in datasets.items() if protocol.prompts in other.prompt_rules)
        raise InputError(f"prompts: {protocol.prompts} takes them from the dataset {fitting}, got {protocol.dataset}")
    if not dataset.has_videos:
        if protocol.compared:
            label = protocol.compared[0].label
            raise InputError(f"metrics: {label} compares with real videos, and the dataset {protocol.dataset} has none")
        protocol = _with_prompt_file(protocol, data)
    if videos is not None and videos < 1:
        raise InputError(f"videos must be 1 or more, got {videos}")
    return protocol if videos is None else dataclasses.replace(protocol, videos=videos)


def _with_prompt_file(protocol: BenchmarkProtocol, data: Path | None) -> BenchmarkProtocol:
    """The protocol with its own file of prompts, or else the one that the user gave."""
    if protocol.prompt_file is not None:
        return protocol
    if data is None or not data.is_file():
        raise InputError(f"the protocol {protocol.name} needs a file of prompts, one per line: give it with --data")
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    return dataclasses.replace(protocol, prompt_file=str(data), prompt_file_sha256=digest)


def run_benchmark(
    pipe: Show1Pipeline,
    protocol: BenchmarkProtocol,
    out: str | Path,
    *,
    data: str | Path | None = None,
    shard: tuple[int, int] = (1, 1),
    videos: int | None = None,
    batch_size: int = 4,
    options: FeatureOptions | None = None,
    resamples: int = 200,
    on_progress: Progress | None = None,
    catalogue: Catalogue = STANDARD,
) -> dict[str, Any]:
    """Generates what is missing, and once every video is there, scores them and writes the report.

    Args:
        pipe: The model.
        protocol: The protocol.
        out: Folder of the benchmark, new or begun; several processes may share it, each with a shard of its own.
        data: Folder of the data set; the file of prompts where the protocol has none.
        shard: (i, n): this process generates the i-th of n parts, i from 1.
        videos: Another number of videos than the protocol's; it changes the protocol's id.
        batch_size: Videos generated together, always the same ones.
        options: Where feature networks come from.
        resamples: Number of resamples for the bootstrap intervals; 0: no intervals.
        on_progress: Called as the work advances.
        catalogue: Data sets and networks by the names that the protocol uses.

    Returns:
        What `report.json` holds; `{"complete": False, ...}` while other shards are missing.

    Raises:
        InputError: The data, a shard or a number cannot be used.
        RunError: The folder holds another benchmark.
    """
    options, folder = options or FeatureOptions(), None if data is None else Path(data)
    resolved = resolve(protocol, catalogue.datasets, folder, videos)
    dataset = catalogue.datasets[resolved.dataset]
    entries = dataset.read_entries(resolved, folder)
    items = work_items(resolved, dataset, entries)
    _check_vbench_names(resolved, items)
    catalogue.check_prompts(resolved.metrics, [item.prompt for item in items])
    probes = load_probes(resolved.metrics, options, catalogue.networks) if shard[1] == 1 else {}
    run = _Benchmark(pipe, Path(out), protocol, resolved, dataset, entries, items, on_progress)

    suite = Suite(
        out=run.out,
        kind="a benchmark",
        record="benchmark.json",
        identity=run.identity(batch_size),
        items=items,
        is_made=run.is_made,
        make=run.make,
        measure=lambda: run.measure(probes or load_probes(resolved.metrics, options, catalogue.networks), resamples),
        write=lambda report: benchmark_report(run.out, report, [(run.file(i), i.prompt, i.seed) for i in items]),
        batch_size=batch_size,
    )
    return suite.run(shard=shard, on_progress=None if on_progress is None else partial(on_progress, "generated"))


@dataclass(frozen=True)
class _Benchmark:
    """What a benchmark makes and measures."""

    pipe: Show1Pipeline
    out: Path
    frozen: BenchmarkProtocol
    protocol: BenchmarkProtocol
    dataset: Dataset
    entries: Sequence[Entry]
    items: Sequence[Item]
    on_progress: Progress | None

    def identity(self, batch_size: int) -> dict[str, Any]:
        """What the videos depend on, and its hash."""
        model = self.pipe.model_record
        listed = json.dumps([[item.prompt, item.seed] for item in self.items])
        parts = {
            "protocol_id": self.protocol.id,
            "protocol": self.protocol.to_dict(),
            "items_sha256": hashlib.sha256(listed.encode()).hexdigest(),
            "model": {"name": model.name, "sha256": model.sha256},
            "settings": self.pipe.settings.to_dict(),
            "batch_size": batch_size,
        }
        return identify(parts)

    def file(self, item: Item) -> Path:
        return self.out / "videos" / f"{item.index:05d}.mkv"

    def vbench_file(self, item: Item) -> Path:
        return self.out / "vbench" / f"{item.prompt}-{item.sample}.mp4"

    def is_made(self, item: Item) -> bool:
        exported = self.protocol.layout != "vbench" or self.vbench_file(item).is_file()
        return self.file(item).is_file() and exported

    def make(self, batch: Sequence[Item]) -> None:
        if not all(self.file(item).is_file() for item in batch):
            videos: list[Video] = self.pipe([item.prompt for item in batch], seed=[item.seed for item in batch])
            try:  # fails on the first video, not after days, if the model's videos are too short for the protocol
                cut_clip(videos[0], ClipRule.of_generated(self.protocol))
            except InputError as error:
                raise InputError(f"the model's videos do not fit the protocol {self.protocol.name}: {error}") from error
            for item, video in zip(batch, videos, strict=True):
                video.save(self.file(item), overwrite=True)
        for item in batch if self.protocol.layout == "vbench" else ():
            if not self.vbench_file(item).is_file():
                Video.load(self.file(item)).save(self.vbench_file(item))

    def measure(self, probes: Mapping[str, Probe], resamples: int) -> dict[str, Any]:
        """The fields of the report."""
        protocol, made = self.protocol, [Entry(key=self.file(i).name, file=self.file(i)) for i in self.items]
        clips = file_clips(made, ClipRule.of_generated(protocol), prompts=[item.prompt for item in self.items])
        kept = self.out / "features"
        fake = read_features("generated", clips, protocol.metrics, probes, kept, protocol.id, self.on_progress)
        if bad := [r for features in fake.values() for r in features.rejected]:
            shutil.rmtree(kept, ignore_errors=True)
            video = self.out / "videos" / bad[0].key
            raise RunError(f"{video} cannot be scored ({bad[0].reason}); delete it and run the same command again")
        used: dict[str, Any] = {}
        real: dict[str, ClipFeatures] = {}
        if protocol.compared:
            clips = self.dataset.real_clips(protocol, self.entries)
            folder, rule = cache_dir() / "references", protocol.reference_id
            real = read_features("real", clips, protocol.compared, probes, folder, rule, self.on_progress)
            used = {"references": count_used(clips, real)}
        figures = figures_of(protocol.metrics, probes, fake, real, resamples=resamples)
        warnings, frozen = warnings_of(figures), self.frozen
        changed: dict[str, Any] = {}
        if protocol.id != frozen.id:
            changed = {"frozen_id": frozen.id, "frozen_videos": frozen.videos}
            if frozen.videos not in (0, len(self.items)):
                wanted = f"the {frozen.videos} of {frozen.name}"
                made_here = counted(len(self.items), "video")
                warnings.insert(0, f"{made_here} instead of {wanted}: not figures of that protocol")
        record = read_metadata(made[0].file)
        return {
            "complete": True,
            "videos": len(self.items),
            **used,
            "figures": figures,
            "published": published_figures(protocol.dataset),
            "warnings": warnings,
            "environment": {key: record[key] for key in ("versions", "device", "dtype", "threads") if key in record},
            **changed,
        }


def _check_vbench_names(protocol: BenchmarkProtocol, items: Sequence[Item]) -> None:
    if protocol.layout != "vbench":
        return
    for item in items:
        if "/" in item.prompt or len(item.prompt.encode()) > _LONGEST_NAME:
            raise InputError(
                f"VBench wants files named after their prompt, and {item.prompt[:60]!r}... cannot be a file name: "
                f"leave out slashes, and stay below {_LONGEST_NAME} bytes"
            )
