"""`--adapter`, and what `inspect`, `--from` and `resume` make of adapters."""

from pathlib import Path

import pytest
import torch

from show1.adapters.adapter import unet_sha256
from show1.cli.settings import AdapterChoice, parse_adapters
from show1.errors import InputError
from show1.generation.pipeline import Show1Pipeline
from show1.generation.run import Run
from tests.cli.conftest import Show1
from tests.tiny_adapters import random_adapter


def test_paths_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "take:2").touch()
    for text, path, weight, stage in (
        ("walk.safetensors", "walk.safetensors", 1.0, None),
        ("walk.safetensors:0.8", "walk.safetensors", 0.8, None),
        ("walk.safetensors:-1e-1", "walk.safetensors", -0.1, None),
        (r"C:\clips\walk.safetensors", r"C:\clips\walk.safetensors", 1.0, None),
        (r"C:\clips\walk.safetensors:2", r"C:\clips\walk.safetensors", 2.0, None),
        ("C:walk.safetensors", "C:walk.safetensors", 1.0, None),
        ("clips:1/walk.safetensors", "clips:1/walk.safetensors", 1.0, None),
        ("take:2", "take:2", 1.0, None),
        ("take:2:3", "take:2", 3.0, None),
        ("keyframes=lora.safetensors:0.5", "lora.safetensors", 0.5, "keyframes"),
        ("a=b.safetensors", "a=b.safetensors", 1.0, None),
        ("walk.safetensors:0.9:0.4", "walk.safetensors", (0.9, 0.4), None),
        (r"C:\clips\walk.safetensors:2:0", r"C:\clips\walk.safetensors", (2.0, 0.0), None),
        ("C:walk.safetensors:2", "C:walk.safetensors", 2.0, None),
        ("take:2:3:1", "take:2", (3.0, 1.0), None),
    ):
        weight, detail_weight = weight if isinstance(weight, tuple) else (weight, None)
        assert parse_adapters([text]) == [
            AdapterChoice(path=path, weight=weight, detail_weight=detail_weight, stage=stage)
        ]  # type: ignore[arg-type]
    assert parse_adapters(None) is None
    assert parse_adapters(["none"]) == []
    for bad in (
        "walk.safetensors:strong",
        "walk.safetensors:",
        "walk.safetensors:nan",
        "walk.safetensors:1:x",
        "walk.safetensors:x:1",
        ":0.5",
        "",
        "keyframes=",
    ):
        with pytest.raises(InputError, match="expected FILE:WEIGHT"):
            parse_adapters([bad])
    with pytest.raises(InputError, match="give no other beside it"):
        parse_adapters(["none", "walk.safetensors"])


def test_generate_inspect_repeat_and_resume(show1: Show1, cascade: Path, tmp_path: Path) -> None:
    pipe = Show1Pipeline.from_pretrained(cascade, device="cpu")
    file = random_adapter(pipe).save(tmp_path / "walk.safetensors")
    shown = show1("inspect", file)
    assert shown.code == 0, shown.err
    assert "a cat walks" in shown.out and "--adapter" in shown.out and "steps=3" in shown.out
    assert show1("inspect", file, "--json").json["base_sha256"] == unet_sha256(cascade / "keyframes" / "unet")

    asked = ["generate", "a panda", "-m", cascade, "--seed", 1, "--until", "keyframes", "--quiet"]
    assert show1(*asked, "-o", "plain.mkv", "--run", "plain").code == 0
    made = show1(*asked, "-o", "walk.mkv", "--run", "walk", "--adapter", f"{file}:0.8")
    assert made.code == 0, made.err
    plain, walk = (Run.open(tmp_path / name).load("keyframes") for name in ("plain", "walk"))
    assert not torch.equal(plain, walk)
    for path in ("walk.mkv", "walk"):
        assert f"{file} (weight 0.8, keyframes)" in show1("inspect", path).out

    again = show1("generate", "--from", "walk.mkv", "-o", "again.mkv", "--run", "again", "--quiet")
    assert again.code == 0 and again.err == "", again.err
    assert torch.equal(Run.open(tmp_path / "again").load("keyframes"), walk)
    without = ["generate", "--from", "walk.mkv", "-o", "none.mkv", "--run", "none", "--quiet", "--adapter", "none"]
    assert show1(*without).code == 0
    assert torch.equal(Run.open(tmp_path / "none").load("keyframes"), plain)

    (tmp_path / "walk" / "keyframes.safetensors").unlink()
    (tmp_path / "walk.mkv").unlink()
    resumed = show1("resume", "walk", "--quiet")
    assert resumed.code == 0, resumed.err
    assert torch.equal(Run.open(tmp_path / "walk").load("keyframes"), walk)
    file.unlink()
    for command in (("resume", "walk"), ("generate", "--from", "walk.mkv", "-o", "x.mkv")):
        failed = show1(*command)
        assert failed.code == 2 and "'walk' is no longer at" in failed.err
    failed = show1(*asked, "-o", "x.mkv", "--adapter", file)
    assert failed.code == 2 and "there is no adapter" in failed.err
    assert not (tmp_path / "x.mkv").exists()
