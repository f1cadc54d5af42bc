"""Data sets of the benchmarks: which real videos and prompts they have, read from their official layouts."""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from show1.data.captions import read_captions
from show1.errors import InputError
from show1.evaluation.benchmark_protocol import BenchmarkProtocol, PromptRule, draw
from show1.evaluation.clips import ClipRule, ClipSet, Entry, choose_entries, file_clips
from show1.files import check_regular
from show1.media.pictures import FRAME_SUFFIXES, is_hidden
from show1.tables import opened_text, text_lines, without_repeats

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".webp", ".m4v", ".mpg", ".mpeg")
_UCF101_LAYOUT = (
    "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi and so on, and ucfTrainTestlist/trainlist01.txt and so on, as "
    "the archives of www.crcv.ucf.edu/data/UCF101.php unpack"
)
_MSRVTT_LAYOUT = (
    'test_videodatainfo.json or MSRVTT_data.json, with "videos" and "sentences", and below it, in any folder, '
    "video7010.mp4 and so on"
)


class Dataset:
    """A data set of the benchmarks. This base is a file of prompts, one per line, without real videos."""

    prompt_rules: tuple[PromptRule, ...] = ("all",)
    """How a protocol may take prompts from it."""

    has_videos = False
    """Whether it has real videos to compare with."""

    def read_entries(self, protocol: BenchmarkProtocol, data: Path | None) -> list[Entry]:
        """Lists the real videos of the protocol's split that are files; `data` is the folder that the user gave.

        Raises:
            InputError: A folder is needed and not given, or it has another layout.
        """
        return []

    def list_prompts(self, protocol: BenchmarkProtocol, entries: Sequence[Entry]) -> list[str]:
        """Lists the prompts of the generated videos by the protocol's rule, in order.

        Raises:
            InputError: There are none, or fewer than the protocol asks for.
        """
        return repeated(protocol, list(dict.fromkeys(text_lines(protocol.read_prompt_file()))))

    def real_clips(self, protocol: BenchmarkProtocol, entries: Sequence[Entry]) -> ClipSet:
        """Returns the clips that generated ones are compared with.

        Raises:
            InputError: The split has fewer videos than the protocol draws.
        """
        chosen = choose_entries(entries, protocol.references, protocol.reference_seed)
        return file_clips(chosen, ClipRule.of_real(protocol))


class VideoFiles(Dataset):
    """A data set of video files, which gives prompts by a rule of its own or takes those of a file."""

    has_videos = True

    def __init__(
        self,
        read: Callable[[Path, str], list[Entry]],
        rule: PromptRule,
        prompts: Callable[[BenchmarkProtocol, Sequence[Entry]], list[str]],
    ) -> None:
        """Combines the functions of a data set.

        Args:
            read: Lists the videos of a folder and a split.
            rule: Its own rule for prompts.
            prompts: Lists the prompts by that rule.
        """
        self.prompt_rules = (rule, "all")
        self._read, self._prompts = read, prompts

    def read_entries(self, protocol: BenchmarkProtocol, data: Path | None) -> list[Entry]:
        """See `Dataset.read_entries`."""
        if data is None:
            raise InputError(f"the protocol {protocol.name} needs the folder of its data set: give it with --data")
        return self._read(data, protocol.split)

    def list_prompts(self, protocol: BenchmarkProtocol, entries: Sequence[Entry]) -> list[str]:
        """See `Dataset.list_prompts`."""
        if protocol.prompts == "all":
            return super().list_prompts(protocol, entries)
        return self._prompts(protocol, entries)


def repeated(protocol: BenchmarkProtocol, prompts: Sequence[str]) -> list[str]:
    """Repeats prompts as the rule `all` asks: `samples_per_prompt` times each, and from the first on again.

    Raises:
        InputError: There are none.
    """
    if not prompts:
        raise InputError(f"{protocol.prompt_file} holds no prompts for {protocol.name}; write one per line")
    listed = [text for text in prompts for _ in range(protocol.samples_per_prompt)]
    return [listed[i % len(listed)] for i in range(protocol.videos or len(listed))]


def _class_prompts(protocol: BenchmarkProtocol, entries: Sequence[Entry]) -> list[str]:
    """Classes as often as in the split (largest remainders), in an order drawn by hash: any part of it is mixed."""
    try:
        sentences = json.loads(protocol.read_prompt_file(), object_pairs_hook=without_repeats)
        if not isinstance(sentences, dict) or not all(isinstance(text, str) for text in sentences.values()):
            raise ValueError("expected texts by the names of the classes")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{protocol.prompt_file} is not a JSON object of one prompt per class: {error}") from error
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


def _caption_prompts(protocol: BenchmarkProtocol, entries: Sequence[Entry]) -> list[str]:
    """One caption of each video, drawn by hash; of fewer videos, a drawn part of them."""
    if protocol.videos > len(entries):
        raise InputError(
            f"{protocol.name} asks for {protocol.videos} videos, one for each of the split, which has "
            f"{len(entries)}: is the data set complete? --videos sets another number"
        )
    seed = protocol.reference_seed
    prompts = [e.captions[draw("caption", seed, e.key) % len(e.captions)] for e in entries]
    if protocol.videos and protocol.videos < len(prompts):
        order = sorted(range(len(prompts)), key=lambda i: draw("videos", protocol.seed, entries[i].key))
        return [prompts[i] for i in order[: protocol.videos]]
    return prompts


def read_ucf101(folder: Path, split: str) -> list[Entry]:
    """Lists the videos of UCF-101 (arXiv:1212.0402) in its official layout.

    Args:
        folder: Holds `UCF-101/` and `ucfTrainTestlist/`.
        split: `train01` to `train03`, `test01` to `test03`, or `all`.

    Returns:
        Videos by name; those that a list names and that are not there are rejected when they are read.

    Raises:
        InputError: Another layout, or no such split.
    """
    videos, lists = folder / "UCF-101", folder / "ucfTrainTestlist"
    if not videos.is_dir() or (split != "all" and not lists.is_dir()):
        raise _wrong_layout(folder, "UCF-101", _UCF101_LAYOUT)
    if split == "all":
        paths = sorted(str(f.relative_to(videos).as_posix()) for f in videos.glob("*/*.avi"))
    else:
        listed = lists / f"{split[:-2]}list{split[-2:]}.txt"
        if not listed.is_file():
            raise InputError(
                f"split: UCF-101 has no {split!r} here ({listed} is missing); splits are train01, test01, all"
            )
        with opened_text(listed) as file:
            paths = sorted(line.split()[0] for line in text_lines(file.read()))
    if not paths:
        raise _wrong_layout(folder, "UCF-101", _UCF101_LAYOUT)
    return [Entry(key=path, file=videos / path, label=path.split("/")[0]) for path in paths]


def read_msrvtt(folder: Path, split: str) -> list[Entry]:
    """Lists the videos of MSR-VTT (Xu et al., CVPR 2016) with their captions.

    Args:
        folder: Holds a JSON file with "videos" and "sentences", and the videos in any folder.
        split: `train`, `validate`, `test` or `all`.

    Returns:
        Videos by name; those that are listed and not there are rejected when they are read.

    Raises:
        InputError: Another layout, no such split, or a video without caption.
    """
    tables = _msrvtt_tables(folder)
    if not tables:
        raise _wrong_layout(folder, "MSR-VTT", _MSRVTT_LAYOUT)
    found = {f.stem: f for f in sorted(folder.rglob("*")) if f.suffix.lower() in VIDEO_SUFFIXES}
    captions: dict[str, list[tuple[int, str]]] = {}
    chosen: set[str] = set()
    for table in tables:
        names = {str(v["video_id"]) for v in table["videos"] if split in ("all", v.get("split"))} - chosen
        for sentence in table["sentences"]:
            if (name := str(sentence["video_id"])) in names:
                captions.setdefault(name, []).append((int(sentence.get("sen_id", 0)), str(sentence["caption"])))
        chosen |= names
    if not chosen:
        raise InputError(f"split: the MSR-VTT in {folder} has no videos of {split!r}; splits are train, validate, test")
    if bare := sorted(chosen - set(captions)):
        raise InputError(f"{bare[0]} of the MSR-VTT in {folder} has no sentence; get the JSON file again")
    return [
        Entry(
            key=name,
            file=found.get(name, folder / f"{name}.mp4"),
            captions=tuple(text for _, text in sorted(captions[name], key=lambda pair: pair[0])),
        )
        for name in sorted(chosen, key=lambda name: (len(name), name))
    ]


def read_clip_folder(folder: Path, split: str) -> list[Entry]:
    """Lists the videos of a folder of one's own with their captions, in any layout of `show1.data.captions`.

    Args:
        folder: Holds videos and captions.
        split: Only `all`.

    Returns:
        Videos in the order of the list; several rows of a video are captions of it. Pictures are left out.

    Raises:
        InputError: No such folder, another split, a faulty list, or a video without a caption.
    """
    if split != "all":
        raise InputError(f"split: a folder has no {split!r}, only all")
    captions: dict[Path, list[str]] = {}
    for entry in read_captions(folder, frame_folders=True):
        if entry.is_picture:
            continue
        if not entry.caption:
            raise InputError(f"{entry.title} has no caption, and its caption is what is generated for; write one")
        captions.setdefault(entry.file, []).append(entry.caption)
    return [
        Entry(key=Path(os.path.relpath(file, folder)).as_posix(), file=file, captions=tuple(texts))
        for file, texts in captions.items()
    ]


def read_video_folder(folder: Path) -> list[Entry]:
    """Lists all videos below a folder: files of any common format, and folders of PNG or JPEG frames.

    Raises:
        InputError: There is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds the videos")
    everything = sorted(path for path in folder.rglob("*") if not is_hidden(path))
    files = [path for path in everything if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES]
    frames = {path.parent for path in everything if path.suffix.lower() in FRAME_SUFFIXES} - {folder}
    entries = [Entry(key=path.relative_to(folder).as_posix(), file=path) for path in sorted([*files, *frames])]
    if not entries:
        raise InputError(f"{folder} holds no videos: neither files such as .mp4 nor folders of PNG frames")
    return entries


DATASETS: dict[str, Dataset] = {
    "ucf101": VideoFiles(read_ucf101, "class-distribution", _class_prompts),
    "msrvtt": VideoFiles(read_msrvtt, "one-caption", _caption_prompts),
    "folder": VideoFiles(read_clip_folder, "one-caption", _caption_prompts),
    "prompts": Dataset(),
}
"""The data sets that evaluation itself provides."""


def _msrvtt_tables(folder: Path) -> list[dict[str, Any]]:
    """The JSON files of MSR-VTT, by name; other JSON files are ignored."""
    tables = []
    for file in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        if "videodatainfo" not in file.name and not file.name.startswith("MSRVTT"):
            continue
        try:
            check_regular(file)
            table = json.loads(file.read_bytes())  # 200,000 sentences: more than other JSON may hold
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{file} is no JSON file of MSR-VTT ({error}); get it again") from error
        if not isinstance(table, dict):
            raise InputError(f"{file} is no JSON file of MSR-VTT (it holds no object); get it again")
        if isinstance(table.get("videos"), list) and isinstance(table.get("sentences"), list):
            tables.append(table)
    return tables


def _wrong_layout(folder: Path, name: str, layout: str) -> InputError:
    if not folder.is_dir():
        return InputError(f"{folder} is not a folder; give the one of {name} with --data: {layout}")
    held = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    return InputError(f"{folder} is not the layout of {name}: expected {layout}; it holds {held}")
