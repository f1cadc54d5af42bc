"""What a video or a run folder of a stranger may make `show1` do: nothing that its user did not ask for."""

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from show1.adapters.adapter import Adapter
from show1.files import sha256
from show1.generation.manifest import model_sha256
from show1.generation.pipeline import Show1Pipeline
from show1.video import Video
from tests.cli.conftest import Result, Show1
from tests.tiny_adapters import random_adapter


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What asks a Hub on this machine for something."""
    seen: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                seen.append(connection.recv(1000))
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield seen


def change_record(source: Path, target: Path, **model: Any) -> None:
    """A copy of a video whose record names another model or other adapters."""
    video = Video.load(source)
    video.metadata["model"].update(model)
    video.save(target)


@pytest.mark.parametrize("model", ["evil/cascade", {"keyframes": "evil/stage"}])
def test_a_video_cannot_choose_what_is_downloaded(
    show1: Show1, whole: Path, connections: list[Any], model: Any
) -> None:
    change_record(whole, Path("evil.mkv"), model=model)
    named = "evil/cascade" if isinstance(model, str) else "keyframes=evil/stage"
    for options in (["--dry-run"], ["-o", "x.mp4"]):
        failed = show1("generate", "--from", "evil.mkv", *options)
        assert failed.code == 2 and "which is not on this disk" in failed.err and f"--model {named}" in failed.err
    assert connections == []
    assert [p.name for p in Path().iterdir()] == ["evil.mkv"]


def test_a_run_folder_cannot_either(show1: Show1, whole: Path, connections: list[Any]) -> None:
    shutil.copytree(whole.parent / "run", "run")
    manifest = json.loads(Path("run/manifest.json").read_text())
    manifest["model"]["model"] = "evil/cascade"
    Path("run/manifest.json").write_text(json.dumps(manifest))
    failed = show1("resume", "run")
    assert failed.code == 2 and "show1 models download evil/cascade" in failed.err and connections == []


def repeat_with_adapter(show1: Show1, whole: Path, path: Path, digest: str) -> Result:
    record = {"name": "walk", "path": str(path), "sha256": digest, "stage": "keyframes"}
    weights = {"weight": 0.8, "detail_weight": 0.8, "noise_weight": 0.0}
    change_record(whole, Path("video.mkv"), adapters=[{**record, **weights}])
    result = show1("generate", "--from", "video.mkv", "--dry-run", "--until", "keyframes")
    Path("video.mkv").unlink()
    return result


def test_adapters_of_a_video_are_read_in_known_places_only(
    show1: Show1, whole: Path, cascade: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Show1Pipeline.from_pretrained(cascade, device="cpu")
    elsewhere = random_adapter(pipe).save(tmp_path_factory.mktemp("elsewhere") / "walk.safetensors")
    digest = sha256(elsewhere)
    with monkeypatch.context() as patch:
        patch.setattr(Adapter, "load", lambda *_: pytest.fail("it was read"))
        failed = repeat_with_adapter(show1, whole, elsewhere, digest)
        assert failed.code == 2 and f"give it: --adapter keyframes={elsewhere}:0.8;" in failed.err
        Path("link.safetensors").symlink_to(elsewhere)
        assert "neither beside it" in repeat_with_adapter(show1, whole, Path("link.safetensors").absolute(), digest).err
        for name in ("/dev/zero", "/proc/kmsg", "/proc/self/environ"):
            assert "neither beside it" in repeat_with_adapter(show1, whole, Path(name), digest).err
    shutil.copy(elsewhere, "walk.safetensors")  # it travelled with the video
    found = repeat_with_adapter(show1, whole, elsewhere, digest)
    assert found.code == 0 and f"{Path('walk.safetensors').absolute()} (weight 0.8, keyframes)" in found.out


def test_a_run_folder_is_no_permission_to_replace_files(show1: Show1, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole.parent / "run", "run")
    manifest = json.loads(Path("run/manifest.json").read_text())
    manifest["output"] = {"path": str(tmp_path / "mine.mp4"), "options": {"overwrite": True}}
    Path("run/manifest.json").write_text(json.dumps(manifest))
    Path("mine.mp4").write_text("mine")
    failed = show1("resume", "run")
    assert failed.code == 2 and "exists already" in failed.err and Path("mine.mp4").read_text() == "mine"
    assert show1("resume", "run", "--overwrite").code == 0 and len(Video.load("mine.mp4")) == 5
    for path in ("../mine.mp4", "a/../../mine.mp4"):
        manifest["output"] = {"path": path}
        Path("run/manifest.json").write_text(json.dumps(manifest))
        failed = show1("resume", "run")
        assert failed.code == 2 and "would lead out of the folder" in failed.err


def test_a_run_says_where_its_video_goes(show1: Show1, whole: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shutil.copytree(whole.parent / "run", "run")
    Path("run/translation.safetensors").unlink()
    file = tmp_path_factory.mktemp("elsewhere") / "panda.mp4"
    manifest = json.loads(Path("run/manifest.json").read_text())
    manifest["output"] = {"path": str(file)}
    Path("run/manifest.json").write_text(json.dumps(manifest))
    resumed = show1("resume", "run")
    assert resumed.code == 0 and resumed.out == f"{file}\n"
    assert f"the video goes to {file}, which the run was begun for" in resumed.err


def test_a_run_of_other_adapters_is_found(show1: Show1, cascade: Path) -> None:
    pipe = Show1Pipeline.from_pretrained(cascade, device="cpu")
    random_adapter(pipe).save("walk.safetensors")
    asked = ["generate", "a panda", "-m", cascade, "--until", "keyframes", "-q"]
    assert show1(*asked, "--adapter", "walk.safetensors", "--run", "run", "-o", "a.mp4").code == 0
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["model"]["sha256"] != model_sha256(manifest["model"]["files"], [])
    manifest["model"]["adapters"][0]["weight"] = 0.5
    Path("run/manifest.json").write_text(json.dumps(manifest))
    failed = show1("resume", "run")
    assert failed.code == 2 and "sha256 is not that of the weight files and adapters" in failed.err


@pytest.mark.parametrize("name", [".lock", "manifest.json", "keyframes.safetensors", "translation.safetensors"])
def test_a_run_folder_has_no_links(show1: Show1, whole: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(whole.parent / "run", "run")
    mine = tmp_path / "mine"
    link = Path("run") / name
    if name == "manifest.json":
        shutil.move(link, mine)
    else:
        mine.write_text("mine")
    link.unlink(missing_ok=True)
    link.symlink_to(mine)
    before = mine.read_bytes()
    failed = show1("resume", "run", "-o", "new.mkv")
    assert failed.code == 2 and f"run/{name} is a link" in failed.err
    assert mine.read_bytes() == before
