"""`show1 data check`, and what `show1 train` does with people's data."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from show1.text.words import word_tokenizer
from tests.cli.conftest import Show1
from tests.data.media_files import write_captions, write_picture, write_video
from tests.training.tiny_training import install

DOCS = Path(__file__).parents[2] / "docs" / "data.md"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    write_video(folder / "long.mp4", frames=40)
    write_video(folder / "short.mp4", frames=10, size=(32, 32))
    write_picture(folder / "still.png", 3)
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    rows = [("long.mp4", "a dog runs along the beach"), ("short.mp4", ""), ("still.png", "a cat")]
    rows += [("noise.mp4", "noise"), ("gone.mp4", "x")]
    write_captions(folder, *({"file": file, "caption": caption} for file, caption in rows))
    return folder


def test_check_tells_what_can_be_used(show1: Show1, clips: Path, tmp_path: Path) -> None:
    word_tokenizer(("a", "dog", "cat", "noise", "x", "the"), 5).save_pretrained(tmp_path / "text/tokenizer")
    (tmp_path / "text/text_encoder").mkdir()
    shown = show1("data", "check", clips, "--text", tmp_path / "text")
    assert shown.code == 2
    lines = {line[:14].strip() or f"{number}": line[14:] for number, line in enumerate(shown.out.splitlines())}
    assert lines["clips"] == "5" and lines["2"] == "videos: 2, pictures: 1, bad: 2"
    assert lines["usable"] == "3 for keyframe_images, super_resolution_images, vae, tiny_vae, translation_images"
    assert "1 for keyframes, translation" in shown.out and "2 for interpolation" in shown.out
    assert lines["lengths"].startswith("1.25 to 5.00 s") and lines["frame rates"] == "8 (2)"
    assert lines["sizes"] == "64x48 (2), 32x32 (1)"
    assert lines["captions"] == "4, empty: 1, without: 0"
    assert "1 of 4 captions have words that the text encoder does not know: runs (1), along (1), beach (1)" in shown.out
    assert "1 of 4 captions are longer than the 5 tokens" in shown.out
    assert "noise.mp4 (captions.jsonl, line 4) cannot be decoded" in lines["bad"]
    assert "gone.mp4 (captions.jsonl, line 5) does not exist" in shown.out


def test_check_as_json_and_of_good_clips(show1: Show1, clips: Path) -> None:
    for name in ("noise.mp4", "captions.jsonl"):
        (clips / name).unlink()
    shown = show1("data", "check", clips, "--json", "--frames", "17", "--fps", "16", "--deep")
    assert shown.code == 0 and shown.json["bad"] == [] and shown.json["without_caption"] == 3
    assert shown.json["usable"]["keyframes, translation"] == 0 and shown.json["usable"]["vae"] == 3
    (clips / "long.txt").write_text("a dog")
    shown = show1("data", "check", clips)
    assert shown.code == 0 and "1 for keyframes, translation" in shown.out and "3 for vae" in shown.out
    assert "too short     " in shown.out and "short.mp4 (no short.txt) lasts 1.25 s, but 29 frames" in shown.out
    assert shown.out.count(" lasts ") == 1
    assert "still.png (no still.txt) is a still picture, but 3.50 s of video are needed" in shown.out
    assert show1("data", "check", clips, "--text", "nowhere").code == 2
    assert show1("data", "check", clips, "--frames", "0").code == 2


def test_a_folder_of_many_pictures(show1: Show1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("show1.cli.data.MOST_LISTED", 2)
    for number in range(5):
        write_picture(tmp_path / f"clips/{number}.png", 3)
    shown = show1("data", "check", "clips")
    assert shown.out.count(" is a still picture") == 2 and "and 3 more; --json lists them" in shown.out
    assert len(show1("data", "check", "clips", "--json").json["too_short"]) == 5


def test_deep_finds_damage_further_on(show1: Show1, tmp_path: Path) -> None:
    write_video(tmp_path / "a/b.mkv", frames=50)
    data = (tmp_path / "a/b.mkv").read_bytes()
    (tmp_path / "a/b.mkv").write_bytes(data[: len(data) // 2])
    assert show1("data", "check", tmp_path / "a").code == 0
    shown = show1("data", "check", tmp_path / "a", "--deep")
    assert shown.code == 2 and "b.mkv (no b.txt) cannot be decoded: its frames end at" in shown.out


def test_training_with_bad_clips(show1: Show1, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch.setitem)
    words = ["train", "keyframe_images", "--network", "tiny", "--out", tmp_path / "run", "--data", clips]
    words += ["--steps", 2, "--batch-size", 2]
    refused = show1(*words)
    assert refused.code == 2 and "line 5 names 'gone.mp4'" in refused.err
    dry = show1(*words, "--skip-bad", "--dry-run")
    assert dry.code == 0 and "2 of 5 clips cannot be used for this task" in dry.err
    assert dry.json["config"]["skip_bad"] and dry.json["config"]["frames"] == 29
    trained = show1(*words, "--skip-bad")
    assert trained.code == 0 and "noise.mp4" in trained.err
    assert json.loads((tmp_path / "run/config.json").read_text())["data"] == str(clips)
    assert show1("train", "keyframe_images", "--out", tmp_path / "run", "--steps", 3, "--quiet").code == 0


def test_frames_and_rate_of_clips(show1: Show1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch.setitem)
    write_video(tmp_path / "clips/a.mp4", frames=10)
    (tmp_path / "clips/a.txt").write_text("a dog")
    words = ["train", "interpolation", "--network", "tiny", "--out", tmp_path / "run", "--data", tmp_path / "clips"]
    words += ["--steps", 1, "--batch-size", 1, "--frames", 9, "--fps", 8, "--text"]
    images = ["train", "keyframe_images", "--network", "tiny", "--out", tmp_path / "text", "--data", tmp_path / "clips"]
    assert show1(*images, "--steps", 1, "--batch-size", 1).code == 0
    assert show1(*words, tmp_path / "text/export").code == 0
    changed = show1("train", "interpolation", "--out", tmp_path / "run", "--steps", 2, "--frames", 5)
    assert changed.code == 2 and "another frames (9, now 5)" in changed.err
    wrong = show1("train", "keyframe_images", "--out", tmp_path / "x", "--data", "sprites", "--fps", 4)
    assert wrong.code == 2 and "frames and fps are for videos" in wrong.err


def test_an_autoencoder_needs_no_captions(show1: Show1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch.setitem)
    write_picture(tmp_path / "pictures/below/a.png", 7)
    words = ["--network", "tiny", "--data", tmp_path / "pictures", "--steps", 1, "--batch-size", 1]
    assert show1("train", "vae", "--out", tmp_path / "vae", *words).code == 0
    refused = show1("train", "keyframe_images", "--out", tmp_path / "images", *words)
    assert refused.code == 2 and "1 of 1 clips have no caption" in refused.err
    assert show1("train", "keyframe_images", "--out", tmp_path / "images", *words, "--prompt-dropout", 1).code == 0


def test_the_source_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    exec(code, {"__name__": "stripes"})
    assert (tmp_path / "runs/stripes/export/unet").is_dir()
    assert json.loads((tmp_path / "runs/stripes/config.json").read_text())["data"] == "stripes"


def test_commands_of_the_documentation(show1: Show1) -> None:
    lines = [line for line in DOCS.read_text().splitlines() if line.startswith("show1 ")]
    assert len(lines) == 5
    for line in lines:
        words = shlex.split(line, comments=True)
        shown = show1(*words[1:3], "--help")
        assert shown.code == 0
        assert all(word in shown.out for word in words if word.startswith("--"))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_clip_that_breaks_in_the_middle_of_a_run(
    show1: Show1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    install(monkeypatch.setitem)
    write_video(tmp_path / "clips/a.mp4", frames=40)
    write_video(tmp_path / "clips/b.mkv", frames=50)
    data = (tmp_path / "clips/b.mkv").read_bytes()
    (tmp_path / "clips/b.mkv").write_bytes(data[: len(data) // 2])  # its header and its first frames are whole
    for name in ("a", "b"):
        (tmp_path / f"clips/{name}.txt").write_text("a dog")
    words = ["train", "keyframe_images", "--network", "tiny", "--out", tmp_path / "run", "--data", tmp_path / "clips"]
    words += ["--steps", 12, "--batch-size", 1, "--checkpoint-every", 1, "--workers", workers, "--seed", 3]
    failed = show1(*words)
    assert failed.code == 2 and "b.mkv (b.txt) cannot be decoded: its frames end at" in failed.err
    assert "To resume from the last checkpoint without such clips, add --skip-bad." in failed.err
    [checkpoint] = (tmp_path / "run/checkpoints").glob("step-*")
    resumed = show1("train", "keyframe_images", "--out", tmp_path / "run", "--skip-bad")
    assert resumed.code == 0
    if not workers:
        assert "another clip stands in for one that cannot be read" in resumed.err
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 12 and not checkpoint.exists()
