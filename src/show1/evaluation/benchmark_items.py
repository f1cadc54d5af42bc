"""Which videos a protocol asks for, and which real ones they are compared with."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from show1.errors import InputError
from show1.evaluation.benchmark_protocol import NEEDS_REAL, Protocol, draw
from show1.evaluation.datasets import (
    ClipRule,
    ClipSet,
    Entry,
    Frames,
    choose_entries,
    file_clips,
    read_msrvtt,
    read_ucf101,
)
from show1.video import Video


@dataclass(frozen=True, kw_only=True)
class Item:
    """A video to be generated."""

    index: int
    """Place in the benchmark."""

    prompt: str
    """What it shows."""

    seed: int
    """Of its noise."""

    sample: int
    """Which of the videos of this prompt."""


def work_items(protocol: Protocol, entries: Sequence[Entry] = ()) -> list[Item]:
    """The videos that a protocol asks for, in order.

    Args:
        protocol: Which.
        entries: Real videos of its split, where prompts come from them.

    Raises:
        InputError: A class has no prompt, or there are fewer captions than videos.
    """
    if protocol.prompts == "class-distribution":
        prompts = _class_prompts(protocol, entries)
    elif protocol.prompts == "one-caption":
        prompts = [_caption(entry, protocol.reference_seed) for entry in entries]
        if protocol.videos and protocol.videos < len(prompts):
            order = sorted(range(len(prompts)), key=lambda i: draw("videos", protocol.seed, entries[i].key))
            prompts = [prompts[i] for i in order[: protocol.videos]]
        elif protocol.videos > len(prompts):
            raise InputError(
                f"{protocol.name} asks for {protocol.videos} videos, one for each of the split, which has "
                f"{len(prompts)}: is the data set complete? --videos sets another number"
            )
    else:
        listed = [text for text in _all_prompts(protocol) for _ in range(protocol.samples_per_prompt)]
        prompts = [listed[i % len(listed)] for i in range(protocol.videos or len(listed))]
    seen: Counter[str] = Counter()
    items = []
    for i, prompt in enumerate(prompts):
        items.append(Item(index=i, prompt=prompt, seed=protocol.seed + i, sample=seen[prompt]))
        seen[prompt] += 1
    return items


def resolve(protocol: Protocol, data: str | Path | None, videos: int | None) -> Protocol:
    """The protocol with the user's number of videos and file of prompts.

    Raises:
        InputError: There is no such file, the number is below 1, or the protocol's dataset lacks what it asks for.
    """
    needs = {"class-distribution": "ucf101", "one-caption": "msrvtt"}.get(protocol.prompts, protocol.dataset)
    if protocol.dataset != needs:
        raise InputError(f"prompts: {protocol.prompts} takes them from the dataset {needs}, got {protocol.dataset}")
    compared = [metric.label for metric in protocol.metrics if metric.name in NEEDS_REAL]
    if protocol.dataset == "prompts" and compared:
        raise InputError(f"metrics: {compared[0]} compares with real videos, and the dataset prompts has none")
    if protocol.dataset == "prompts" and protocol.prompt_file is None:
        if data is None or not Path(data).is_file():
            raise InputError(f"the protocol {protocol.name} needs a file of prompts, one a line: give it with --data")
        digest = hashlib.sha256(Path(data).read_bytes()).hexdigest()
        protocol = dataclasses.replace(protocol, prompt_file=str(data), prompt_file_sha256=digest)
    if videos is not None and videos < 1:
        raise InputError(f"videos must be 1 or more, got {videos}")
    return protocol if videos is None else dataclasses.replace(protocol, videos=videos)


def read_entries(protocol: Protocol, data: str | Path | None) -> list[Entry]:
    """The real videos of a protocol's split; none for sprites and plain prompts.

    Raises:
        InputError: No folder is given, or it has another layout.
    """
    if protocol.dataset in ("sprites", "prompts"):
        return []
    if data is None:
        raise InputError(f"the protocol {protocol.name} needs the folder of its data set: give it with --data")
    read = read_ucf101 if protocol.dataset == "ucf101" else read_msrvtt
    return read(Path(data), protocol.split)


def _class_prompts(protocol: Protocol, entries: Sequence[Entry]) -> list[str]:
    """Classes as often as in the split (largest remainders), in an order drawn by hash: any part of it is mixed."""
    try:
        sentences: dict[str, str] = json.loads(protocol.read_prompt_file())
    except json.JSONDecodeError as error:
        raise InputError(f"{protocol.prompt_file} is no JSON object of a prompt for each class: {error}") from error
    sizes = Counter(entry.label for entry in entries)
    if unknown := sorted(set(sizes) - set(sentences)):
        raise InputError(f"{protocol.prompt_file} has no prompt for the class {unknown[0]!r}: is this the data set?")
    shares = {label: protocol.videos * size / len(entries) for label, size in sorted(sizes.items())}
    counts = {label: int(share) for label, share in shares.items()}
    rest = sorted(shares, key=lambda label: (counts[label] - shares[label], label))
    for label in rest[: protocol.videos - sum(counts.values())]:
        counts[label] += 1
    slots = [(label, k) for label, count in counts.items() for k in range(count)]
    slots.sort(key=lambda slot: draw("order", protocol.seed, *slot))
    return [sentences[label] for label, _ in slots]


def _caption(entry: Entry, seed: int) -> str:
    return entry.captions[draw("caption", seed, entry.key) % len(entry.captions)]


def _all_prompts(protocol: Protocol) -> list[str]:
    text = protocol.read_prompt_file()
    if protocol.dataset == "sprites":
        try:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
            listed = [str(row["prompt"]) for row in rows if protocol.split in ("all", row["set"])]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(
                f"{protocol.prompt_file} must hold JSON objects with prompt and set, one a line: {error!r}"
            ) from error
    else:
        listed = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not listed:
        raise InputError(f"{protocol.prompt_file} holds no prompts for {protocol.name}; write one a line")
    return listed


def real_clips(protocol: Protocol, entries: Sequence[Entry]) -> ClipSet:
    """The clips that generated ones are compared with.

    Raises:
        InputError: The split has fewer videos than the protocol draws.
    """
    if protocol.dataset == "sprites":
        return _sprite_clips(protocol)
    return file_clips(choose_entries(entries, protocol.references, protocol.reference_seed), ClipRule.of_real(protocol))


def _sprite_clips(protocol: Protocol) -> ClipSet:
    """Renders of what the prompts ask for, other ones each time round."""
    from show1.sprites.alignment.judge import truth
    from show1.sprites.alignment.prompts import alignment_prompts, prompts_sha256

    asked = [prompt for prompt in alignment_prompts() if protocol.split in ("all", prompt.set)]
    count = protocol.references or len(asked)

    def read(i: int) -> Frames:
        video = truth(
            asked[i % len(asked)],
            seed=10 + protocol.reference_seed + i // len(asked),
            num_frames=protocol.frames,
            height=protocol.height,
            width=protocol.width,
        )
        return Video.from_tensor(video, fps=8.0).frames

    keys = tuple(f"{asked[i % len(asked)].index:03d}-{i // len(asked)}" for i in range(count))
    return ClipSet(keys=keys, read=read, fingerprint=f"sprite world 1, prompts {prompts_sha256()}, {count} clips")
