"""Whole runs of customizations: what they leave, going on, stages, and what they refuse."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from show1 import Show1Pipeline
from show1.adapters.adapter import Adapter, unet_sha256
from show1.checkpoints.locate import resolve
from show1.errors import Cancelled, InputError, ModelNotFoundError, OutputError, RunError
from show1.training.checkpoint import last_checkpoint
from show1.training.customization import CustomizationConfig, customize, describe, task
from show1.training.customization.methods import MotionLora
from show1.training.customization.prepare import FILE, Prepared
from show1.training.customization.run import make_task
from show1.video import Video


@pytest.fixture
def options(tmp_path: Path, cascade: Path, clip: Path) -> dict[str, Any]:
    """Of a short run."""
    return {
        "kind": "motion",
        "output": str(tmp_path / "walk.safetensors"),
        "model": str(cascade),
        "video": [str(clip)],
        "prompt": ["a cat jumps"],
        "steps": 4,
        "batch_size": 2,
        "rank": 4,
        "learning_rate": 1e-3,
        "inversion_steps": 2,
        "log_every": 1,
        "checkpoint_every": 2,
    }


def config(options: dict[str, Any], **changes: Any) -> CustomizationConfig:
    return CustomizationConfig.from_dict({**options, **changes})


def test_what_a_run_leaves(tmp_path: Path, cascade: Path, options: dict[str, Any]) -> None:
    lines: list[dict[str, float]] = []
    asked = config(options, noise_weight=0.25, preview=["a panda", "a river"])
    file = customize(asked, on_log=lines.append)
    assert file == tmp_path / "walk.safetensors"
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    adapter = Adapter.load(file)
    assert (adapter.stage, adapter.kind, adapter.method) == ("keyframes", "motion", "temporal_attention")
    assert (adapter.prompt, adapter.noise_weight) == ("a cat jumps", 0.25)
    assert adapter.base_sha256 == unet_sha256(cascade / "keyframes" / "unet")
    assert adapter.settings["video"] == ["square.mkv"] and adapter.settings["steps"] == 4
    assert str(tmp_path) not in json.dumps(adapter.settings)
    assert adapter.start_noise is not None and adapter.start_noise.shape == (1, 3, 3, 8, 16)
    run = tmp_path / "walk.run"
    assert {p.name for p in run.iterdir()} == {
        "config.json",
        "log.jsonl",
        "tensorboard",
        "checkpoints",
        "samples",
        "export",
        "reference.png",
        "report.json",
        "written.json",
        FILE,
    }
    report = json.loads((run / "report.json").read_text())
    assert report["steps"] == 4 and report["seconds"] > 0 and report["peak_memory_bytes"] > 0
    network = (cascade / "keyframes/unet/diffusion_pytorch_model.safetensors").stat().st_size
    kept = sum(file.stat().st_size for file in (run / "checkpoints").rglob("*") if file.is_file())
    assert kept < network  # what is frozen is not kept, though weights, two moments and an average are
    # the clip, and a row for either prompt
    assert height(run / "samples/step-0000004.png") > 2.5 * height(run / "reference.png")
    # the adapter is one that the pipeline takes
    pipe = Show1Pipeline.from_pretrained(cascade, stages=["keyframes"], cache_embeddings=False)
    pipe.adapters.load(file, "walk")
    assert len(pipe("a panda", seed=1, until="keyframes")) == 3


def height(sheet: Path) -> int:
    with Image.open(sheet) as image:
        return image.height


@pytest.mark.parametrize("method", ["residual_vector", "lora"])
def test_a_stopped_run_goes_on_bit_for_bit(
    tmp_path: Path, options: dict[str, Any], method: str, caplog: pytest.LogCaptureFixture
) -> None:
    options |= {"method": method, "lr_schedule": "cosine", "ema_decay": 0.9, "accumulate": 2, "steps": 5}
    whole = customize(config(options, output=str(tmp_path / "whole.safetensors")))
    steps: list[float] = []
    with pytest.raises(Cancelled, match="step 3 of 5"):
        customize(config(options), on_log=lambda line: steps.append(line["step"]), stop=lambda: 2 in steps)
    assert not Path(options["output"]).exists()
    assert last_checkpoint(tmp_path / "walk.run") == tmp_path / "walk.run/checkpoints/step-3"
    parts = customize(config(options))
    assert parts.read_bytes() == whole.read_bytes()
    assert json.loads((tmp_path / "walk.run/report.json").read_text())["steps"] == 2
    log = (tmp_path / "walk.run/log.jsonl").read_bytes()
    assert customize(config(options)) == parts
    assert "has all its 5 steps already; nothing more was learned" in caplog.text
    assert (tmp_path / "walk.run/log.jsonl").read_bytes() == log and parts.read_bytes() == whole.read_bytes()
    with pytest.raises(RunError, match="another rank .4, now 8.*choose another folder"):
        customize(config(options, rank=8), overwrite=True)


def test_the_average_of_a_motion_s_lora_goes_on_while_frames_are_learned(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def learned(ema_decay: float) -> dict[str, torch.Tensor]:
        steps = iter(["temporal_loss"] * 3 + ["spatial_loss"])
        monkeypatch.setattr(
            MotionLora, "loss", lambda self, predict, inputs: getattr(self, next(steps))(predict, inputs, 0)
        )
        file = tmp_path / f"{ema_decay}.safetensors"
        customize(config(options, method="lora", ema_decay=ema_decay, output=str(file)))
        return {name: tensor for name, tensor in Adapter.load(file).tensors.items() if ".lora_B." in name}

    last, averaged = learned(0.0), learned(0.9)
    assert any(tensor.any() for tensor in last.values())
    assert not any(torch.equal(averaged[name], tensor) for name, tensor in last.items() if tensor.any())


def test_clips_are_read_again_until_there_is_a_checkpoint(tmp_path: Path, options: dict[str, Any]) -> None:
    run = tmp_path / "walk.run"
    run.mkdir()
    (run / FILE).write_bytes(b"of a run that was killed")
    customize(config(options, steps=1))
    assert Prepared.load(run / FILE).tensors["clips"].shape == (1, 3, 3, 8, 16)
    (run / FILE).write_bytes(b"damaged")
    with pytest.raises(RunError, match="is damaged"):
        customize(config(options, steps=2))


def test_a_run_resumes_from_any_current_folder(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    shutil.copy(options["video"][0], "clip.mp4")
    customize(config(options, steps=1, video=["clip.mp4"], output="out.safetensors", run="run"))
    monkeypatch.chdir(tmp_path)
    saved = json.loads((tmp_path / "work/run/config.json").read_text())
    assert saved["video"] == [str(tmp_path / "work/clip.mp4")]
    customize(CustomizationConfig.from_dict({**saved, "steps": 2}))
    assert not (tmp_path / "out.safetensors").exists()
    # earlier versions kept names as they were typed
    (tmp_path / "work/run/config.json").write_text(json.dumps({**saved, "video": ["work/clip.mp4"]}))
    customize(CustomizationConfig.from_dict({**saved, "steps": 3}))
    (tmp_path / "work/clip.mp4").write_bytes(Path(options["video"][0]).read_bytes() + b"0")
    with pytest.raises(RunError, match="clip.mp4 changed after this run began"):
        customize(CustomizationConfig.from_dict({**saved, "steps": 4}))


def test_what_has_changed_is_not_gone_on_with(tmp_path: Path, options: dict[str, Any], cascade: Path) -> None:
    folder, model = drawings(tmp_path / "drawings"), tmp_path / "model"
    shutil.copytree(cascade, model)
    style = {"kind": "style", "name": "sketch", "video": [], "images": str(folder), "model": str(model), "steps": 1}
    style |= {"inversion_steps": 0}
    customize(config(options, **style))
    (folder / "captions.jsonl").rename(tmp_path / "captions.jsonl")  # what is gone was read already
    customize(config(options, **style, **{"checkpoint_every": 1}))
    (tmp_path / "captions.jsonl").rename(folder / "captions.jsonl")
    Image.new("RGB", (50, 30)).save(folder / "c.png")
    with pytest.raises(RunError, match="c.png changed after this run began; choose another folder"):
        customize(config(options, **{**style, "steps": 2}))
    (folder / "c.png").unlink()
    weights = model / "keyframes" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor + 0.01 for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(RunError, match="the model changed after this run began"):
        customize(config(options, **{**style, "steps": 2}))


def test_its_own_file_is_replaced_though_samples_came_between(tmp_path: Path, options: dict[str, Any]) -> None:
    customize(config(options, steps=1))
    steps: list[float] = []
    with pytest.raises(Cancelled):
        customize(
            config(options, steps=4, sample_every=1),
            on_log=lambda line: steps.append(line["step"]),
            stop=lambda: 2 in steps,
        )
    file = customize(config(options, steps=4, sample_every=1))
    assert Adapter.load(file).settings["steps"] == 4


def test_another_file_is_not_replaced(tmp_path: Path, options: dict[str, Any]) -> None:
    Path(options["output"]).write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        customize(config(options))
    assert not (tmp_path / "walk.run").exists()
    customize(config(options, steps=1), overwrite=True)
    assert Adapter.load(options["output"]).method == "temporal_attention"


def drawings(folder: Path) -> Path:
    folder.mkdir()
    for name, colour in (("a.png", (255, 200, 0)), ("b.png", (0, 90, 255))):
        Image.new("RGB", (50, 30), colour).save(folder / name)
    (folder / "captions.jsonl").write_text('{"file": "b.png", "caption": "a river"}\n')
    return folder


STAGES: list[tuple[str, dict[str, Any]]] = [
    ("motion", {"stage": "interpolation", "method": "lora"}),
    ("style", {"stage": "keyframes", "images": True, "method": "temporal_attention"}),
    ("style", {"stage": "super_resolution", "images": True, "method": "spatial_lora"}),
    ("style", {"stage": "super_resolution", "method": "temporal_attention"}),
    ("style", {"stage": "translation", "method": "spatial_lora", "convolutions": True, "num_frames": 2}),
    ("style", {"stage": "translation", "images": True, "method": "temporal_attention"}),
]


def of_stage(tmp_path: Path, kind: str, changes: dict[str, Any]) -> dict[str, Any]:
    changes = {"kind": kind, "steps": 2, **changes}
    if kind == "style":
        changes |= {"name": "pencil sketch", "inversion_steps": 0}
    if changes.pop("images", False):
        changes |= {"images": str(drawings(tmp_path / "drawings")), "video": []}
    return changes


@pytest.mark.parametrize(("kind", "changes"), STAGES)
def test_every_stage(tmp_path: Path, options: dict[str, Any], kind: str, changes: dict[str, Any]) -> None:
    changes = of_stage(tmp_path, kind, changes)
    adapter = Adapter.load(customize(config(options, **changes)))
    assert adapter.stage == changes["stage"] and adapter.start_noise is None
    assert adapter.prompt == ("pencil sketch" if kind == "style" else "a cat jumps")
    assert any(delta.any() for delta in adapter.deltas().values())
    assert (tmp_path / "walk.run/samples/step-0000002.png").is_file()
    assert (tmp_path / "walk.run/reference.png").is_file()


@pytest.mark.parametrize(("kind", "changes"), STAGES)
def test_what_is_frozen_is_cast_once_and_nothing_changes(
    tmp_path: Path, options: dict[str, Any], kind: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config(options, mixed_precision="bf16", **of_stage(tmp_path, kind, changes))
    once = Adapter.load(customize(asked)).deltas()
    monkeypatch.setattr(task, "hold_frozen_in", lambda unet, dtype: None)
    again = dataclasses.replace(asked, output=str(tmp_path / "again.safetensors"))
    for name, delta in Adapter.load(customize(again)).deltas().items():
        assert torch.equal(delta, once[name]), name


def test_what_learns_is_not_cast(options: dict[str, Any]) -> None:
    asked = config(options, mixed_precision="bf16", method="lora")
    network = make_task(asked, resolve(asked.model, stages=(asked.stage,)), torch.device("cpu")).unet
    kinds = {(parameter.requires_grad, parameter.dtype) for parameter in network.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16), (False, torch.float32)}  # norms stay


def plain_copies(folder: Path, names: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    folder.mkdir()
    for name in names:
        Image.new("RGB", (50, 30), (10, 20, 30)).save(folder / name)
    return folder


def test_super_resolution_starts_from_what_lacks_the_style(
    tmp_path: Path, options: dict[str, Any], clip: Path, cascade: Path
) -> None:
    style = {"kind": "style", "name": "sketch", "stage": "super_resolution", "inversion_steps": 0, "steps": 1}
    source = [str(plain_copies(tmp_path / "plain"))]
    folder = {"images": str(drawings(tmp_path / "drawings")), "video": [], "source": source}
    adapter = Adapter.load(customize(config(options, **style, **folder)))
    assert adapter.settings["source"] == ["plain"]
    found = Prepared.load(tmp_path / "walk.run" / FILE).tensors
    assert found["clips"][0, 0].mean() > 0.9
    expected = torch.tensor([10.0, 20.0, 30.0]) / 127.5 - 1
    assert torch.allclose(found["low"], expected.view(1, 3, 1, 1, 1).expand_as(found["low"]), atol=1e-3)

    dark = Video.from_tensor(Video.load(clip).to_tensor() * 0.5 - 0.5, fps=8.0).save(tmp_path / "dark.mkv")
    again = {"output": str(tmp_path / "clips.safetensors"), "source": [str(dark)]}
    customize(config(options, **style, **again))
    found = Prepared.load(tmp_path / "clips.run" / FILE).tensors
    small = F.interpolate(found["clips"].transpose(1, 2).flatten(0, 1), size=found["low"].shape[-2:], mode="area")
    assert (found["low"] - (small[None].transpose(1, 2) * 0.5 - 0.5)).abs().max() < 0.03

    short = Video.from_tensor(Video.load(clip).to_tensor()[:, :4], fps=8.0).save(tmp_path / "short.mkv")
    for change, message in (
        ({"source": [str(short)]}, "do not have the same frames"),
        ({**folder, "source": [str(plain_copies(tmp_path / "other", ("a.png", "c.png")))]}, "see b, c"),
    ):
        with pytest.raises(InputError, match=message):
            customize(config(options, **style, **{"output": str(tmp_path / "bad.safetensors"), **change}))


@pytest.mark.parametrize("level", [0, 150])
def test_small_clips_have_noise_only_where_the_stage_adds_it(
    tmp_path: Path, options: dict[str, Any], cascade: Path, level: int
) -> None:
    style = {"kind": "style", "name": "sketch", "stage": "super_resolution", "inversion_steps": 0, "method": None}
    found = resolve(cascade)
    settings = found.settings.replace(super_resolution={"noise_level": level})
    changed = dataclasses.replace(found, settings=settings)
    inputs = make_task(config(options, **style), changed, torch.device("cpu")).inputs(torch.tensor([0] * 8))
    assert inputs.noise_level is not None
    assert bool(inputs.noise_level.any()) == (level > 0) and inputs.noise_level.max() <= 400


def test_super_resolution_also_learns_single_frames_of_clips(tmp_path: Path, options: dict[str, Any]) -> None:
    style = {"kind": "style", "name": "sketch", "stage": "super_resolution", "inversion_steps": 0, "method": None}
    asked = config(options, **style)
    task = make_task(asked, resolve(asked.model), torch.device("cpu"))
    torch.manual_seed(0)
    drawn = [task.inputs(torch.tensor([0, 0])) for _ in range(50)]
    alone = [inputs for inputs in drawn if inputs.x0.shape[2] == 1]
    assert 3 < len(alone) < 20
    frames = next(inputs.x0.shape[2] for inputs in drawn if inputs.x0.shape[2] > 1)
    for inputs in alone:
        assert len(inputs.x0) == len(inputs.text) == 2 * frames
        assert inputs.condition is not None and not torch.equal(inputs.condition, inputs.x0)


def test_dry_run_leaves_nothing(tmp_path: Path, options: dict[str, Any]) -> None:
    images = str(drawings(tmp_path / "drawings"))
    told = describe(config(options, kind="style", name="pencil sketch", video=[], images=images, prompt=["a thing"]))
    assert {p.name for p in tmp_path.iterdir()} == {"drawings"}
    assert told["prompts"] == ["a thing, pencil sketch", "a river, pencil sketch"]
    assert told["clip_shape"] == [2, 3, 1, 8, 16] and told["method"] == "spatial_lora"
    assert 0 < told["trained_parameters"] < told["frozen_parameters"]
    clips = describe(config(options))["clips"]
    assert clips[0]["times"] == pytest.approx([0.0, 0.5, 1.0]) and clips[0]["warnings"] == []
    describe(config(options), tmp_path / "sheet.png")
    assert {p.name for p in tmp_path.iterdir()} == {"drawings", "sheet.png"}
    assert height(tmp_path / "sheet.png") > 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "walk.pt"}, "output must be the name of a"),
        ({"video": []}, "video: a motion is learned from"),
        ({"prompt": []}, "prompt: say what the clip shows"),
        ({"prompt": ["a", "b"]}, "one for each of the 1, got 2"),
        ({"stage": "translation"}, "motions are learned by keyframes or interpolation"),
        ({"method": "spatial_lora"}, "a motion is learned by one of temporal_attention"),
        ({"method": "magic"}, "method must be one of temporal_attention, .*got 'magic'"),
        ({"kind": "style"}, "name: say what the style is called"),
        ({"kind": "style", "name": "x", "images": "d"}, "give one of the two"),
        ({"kind": "style", "name": "x", "images": "d", "video": [], "stage": "interpolation"}, "only from videos"),
        ({"noise_weight": 0.5, "inversion_steps": 0}, "leave noise_weight out"),
        ({"noise_weight": 2.0}, "noise_weight must be from 0 to 1"),
        ({"timestep_logit": [0.0, 0.0]}, "timestep_logit must be MEAN STD with STD above 0"),
        ({"timestep_logit": [float("nan"), 1.0]}, "timestep_logit must be a finite number"),
        ({"timestep_logit": [1.0]}, "timestep_logit must be 2 values"),
        ({"kind": "style", "name": "x", "images": "d", "video": [], "fit": "pad"}, "fit: it applies only to videos"),
        ({"kind": "style", "name": "x", "images": "d", "video": [], "fps": 3.0}, "fps: it applies only to videos"),
        ({"kind": "style", "name": "x", "layers": "attention"}, "layers: spatial_lora learns nothing over frames"),
        ({"kind": "style", "name": "x", "random_hue": 0.5}, "random_hue: it is for motions"),
        ({"random_hue": 1.5}, "random_hue must be from 0 to 1"),
        ({"accumulate": 3}, "accumulate must be a divisor"),
        ({"source": ["a.mkv"]}, "source: only styles of super_resolution"),
        (
            {"kind": "style", "name": "x", "stage": "super_resolution", "source": ["a.mkv", "b.mkv"]},
            "source: give one for each of the 1 clips, got 2",
        ),
        ({"convolutions": True}, "only spatial_lora trains them, got the method temporal_attention"),
        ({"speed": 1}, "unknown customization option 'speed'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config(options, **changes)


def test_what_cannot_be_learned_from(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="num_frames must be 2 or more for a motion"):
        customize(config(options, num_frames=1))
    with pytest.raises(InputError, match="num_frames must be 3 or more for this interpolation"):
        customize(config(options, num_frames=2, stage="interpolation"))
    with pytest.raises(ModelNotFoundError):
        customize(config(options, model=str(tmp_path / "nowhere")))
    with pytest.raises(InputError, match="the expert's network does not support it"):
        style = {"kind": "style", "name": "x", "stage": "translation", "num_frames": 1, "inversion_steps": 0}
        customize(config(options, **style, gradient_checkpointing=True))


def test_unknown_words_are_told_but_not_the_style_s_name(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    style = {"kind": "style", "name": "щщ", "prompt": ["a cat 日本"], "inversion_steps": None}
    asked = CustomizationConfig.from_dict({k: v for k, v in {**options, **style}.items() if v is not None})
    make_task(asked, resolve(asked.model), torch.device("cpu"))
    assert "the model does not know '日本';" in caplog.text
