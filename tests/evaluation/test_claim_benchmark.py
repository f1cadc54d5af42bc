"""The benchmark of the paper's claim, with ground truth in the place of the models."""

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from evaluation.benchmark_scripts import load_script
from torch import Tensor

from show1.config import CascadeSettings
from show1.errors import Cancelled
from show1.evaluation.alignment import truth
from show1.training import TrainingConfig


@pytest.fixture(scope="module")
def claim() -> ModuleType:
    return load_script("claim")


@pytest.fixture
def options(claim: ModuleType, tmp_path: Path) -> Any:
    return claim.Options(
        out=tmp_path,
        model="mini",
        videos=2,
        hybrid_minutes=2.0,
        expert_minutes=1.0,
        steps=None,
        mixed_precision="no",
        earlier=Path("earlier"),
    )


class TruthPipeline:
    """Gives renders of what is asked for, at the size that is asked for."""

    device = torch.device("cpu")

    def __init__(self, claim: ModuleType) -> None:
        self.settings = CascadeSettings.from_dict(claim.train_mini.SETTINGS)
        self.scenes = {p.prompt: p for p in claim._prompts(2)}
        self.calls: list[dict[str, Any]] = []

    def __call__(self, prompt: str, *, seed: int, output_type: str, **options: Any) -> Tensor:
        self.calls.append(options)
        chosen = getattr(options.get("settings", self.settings), options.get("until", "translation"))
        size = {"height": chosen.height, "width": chosen.width}
        return truth(self.scenes[prompt], seed=seed, num_frames=29, **size)


def test_all_ways_are_scored_for_the_same_prompts_and_seeds(claim, options):
    pipes = {name: TruthPipeline(claim) for name in (*claim.ARMS[:-1], claim.EARLIER)}
    rows = claim.compare(options, pipes)
    assert [row.name for row in rows] == [claim.LOW, *claim.ARMS, claim.EARLIER]
    for row in rows:
        assert row.shares["subject"].share == row.shares["background"].share == 1.0, row.name

    # each way starts where it should
    (latent, _), (pixel, _) = pipes["latent only"].calls, pipes["pixel only"].calls
    assert latent["settings"].translation.strength == 1.0 and latent["settings"].translation.max_timestep == 1000
    assert not latent["video"].any()
    assert (pixel["settings"].super_resolution.height, pixel["settings"].super_resolution.width) == claim.SIZE
    assert pixel["video"].shape[-2:] == claim.LOW_SIZE
    assert all("start_from" not in call for call in pipes[claim.EARLIER].calls)

    # and is not made again
    before = {name: len(pipe.calls) for name, pipe in pipes.items()}
    claim.compare(options, pipes)
    assert {name: len(pipe.calls) for name, pipe in pipes.items()} == before

    costs = {claim.LOW: {"seconds": 1.0, "bytes": 2e9}}
    text = claim.report(options, rows, costs, [])
    assert all(f"| {name} | 100.0" in text for name in claim.ARMS) and "| 1.0 | 2.00 |" in text
    assert (options.videos_folder / "samples.png").is_file()


def test_other_settings_have_other_folders(claim, options):
    shorter = dataclasses.replace(options, hybrid_minutes=1.0)
    quick = dataclasses.replace(options, steps=2)
    assert len({o.training for o in (options, shorter, quick)}) == 3
    without = dataclasses.replace(options, earlier=None, videos=64)
    assert without.training == options.training and without.videos_folder != options.videos_folder
    assert dataclasses.replace(options, videos=64).videos_folder == options.videos_folder


def test_networks_are_trained_one_by_one(claim, options, monkeypatch):
    asked = []
    monkeypatch.setattr(claim, "_train_for", lambda minutes, config, *_: asked.append((minutes, config)))
    at_once = claim.train_networks(dataclasses.replace(options, workers=3))
    alone = claim.train_networks(options, ["latent-images", "latent"])
    assert alone == at_once and list(alone) == list(claim.PLANS)
    assert [Path(config.out).name for _, config in asked] == [*claim.PLANS, "latent-images", "latent"]
    assert [config.workers for _, config in asked] == [3] * len(claim.PLANS) + [0, 0]
    _, only, _ = claim.parse(["--out", "claim", "--only", "latent-images", "--only", "latent"])
    assert only == ["latent-images", "latent"]


def test_the_cost_is_that_of_the_whole_way(claim):
    pipes = {name: TruthPipeline(claim) for name in (*claim.ARMS[:-1], claim.EARLIER)}
    assert claim.cost_of("plain upscaling", pipes)["seconds"] >= 0
    assert [call["until"] for call in pipes["hybrid"].calls] == ["super_resolution"] * 2
    claim.cost_of("latent only", pipes)
    claim.cost_of(claim.EARLIER, pipes)
    assert len(pipes["hybrid"].calls) == 2 and len(pipes["latent only"].calls) == len(pipes[claim.EARLIER].calls) == 2
    claim.cost_of("pixel only", pipes)
    assert len(pipes["hybrid"].calls) == 4 and len(pipes["pixel only"].calls) == 2


@pytest.mark.parametrize("wrong", [["--videos", "0"], ["--earlier-keyframes", "nowhere"]])
def test_wrong_options_are_told_before_the_trainings(claim, wrong, capsys):
    with pytest.raises(SystemExit):
        claim.parse(["--out", "claim", *wrong])
    assert wrong[0] in capsys.readouterr().err


def test_a_stopped_training_says_how_it_goes_on(claim, options, monkeypatch):
    def train(config: TrainingConfig, stop: Callable[[], bool]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        raise Cancelled("the folder holds step 3 of 9")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(claim, "train", train)
    monkeypatch.setattr(sys, "argv", ["run.py", "--out", str(options.out), "--quick"])
    with pytest.raises(SystemExit, match="holds step 3 of 9; the same command goes on from there"):
        claim.main()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_training_takes_the_steps_that_fit_its_minutes(claim, options, monkeypatch):
    trained: list[TrainingConfig] = []

    def fake_train(config: TrainingConfig, stop: object = None) -> None:
        trained.append(config)
        config.folder.mkdir(parents=True)
        lines = []
        for step in range(config.log_every, config.steps + 1, config.log_every):
            first = step == config.log_every
            lines.append({"step": step, "samples_per_second": config.batch_size / (9.0 if first else 3.0)})
        (config.folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    monkeypatch.setattr(claim, "train", fake_train)
    config = TrainingConfig(task="keyframes", out=str(options.training / "pixel"), batch_size=4, log_every=10)
    claim._train_for(2.0, config, None)
    assert [c.steps for c in trained] == [16, 40]  # two minutes at three seconds a step
    assert trained[1] == dataclasses.replace(config, steps=40)
    claim._train_for(2.0, config, None)
    assert len(trained) == 2
    text = claim.report(options, [], {}, [])
    assert "| pixel | 40 | 160 | 3 |" in text  # ten of its steps took nine seconds each
