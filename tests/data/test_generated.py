"""Lists of captions and shards as strangers may write them: read as they were meant, or refused by an error of ours."""

import csv
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from show1.data.captions import LISTS, read_captions
from show1.data.shards import ShardClips
from show1.errors import InputError

COMMON: dict[str, Any] = {
    "deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck),
}  # fmt: skip

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=40)
ROWS = st.lists(st.tuples(st.sampled_from(["a.mp4", "below/b.mp4"]), TEXT), min_size=1, max_size=5)
PIECES = [
    "file", "caption", "file_name", "text", "a.mp4", "x", ",", '"', "\n", "\r", "\0", "\ufeff", "\u2028", "é", "{", "}",
    ":", "[", "]", "1e999", "null", "\\ud800", "\\u0000", "..", "/", "~", " ", "\t", "file,caption\n", "a.mp4,x\n",
    '{"file": "a.mp4", "caption": "x"}\n',
]  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), TEXT), max_size=25).map("".join)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "below").mkdir()
        for file in ("a.mp4", "below/b.mp4"):
            (Path(name) / file).touch()
        yield Path(name)


@settings(max_examples=300, **COMMON)
@given(rows=ROWS)
def test_every_caption_comes_back(rows: list[tuple[str, str]]) -> None:
    several_lines = any(end in text.strip() for _, text in rows for end in "\r\n")  # as if a quote were not closed
    for name in ("captions.jsonl",) if several_lines else ("captions.csv", "captions.jsonl"):
        with folder() as clips:
            with (clips / name).open("w", encoding="utf-8", newline="") as file:
                if name.endswith(".csv"):
                    csv.writer(file).writerows([("file", "caption"), *rows])
                else:
                    file.write("".join(json.dumps({"file": f, "caption": c}) + "\n" for f, c in rows))
            found = [(e.file.relative_to(clips).as_posix(), e.caption) for e in read_captions(clips)]
            assert found == [(file, caption.strip()) for file, caption in rows]


def read_list(name: str, data: bytes) -> None:
    with folder() as clips:
        (clips / name).write_bytes(data)
        try:
            read_captions(clips)
        except InputError as error:
            assert str(clips) in str(error)


@settings(max_examples=500, **COMMON)
@given(name=st.sampled_from(LISTS), text=TEXTS)
def test_generated_lists(name: str, text: str) -> None:
    read_list(name, text.encode())


@pytest.mark.thousands
@settings(max_examples=10_000, **COMMON)
@given(name=st.sampled_from(LISTS), data=st.one_of(TEXTS.map(str.encode), st.binary(max_size=200)))
def test_many_generated_lists(name: str, data: bytes) -> None:
    read_list(name, data)


def a_shard() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in {"a.mp4": b"video", "a.txt": b"a dog", "b.png": b"", "b.json": b'{"text": "x"}'}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


SHARD = a_shard()
CHANGES = st.lists(st.tuples(st.integers(0, 4096), st.binary(min_size=1, max_size=12)), max_size=4)


@settings(max_examples=500, **COMMON)
@given(changes=CHANGES, end=st.integers(0, len(SHARD)))
def test_generated_shards(changes: list[tuple[int, bytes]], end: int) -> None:
    data = bytearray(SHARD)
    for start, content in changes:
        data[start : start + len(content)] = content
    with folder() as clips:
        (clips / "0.tar").write_bytes(data[:end] if end % 2 else data)
        try:
            found = ShardClips(clips)
        except InputError as error:
            assert "0.tar" in str(error) or "holds no videos" in str(error)
        else:
            assert all(entry.sample()[0] <= len(SHARD) for entry in found.listed)
