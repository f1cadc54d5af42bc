"""Exports say how to use them: a cascade of them has the sizes, steps and tokens that they were trained for."""

import json
from pathlib import Path

import pytest

from show1.checkpoints.index import read_stage_notes
from show1.cli.main import main
from show1.errors import CheckpointError
from show1.generation.pipeline import Show1Pipeline
from tests.training.tiny_training import Exports, config, run

STAGES = ("keyframes", "interpolation", "super_resolution", "translation")
FEW = {stage: {"num_inference_steps": 2} for stage in STAGES}


def test_a_cascade_of_exports_has_their_settings(exports: Exports) -> None:
    pipe = Show1Pipeline.from_pretrained({stage: exports[stage] for stage in STAGES})
    keyframes, interpolation = pipe.settings.keyframes, pipe.settings.interpolation
    upscaled, translation = pipe.settings.super_resolution, pipe.settings.translation
    assert (keyframes.num_frames, keyframes.height, keyframes.width) == (3, 8, 8)
    assert keyframes.fps == pytest.approx(2 / 3.5)
    assert (keyframes.num_inference_steps, keyframes.guidance_scale) == (32, 3.0)
    assert (interpolation.factor, interpolation.num_inference_steps, interpolation.guidance_scale) == (4, 25, 1.0)
    assert (upscaled.height, upscaled.width, upscaled.window, upscaled.stride) == (16, 16, 3, 2)
    assert upscaled.noise_level == 0 and upscaled.first_frame is None
    assert (translation.height, translation.width, translation.max_timestep) == (32, 32, 900)
    assert pipe.settings.max_text_tokens == 24
    video = pipe("a panda spins over the snow", seed=1, settings=FEW)
    assert video.frames.shape == (9, 32, 32, 3) and video.fps == pytest.approx(4 * 2 / 3.5)


def test_assembled_and_saved_cascades_keep_them(
    exports: Exports, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stages = [f"{stage}={exports[stage]}" for stage in STAGES[:2]]
    asked = ["models", "assemble", *stages, "-o", str(tmp_path / "mine"), "--set", "keyframes.num_inference_steps=2"]
    assert main([*asked, "--link"]) == 0
    out, err = capfd.readouterr()
    assert out == f"{tmp_path / 'mine'}\n" and "keyframes: 3x8x8, 2 steps, guidance 3" in err
    weights = "keyframes/unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "mine" / weights).samefile(exports["keyframes"].parent / "export" / weights.partition("/")[2])
    assert (tmp_path / "mine" / "keyframes" / "README.md").is_file()
    direct = Show1Pipeline.from_pretrained({stage: exports[stage] for stage in STAGES[:2]})
    pipe = Show1Pipeline.from_pretrained(tmp_path / "mine")
    assert pipe.settings == direct.settings.replace(keyframes={"num_inference_steps": 2})
    few = {"interpolation": {"num_inference_steps": 1}}
    video = pipe("a cat", seed=1, settings=few)
    expected = direct("a cat", seed=1, settings={"keyframes": {"num_inference_steps": 2}, **few})
    assert (video.frames == expected.frames).all()
    alone = Show1Pipeline.from_pretrained(exports["keyframes"])  # it says which stage it is
    assert alone.stages == ("keyframes",) and alone.settings.keyframes == direct.settings.keyframes

    pipe.save_pretrained(tmp_path / "saved", settings={"keyframes": {"guidance_scale": 1.5}, "max_text_tokens": 12})
    saved = Show1Pipeline.from_pretrained(tmp_path / "saved").settings
    assert saved == pipe.settings.replace(keyframes={"guidance_scale": 1.5}, max_text_tokens=12)
    tokenizer = (tmp_path / "saved" / "keyframes" / "tokenizer" / "tokenizer_config.json").read_text()
    assert "local_files_only" not in tokenizer
    of_stage = Show1Pipeline.from_pretrained({"keyframes": tmp_path / "saved" / "keyframes"}).settings
    assert of_stage.keyframes == saved.keyframes and of_stage.max_text_tokens == 12

    assert main([*asked, "--set", "keyframes.height=3"]) == 2
    assert main(["models", "assemble", "keyframe=x", "-o", str(tmp_path / "no")]) == 2
    assert main(["models", "assemble", f"translation={exports['keyframes']}", "-o", str(tmp_path / "no")]) != 0
    assert not (tmp_path / "no").exists()


def test_an_export_has_a_card(exports: Exports) -> None:
    card = (exports["keyframes"] / "README.md").read_text()
    assert "| data | `sprites` |" in card and "| steps | 2 of 2" in card and "| licence | not chosen yet |" in card
    assert f"| `--init` | `{exports['keyframe_images']}` |" in card
    assert "show1 models assemble keyframes=THIS_FOLDER" in card and '"network": "tiny"' in card
    images = (exports["keyframe_images"] / "README.md").read_text()
    assert "show1 train keyframes --init THIS_FOLDER" in images and "assemble" not in images
    assert "`--vae`" in (exports["vae"] / "README.md").read_text()
    assert "show1 train translation --vae THIS_FOLDER" in (exports["tiny_vae"] / "README.md").read_text()
    assert "`--text`" in (exports["text"] / "README.md").read_text()


def test_what_is_known_of_the_start_is_kept(exports: Exports, tmp_path: Path) -> None:
    """How a stage samples best, and is customized best, was found out once; sizes are those of the new training."""
    start = tmp_path / "start"
    exported = run(config("keyframes", start, steps=1, init=str(exports["keyframe_images"])))
    values = json.loads((exported / "stage.json").read_text())
    values["settings"] |= {"num_inference_steps": 7, "guidance_scale": 2.5}
    values["customization"] = {"motion": [{"method": "lora", "rank": 3}]}
    (exported / "stage.json").write_text(json.dumps(values))
    again = run(config("keyframes", tmp_path / "again", steps=1, init=str(exported), size=[8, 16]))
    notes = read_stage_notes(again, "keyframes")
    chosen = notes.settings["keyframes"]
    assert (chosen["num_inference_steps"], chosen["guidance_scale"], chosen["width"]) == (7, 2.5, 16)
    assert notes.customization == {"motion": [{"stage": "keyframes", "method": "lora", "rank": 3}]}

    for damage in ('{"format": 2}', '{"format": 1, "stage": "keyframes", "settings": {"height": "x"}}', "[" * 10**5):
        (again / "stage.json").write_text(damage)
        with pytest.raises(CheckpointError, match="stage.json"):
            Show1Pipeline.from_pretrained({"keyframes": again})
