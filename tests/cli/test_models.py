"""`show1 models`, `show1 env`, and the command's own options."""

import shutil
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.cli.conftest import Show1


def test_list(show1: Show1) -> None:
    rows = {row["name"]: row for row in show1("models", "list", "--json").json}
    assert {name for name, row in rows.items() if not row["about"].startswith("expert")} == {
        "mini",
        "mini:fast",
        "showlab/show-1",
    }
    assert not rows["showlab/show-1"]["on_disk"]
    listed = show1("models", "list")
    assert listed.code == 0 and "not on this disk" in listed.out and listed.err == ""


def test_verify(show1: Show1, cascade: Path, tmp_path: Path) -> None:
    sound = show1("models", "verify", cascade, "--deep")
    assert sound.code == 0 and "all is well" in sound.out
    broken = tmp_path / "broken"
    shutil.copytree(cascade, broken)
    weights = broken / "interpolation" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    (broken / "translation" / "tokenizer" / "vocab.json").unlink()
    found = show1("models", "verify", broken, "--json")
    assert found.code == 1
    assert not found.json["sound"] and len(found.json["problems"]) == 2
    told = show1("models", "verify", broken)
    assert "2 problems" in told.err
    assert f"{weights} is truncated" in told.out and str(broken / "translation" / "tokenizer") in told.out
    alone = show1("models", "verify", broken, "--stage", "keyframes")
    assert alone.code == 0, alone.out


def test_verify_of_nothing(show1: Show1) -> None:
    failed = show1("models", "verify", "no-such-model")
    assert failed.code == 2 and "no model or folder" in failed.err
    failed = show1("models", "verify", "mini", "--stage", "keyframe")
    assert failed.code == 2 and "unknown stage 'keyframe'" in failed.err


def test_convert(show1: Show1, tmp_path: Path) -> None:
    folder = tmp_path / "unet"
    folder.mkdir()
    torch.save({"weight": torch.arange(4.0)}, folder / "diffusion_pytorch_model.bin")
    done = show1("models", "convert", tmp_path)
    target = folder / "diffusion_pytorch_model.safetensors"
    assert done.code == 0 and done.out == f"{target}\n"
    assert load_file(target)["weight"].tolist() == [0, 1, 2, 3]
    again = show1("models", "convert", tmp_path)
    assert again.code == 0 and again.out == "" and "nothing to do" in again.err


def test_download(show1: Show1, cascade: Path) -> None:
    here = show1("models", "download", cascade)
    assert here.code == 0 and "translation" in here.out
    offline = show1("models", "download", "showlab/show-1-base")
    assert offline.code == 2 and "showlab/show-1-base is not on this disk" in offline.err


def test_env(show1: Show1) -> None:
    facts = show1("env", "--json").json
    assert facts["packages"]["torch"] == version("torch") and facts["system"]["cores"] >= 1
    assert facts["caches"]["show1_free_bytes"] > 0 and facts["media"]["missing encoders"] == "none"
    assert version("show1") in show1("env").out


def test_version_and_help(show1: Show1) -> None:
    assert show1("--version").out == f"show1 {version('show1')}\n"
    for command in (["--help"], ["models", "--help"], ["resume", "--help"], ["inspect", "-h"]):
        shown = show1(*command)
        assert shown.code == 0 and shown.err == ""
    nothing = show1("models")
    assert nothing.code == 2 and "download" in nothing.out and nothing.err == ""
    assert "--pick" in show1("resume", "--help").out


def test_inspect_says_that_a_folder_is_a_model(show1: Show1, cascade: Path) -> None:
    for folder in (cascade, cascade / "keyframes"):
        failed = show1("inspect", folder)
        assert failed.code != 0 and f"show1 models verify {folder}" in failed.err


def test_assemble_warns_of_a_gap_and_of_single_images(show1: Show1, cascade: Path) -> None:
    parts = [f"{stage}={cascade}" for stage in ("keyframes", "super_resolution")]
    made = show1("models", "assemble", *parts, "-o", "gap", "--link", "--set", "keyframes.num_frames=1")
    assert made.code == 0 and "between its stages the cascade lacks interpolation;" in made.err
    assert "the keyframes network makes single images: train" in made.err
    failed = show1("generate", "x", "-m", "gap")
    assert failed.code == 2 and "(--start-from, --until)" in failed.err
