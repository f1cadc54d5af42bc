"""`show1 distil`: the options of each stage, the documented commands, and what is refused."""

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from show1.cli import train
from show1.data.options import DataOptions
from show1.training import LoopOptions
from show1.training.tasks.distillation_options import DISTILLATIONS, DistillationOptions
from tests.cli.conftest import Show1

DOCS = Path(__file__).parents[2] / "docs" / "distil.md"


@pytest.mark.parametrize("kind", DISTILLATIONS)
def test_every_option_is_there_and_no_other(
    show1: Show1, monkeypatch: pytest.MonkeyPatch, kind: type[DistillationOptions]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = show1("distil", kind.stage, "--help")
    assert shown.code == 0 and f"show1 distil {kind.stage} --out" in shown.out
    flags = set(re.findall(r"(?<=[ |│])--(?!no-)[a-z0-9-]+(?=[ /])", shown.out)) - {"--help"}
    names = {field.name for each in (kind, DataOptions, LoopOptions) for field in dataclasses.fields(each)}
    assert {f"--{name.replace('_', '-')}" for name in {*names, "data", "config", "dry_run", "quiet"}} <= flags
    assert not flags & {"--init", "--vae", "--prediction-type", "--max-timestep"}
    assert kind.stage in show1("distil", "--help").out


def test_commands_of_the_documentation(show1: Show1, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(train, "run", lambda kind, options, **_: given.append(train.resolve(kind, options, None)))
    lines = re.findall(r"^show1 distil .*", DOCS.read_text().replace("\\\n", " "), re.MULTILINE)
    for line in lines:
        assert show1(*shlex.split(line)[1:]).code == 0, line
    assert len(given) == len(lines) >= 3
    assert [config.options.student_steps for config in given][:3] == [None, 16, 8]


def test_a_dry_run_leaves_nothing_behind(show1: Show1, tmp_path: Path) -> None:
    options = ("--teacher", "mini", "--data", "sprites", "--out", "run", "--student-steps", 16)
    told = show1("distil", "keyframes", *options, "--dry-run")
    assert (told.code, told.json["config"]["task"]) == (0, "distil_keyframes")
    assert told.json["trained_parameters"] < told.json["frozen_parameters"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name the model to distil by --teacher"),
        (("--teacher", "nowhere"), "no model or folder 'nowhere'"),
        (
            ("--teacher", "mini", "--student-steps", 8, "--teacher-steps", 20),
            "a multiple of the 8 student_steps, got 20",
        ),
    ],
)
def test_bad_input_is_told_in_a_sentence(show1: Show1, tmp_path: Path, options: tuple[Any, ...], message: str) -> None:
    told = show1("distil", "keyframes", "--data", "sprites", "--out", "run", *options, "--dry-run")
    assert told.code in (1, 2) and message in " ".join(told.err.split())
    assert "Traceback" not in told.err and list(tmp_path.iterdir()) == []
