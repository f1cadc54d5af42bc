"""A whole cascade, so small that a video takes a second."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from published_layout import build_published, small_settings

from show1.cli.main import main


@dataclass(frozen=True)
class Result:
    """What a command line gave back."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Show1 = Callable[..., Result]


@pytest.fixture(scope="session")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cascade folder: 9 frames of 24x40 from 3 keyframes. Not to be changed: copy it first."""
    from dataclasses import replace

    from show1.models.cascade import resolve
    from show1.models.convert import save_cascade

    folder = tmp_path_factory.mktemp("cli")
    found = resolve(build_published(folder / "published", first_frame=False))
    changes = {"super_resolution": {"first_frame": None}}
    return save_cascade(replace(found, settings=small_settings().replace(**changes)), folder / "tiny")


@pytest.fixture
def show1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Show1:
    """Runs `show1 ...` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHOW1_DEBUG", raising=False)

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return run
