"""Protocols are frozen: their ids, their files, and what they refuse."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from show1.errors import InputError
from show1.evaluation.benchmark import resolve, work_items
from show1.evaluation.benchmark_protocol import BenchmarkProtocol, Metric, draw, published_figures
from show1.evaluation.catalogue import STANDARD
from show1.evaluation.clips import Entry
from show1.evaluation.datasets import DATASETS
from show1.evaluation.feature_networks import NETWORKS
from tests.evaluation.standard_sets import small_protocol

FROZEN = {
    "folder": "0f99ef25662d6144",
    "msrvtt-2990": "47a5354b4ff5d6e7",
    "ucf101-2048x16": "df5b1e2522601c1f",
    "ucf101-mav-10k": "32e70c4d4109bba4",
    "vbench": "a575bc6b78aedc3f",
}
"""A frozen protocol does not change: what is better gets another name."""


def test_shipped_protocols_are_frozen() -> None:
    assert {name: STANDARD.load_protocol(name).id for name in STANDARD.protocol_names} == FROZEN


@pytest.mark.parametrize("name", list(FROZEN))
def test_shipped_protocols_are_whole(name: str) -> None:
    protocol = STANDARD.load_protocol(name)
    assert protocol.name == name and "protocol" in protocol.source
    for metric in protocol.metrics:
        if metric.network in NETWORKS:
            assert metric.sha256 == NETWORKS[metric.network].sha256
            assert NETWORKS[metric.network].min_frames <= protocol.frames
    if protocol.prompt_file is not None:
        assert protocol.prompt_file_sha256 is not None and protocol.read_prompt_file()
    for peer in published_figures(protocol.dataset):
        assert peer["source"] and all(isinstance(value, float) for value in peer["figures"].values())


def test_any_field_changes_the_id(tmp_path: Path) -> None:
    protocol = small_protocol()
    others: dict[str, Any] = {
        "name": "other",
        "dataset": "msrvtt",
        "split": "test01",
        "videos": 5,
        "samples_per_prompt": 2,
        "references": 3,
        "reference_seed": 1,
        "frames": 6,
        "stride": 2,
        "fps": 8.0,
        "start": "hash",
        "height": 17,
        "width": 17,
        "resize": "squash",
        "prompts": "all",
        "prompt_file": "other.json",
        "prompt_file_sha256": "0" * 64,
        "seed": 1,
        "metrics": (Metric(name="fvd", network="i3d-stylegan-v", sha256="0" * 64),),
        "layout": "vbench",
        "source": {"frames": "a choice"},
    }
    assert set(others) == {field.name for field in dataclasses.fields(BenchmarkProtocol)}
    ids = [dataclasses.replace(protocol, **{name: value}).id for name, value in others.items()]
    assert len({protocol.id, *ids}) == len(others) + 1 and len(protocol.id) == 16
    reading = dataclasses.replace(protocol, videos=9, seed=3, name="other")
    assert reading.reference_id == protocol.reference_id != dataclasses.replace(protocol, stride=2).reference_id
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(protocol.to_dict()))
    assert STANDARD.load_protocol(file) == protocol and STANDARD.load_protocol(file).id == protocol.id


def test_the_place_of_the_prompt_file_does_not_matter(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "prompts.txt").write_text("a dog\n")
        fields = small_protocol(dataset="prompts", prompts="all", prompt_file="prompts.txt").to_dict()
        (tmp_path / folder / "mine.json").write_text(json.dumps(fields))
    first, second = (STANDARD.load_protocol(tmp_path / folder / "mine.json") for folder in ("a", "b"))
    assert first.id == second.id and first.read_prompt_file() == "a dog\n"
    with pytest.raises(InputError, match="sha256"):
        dataclasses.replace(first, prompt_file_sha256="0" * 64).read_prompt_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize": "stretch"}, "resize must be one of squash, crop"),
        ({"frames": 0}, "frames must be 1 or more"),
        ({"fps": 0.0}, "fps must be positive"),
        ({"videos": 0}, "videos must be 1 or more"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small_protocol(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "msrvtt"}, "class-distribution takes them from the dataset ucf101, got msrvtt"),
        ({"dataset": "sprites"}, "dataset must be one of ucf101, msrvtt, folder, prompts, got 'sprites'"),
        ({"prompts": "one-caption"}, "one-caption takes them from the dataset msrvtt or folder"),
        (
            {"dataset": "prompts", "prompts": "all", "metrics": (STANDARD.parse_metric("fvd"),)},
            "fvd:i3d-stylegan-v compares",
        ),
    ],
)
def test_what_a_dataset_lacks(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(small_protocol(**changes), DATASETS, None, None)


def test_files_that_are_no_protocol(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ucf101-mav-10k"):
        STANDARD.load_protocol("ucf")
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({**small_protocol().to_dict(), "num_frames": 3}))
    with pytest.raises(InputError, match="unknown protocol option 'num_frames'"):
        STANDARD.load_protocol(file)
    with pytest.raises(InputError, match="there is no metric 'fid'; .* fvd, kvd"):
        STANDARD.parse_metric("fid")
    assert STANDARD.parse_metric("fvd").network == "i3d-stylegan-v"
    assert STANDARD.parse_metric("fvd:i3d-tats").label == "fvd:i3d-tats"


def test_classes_come_as_often_as_in_the_split() -> None:
    counts = {"Archery": 5, "Biking": 3, "YoYo": 2}
    entries = [
        Entry(key=f"{label}/{i}", file=Path(), label=label) for label, count in counts.items() for i in range(count)
    ]
    items = work_items(small_protocol(videos=21), DATASETS["ucf101"], entries)
    made = Counter(item.prompt for item in items)
    assert sorted(made.values()) == [4, 6, 11]  # 4.2, 6.3, 10.5: the largest remainder is rounded up
    assert [item.seed for item in items] == list(range(21))
    assert len({item.prompt for item in items[:6]}) > 1  # mixed, not class by class
    assert [item.sample for item in items if item.prompt == items[0].prompt] == list(range(made[items[0].prompt]))
    with pytest.raises(InputError, match="no prompt for the class 'Chess'"):
        work_items(small_protocol(), DATASETS["ucf101"], [Entry(key="x", file=Path(), label="Chess")])


def test_one_caption_of_each_video() -> None:
    entries = [Entry(key=f"video{i}", file=Path(), captions=tuple(f"{i} {k}" for k in range(20))) for i in range(9)]
    protocol = small_protocol(dataset="msrvtt", split="test", prompts="one-caption", prompt_file=None, videos=9)
    prompts = [item.prompt for item in work_items(protocol, DATASETS["msrvtt"], entries)]
    assert [prompt.split()[0] for prompt in prompts] == [str(i) for i in range(9)]
    assert len({prompt.split()[1] for prompt in prompts}) > 3  # not always the first
    some = [item.prompt for item in work_items(dataclasses.replace(protocol, videos=4), DATASETS["msrvtt"], entries)]
    assert len(some) == 4 and set(some) < set(prompts)
    with pytest.raises(InputError, match="asks for 10 videos"):
        work_items(dataclasses.replace(protocol, videos=10), DATASETS["msrvtt"], entries)


def test_draws_are_the_same_everywhere() -> None:
    assert draw("start", 0, "v_Archery_g01_c01") == 5016649105029196120
