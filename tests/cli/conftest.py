"""A whole cascade, so small that a video takes a second."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from show1.cli.main import main
from tests.experts.tiny_experts import build_wan
from tests.published_layout import build_published, small_settings


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


@contextmanager
def signalled_at(text: str, number: int = signal.SIGINT, *, times: int = 1) -> Iterator[None]:
    """Sends a signal when a command writes a text to stderr, like a user who presses Ctrl-C on reading it.

    Args:
        text: What is read.
        number: The signal.
        times: How often the text is read until then.
    """
    write, left = sys.stderr.write, times

    def watched(line: str) -> int:
        nonlocal left
        count = write(line)
        if text in line:
            left -= 1
            if left == 0:
                signal.raise_signal(number)
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.stderr, "write", watched)
        yield
    assert left <= 0, f"nothing said {text!r}"


@pytest.fixture(scope="session")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cascade folder: 5 frames of 24x40 from 3 keyframes. Not to be changed: copy it first."""
    from show1.checkpoints.convert import save_cascade
    from show1.checkpoints.locate import resolve

    folder = tmp_path_factory.mktemp("cli")
    found = resolve(build_published(folder / "published", first_frame=False))
    settings = small_settings().replace(
        keyframes={"num_inference_steps": 2},
        interpolation={"factor": 2},
        super_resolution={"first_frame": None},
        translation={"num_inference_steps": 2},
    )
    return save_cascade(replace(found, settings=settings), folder / "tiny")


@pytest.fixture(scope="session")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Wan. Not to be changed: copy it first."""
    return build_wan(tmp_path_factory.mktemp("wan") / "expert")


@pytest.fixture(scope="session")
def whole(cascade: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The video of "a panda" with seed 1, without loss."""
    folder = tmp_path_factory.mktemp("whole")
    file, run = folder / "whole.mkv", folder / "run"
    asked = ["generate", "a panda", "-m", cascade, "--seed", 1, "-o", file, "--run", run, "--quiet"]
    assert main([str(word) for word in asked]) == 0
    return file


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """As in a terminal: in the background, or under nohup, some signals are ignored."""
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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
