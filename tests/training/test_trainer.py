"""The training loop: it learns, stops and goes on bit for bit, and gives the same from one process or many."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from show1.data.clips import ClipSource, Vocabulary
from show1.errors import Cancelled, InputError, MediaError, MissingDependencyError, RunError, Show1Error
from show1.networks import UNet3DConditionModel
from show1.sprites.clips import SpriteClips
from show1.training import KeyframeImagesOptions, TrainingConfig, train
from show1.training import describe as describe_training
from show1.training.batches import clip_batches
from show1.training.checkpoint import last_checkpoint
from show1.training.optimizer import update_average
from show1.training.tasks.base import Batch
from show1.video import Video
from tests.training.tiny_training import Exports, FixedNoiseOptions, clips, config, exported, losses, made, run

SCRIPT = "tests.training.tiny_training"


def describe(asked: TrainingConfig) -> dict[str, Any]:
    return describe_training(asked.options, asked.loop, clips(asked))


def batches(asked: TrainingConfig, rank: int = 0, world: int = 1, start: int = 0) -> Iterator[Batch]:
    return clip_batches(clips(asked), asked.options.view(), asked.loop, rank, world, start)


def fixed_noise(out: Path, **options: Any) -> TrainingConfig:
    """A training whose noise follows from the clip."""
    values = config("keyframe_images", out, **options).to_dict()
    return TrainingConfig.from_dict(values, [FixedNoiseOptions])


def test_the_loss_falls(tmp_path: Path) -> None:
    run(config("keyframe_images", tmp_path, steps=30, batch_size=8, prompt_dropout=0.0, learning_rate=5e-3))
    values = [loss for _, loss in losses(tmp_path)]
    assert len(values) == 30
    assert sum(values[-8:]) < 0.7 * sum(values[:8])


def test_muon_turns_hidden_matrices_by_the_same_amount(tmp_path: Path) -> None:
    folder = run(config("keyframe_images", tmp_path, steps=1, optimizer="muon", weight_decay=0.0, ema_decay=0.0))
    after = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    before = made(config("keyframe_images", tmp_path / "other")).unet.state_dict()
    name = "down_blocks.1.resnets.0.conv1.weight"
    moved = torch.linalg.svdvals((after[name] - before[name]).flatten(1))
    # an orthogonal update has equal singular values; Newton-Schulz makes all but the smallest so to within a factor
    assert moved[0] < 2 * moved[-4]
    assert moved.mean() == pytest.approx(3e-3 * 0.2 * (32 * 9) ** 0.5, rel=0.3)


def test_temporal_dropout_is_that_of_the_config(tmp_path: Path) -> None:
    for chance in (0.1, 0.0):
        task = made(config("keyframes", tmp_path, temporal_dropout=chance))
        modules = task.unet.named_modules()
        drops = [m.p for name, m in modules if isinstance(m, torch.nn.Dropout) and ".ff." not in name]
        assert drops and set(drops) == {chance}


def test_the_text_encoder_learns(tmp_path: Path) -> None:
    run(config("text", tmp_path, steps=30, batch_size=32, learning_rate=1e-2))
    values = [loss for _, loss in losses(tmp_path)]
    assert values[-1] < 0.8 * values[0]


def test_what_a_run_leaves(tmp_path: Path) -> None:
    lines: list[dict[str, float]] = []
    export = run(config("keyframe_images", tmp_path, sample_every=2, checkpoint_every=2), on_log=lines.append)
    assert export == tmp_path / "export"
    assert {p.name for p in export.iterdir()} == {"unet", "scheduler", "text_encoder", "tokenizer", "training.json"} | {
        "stage.json",
        "README.md",
    }
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-4"]
    assert [p.name for p in sorted((tmp_path / "samples").iterdir())] == ["step-0000002.png", "step-0000004.png"]
    assert list((tmp_path / "tensorboard").iterdir())
    saved = json.loads((tmp_path / "config.json").read_text())
    assert set(json.loads((tmp_path / "learned_from.json").read_text())) == {"data", "words"}
    assert saved == config("keyframe_images", tmp_path, sample_every=2, checkpoint_every=2).to_dict()
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == lines
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert set(lines[0]) == {"step", "loss", "grad_norm", "lr", "samples_per_second"}
    # linear from the first step to 0 at the end of the last
    assert [line["lr"] / 3e-3 for line in lines] == pytest.approx([0.75, 0.5, 0.25, 0.0])


@pytest.mark.parametrize("package", ["torch.utils.tensorboard", "pytorch_optimizer"])
def test_a_missing_package_is_named_before_anything_is_written(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    asked = config("keyframe_images", tmp_path / "run", optimizer="muon")
    for call in (run, describe):
        with pytest.raises(MissingDependencyError, match=r"pip install 'show1\[train\]'"):
            call(asked)
    assert not (tmp_path / "run").exists()


def test_the_export_holds_averaged_weights(tmp_path: Path) -> None:
    name = "conv_in.weight"

    def weights(steps: int, ema_decay: float) -> torch.Tensor:
        folder = tmp_path / f"{steps} {ema_decay}"
        asked = config("keyframe_images", folder, steps=steps, ema_decay=ema_decay, lr_schedule="constant")
        return load_file(run(asked) / "unet/diffusion_pytorch_model.safetensors")[name]

    first, second, third = (weights(steps, 0.0) for steps in (1, 2, 3))
    # the decay of step n is (1 + n) / (10 + n), from the second step on, until it is that of the options
    average = first + (1 - 2 / 11) * (second - first)
    average = average + (1 - 3 / 12) * (third - average)
    assert_close(weights(3, 0.9), average)
    assert not torch.allclose(average, third)


# stopping and going on


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path, exports: Exports, optimizer: str) -> None:
    options: dict[str, Any] = {
        "steps": 7,
        "optimizer": optimizer,
        "init": str(exports["keyframe_images"]),
        "log_every": 3,
        "checkpoint_every": 4,
    }
    run(config("keyframes", tmp_path / "whole", **options))
    answers = iter([False, True])
    with pytest.raises(Cancelled, match="step 2 of 7"):
        run(config("keyframes", tmp_path / "parts", **options), stop=lambda: next(answers))
    assert last_checkpoint(tmp_path / "parts") == tmp_path / "parts/checkpoints/step-2"
    run(config("keyframes", tmp_path / "parts", **options))
    assert exported(tmp_path / "parts") == exported(tmp_path / "whole")
    assert [step for step, _ in losses(tmp_path / "whole")] == [3, 4, 6, 7]
    # the stop ended a line; later ones are the same
    assert [step for step, _ in losses(tmp_path / "parts")] == [2, 3, 4, 6, 7]
    assert losses(tmp_path / "parts")[2:] == losses(tmp_path / "whole")[1:]


def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 12, "checkpoint_every": 5, "log_every": 2, "accumulate": 2, "sample_every": 4}
    asked = config("keyframe_images", tmp_path / "killed", **options)
    (tmp_path / "options.json").write_text(json.dumps({**asked.to_dict(), "pause": 0.2}))
    process = start([sys.executable, "-m", SCRIPT, str(tmp_path / "options.json")])
    log = tmp_path / "killed" / "log.jsonl"
    deadline = time.monotonic() + 300
    while not (log.exists() and len(log.read_text().splitlines()) >= 4):  # steps 2, 4, 5, 6
        assert process.poll() is None and time.monotonic() < deadline, output_of(process)
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with log.open("a") as file:  # as if it had been killed in the middle of a line
        file.write('{"step": 8, "lo')
    done = last_checkpoint(tmp_path / "killed")
    assert done is not None and done.name == "step-5"
    run(asked)
    run(config("keyframe_images", tmp_path / "whole", **options))
    assert exported(tmp_path / "killed") == exported(tmp_path / "whole")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_a_run_killed_after_its_last_checkpoint_still_exports(tmp_path: Path) -> None:
    run(config("vae", tmp_path))
    before = exported(tmp_path)
    shutil.rmtree(tmp_path / "export")  # as if it had been killed before
    run(config("vae", tmp_path))
    assert exported(tmp_path) == before
    written = (tmp_path / "export" / "training.json").stat().st_mtime_ns
    run(config("vae", tmp_path))  # now there is nothing left to do
    assert (tmp_path / "export" / "training.json").stat().st_mtime_ns == written


def test_an_unfinished_checkpoint_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".unfinished-3").mkdir(parents=True)
    assert last_checkpoint(tmp_path) is None
    run(config("text", tmp_path))
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-4"]


def test_other_options_for_the_same_folder_are_refused(tmp_path: Path) -> None:
    run(config("text", tmp_path))
    with pytest.raises(RunError, match="another learning_rate.*choose another folder"):
        run(config("text", tmp_path, learning_rate=1e-2))
    with pytest.raises(RunError, match="another seed"):
        describe(config("text", tmp_path, seed=1))
    run(config("text", tmp_path, steps=6, log_every=2))
    assert losses(tmp_path)[-1][0] == 6
    assert json.loads((tmp_path / "export" / "training.json").read_text())["step"] == 6


def test_options_may_change_before_the_first_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text_encoder"):
        run(config("keyframe_images", tmp_path, text=str(tmp_path)))
    run(config("keyframe_images", tmp_path, steps=1))


def test_a_damaged_config_is_told(tmp_path: Path) -> None:
    run(config("text", tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunError, match="config.json cannot be read"):
        run(config("text", tmp_path))


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the loss at step 2 is (nan|inf); lower learning_rate"):
        run(config("vae", tmp_path, log_every=5, checkpoint_every=2, learning_rate=1e30))
    assert last_checkpoint(tmp_path) is None


FORMER = {"spins": None, "tilts": 0.0, "subject_share": [], "groups": 0.0, "motions_per_scene": 1, "corruption": 0.0}
FORMER |= {"noise_level": [0, 400], "size": None, "low_size": None, "crop": None, "vae": None, "add_condition": False}


def test_a_run_with_options_in_their_former_form_resumes(tmp_path: Path) -> None:
    data = "sprites:spins=0.3,groups=0.25,subject_share=bicycle:0.5"
    run(config("keyframes", tmp_path / "whole", data=data))
    with pytest.raises(Cancelled):
        run(config("keyframes", tmp_path / "run", data=data), stop=lambda: True)
    saved = json.loads((tmp_path / "run/config.json").read_text())
    given = {"data": "sprites", "spins": 0.3, "groups": 0.25, "subject_share": ["bicycle:0.50"]}
    (tmp_path / "run/config.json").write_text(json.dumps({**FORMER, **saved, **given}))
    with pytest.raises(RunError, match="another data"):
        run(config("keyframes", tmp_path / "run"))
    run(config("keyframes", tmp_path / "run", data=data))
    assert exported(tmp_path / "run") == exported(tmp_path / "whole")
    assert json.loads((tmp_path / "run/config.json").read_text()) == saved


def test_dry_run_leaves_nothing(tmp_path: Path, exports: Exports) -> None:
    told = describe(config("interpolation", tmp_path / "run", init=str(exports["keyframes"])))
    assert not (tmp_path / "run").exists()
    unet = UNet3DConditionModel.from_pretrained(exports["interpolation"] / "unet")
    assert told["trained_parameters"] == sum(p.numel() for p in unet.parameters())
    assert told["frozen_parameters"] > 0
    assert told["resumes_from"] is None and told["config"]["task"] == "interpolation"


# what is trained, and how


def test_frozen_networks_stay_as_they_are(tmp_path: Path, exports: Exports) -> None:
    vae, text = exports["vae"], exports["text"]
    run(config("translation_images", tmp_path, vae=str(vae), text=str(text), learning_rate=1e-2))
    for part, source in [("vae/diffusion_pytorch_model", vae), ("text_encoder/model", text)]:
        before, after = (load_file(f / f"{part}.safetensors") for f in (source, tmp_path / "export"))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_inherited_weights_learn_at_their_own_rate(tmp_path: Path, exports: Exports) -> None:
    run(config("keyframes", tmp_path, init=str(exports["keyframe_images"]), inherited_lr_scale=0.0, weight_decay=0.0))
    before = load_file(exports["keyframe_images"] / "unet/diffusion_pytorch_model.safetensors")
    after = load_file(tmp_path / "export/unet/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(after[name].any() for name in after if name.endswith("conv4.3.weight"))


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_parts_are_one_batch(tmp_path: Path, accumulate: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(fixed_noise(whole, steps=3, batch_size=4))
    run(fixed_noise(parts, steps=3, batch_size=4, accumulate=accumulate))
    assert_same_log(whole, parts)


def assert_same_log(first: Path, second: Path) -> None:
    """Losses and gradients agree to rounding. (Weights need not: AdamW enlarges gradients that are all rounding.)"""
    lines = [[json.loads(line) for line in (f / "log.jsonl").read_text().splitlines()] for f in (first, second)]
    assert len(lines[0]) == len(lines[1]) > 0
    for a, b in zip(*lines, strict=True):
        assert a["step"] == b["step"]
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)


def test_gradient_checkpointing_changes_nothing(tmp_path: Path) -> None:
    for name, on in [("plain", False), ("checkpointed", True)]:
        run(config("keyframes", tmp_path / name, steps=2, gradient_checkpointing=on))
    assert_same_log(tmp_path / "plain", tmp_path / "checkpointed")


@pytest.mark.gpu
def test_cuda_graphs_change_nothing(tmp_path: Path) -> None:
    for name, on in [("plain", False), ("recorded", True)]:
        run(config("keyframes", tmp_path / name, steps=4, temporal_dropout=0.0, cuda_graphs=on))
    assert_same_log(tmp_path / "plain", tmp_path / "recorded")


@pytest.mark.parametrize(
    ("task", "others", "message"),
    [
        ("keyframes", {}, "needs a CUDA device"),
        ("keyframes", {"accumulate": 2}, "cannot add up gradients"),
        ("keyframes", {"gradient_checkpointing": True}, "cannot compute activations twice"),
        ("vae", {}, "unknown training option 'cuda_graphs'"),
    ],
)
def test_where_cuda_graphs_cannot_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: str, others: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        run(config(task, tmp_path, cuda_graphs=True, **others))
    assert not (tmp_path / "config.json").exists()  # whose options the next command would take
    assert run(config(task, tmp_path, **others))


def test_cuda_graphs_are_for_one_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="works only in a single process"):
        describe(config("keyframes", tmp_path, cuda_graphs=True))


def test_bfloat16(tmp_path: Path) -> None:
    run(config("keyframes", tmp_path / "full", steps=3))
    run(config("keyframes", tmp_path / "half", steps=3, mixed_precision="bf16"))
    full, half = losses(tmp_path / "full"), losses(tmp_path / "half")
    assert half != full
    assert [loss for _, loss in half] == pytest.approx([loss for _, loss in full], rel=0.1)
    weights = load_file(tmp_path / "half/export/unet/diffusion_pytorch_model.safetensors")
    assert all(w.dtype == torch.float32 for w in weights.values())


# data


def test_every_step_sees_new_clips(tmp_path: Path) -> None:
    def captions(rank: int, world: int, accumulate: int, start: int = 0) -> list[list[str]]:
        options = config("text", tmp_path, batch_size=8 // world, accumulate=accumulate)
        parts = batches(options, rank, world, start)
        return [next(parts)["caption"] for _ in range(2 * accumulate)]

    step0, step1 = captions(0, 1, 1)
    assert not set(step0) & set(step1) and len(step0) == 8
    assert sum(captions(0, 1, 4)[:4], []) == step0  # in four parts
    assert captions(0, 2, 1)[1] + captions(1, 2, 1)[1] == step1  # in two processes
    assert captions(0, 1, 2, start=1)[0] == step1[:4]  # going on


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three videos of 29 frames, the first of which becomes brighter and brighter."""
    folder = tmp_path_factory.mktemp("clips")
    lines = []
    for i in range(3):
        clip = SpriteClips().clip(i, num_frames=29, height=16, width=16)
        if i == 0:
            clip = torch.linspace(-1, 1, 29)[None, :, None, None].expand(clip.shape)
        Video.from_tensor(clip, fps=8.0).save(folder / f"{i}.mp4")
        lines.append(json.dumps({"file": f"{i}.mp4", "caption": f"clip {i}"}) + "\n")
    (folder / "captions.jsonl").write_text("".join(lines))
    return folder


def test_a_folder_of_clips(tmp_path: Path, folder: Path) -> None:
    run(config("keyframes", tmp_path / "run", data=str(folder), steps=2))
    assert [step for step, _ in losses(tmp_path / "run")] == [1, 2]
    with pytest.raises(InputError, match="the task 'text' reads captions of the sprite world"):
        run(config("text", tmp_path / "text", data=str(folder)))
    with pytest.raises(InputError, match="nowhere is not a folder"):
        run(config("vae", tmp_path / "vae", data="nowhere"))


def test_clips_of_a_folder_come_in_another_order_each_time(tmp_path: Path, folder: Path) -> None:
    parts = batches(config("keyframes", tmp_path, data=str(folder), batch_size=3))
    orders = [next(parts)["caption"] for _ in range(6)]
    assert all(sorted(order) == ["clip 0", "clip 1", "clip 2"] for order in orders)
    assert len(set(map(tuple, orders))) > 1


def test_keyframes_of_a_folder_are_spread_over_the_clip(tmp_path: Path, folder: Path) -> None:
    batch = next(batches(config("keyframes", tmp_path, data=str(folder), batch_size=3)))
    brightness = batch["video"][batch["caption"].index("clip 0")].mean(dim=(0, 2, 3))
    assert brightness.tolist() == pytest.approx([-1.0, 0.0, 1.0], abs=0.1)  # of three frames


def test_workers_change_nothing(tmp_path: Path) -> None:
    for workers in (0, 1):
        run(config("keyframe_images", tmp_path / str(workers), steps=2, workers=workers))
    assert exported(tmp_path / "0") == exported(tmp_path / "1")


def test_a_worker_s_error_reads_as_in_the_main_process(tmp_path: Path, folder: Path) -> None:
    (folder / "captions.jsonl").write_text('{"file": "0.mkv", "caption": "x"}\n')
    (folder / "0.mkv").write_bytes(b"no video")
    found = []
    for workers in (0, 1):
        asked = config("keyframe_images", tmp_path, data=str(folder), workers=workers)
        with pytest.raises(MediaError) as error:
            next(batches(asked))
        found.append(str(error.value))
    assert found[0] == found[1] and "0.mkv (captions.jsonl, line 1) cannot be decoded" in found[0]


# options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "sound"}, "task must be one of text, keyframe_images"),
        ({"data": None}, "data: name the clips"),
        ({"lr_schedule": "square"}, "lr_schedule must be one of constant, linear, cosine, got 'square'"),
        ({"batch_size": 4, "accumulate": 3}, "accumulate must be a divisor of batch_size"),
        (
            {"task": "super_resolution", "text": "x", "noise_level": [300, 200]},
            "noise_level must be a range within 0 to 999",
        ),
        ({"steps": 0}, "steps must be 1 or more, got 0"),
        ({"speed": 9}, "unknown training option 'speed'"),
        ({"steps": "many"}, "steps must be a whole number, got 'many'"),
        ({"batch_size": 2.0}, "batch_size must be a whole number"),
        ({"task": "super_resolution", "text": "x", "noise_level": [5]}, "noise_level must be 2 values"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"timestep_logit": [float("nan"), 1.0]}, "timestep_logit must be a finite number"),
        ({"crop": [8, 8]}, "unknown training option 'crop'; the options of keyframe_images are"),
        ({"spins": 0.5}, "unknown training option 'spins'"),
        ({"task": "vae", "size": [36, 60]}, "size must be multiples of 8 for vae"),
        (
            {"task": "vae", "inherited_lr_scale": 0.1},
            "unknown training option 'inherited_lr_scale'; the options of vae are",
        ),
        ({"network": "huge"}, "unknown preset 'huge'"),
        ({"task": "interpolation"}, "text: interpolation reads prompts with a trained text encoder"),
        ({"task": "super_resolution"}, "text: super_resolution reads prompts with a trained text encoder"),
        ({"task": "translation", "text": "x"}, "vae: the translation tasks need a trained VAE"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(config(**{"task": "keyframe_images", "out": str(tmp_path), **options}))


def test_what_does_not_learn_in_a_step_is_averaged_all_the_same() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    ema = EMAModel(parameters, decay=0.5, foreach=True)
    for step in range(20):
        for parameter in parameters:
            parameter.data.fill_(step)
        parameters[0].requires_grad_(step % 2 == 0)  # as a LoRA whose steps take turns with another one's
        update_average(ema, parameters)
        assert parameters[0].requires_grad == (step % 2 == 0)
    assert torch.equal(*ema.shadow_params)
    assert 17 < float(ema.shadow_params[0][0]) < 19


def test_running_out_of_memory_says_what_to_do(tmp_path: Path) -> None:
    class Huge(SpriteClips):
        def caption(self, index: int, kind: Any = "clip") -> str:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    asked = config("keyframe_images", tmp_path)
    with pytest.raises(Show1Error, match="ran out in training; use a smaller batch_size.*gradient_checkpointing"):
        train(asked.options, asked.loop, Huge())


class Stripes(ClipSource):
    """A source of clips as anyone may write one."""

    spec, num_clips, clips_per_scene = "stripes", 5, 1

    def clip(
        self, index: int, *, num_frames: int, height: int, width: int, frames: slice = slice(None)
    ) -> torch.Tensor:
        rows = torch.arange(height).view(1, 1, -1, 1) + torch.arange(num_frames).view(1, -1, 1, 1) + index
        return (rows % 2 * 2.0 - 1).expand(3, -1, -1, width)[:, frames]

    def caption(self, index: int, kind: str = "clip") -> str:
        return "stripes that move" if kind == "clip" else "stripes"

    def vocabulary(self) -> Vocabulary:
        return Vocabulary(words=("stripes", "that", "move"))


def test_clips_of_a_source_of_one_s_own(tmp_path: Path) -> None:
    asked = config("keyframe_images", tmp_path / "run")
    options = KeyframeImagesOptions(network="tiny")
    export = train(options, asked.loop, Stripes())
    assert json.loads((tmp_path / "run/config.json").read_text())["data"] == "stripes"
    assert {"stripes", "that", "move"} <= set(
        json.loads((export / "tokenizer/tokenizer.json").read_text())["model"]["vocab"]
    )
    with pytest.raises(RunError, match="another data"):
        train(options, asked.loop, SpriteClips())


# the same data


@pytest.fixture
def small_clips(tmp_path: Path) -> Path:
    folder = tmp_path / "a" / "clips"
    folder.mkdir(parents=True)
    Video.from_tensor(SpriteClips().clip(0, num_frames=29, height=16, width=16), fps=8.0).save(folder / "a.mp4")
    (folder / "captions.jsonl").write_text('{"file": "a.mp4", "caption": "a dog"}\n')
    return folder


def asked_for(folder: Path, task: str = "keyframe_images", **options: Any) -> TrainingConfig:
    return config(task, folder, **{"steps": 1, **options})


def test_a_run_resumes_from_any_current_folder(
    tmp_path: Path, small_clips: Path, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shutil.copytree(exports["text"], small_clips.parent / "text")
    monkeypatch.chdir(small_clips.parent)
    run(asked_for(tmp_path / "run", data="clips", text="text"))
    saved = json.loads((tmp_path / "run/config.json").read_text())
    assert (saved["data"], saved["text"]) == (str(small_clips), str(text))
    monkeypatch.chdir(tmp_path)
    run(asked_for(tmp_path / "run", data=saved["data"], text="a/text", steps=2))
    moved = shutil.copytree(small_clips, tmp_path / "moved")  # the same content
    run(asked_for(tmp_path / "run", data=str(moved), text=saved["text"], steps=2))
    # earlier versions kept names as they were typed
    (tmp_path / "run/learned_from.json").unlink()
    (tmp_path / "run/config.json").write_text(json.dumps({**saved, "data": "a/clips", "text": "a/text"}))
    run(asked_for(tmp_path / "run", data=saved["data"], text=saved["text"], steps=3))


def other_video(clips: Path) -> None:
    Video.from_tensor(torch.zeros(3, 29, 16, 16), fps=8.0).save(clips / "a.mp4", overwrite=True)


def other_caption(clips: Path) -> None:
    (clips / "captions.jsonl").write_text('{"file": "a.mp4", "caption": "dog a"}\n')


def new_words(clips: Path) -> None:
    (clips / "captions.jsonl").write_text('{"file": "a.mp4", "caption": "a cat that is no dog"}\n')


def one_more_clip(clips: Path) -> None:
    shutil.copy(clips / "a.mp4", clips / "b.mp4")
    with (clips / "captions.jsonl").open("a") as file:
        file.write('{"file": "b.mp4", "caption": "a dog"}\n')


@pytest.mark.parametrize("change", [other_video, other_caption, new_words, one_more_clip])
def test_other_clips_under_the_same_name_are_refused(tmp_path: Path, small_clips: Path, change: Any) -> None:
    run(asked_for(tmp_path / "run", data=str(small_clips)))
    change(small_clips)
    for ask in (run, describe):
        with pytest.raises(
            RunError, match=f"the clips or captions of {small_clips}.* changed after the run in .* began"
        ):
            ask(asked_for(tmp_path / "run", data=str(small_clips), steps=2))


@pytest.mark.parametrize("name", ["text", "init"])
def test_another_network_under_the_same_name_is_refused(tmp_path: Path, exports: Exports, name: str) -> None:
    given = {"text": exports["text"], "init": exports["keyframe_images"]}
    given = {option: shutil.copytree(folder, tmp_path / option) for option, folder in given.items()}
    options = {option: str(folder) for option, folder in given.items()}
    run(asked_for(tmp_path / "run", "keyframes", **options))
    (given[name] / "training.json").write_text("{}")  # is no part of the network
    run(asked_for(tmp_path / "run", "keyframes", **options, steps=2))
    [file] = (given[name] / {"text": "text_encoder", "init": "unet"}[name]).glob("*.safetensors")
    save_file({key: tensor + 1 for key, tensor in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(RunError, match=rf"the folder {given[name]} \(--{name}\) changed after the run"):
        run(asked_for(tmp_path / "run", "keyframes", **options, steps=3))


def test_other_words_of_a_source_of_one_s_own_are_refused(tmp_path: Path) -> None:
    class Dots(Stripes):
        def vocabulary(self) -> Vocabulary:
            return Vocabulary(words=("dots", "that", "move"))

    options = KeyframeImagesOptions(network="tiny")
    loop = asked_for(tmp_path).loop
    train(options, loop, Stripes())
    with pytest.raises(RunError, match="the words of the captions changed"):
        train(options, loop, Dots())


# many processes


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    steady: dict[str, Any] = {"lr_schedule": "constant", "checkpoint_every": 2}
    run(fixed_noise(tmp_path / "one", steps=4, batch_size=4, **steady))
    for steps in (2, 4):  # and resume alike
        options = fixed_noise(tmp_path / "two", steps=steps, batch_size=2, **steady).to_dict()
        (tmp_path / "options.json").write_text(json.dumps({**options, "fixed_noise": True}))
        launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
        launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1"]
        process = start([sys.executable, "-m", *launch, "--module", SCRIPT, str(tmp_path / "options.json")])
        assert process.wait(timeout=300) == 0, output_of(process)
        process.communicate()
    assert_same_log(tmp_path / "one", tmp_path / "two")
    assert exported(tmp_path / "two").keys() == exported(tmp_path / "one").keys()


def start(command: list[str]) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def output_of(process: "subprocess.Popen[str]") -> str:
    process.kill()
    return process.communicate()[0][-3000:]
