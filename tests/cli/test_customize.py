"""`show1 customize`: options, a run and more of it, stopping."""

import dataclasses
import json
import logging
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from show1.adapters.adapter import Adapter
from show1.cli import customize
from show1.training.customization import METHODS, CustomizationConfig
from show1.video import Video
from tests.cli.conftest import Show1

SMALL = ("--batch-size", 1, "--log-every", 1, "--inversion-steps", 1, "--method", "lora", "--rank", 2)


@pytest.fixture
def asked(tmp_path: Path, cascade: Path) -> list[object]:
    """The words of a short customization."""
    video = torch.linspace(-1, 1, 6)[None, :, None, None].expand(3, 6, 16, 32)
    Video.from_tensor(video, fps=4.0).save(tmp_path / "clip.mkv")
    return ["customize", "motion", "--video", "clip.mkv", "--prompt", "a panda spins", "-m", cascade, *SMALL]


def test_every_option_is_there(show1: Show1, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    for kind, hidden in customize._NOT_FOR.items():
        shown = show1("customize", kind, "--help")
        assert shown.code == 0
        names = [field.name for field in dataclasses.fields(CustomizationConfig) if field.name not in hidden]
        assert all(f"--{name.replace('_', '-')} " in shown.out for name in names)
        assert not any(f"--{name.replace('_', '-')} " in shown.out for name in hidden)
        assert all(method in shown.out for method in METHODS[kind])
    assert {f.name for f in dataclasses.fields(CustomizationConfig)} <= set(customize._OPTIONS.docs)


def test_a_customization_and_more_of_it(show1: Show1, tmp_path: Path, asked: list[object]) -> None:
    first = show1(*asked, "-o", "walk.safetensors", "--steps", 1)
    assert (first.code, first.out) == (0, "walk.safetensors\n")
    assert '"method": "lora"' in first.err and "step 1/1, loss " in first.err
    assert "peak memory" in first.err and "samples: walk.run/samples/step-0000001.png" in first.err
    assert show1("inspect", "walk.safetensors").code == 0
    more = show1("customize", "motion", "--run", "walk.run", "--steps", 2, "--quiet", "--overwrite")
    assert (more.code, more.out, more.err) == (0, "walk.safetensors\n", "")
    adapter = Adapter.load(tmp_path / "walk.safetensors")
    assert adapter.settings["steps"] == 2 and adapter.prompt == "a panda spins"
    other = show1("customize", "style", "--run", "walk.run")
    assert other.code == 2 and "walk.run/config.json holds options for the kind 'motion', not for 'style'" in other.err


def test_dry_run(show1: Show1, tmp_path: Path, asked: list[object]) -> None:
    told = show1(*asked, "-o", "walk.safetensors", "--dry-run")
    assert told.code == 0
    assert told.json["trained_parameters"] > 0 and told.json["config"]["rank"] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mkv"]
    assert show1(*asked, "-o", "walk.safetensors", "--dry-run", "--sheet", "sheet.png").code == 0
    assert (tmp_path / "sheet.png").is_file()
    alone = show1(*asked, "-o", "walk.safetensors", "--sheet", "sheet.png")
    assert alone.code == 2 and "--sheet is for --dry-run" in alone.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["motion", "--video", "clip.mkv", "--prompt", "a cat"], "-o FILE.safetensors is needed"),
        (["motion", "-o", "a.safetensors", "--prompt", "a cat"], "video: a motion is learned from"),
        (["motion", "-o", "a.safetensors", "--video", "nowhere.mp4", "--prompt", "a cat"], "nowhere.mp4"),
        (["motion", "-o", "a.pt", "--video", "clip.mkv", "--prompt", "a cat"], "a *.safetensors file, got 'a.pt'"),
        (["style", "-o", "a.safetensors", "--images", "nowhere", "--name", "sketch"], "nowhere"),
        (["style", "-o", "a.safetensors", "--images", "here"], "name: say what the style is called"),
        (["style", "-o", "a.safetensors", "--noise-weight", "1"], "--noise-weight"),
    ],
)
def test_bad_input(show1: Show1, cascade: Path, words: list[str], message: str) -> None:
    result = show1("customize", *words, "-m", cascade)
    assert result.code == 2 and result.out == ""
    assert message in result.err and "Traceback" not in result.err


def test_ctrl_c_leaves_a_run_that_goes_on(
    show1: Show1, tmp_path: Path, asked: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def press_once(_: Any, line: dict[str, float]) -> None:
        if line["step"] == 1:
            signal.raise_signal(signal.SIGINT)

    (tmp_path / "walk.safetensors").write_text("of another run")
    with monkeypatch.context() as patch:
        patch.setattr("show1.cli.training.TrainingProgress.__call__", press_once)
        stopped = show1(*asked, "-o", "walk.safetensors", "--steps", 3, "--run", "my run", "--overwrite")
    (tmp_path / "walk.safetensors").unlink()
    assert stopped.code == 130
    assert "my run holds step 2 of 3" in stopped.err
    assert "To resume: show1 customize motion --run 'my run' --overwrite" in stopped.err
    assert show1("customize", "motion", "--run", "my run").code == 0
    assert (tmp_path / "walk.safetensors").is_file()
    steps = [json.loads(line)["step"] for line in (tmp_path / "my run/log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]


def test_ctrl_c_ends_the_inversion(
    show1: Show1, tmp_path: Path, asked: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(_: Any, record: logging.LogRecord) -> None:
        if "step 1 of 2" in record.getMessage():
            assert record.left >= 0  # type: ignore[attr-defined]
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("show1.cli.training.TrainingProgress.emit", press)
    stopped = show1(*asked, "-o", "walk.safetensors", "--inversion-steps", 2, "--run", "run")
    assert stopped.code == 143 and "the search for the start noise was at step 2 of 2" in stopped.err
    assert "the same command starts over" in stopped.err and not list(tmp_path.rglob("prepared.safetensors"))


def test_what_the_model_advises_needs_no_options(show1: Show1, tmp_path: Path, cascade: Path) -> None:
    Video.from_tensor(torch.zeros(3, 8, 20, 32), fps=2.0).save(tmp_path / "clip.mkv")

    def options(kind: str, *words: object) -> dict[str, Any]:
        told = show1("customize", kind, *words, "-o", "a.safetensors", "--dry-run")
        assert told.code == 0, told.err
        found: dict[str, Any] = told.json["config"]
        return found

    motion = ("--video", "clip.mkv", "--prompt", "a panda circles over the sea")
    advised = options("motion", *motion)
    expected = {
        "method": "lora", "rank": 32, "steps": 450, "learning_rate": 3e-3, "ema_decay": 0.97,
        "timestep_logit": [2.5, 1.5], "random_hue": 0.5, "noise_weight": 0.9,
    }  # fmt: skip
    assert expected.items() <= advised.items()
    mine = options("motion", *motion, "--rank", 4, "--noise-weight", 0)
    assert mine == {**advised, "rank": 4, "noise_weight": 0.0}
    other = options("motion", *motion, "--method", "temporal_attention")
    assert (other["steps"], other["learning_rate"]) == (200, 1e-3)
    assert options("motion", *motion, "--inversion-steps", 0)["noise_weight"] == 0
    # advice is for a stage, and other models give none
    assert options("motion", *motion, "--stage", "interpolation")["steps"] == 400
    assert options("motion", *motion, "-m", cascade)["steps"] == 400
    style = ("--video", "clip.mkv", "--name", "ink")
    assert options("style", *style)["steps"] == 400
    assert options("style", *style, "--stage", "super_resolution")["convolutions"] is True


@pytest.mark.parametrize("advice", ["x", {"motion": 3}, {"motion": ["x"]}, {"motion": [{"stage": "evil"}]}])
def test_advice_of_a_damaged_model(show1: Show1, tmp_path: Path, asked: list[object], advice: Any) -> None:
    shutil.copytree(str(asked[asked.index("-m") + 1]), tmp_path / "copy")
    index = json.loads((tmp_path / "copy" / "show1.json").read_text())
    (tmp_path / "copy" / "show1.json").write_text(json.dumps({**index, "customization": advice}))
    told = show1(*asked, "-m", "copy", "-o", "a.safetensors", "--dry-run")
    assert told.code == 1 and "show1.json: 'customization' must map kinds to lists of options" in told.err


def test_advice_changes_no_more_than_how_it_is_learned(show1: Show1, tmp_path: Path, asked: list[object]) -> None:
    shutil.copytree(str(asked[asked.index("-m") + 1]), tmp_path / "copy")
    index = json.loads((tmp_path / "copy" / "show1.json").read_text())
    advice = {
        "motion": [{"method": "lora", "steps": 3, "output": "/etc/x", "run": "/etc/y", "prompt": ["z"], "rank": 9}]
    }
    (tmp_path / "copy" / "show1.json").write_text(json.dumps({**index, "customization": advice}))
    config = show1(*asked, "-m", "copy", "-o", "a.safetensors", "--dry-run").json["config"]
    assert (config["steps"], config["rank"], config["output"], config["run"]) == (3, 2, "a.safetensors", None)
    assert config["prompt"] == ["a panda spins"]
