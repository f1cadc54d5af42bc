"""The benchmark of the paper's claim, with ground truth in the place of the models."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.claim import run
from benchmarks.claim.plans import (
    ARMS,
    EARLIER,
    EXPERT,
    LOW,
    LOW_SIZE,
    PLANS,
    SAME_SHARE,
    SIZE,
    TRAINED,
    WHOLE,
    Options,
)
from benchmarks.claim.training import operations_of, train_networks
from benchmarks.claim.ways import cost_of
from scripts import train_mini
from show1.config import CascadeSettings
from show1.errors import Cancelled, InputError
from show1.sprites.alignment.prompts import PromptSet
from show1.sprites.alignment.run import AlignmentPlan
from show1.sprites.clips import SpriteClips
from show1.training import TASKS, LoopOptions, TaskOptions, TrainingConfig


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(out=tmp_path, videos=2, share=0.5, mixed_precision="no", earlier=Path("earlier"))


class TruthPipeline:
    """Gives renders of what is asked for, at the size that is asked for."""

    device = torch.device("cpu")

    def __init__(self, options: Options) -> None:
        self.settings = CascadeSettings.from_dict(train_mini.SETTINGS)
        self.scenes = {prompt.prompt: prompt for prompt in options.prompts}
        self.judges = AlignmentPlan(sets=options.sets).judges()
        self.calls: list[dict[str, Any]] = []

    def __call__(self, prompt: str, *, seed: int, output_type: str, **options: Any) -> Tensor:
        self.calls.append(options)
        chosen = getattr(options.get("settings", self.settings), options.get("until", "translation"))
        size = {"height": chosen.height, "width": chosen.width}
        scene = self.scenes[prompt]
        return self.judges[scene.set].truth(scene, seed=seed, num_frames=29, **size)


@pytest.fixture
def pipes(options: Options) -> Any:
    return {name: TruthPipeline(options) for name in (*ARMS[:-1], EARLIER)}


def no_costs(arms: Any) -> dict[str, dict[str, float]]:
    return {arms[0]: {"seconds": 1.0, "bytes": 2e9}}


@pytest.mark.slow
def test_all_ways_are_scored_for_the_same_prompts_and_seeds(options: Options, pipes: Any) -> None:
    report = run.compare(options, pipes, no_costs)
    assert [row["name"] for row in report["rows"]] == [LOW, *ARMS, EARLIER, "ground truth"]
    for row in report["rows"]:
        assert row["subject"]["share"] == row["background"]["share"] == 1.0, row["name"]
    assert [row["corruption"] for row in report["repair"]] == ["none", "noise", "blocks", "colour shift"]

    # each way starts where it should
    latent, pixel = pipes["latent only"].calls[0], pipes["pixel only"].calls[0]
    assert latent["settings"].translation.strength == 1.0 and latent["settings"].translation.max_timestep == 1000
    assert not latent["video"].any()
    assert (pixel["settings"].super_resolution.height, pixel["settings"].super_resolution.width) == SIZE
    assert pixel["video"].shape[-2:] == LOW_SIZE
    assert all("start_from" not in call for call in pipes[EARLIER].calls)

    # and is not made again
    before = {name: len(pipe.calls) for name, pipe in pipes.items()}
    assert run.compare(options, pipes, no_costs) == report
    assert {name: len(pipe.calls) for name, pipe in pipes.items()} == before

    text = (options.out / "report.md").read_text()
    assert all(f"| {name} | 100.0" in text for name in ARMS) and "| 1.0 | 2.00 |" in text
    assert (options.videos_folder / "samples.png").is_file()


@pytest.mark.slow
def test_prompts_of_composition_are_judged_by_their_sets(options: Options) -> None:
    sets: tuple[PromptSet, ...] = ("counts_held_out", "motion_binding_held_out")
    asked = dataclasses.replace(options, sets=sets, earlier=None, ways=("hybrid", "latent only"), guidance=5.0)
    assert [prompt.set for prompt in asked.prompts] == [*sets]
    assert asked.videos_folder != options.videos_folder and asked.network("latent") == options.network("latent")
    pipes: Any = {name: TruthPipeline(asked) for name in asked.ways}
    report = run.compare(asked, pipes, no_costs)
    rows = [(row["sets"], row["name"]) for row in report["rows"]]
    assert rows == [([name], way) for name in sets for way in (LOW, "hybrid", "latent only", "ground truth")]
    assert all(row["all three"]["share"] == 1.0 for row in report["rows"])
    assert {call["settings"].translation.guidance_scale for call in pipes["latent only"].calls} == {5.0}
    alone = dataclasses.replace(asked, ways=("latent only", SAME_SHARE))
    assert alone.rows == alone.arms == ("latent only", SAME_SHARE) and asked.rows == (LOW, "hybrid", "latent only")
    text = (options.out / "report.md").read_text()
    assert "## counts_held_out" in text and "arrangement" in text and "## motion_binding_held_out" in text


def test_videos_are_made_again_only_where_what_made_them_is_another(options: Options, tmp_path: Path) -> None:
    ways = (*ARMS, SAME_SHARE)

    def made_again(**changes: Any) -> set[str]:
        changed = dataclasses.replace(options, **changes)
        assert changed.videos_folder == options.videos_folder
        return {arm for arm in ways if changed.video(0, arm) != options.video(0, arm)}

    trained = {"latent only", "pixel only", "all noise levels", SAME_SHARE}
    assert made_again(steps=2) == made_again(mixed_precision="bf16") == trained
    assert made_again(share=0.25, videos=64) == {"latent only", SAME_SHARE}
    assert made_again(guidance=2.0) == {"latent only"}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "unet.safetensors").write_text(name)
    one, two = (dataclasses.replace(options, earlier=tmp_path / name) for name in ("one", "two"))
    assert one.videos_folder == two.videos_folder and one.video(0, EARLIER) != two.video(0, EARLIER)


def test_a_network_is_trained_again_only_if_its_own_training_is_another(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: options.network(name) for name in PLANS}

    def trained_again() -> set[str]:
        return {name for name in PLANS if options.network(name) != before[name]}

    def change(values: dict[str, Any], key: str, value: Any) -> set[str]:
        with monkeypatch.context() as patch:
            patch.setitem(values, key, value)
            return trained_again()

    assert change(PLANS, "pixel", dataclasses.replace(PLANS["pixel"], part=0.5)) == {"pixel"}
    images = dataclasses.replace(PLANS["pixel-images"], part=0.5)
    assert change(PLANS, "pixel-images", images) == {"pixel-images", "pixel"}  # it begins with their network
    whole = {"latent-images", "latent", "keyframes-images", "keyframes"}
    assert change(TRAINED, "keyframes", 1) == whole and change(TRAINED, "translation", 1) == {*PLANS}
    recipe = {**train_mini.RECIPE["keyframe_relations"], "steps": 1}
    assert change(train_mini.RECIPE, "keyframe_relations", recipe) == {"keyframes-images", "keyframes"}
    assert trained_again() == set()


class Trainings:
    """Keeps the trainings that are asked for, in which a sample of clips takes 8 operations and one of images 1."""

    def __init__(self) -> None:
        self.configs: list[TrainingConfig] = []

    def train(self, options: TaskOptions, loop: LoopOptions, clips: SpriteClips, stop: object) -> None:
        self.configs.append(TrainingConfig(options=options, loop=loop, data=clips.spec))
        loop.folder.mkdir(parents=True)
        lines = [{"step": 1, "samples_per_second": loop.batch_size / 60.0}, {"step": 4, "samples_per_second": 1e9}]
        (loop.folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    @staticmethod
    def operations(task: str) -> float:
        return 1.0 if task.endswith("images") else 8.0

    def run(self, options: Options, only: tuple[str, ...] = ()) -> dict[str, Path]:
        return train_networks(
            options, only, train=self.train, operations_of=lambda config: self.operations(config.options.task)
        )


def test_networks_are_trained_one_by_one_and_once(options: Options) -> None:
    trainings = Trainings()
    trainings.run(dataclasses.replace(options, workers=3, cuda_graphs=True), ("pixel-images", "pixel"))
    assert [config.loop.workers for config in trainings.configs] == [3, 3]
    assert [config.options.cuda_graphs for config in trainings.configs] == [True, False]
    every = dataclasses.replace(options, ways=(*ARMS, SAME_SHARE))
    folders = trainings.run(every)
    assert list(folders) == list(PLANS)
    assert [config.loop.folder for config in trainings.configs] == [options.network(name) for name in PLANS]
    assert trainings.run(every, ("latent",)) == folders and len(trainings.configs) == len(PLANS)
    assert {*options.needed} == {*PLANS} - {"keyframes-images", "keyframes"}
    upscaled = dataclasses.replace(options, out=options.out / "other", ways=("hybrid", "pixel only"))
    assert list(trainings.run(upscaled)) == ["pixel-images", "pixel"]
    _, given = run.parse(["--out", "claim", "--only", "latent-images", "--only", "latent"])
    assert given.only == ["latent-images", "latent"]


def test_a_training_takes_the_operations_of_what_it_stands_against(options: Options) -> None:
    trainings = Trainings()
    trainings.run(options)
    names = {options.network(name): name for name in PLANS}
    operations = {
        names[c.loop.folder]: c.loop.steps * c.loop.batch_size * trainings.operations(c.options.task)
        for c in trainings.configs
    }
    expert, hybrid = (sum(TRAINED[task] * trainings.operations(task) for task in tasks) for tasks in (EXPERT, WHOLE))
    for name, share in {"pixel": expert, "all-levels": expert, "latent": hybrid * options.share}.items():
        both = operations[f"{name}-images"] + operations[name]
        assert both == pytest.approx(share, rel=0.01), name
        assert operations[name] > operations[f"{name}-images"]
    steps = {names[c.loop.folder]: c.loop.steps for c in trainings.configs}
    text = run.readable(options, {"rows": [], "costs": {}, "repair": []}).markdown
    assert f"| latent | {steps['latent']} | {steps['latent'] * 16} | 0.00 | 1.0 |" in text


def test_keyframes_of_the_same_share_take_what_the_other_stages_leave(options: Options) -> None:
    trainings = Trainings()
    trainings.run(dataclasses.replace(options, ways=(SAME_SHARE,)))
    images, clips = trainings.configs
    assert images.options.task == "keyframe_images" and images.options.init is None
    assert clips.options.init == str(options.network("keyframes-images") / "export")
    done = sum(c.loop.steps * c.loop.batch_size * trainings.operations(c.options.task) for c in trainings.configs)
    spent = {task: number * trainings.operations(task) for task, number in TRAINED.items()}
    others = sum(operations for task, operations in spent.items() if not task.startswith("keyframe"))
    assert done + others == pytest.approx(options.share * sum(spent.values()), rel=0.01)
    few = dataclasses.replace(options, ways=("latent only", SAME_SHARE), share=0.01, out=options.out / "few")
    least = sum(others for task, others in spent.items() if not task.startswith("keyframe")) / sum(spent.values())
    with pytest.raises(InputError, match=f"share must be more than {least:.3f} .*; got 0.01"):
        trainings.run(few)
    assert len(trainings.configs) == 2  # nothing is trained before that is known


def test_operations_are_those_of_the_whole_training_step(tmp_path: Path) -> None:
    values = {"task": "keyframe_images", "data": "sprites", "out": str(tmp_path / "run"), "batch_size": 7}

    def operations(**changes: object) -> float:
        return operations_of(TrainingConfig.from_dict({**values, **changes}, TASKS))

    images = operations()
    # the weights of the network, each in a multiplication and an addition at 20x32 positions at most, three times
    assert 1e9 < images < 6 * 2.6e6 * 640
    assert 3.8 < operations(size=[40, 64], batch_size=2) / images < 4.2
    assert operations(task="keyframes") > 8 * images
    assert not (tmp_path / "run").exists()


def test_the_cost_is_that_of_the_whole_way(options: Options, pipes: Any) -> None:
    assert cost_of(options, "plain upscaling", pipes)["seconds"] >= 0
    assert [call["until"] for call in pipes["hybrid"].calls] == ["super_resolution"] * 2
    cost_of(options, "latent only", pipes)
    cost_of(options, EARLIER, pipes)
    assert len(pipes["hybrid"].calls) == 2 and len(pipes["latent only"].calls) == len(pipes[EARLIER].calls) == 2
    cost_of(options, SAME_SHARE, {**pipes, SAME_SHARE: TruthPipeline(options)})
    cost_of(options, "pixel only", pipes)
    assert len(pipes["hybrid"].calls) == 4 and len(pipes["pixel only"].calls) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        ["--videos", "0"],
        ["--processes", "0"],
        ["--share", "0"],
        ["--sets", "count"],
        ["--videos", "1", "--sets", "counts,sizes"],
        ["--earlier-keyframes", "nowhere"],
    ],
)
def test_wrong_options_are_told_before_the_trainings(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.parse(["--out", "claim", *wrong])
    assert wrong[0] in capsys.readouterr().err


def test_a_stopped_training_says_how_to_resume(options: Options) -> None:
    def train(options: TaskOptions, loop: LoopOptions, clips: SpriteClips, stop: Callable[[], bool]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        raise Cancelled("the folder holds step 3 of 9")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="holds step 3 of 9; run the same command to resume"):
        run.main(["--out", str(options.out), "--quick"], train=train)
    assert signal.getsignal(signal.SIGTERM) is before
