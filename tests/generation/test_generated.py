"""Records and manifests as a stranger may write them: read, or refused by an error of the package's own.

Time and memory are bounded: the address space may grow by a gigabyte only, while any settings are believed.
"""

import contextlib
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from show1.cli.inspect import inspect
from show1.config import PUBLISHED, STAGES
from show1.errors import Show1Error
from show1.generation.manifest import MANIFEST, Manifest, model_sha256
from show1.generation.metadata import VideoRecord
from show1.generation.request import GenerationRequest
from show1.generation.run import Run
from tests.mutations import mutated, places

ADAPTER = {
    "name": "walk", "path": "/a/walk.safetensors", "sha256": "0" * 64, "stage": "keyframes", "weight": 1.0,
    "detail_weight": 0.5, "noise_weight": 0.0,
}  # fmt: skip
MODEL = {"name": "mini", "model": "mini", "sha256": "0" * 64, "adapters": [ADAPTER]}
PLACE = {"versions": {"show1": "0.1.0"}, "device": "cpu", "dtype": "float32", "threads": 1}
RECORD: dict[str, Any] = {
    "prompt": "a panda", "seed": 1, "numerics": "default", "stages": list(STAGES), "settings": PUBLISHED.to_dict(),
    "model": MODEL, **PLACE,
}  # fmt: skip
FILES = {f"{stage}/unet/model.safetensors": "0" * 64 for stage in STAGES}
KNOWN_RUN: dict[str, Any] = {
    "format": 2,
    "created": "2026-11-22T10:15:02+0000",
    "output": {"path": "/videos/panda.mp4", "options": {"quality": 50}},
    "request": {
        "prompts": ["a panda"], "seeds": [1], "settings": PUBLISHED.to_dict(), "stages": list(STAGES),
        "numerics": "default", "fps": 2.0,
    },
    "model": {**MODEL, "stages": list(STAGES), "sources": {}, "files": FILES, "adapters": [],
              "sha256": model_sha256(FILES, [])},
    "text": {"seconds": 0.1, "peak_memory_bytes": 5},
    "stages": {"keyframes": {"file": "keyframes.safetensors", "sha256": "0" * 64, "seconds": 1.0}},
    **PLACE,
}  # fmt: skip
KNOWN_RUN["stages"]["keyframes"]["request_sha256"] = GenerationRequest.from_dict(KNOWN_RUN["request"]).stage_sha256(
    "keyframes"
)

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from([10**30, -1, 1e308, "keyframes", "../x", "\x1b[2J", "\udcff", "\0", "a" * 10_000, 2**63, 1 << 31])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=4), inside, max_size=3),
    max_leaves=4,
)


def changes(known: dict[str, Any]) -> st.SearchStrategy[list[tuple[tuple[Any, ...], Any]]]:
    """Up to three places of a saved form, with other values for them; `...` takes the value out."""
    return st.lists(st.tuples(st.sampled_from(list(places(known))), VALUES | st.just(...)), max_size=3)


def changed(known: dict[str, Any], made: list[tuple[tuple[Any, ...], Any]]) -> dict[str, Any]:
    out = known
    for path, value in made:
        with contextlib.suppress(LookupError, TypeError):  # another change may have taken the place away
            out = mutated(out, path, value)
    return out


@contextmanager
def bounded() -> Iterator[None]:
    """At most a gigabyte more of address space, and two seconds."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), hard))
    began = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert time.process_time() - began < 2


def read_record(values: Any) -> None:
    with bounded():
        try:
            record = VideoRecord.from_metadata(values)
            request = record.to_request()
        except Show1Error as error:
            assert len(str(error)) < 2000
            return
        assert VideoRecord.from_metadata(json.loads(json.dumps(record.to_dict()))) == record
        assert request.largest_output() <= 1 << 31


def read_run(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder, bounded():
        (Path(folder) / MANIFEST).write_text(text, errors="surrogatepass")
        try:
            inspect(folder)
            run = Run.open(folder)
        except Show1Error as error:
            assert len(str(error)) < 2000
            return
        assert run.finished_stages == () and not run.finished
        assert run.manifest.to_dict()


RECORDS = given(made=changes(RECORD))
RUNS = given(
    text=st.text(max_size=20) | st.builds(lambda made: json.dumps(changed(KNOWN_RUN, made)), changes(KNOWN_RUN))
)
COMMON: dict[str, Any] = {
    "deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck),
}  # fmt: skip


def test_what_is_changed_is_sound() -> None:
    assert VideoRecord.from_metadata(RECORD).to_request().seeds == (1,)
    Manifest.model_validate(KNOWN_RUN)


@settings(max_examples=500, **COMMON)
@RECORDS
def test_generated_records(made: list[tuple[tuple[Any, ...], Any]]) -> None:
    read_record(changed(RECORD, made))


@settings(max_examples=500, **COMMON)
@RUNS
def test_generated_manifests(text: str) -> None:
    read_run(text)


@pytest.mark.thousands
@settings(max_examples=10_000, **COMMON)
@RECORDS
def test_many_generated_records(made: list[tuple[tuple[Any, ...], Any]]) -> None:
    read_record(changed(RECORD, made))


@pytest.mark.thousands
@settings(max_examples=10_000, **COMMON)
@RUNS
def test_many_generated_manifests(text: str) -> None:
    read_run(text)
