"""The videos that a protocol asks for."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from show1.errors import InputError
from show1.evaluation.benchmark_protocol import BenchmarkProtocol
from show1.evaluation.clips import Entry
from show1.evaluation.datasets import Dataset


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
