"""Validation: what is measured is the same in every run, and measuring changes nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from show1.data.clips import ClipView
from show1.data.folder import ClipFolder
from show1.errors import InputError, MissingDependencyError
from show1.sprites.clips import SpriteClips
from show1.training import LoopOptions, train
from show1.training.state import TrainingState
from show1.training.validation import Part, Validation, held_out
from show1.video import Video
from tests.training.tiny_training import Exports, config, exported, losses, made, run

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(5):
        Video.from_tensor(SpriteClips().clip(i, num_frames=29, height=16, width=16), fps=8.0).save(folder / f"{i}.mp4")
        (folder / f"{i}.txt").write_text(f"clip {i}")
    return folder


def validation(view: ClipView, **options: Any) -> Validation:
    loop = LoopOptions(out="unused", val_clips=3, **options)
    return Validation(SpriteClips(seed=5), view, loop)


def test_the_measure_depends_on_the_weights_only(tmp_path: Path, exports: Exports) -> None:
    asked = config("keyframes", tmp_path, init=str(exports["keyframe_images"]))
    task, view = made(asked), asked.options.view()
    torch.manual_seed(1)
    first = validation(view, batch_size=2).measure(task, CPU)
    torch.manual_seed(2)
    assert validation(view, batch_size=7, seed=9).measure(task, CPU) == first
    assert set(first) == {"val_loss", *(f"val_loss_t{t}" for t in (50, 250, 500, 749, 949))}
    assert first["val_loss"] == pytest.approx(sum(v for k, v in first.items() if k != "val_loss") / 5)
    assert task.training
    with torch.no_grad():
        next(task.unet.parameters()).add_(0.1)
    assert validation(view).measure(task, CPU) != first


@pytest.mark.parametrize("task", ["super_resolution", "vae"])
def test_what_restores_is_compared_with_the_truth(tmp_path: Path, exports: Exports, task: str) -> None:
    asked = config(task, tmp_path, **exports.inputs(task))
    found = validation(asked.options.view()).measure(made(asked), CPU)
    assert 0 < found["val_psnr"] < 60 and -1 <= found["val_ssim"] <= 1
    assert "val_loss" in found


def test_validating_changes_nothing(tmp_path: Path) -> None:
    run(config("keyframe_images", tmp_path / "plain", steps=5))
    asked = config("keyframe_images", tmp_path / "validated", steps=5, val_every=2, val_clips=2)
    train(asked.options, asked.loop, SpriteClips(), validation=SpriteClips(seed=7))
    assert exported(tmp_path / "plain") == exported(tmp_path / "validated")
    lines = [json.loads(line) for line in (tmp_path / "validated/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "val_loss" in line] == [2, 4, 5]
    assert [(line["step"], line["loss"]) for line in lines if "loss" in line] == losses(tmp_path / "plain")
    assert json.loads((tmp_path / "validated/config.json").read_text())["val_data"] == "sprites"
    assert asked.loop.val_data is None


def test_what_is_held_out_is_not_learned(folder: Path) -> None:
    source = ClipFolder(folder)
    learned, kept = held_out(source, 0.4)
    assert (learned.num_clips, kept.num_clips) == (3, 2)
    texts = [[part.caption(i) for i in range(6)] for part in (learned, kept)]
    assert not set(texts[0]) & set(texts[1]) and len({*texts[0], *texts[1]}) == 5
    again, _ = held_out(ClipFolder(folder, seed=3), 0.4)
    assert [again.caption(i) for i in range(6)] == texts[0]
    assert isinstance(learned, Part) and learned.vocabulary() == source.vocabulary()
    size: dict[str, int] = {"num_frames": 3, "height": 8, "width": 8}
    place = next(i for i in range(5) if source.caption(i) == learned.caption(0))
    assert torch.equal(learned.clip(3, **size), source.clip(5 + place, **size))  # the second time round


def test_a_run_with_clips_held_out(tmp_path: Path, folder: Path) -> None:
    asked = config("keyframes", tmp_path / "run", data=str(folder), steps=2, val_share=0.4, val_every=1)
    run(asked)
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [sorted(line)[-1] for line in lines] == ["step", "val_loss_t949"] * 2
    assert (tmp_path / "run/samples/step-0000002.png").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_share": 0.5}, "val_share: sprites has no end"),
        ({"val_share": 1.0}, "val_share must be at least 0, less than 1"),
        ({"val_share": 0.5, "val_data": "clips"}, "val_share holds clips of data out, but val_data names others"),
        ({"val_data": "clips"}, "give them as `validation`"),
        ({"val_every": 0}, "val_every must be 1 or more"),
        ({"tracker": ["paper"]}, "unknown tracker 'paper'; the trackers are aim"),
        ({"mixed_precision": "fp16"}, "mixed_precision: fp16 needs a GPU.*use bf16"),
    ],
)
def test_what_cannot_be(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(config("keyframe_images", tmp_path, **options))


def test_no_clips_would_be_left_to_learn_from(folder: Path) -> None:
    with pytest.raises(InputError, match="0.95 of 5 clips leaves none to learn from"):
        held_out(ClipFolder(folder), 0.95)


def test_trackers_get_every_line(tmp_path: Path) -> None:
    run(config("vae", tmp_path, steps=2, tracker=["tensorboard"]))
    assert list((tmp_path / "show1").glob("events.*"))
    with pytest.raises(MissingDependencyError, match="aim is not installed; pip install aim"):
        run(config("vae", tmp_path, steps=2, tracker=["aim"]))


def test_the_scaler_of_float16_is_kept(tmp_path: Path) -> None:
    from diffusers.training_utils import EMAModel

    def state(scale: float) -> tuple[TrainingState, torch.amp.GradScaler]:
        network = torch.nn.Linear(2, 2)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale(torch.ones(1))  # makes the scale
        optimizer = torch.optim.AdamW(network.parameters())
        return TrainingState(network, EMAModel(list(network.parameters())), optimizer, scaler, 1), scaler

    kept, scaler = state(8.0)
    (tmp_path / "step-3").mkdir()
    kept.save(tmp_path / "step-3", 3)
    other, found = state(2.0)
    other.load(tmp_path / "step-3", 3)
    assert found.get_scale() == 8.0
