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
from torch import Tensor

from benchmarks.claim import run as claim_run
from show1.config import CascadeSettings
from show1.errors import Cancelled
from show1.sprites.alignment.judge import truth
from show1.sprites.clips import SpriteClips
from show1.training import TASKS, LoopOptions, TaskOptions, TrainingConfig


@pytest.fixture(scope="module")
def claim() -> ModuleType:
    return claim_run


@pytest.fixture
def options(claim: ModuleType, tmp_path: Path) -> Any:
    return claim.Options(
        out=tmp_path,
        model="mini",
        videos=2,
        share=0.5,
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
    assert [row.name for row in rows] == [claim.LOW, *claim.ARMS, claim.EARLIER, "ground truth"]
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


def test_videos_are_made_again_only_where_what_made_them_is_another(claim, options, tmp_path):
    quick = dataclasses.replace(options, steps=2)
    assert quick.training != options.training and quick.videos_folder != options.videos_folder
    longer = dataclasses.replace(options, share=0.25, videos=64)
    assert longer.training == options.training and longer.videos_folder == options.videos_folder
    changed = {arm for arm in claim.ARMS if longer.video(0, arm) != options.video(0, arm)}
    assert changed == {"latent only"}
    assert {name for name in claim.PLANS if longer.network(name) != options.network(name)} == {
        "latent-images",
        "latent",
    }
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "unet.safetensors").write_text(name)
    one, two = (dataclasses.replace(options, earlier=tmp_path / name) for name in ("one", "two"))
    assert one.videos_folder == two.videos_folder and one.video(0, claim.EARLIER) != two.video(0, claim.EARLIER)


@pytest.fixture
def trained(claim, monkeypatch) -> list[TrainingConfig]:
    """The trainings that are asked for, in which a sample of clips takes 8 operations and one of images 1."""
    asked: list[TrainingConfig] = []

    def train(options: TaskOptions, loop: LoopOptions, clips: SpriteClips, stop: object) -> None:
        asked.append(TrainingConfig(options=options, loop=loop, data=clips.spec))
        loop.folder.mkdir(parents=True)
        lines = [{"step": 1, "samples_per_second": loop.batch_size / 60.0}, {"step": 4, "samples_per_second": 1e9}]
        (loop.folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    monkeypatch.setattr(claim, "train", train)
    monkeypatch.setattr(claim, "operations_of", lambda config: 1.0 if config.options.task.endswith("images") else 8.0)
    return asked


def test_networks_are_trained_one_by_one_and_once(claim, options, trained):
    claim.train_networks(dataclasses.replace(options, workers=3, cuda_graphs=True), ["pixel-images", "pixel"])
    assert [config.loop.workers for config in trained] == [3, 3]
    assert [config.options.cuda_graphs for config in trained] == [True, False]
    folders = claim.train_networks(options)
    assert list(folders) == list(claim.PLANS)
    assert [config.loop.folder for config in trained] == [options.network(name) for name in claim.PLANS]
    assert claim.train_networks(options, ["latent"]) == folders and len(trained) == len(claim.PLANS)
    upscaled = dataclasses.replace(options, out=options.out / "other", ways=("hybrid", "pixel only"))
    assert list(claim.train_networks(upscaled)) == ["pixel-images", "pixel"]
    _, only, *_ = claim.parse(["--out", "claim", "--only", "latent-images", "--only", "latent"])
    assert only == ["latent-images", "latent"]


def test_a_training_takes_the_operations_of_what_it_stands_against(claim, options, trained, monkeypatch):
    monkeypatch.setattr(claim, "TRAINED", {"keyframes": 100_000, "translation_images": 4_000, "translation": 1_000})
    monkeypatch.setattr(claim, "_WHOLE", tuple(claim.TRAINED))
    plans = {
        name: dataclasses.replace(plan, like=claim.EXPERT if plan.like == claim.EXPERT else claim._WHOLE)
        for name, plan in claim.PLANS.items()
    }
    monkeypatch.setattr(claim, "PLANS", plans)
    claim.train_networks(options)
    names = {options.network(name): name for name in claim.PLANS}
    operations = {names[c.loop.folder]: c.loop.steps * c.loop.batch_size * claim.operations_of(c) for c in trained}
    expert, hybrid = 12_000, 812_000
    for name, share in {"pixel": expert, "all-levels": expert, "latent": hybrid * options.share}.items():
        both = operations[f"{name}-images"] + operations[name]
        assert both == pytest.approx(share, rel=0.01), name
        assert operations[name] > operations[f"{name}-images"]
    steps = {names[c.loop.folder]: c.loop.steps for c in trained}
    text = claim.report(options, [], {}, [])
    assert f"| latent | {steps['latent']} | {steps['latent'] * 16} | 0.00 | 1.0 |" in text


def test_operations_are_those_of_the_whole_training_step(claim, tmp_path):
    values = {"task": "keyframe_images", "data": "sprites", "out": str(tmp_path / "run"), "batch_size": 7}

    def operations(**changes: object) -> float:
        return claim.operations_of(TrainingConfig.from_dict({**values, **changes}, TASKS))

    images = operations()
    # the weights of the network, each in a multiplication and an addition at 20x32 positions at most, three times
    assert 1e9 < images < 6 * 2.6e6 * 640
    assert 3.8 < operations(size=[40, 64], batch_size=2) / images < 4.2
    assert operations(task="keyframes") > 8 * images
    assert not (tmp_path / "run").exists()


def test_the_cost_is_that_of_the_whole_way(claim):
    pipes = {name: TruthPipeline(claim) for name in (*claim.ARMS[:-1], claim.EARLIER)}
    assert claim.cost_of("plain upscaling", pipes)["seconds"] >= 0
    assert [call["until"] for call in pipes["hybrid"].calls] == ["super_resolution"] * 2
    claim.cost_of("latent only", pipes)
    claim.cost_of(claim.EARLIER, pipes)
    assert len(pipes["hybrid"].calls) == 2 and len(pipes["latent only"].calls) == len(pipes[claim.EARLIER].calls) == 2
    claim.cost_of("pixel only", pipes)
    assert len(pipes["hybrid"].calls) == 4 and len(pipes["pixel only"].calls) == 2


@pytest.mark.parametrize(
    "wrong", [["--videos", "0"], ["--processes", "0"], ["--share", "0"], ["--earlier-keyframes", "nowhere"]]
)
def test_wrong_options_are_told_before_the_trainings(claim, wrong, capsys):
    with pytest.raises(SystemExit):
        claim.parse(["--out", "claim", *wrong])
    assert wrong[0] in capsys.readouterr().err


def test_a_stopped_training_says_how_it_goes_on(claim, options, monkeypatch):
    def train(options: TaskOptions, loop: LoopOptions, clips: SpriteClips, stop: Callable[[], bool]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        raise Cancelled("the folder holds step 3 of 9")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(claim, "train", train)
    monkeypatch.setattr(sys, "argv", ["run.py", "--out", str(options.out), "--quick"])
    with pytest.raises(SystemExit, match="holds step 3 of 9; the same command goes on from there"):
        claim.main()
    assert signal.getsignal(signal.SIGTERM) is before
