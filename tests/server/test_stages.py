"""One stage of a job, without a queue."""

from pathlib import Path

import pytest

from show1 import Run, Show1Pipeline
from show1.errors import Cancelled, InputError
from show1.server import stages
from show1.server.adapters import StoredAdapter
from tests.tiny_adapters import random_adapter


def test_a_run_that_another_worker_writes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "SECONDS_BETWEEN_QUESTIONS", 0.01)
    run, asked = Run.create(tmp_path / "run"), 0
    with Run.open(run.path):
        with pytest.raises(Cancelled), stages._locked(run, lambda: True):
            raise AssertionError("it is held by another")
    other = Run.open(run.path)
    other.__enter__()

    def stopped() -> bool:
        nonlocal asked
        asked += 1
        if asked == 20:
            other.__exit__()
        return False

    with stages._locked(run, stopped):
        assert asked == 20


def test_an_adapter_whose_file_changes_is_loaded_again(pipe: Show1Pipeline, tmp_path: Path) -> None:
    file, wanted = tmp_path / "walk.safetensors", {"walk": 0.5}
    random_adapter(pipe, seed=0).save(file)
    files = {"walk": StoredAdapter(name="walk", file=file, stage=None)}
    stages.use_adapters(pipe, wanted, files)
    (first,) = pipe.adapters
    stages.use_adapters(pipe, wanted, files)
    assert next(iter(pipe.adapters)) is first
    random_adapter(pipe, seed=1).save(file, overwrite=True)
    stages.use_adapters(pipe, wanted, files)
    assert next(iter(pipe.adapters)).record.sha256 != first.record.sha256
    file.unlink()
    with pytest.raises(InputError, match="walk"):
        stages.use_adapters(pipe, wanted, files)
    stages.use_adapters(pipe, {}, {})
    assert not list(pipe.adapters)
