"""What is shown while a generation runs."""

import io
from typing import Any

import pytest
from rich.console import Console

from show1.cli import progress
from show1.cli.progress import Reporter, StageBars, StageLines, choose_reporter, duration


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(progress, "ERR", console)
    return console


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_bars_show_steps_and_time_left(screen: Console) -> None:
    reporter: Any = choose_reporter(quiet=False)
    assert isinstance(reporter, StageBars)
    with reporter:
        reporter.stage_start("text")
        reporter.stage_start("keyframes")
        for done in range(1, 4):
            reporter.step_end("keyframes", done, 3 + 2, None)
        reporter._progress.refresh()
        middle = _text(screen)
        reporter.stage_end("keyframes", [])
    assert "step 3/5" in middle and "left" in middle and "keyframes" in middle
    last = _text(screen)[len(middle) :]
    assert "prompt" in last and "step" not in last.splitlines()[-1]


def test_a_log_gets_a_line_a_stage_and_one_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    reporter: Any = choose_reporter(quiet=False)
    assert isinstance(reporter, StageLines)
    with reporter:
        reporter.stage_start("keyframes")
        for done in range(1, 11):
            now[0] += 10
            reporter.step_end("keyframes", done, 10, None)
        reporter.stage_end("keyframes", [])
    assert capfd.readouterr().err.splitlines() == [
        "keyframes: step 3 of 10, about 1:10 min left",
        "keyframes: step 6 of 10, about 40.0 s left",
        "keyframes: step 9 of 10, about 10.0 s left",
        "keyframes: done in 1:40 min",
    ]


def test_quiet() -> None:
    assert type(choose_reporter(quiet=True)) is Reporter


def test_durations() -> None:
    assert [duration(s) for s in (None, 8.06, 187, 3787)] == ["", "8.1 s", "3:07 min", "1:03:07 h"]
