"""What is shown while a generation runs."""

import io
import time

import pytest
import torch
from rich.console import Console

from show1.cli import progress
from show1.cli.progress import duration, shown

NONE = torch.zeros(0)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(progress, "ERR", console)
    return console


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_bars_show_steps_and_time_left(screen: Console) -> None:
    with shown(quiet=False) as callbacks:
        callbacks.stage_start("text")
        callbacks.stage_start("keyframes")
        for done in range(1, 4):
            callbacks.step_end("keyframes", done, 3 + 2, NONE)
        while "step 3/5" not in _text(screen):  # drawn four times a second
            time.sleep(0.02)
        middle = _text(screen)
        callbacks.stage_end("keyframes", list)
    assert "step 3/5" in middle and "left" in middle and "keyframes" in middle
    last = _text(screen)[len(middle) :]
    assert "prompt" in last and "step" not in last.splitlines()[-1]


def test_a_log_gets_a_line_a_stage_and_one_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with shown(quiet=False) as callbacks:
        callbacks.stage_start("keyframes")
        for done in range(1, 11):
            now[0] += 10
            callbacks.step_end("keyframes", done, 10, NONE)
        callbacks.stage_end("keyframes", list)
    assert capfd.readouterr().err.splitlines() == [
        "keyframes: step 3 of 10, about 1:10 min left",
        "keyframes: step 6 of 10, about 40.0 s left",
        "keyframes: step 9 of 10, about 10.0 s left",
        "keyframes: done in 1:40 min",
    ]


def test_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    with shown(quiet=True) as callbacks:
        callbacks.stage_start("keyframes")
        callbacks.stage_end("keyframes", list)
    assert capfd.readouterr() == ("", "")


def test_durations() -> None:
    assert [duration(s) for s in (None, 8.06, 187, 3787)] == ["", "8.1 s", "3:07 min", "1:03:07 h"]
