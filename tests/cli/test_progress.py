"""What is shown while a generation runs."""

import io
import re
import time

import pytest
import torch
from rich.console import Console

from show1.cli import progress
from show1.cli.progress import duration, shown, starting

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


def test_a_log_gets_a_line_a_stage_and_one_whenever_it_is_silent(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SECONDS_OF_SILENCE", 0.05)
    with shown(quiet=False) as callbacks:
        callbacks.stage_start("text")
        time.sleep(0.2)
        callbacks.stage_start("keyframes")
        callbacks.step_end("keyframes", 3, 10, NONE)
        time.sleep(0.2)
        callbacks.stage_end("keyframes", list)
    said = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r"keyframes: done in \d.\d s", said.pop())
    assert re.fullmatch(r"prompt: loading, \d.\d s so far", said[0])
    assert re.fullmatch("keyframes: step 3 of 10, about .* left", said[-1])
    time.sleep(0.2)
    assert capfd.readouterr().err == ""


def test_a_long_wait_is_told_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SECONDS_OF_SILENCE", 0.05)
    with progress.Heartbeat("training", longest=10.0) as heartbeat:
        time.sleep(1.2)
        assert 2 <= len(capfd.readouterr().err.splitlines()) <= 5  # after 0.05, 0.15, 0.35, 0.75 seconds
        heartbeat.note("validating", left=30)
        time.sleep(0.3)
        assert capfd.readouterr().err.startswith("validating, 30.0 s left\n")


def test_a_log_of_a_fast_generation_is_short(capfd: pytest.CaptureFixture[str]) -> None:
    with shown(quiet=False) as callbacks:
        callbacks.stage_start("keyframes")
        callbacks.step_end("keyframes", 3, 10, NONE)
        callbacks.stage_end("keyframes", list)
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    with shown(quiet=True) as callbacks:
        callbacks.stage_start("keyframes")
        callbacks.stage_end("keyframes", list)
    assert capfd.readouterr() == ("", "")


def test_durations() -> None:
    assert [duration(s) for s in (None, 8.06, 187, 3787)] == ["", "8.1 s", "3:07 min", "1:03:07 h"]


def test_the_import_of_torch_is_not_silent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("show1.cli.progress.SECONDS_OF_SILENCE", 0.05)
    for quiet in (True, False):
        with starting(quiet=quiet):
            time.sleep(0.2)
        said = capsys.readouterr().err
        assert said == "" if quiet else said.startswith("starting, ")
