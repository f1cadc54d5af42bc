"""`show1 train`: options, going on, stopping. The task "text" stands for all: it takes a second."""

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from show1.cli import train
from show1.data.options import DataOptions
from show1.sprites.options import SpriteOptions
from show1.training import LoopOptions, TrainingConfig
from tests.cli.conftest import Show1

DOCS = Path(__file__).parents[2] / "docs" / "train.md"
SPRITES = ("--data", "sprites")
SMALL = (*SPRITES, "--batch-size", 4, "--log-every", 1)
TASKS = {kind.task: kind for kind in train.ALL_TASKS}


def weights(folder: Path) -> bytes:
    return (folder / "export/text_encoder/model.safetensors").read_bytes()


@pytest.mark.parametrize("task", TASKS)
def test_every_option_is_there_and_no_other(show1: Show1, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = show1("train", task, "--help")
    assert shown.code == 0
    flags = set(re.findall(r"(?<=[ |│])--(?!no-)[a-z0-9-]+(?=[ /])", shown.out)) - {"--help"}
    names = {field.name for kind in (TASKS[task], DataOptions, LoopOptions) for field in dataclasses.fields(kind)}
    expected = {f"--{name.replace('_', '-')}" for name in {*names, "data", "config", "dry_run", "quiet"}}
    assert expected <= flags
    others = {field.name for kind in (*TASKS.values(), SpriteOptions) for field in dataclasses.fields(kind)} - names
    assert not flags & {f"--{name.replace('_', '-')}" for name in others}
    assert task in show1("train", "--help").out


@pytest.mark.parametrize("task", TASKS)
def test_examples_are_complete(task: str) -> None:
    options = dict(line.removeprefix("--").replace("-", "_").split(" ") for line in TASKS[task].example)
    values = {name: int(value) if value.isdigit() else value for name, value in options.items()}
    TrainingConfig.from_dict({"task": task, "out": f"runs/{task}", **values}, train.ALL_TASKS)


def test_commands_of_the_documentation(show1: Show1, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def keep(kind: Any, options: dict[str, Any], **_: Any) -> None:
        train.resolve(kind, options, None)
        given.append(kind.task)

    monkeypatch.setattr(train, "run", keep)
    blocks = re.findall(r"```\n(show1 train .*?)```", DOCS.read_text().replace("\\\n", " "), re.DOTALL)
    for line in "".join(blocks).splitlines():
        if "--data" in line:  # others resume a run
            assert show1(*shlex.split(line)[1:]).code == 0, line
    assert set(given) == set(TASKS)


def test_a_training_and_more_of_it(show1: Show1, tmp_path: Path) -> None:
    first = show1("train", "text", "--out", "run", "--steps", 2, *SMALL)
    assert (first.code, first.out) == (0, "run/export\n")
    assert '"learning_rate": 0.0007' in first.err
    assert "step 2/2, loss " in first.err
    assert "it/s" not in first.err  # no bars of other packages
    again = show1("train", "text", "--out", "run")
    assert (again.code, again.out) == (0, "run/export\n")
    more = show1("train", "text", "--out", "run", "--steps", 4, "--quiet")
    assert (more.code, more.out, more.err) == (0, "run/export\n", "")
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_another_run_in_the_same_folder_is_refused(show1: Show1) -> None:
    assert show1("train", "text", "--out", "run", "--steps", 1, *SMALL).code == 0
    other = show1("train", "text", "--out", "run", "--seed", 5)
    assert other.code == 2 and "run holds a run with another seed (0, now 5)" in other.err
    task = show1("train", "vae", "--out", "run")
    assert task.code == 2 and "run/config.json holds options for the task 'text', not for 'vae'" in task.err


def test_a_run_that_was_killed_before_its_first_checkpoint(show1: Show1, tmp_path: Path) -> None:
    assert show1("train", "text", "--out", "run", "--steps", 2, "--learning-rate", 0.002, *SMALL).code == 0
    shutil.rmtree(tmp_path / "run/checkpoints")
    told = show1("train", "text", "--out", "run", "--dry-run").json
    assert told["resumes_from"] is None
    assert (told["config"]["steps"], told["config"]["learning_rate"]) == (2, 0.002)


def test_dry_run(show1: Show1, tmp_path: Path) -> None:
    options = ("--size", 16, 24, "--no-gradient-checkpointing")
    told = show1("train", "keyframes", *SPRITES, "--out", "run", *options, "--dry-run")
    assert told.code == 0
    assert told.json["trained_parameters"] > 1000
    assert told.json["config"]["size"] == [16, 24] and told.json["config"]["gradient_checkpointing"] is False
    assert list(tmp_path.iterdir()) == []
    told = show1("train", "keyframes", *SPRITES, "--out", "~/run", *options, "--dry-run")
    assert told.json["config"]["out"] == str(Path.home() / "run")


def test_what_a_file_turns_on_can_be_turned_off(show1: Show1, tmp_path: Path) -> None:
    (tmp_path / "options.json").write_text(
        json.dumps({"task": "keyframes", "data": "sprites", "out": "run", "gradient_checkpointing": True})
    )
    for given, on in [((), True), (("--no-gradient-checkpointing",), False)]:
        told = show1("train", "keyframes", "--config", "options.json", *given, "--dry-run")
        assert told.json["config"]["gradient_checkpointing"] is on


def test_options_from_a_file(show1: Show1, tmp_path: Path) -> None:
    (tmp_path / "options.json").write_text(
        json.dumps({"task": "text", "data": "sprites", "out": "run", "steps": 7, "seed": 3})
    )
    told = show1("train", "text", "--config", "options.json", "--seed", 4, "--dry-run").json["config"]
    assert (told["out"], told["steps"], told["seed"]) == ("run", 7, 4)
    other = show1("train", "vae", "--config", "options.json")
    assert other.code == 2 and "options.json holds options for the task 'text', not for 'vae'" in other.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["text"], "--out DIR is needed"),
        (["text", "--out", "run"], "--data DIR is needed: a folder with videos"),
        (["text", *SPRITES, "--out", "run", "--steps", "0"], "steps must be 1 or more, got 0"),
        (["text", *SPRITES, "--out", "run", "--lr-schedule", "square"], "square"),
        (["text", *SPRITES, "--out", "run", "--network", "huge"], "unknown preset 'huge'"),
        (["text", "--data", "sprites:speed=1", "--out", "run"], "unknown option 'speed'; the options are spins"),
        (["keyframes", "--data", "clips", "--spins", "0.5", "--out", "run"], "--spins"),
        (["interpolation", *SPRITES, "--out", "run"], "text: interpolation reads prompts with a trained text encoder"),
        (["keyframes", *SPRITES, "--out", "run", "--text", "nowhere"], "text: there is no folder nowhere;"),
        (["keyframes", *SPRITES, "--out", "run", "--text", "."], "export of a keyframe_images training by --text DIR"),
        (
            ["keyframes", *SPRITES, "--out", "run", "--init", "no/such/folder"],
            "init: there is no folder no/such/folder;",
        ),
        (["keyframes", *SPRITES, "--out", "run", "--network", "show-1"], "this preset has no text network"),
        (["vae", "--out", "run", "--data", "nowhere", "--dry-run"], "nowhere is not a folder"),
        (["text", *SPRITES, "--out", "run", "--seed", "-1"], "seed must be 0 or more"),
        (["text", "--config", "nowhere.json"], "nowhere.json cannot be read"),
        (["text", "--config", "broken.json"], "broken.json cannot be read as a JSON object"),
        (["text", "--config", "unknown.json"], "unknown training option 'speed'"),
        (["sound", "--out", "run"], "sound"),
    ],
)
def test_bad_input(show1: Show1, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "unknown.json").write_text('{"out": "run", "data": "sprites", "speed": 9}')
    result = show1("train", *words)
    assert result.code == 2 and result.out == ""
    assert message in result.err and "Traceback" not in result.err


def test_a_folder_that_cannot_be_written(show1: Show1, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = show1("train", "text", *SPRITES, "--out", "file/run")
    assert result.code == 2 and "file/run" in result.err and "Traceback" not in result.err


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_leaves_a_run_that_goes_on(
    show1: Show1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    number = getattr(signal, name)

    def press_once(_: Any, line: dict[str, float]) -> None:
        if line["step"] == 1:
            signal.raise_signal(number)

    assert show1("train", "text", "--out", "whole", "--steps", 4, *SMALL).code == 0
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr("show1.cli.training.TrainingProgress.__call__", press_once)
        stopped = show1("train", "text", "--out", "my run", "--steps", 4, *SMALL)
    assert stopped.code == code
    assert "my run holds step 2 of 4" in stopped.err
    assert "To resume: show1 train text --out 'my run'" in stopped.err
    assert signal.getsignal(number) is handler
    assert show1("train", "text", "--out", "my run").code == 0
    assert weights(tmp_path / "my run") == weights(tmp_path / "whole")


def test_ctrl_c_twice_stops_at_once(show1: Show1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press_twice(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("show1.cli.training.TrainingProgress.__call__", press_twice)
    stopped = show1("train", "text", "--out", "run", "--steps", 4, *SMALL)
    assert stopped.code == 130 and "There is no checkpoint yet" in stopped.err
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare")
def test_process_1_of_a_container_stops_too(tmp_path: Path) -> None:
    options = ["text", *SPRITES, "--batch-size", "4", "--steps", "100000", "--log-every", "1", "--out", "run"]
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no permission for a namespace of processes")
    root = str(Path(__file__).parents[2] / "src")
    command = [*unshare, sys.executable, "-m", "show1", "train", *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "samples/s" not in process.stderr.readline():
            assert process.poll() is None
        [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        assert "To resume: show1 train text --out run" in process.stderr.read()
    assert process.returncode == 143


def test_the_module_that_launchers_start() -> None:
    told = subprocess.run([sys.executable, "-m", "show1", "--version"], capture_output=True, text=True)
    assert told.returncode == 0 and told.stdout.startswith("show1 ")


def test_only_the_main_process_talks(show1: Show1, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("show1.training.run.train", lambda options, loop, source, **_: loop.folder / "export")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = show1("train", "text", *SPRITES, "--out", "run")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_no_flag_and_no_word_of_the_help_is_cut_at_80_columns(show1: Show1, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in (["train", "super_resolution"], ["customize", "motion"], ["generate"], ["evaluate", "score"]):
        shown = show1(*command, "--help").out
        assert "…" not in shown and max(map(len, shown.splitlines())) <= 80
    assert "--no-gradient-checkpointing" in show1("train", "keyframes", "--help").out
