"""`show1 evaluate run`, `score` and `protocols`."""

import json
from pathlib import Path

import pytest

from show1.evaluation.feature_networks import NETWORKS
from tests.cli.conftest import Show1
from tests.evaluation.standard_sets import TinyI3D, save_network, write_clip


def test_protocols_are_listed(show1: Show1) -> None:
    listed = show1("evaluate", "protocols")
    assert listed.code == 0 and len(listed.out.splitlines()) == 6
    assert "ucf101-mav-10k  32e70c4d4109bba4  10000 videos" in listed.out and "5 videos per prompt" in listed.out
    whole = show1("evaluate", "protocols", "--json").json
    assert [p["name"] for p in whole] == [
        "folder",
        "msrvtt-2990",
        "sprites",
        "ucf101-2048x16",
        "ucf101-mav-10k",
        "vbench",
    ]


def test_score_of_folders(show1: Show1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    save_network(TinyI3D(), tmp_path / "networks" / "i3d_torchscript.pt")
    monkeypatch.setitem(NETWORKS, "i3d-stylegan-v", replace(NETWORKS["i3d-stylegan-v"], sha256=None))
    for i in range(3):
        write_clip(tmp_path / "real" / f"{i}.mp4", seed=i)
    asked = ("evaluate", "score", "--real", "real", "--fake", "real", "--metric", "fvd", "--features", "networks")
    made = show1(*asked, "--frames", 10, "--size", "20x16", "--resamples", 4)
    assert made.code == 0, made.err
    assert "| fvd:i3d-stylegan-v (lower is better) | 0.0000 |" in made.out and "3 of 3 real videos" in made.out
    assert "below full rank" in made.out
    result = show1(*asked, "--frames", 10, "--size", "20x16", "--resamples", 0, "--json").json
    assert result["clips"]["width"] == 20 and result["clips"]["height"] == 16
    both = show1("evaluate", "score", "--fake", "real", "--metric", "alignment", "--metric", "clipsim")
    assert both.code == 2 and "ask for it separately, or give --frames" in both.err
    missing = show1("evaluate", "score", "--fake", "nowhere", "--metric", "is")
    assert missing.code == 2 and "nowhere is not a folder" in missing.err
    for option, value in (("--size", "20"), ("--resize", "cut"), ("--metric", "fid")):
        wrong = show1(*asked, option, value)
        assert wrong.code == 2 and option.removeprefix("--") in wrong.err


def test_captions_that_cannot_be_judged_fail_before_a_video_is_read(
    show1: Show1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(2):
        write_clip(tmp_path / "made" / f"{i}.mp4", seed=i)
    monkeypatch.setattr("show1.evaluation.clips.read_clip", lambda *_: pytest.fail("a video was read"))
    asked = ("evaluate", "score", "--fake", "made", "--metric", "alignment")
    lacking = show1(*asked)
    assert lacking.code == 2 and "0.mp4 has none: write captions.jsonl" in lacking.err
    captions = ["a panda spins over the snow", "a dog runs along the beach"]
    rows = [json.dumps({"file": f"{i}.mp4", "caption": caption}) for i, caption in enumerate(captions)]
    (tmp_path / "made" / "captions.jsonl").write_text("\n".join(rows))
    wrong = show1(*asked)
    assert wrong.code == 2 and "'a dog runs along the beach'" in wrong.err


def test_run_of_a_small_cascade(show1: Show1, cascade: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a panda\n")
    asked = (
        "evaluate",
        "run",
        "vbench",
        "-m",
        f"keyframes={cascade}",
        "--data",
        "prompts.txt",
        "--videos",
        2,
        "--batch-size",
        1,
    )
    part = show1(*asked, "--out", "bench", "--shard", "2/2")
    assert part.code == 0 and "1 of 2 videos finished" in part.out, part.err
    whole = show1(*asked, "--out", "bench", "--shard", "1/2")
    assert whole.code == 0 and "# vbench: " in whole.out, whole.err
    assert [f.name for f in sorted((tmp_path / "bench" / "vbench").iterdir())] == ["a panda-0.mp4", "a panda-1.mp4"]


def test_run_says_what_is_missing(show1: Show1, cascade: Path) -> None:
    lacking = show1("evaluate", "run", "ucf101-mav-10k", "-m", cascade)
    assert lacking.code == 2 and "needs the folder of its data set: give it with --data" in lacking.err
    unknown = show1("evaluate", "run", "ucf", "-m", cascade)
    assert unknown.code == 2 and "msrvtt-2990" in unknown.err
    shard = show1("evaluate", "run", "sprites", "-m", cascade, "--shard", "5/4")
    assert shard.code == 2 and "--shard" in shard.err
