"""`show1 batch`: many prompts, resumable, in parts, with a report and a page."""

import io
import json
from pathlib import Path

import pytest
import torch

from show1 import Show1Pipeline
from show1.cli.evaluate import _feature_options
from show1.cli.jobs import read_jobs
from show1.cli.session import load_pipeline
from tests.cli.conftest import Show1


def test_a_batch_makes_videos_a_report_and_a_page(show1: Show1, cascade: Path) -> None:
    Path("p.jsonl").write_text('{"prompt": "a panda <b>", "seed": 7}\n{"prompt": "a cat"}\n{"prompt": "a dog"}\n')
    asked = ["batch", "p.jsonl", "-m", cascade, "--until", "keyframes", "-o", "out"]
    Path("runs/prompts-p").mkdir(parents=True)
    Path("runs/prompts-p/0002").write_text("in the way")
    first = show1(*asked)
    assert first.code == 1 and "1 of 3 prompts failed; the same command tries them again" in first.err
    assert "[3/3] a dog, about" in first.err and "left" in first.err
    report = json.loads(Path("out/report.json").read_text())
    assert (report["made"], report["failed"]) == (2, 1)
    assert [row["error"] is None for row in report["prompts"]] == [True, False, True]
    assert report["prompts"][0]["seeds"] == [7] and report["prompts"][0]["stages"]["keyframes"] > 0
    page = Path("out/index.html").read_text()
    assert 'src="0001-a-panda-b.mp4"' in page and "a panda &lt;b&gt;" in page and "<b>" not in page
    assert "cannot be made" in page

    made = Path("out/0001-a-panda-b.mp4").stat().st_mtime_ns
    Path("runs/prompts-p/0002").unlink()
    again = show1(*asked, "--json")
    assert again.code == 0 and len(again.out.splitlines()) == 3
    assert Path("out/0001-a-panda-b.mp4").stat().st_mtime_ns == made
    assert json.loads(Path("out/report.json").read_text())["made"] == 3


@pytest.mark.parametrize("name", ["report.json", "index.html"])
def test_a_report_replaces_no_file_of_the_user(show1: Show1, cascade: Path, name: str) -> None:
    Path("p.txt").write_text("a panda\n")
    Path("out").mkdir()
    Path("out", name).write_text("mine")
    asked = ["batch", "p.txt", "-m", cascade, "--until", "keyframes", "-o", "out", "--quiet"]
    refused = show1(*asked)
    assert refused.code == 2 and f"{name} exists already" in refused.err and not Path("runs").exists()
    assert Path("out", name).read_text() == "mine" and len(list(Path("out").iterdir())) == 1
    for options in (["--overwrite"], []):  # then it is the batch's own
        assert show1(*asked, *options).code == 0
    assert json.loads(Path("out/report.json").read_text())["made"] == 1
    assert "a panda" in Path("out/index.html").read_text()


def test_shards_and_standard_input(show1: Show1, cascade: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for shard, names in (("1/2", ["0001-a.mp4", "0003-c.mp4"]), ("2/2", ["0002-b.mp4"])):
        monkeypatch.setattr("sys.stdin", io.StringIO("a\nb\n\nc\n"))
        done = show1("batch", "-", "-m", cascade, "--until", "keyframes", "-o", "out", "--shard", shard, "--quiet")
        assert done.code == 0 and done.out.split() == [f"out/{name}" for name in names]
        part = shard.replace("/", "-of-")
        assert json.loads(Path(f"out/report-{part}.json").read_text())["made"] == len(names)
    for shard, said in (("3/2", "I/N"), ("x", "I/N"), ("0/2", "I/N")):
        monkeypatch.setattr("sys.stdin", io.StringIO("a\n"))
        refused = show1("batch", "-", "-m", cascade, "--shard", shard)
        assert refused.code == 2 and said in refused.err
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n"))
    assert "none is left" in show1("batch", "-", "-m", cascade, "--shard", "2/2").err


def test_prompts_that_differ_in_nothing_else_are_checked_once(cascade: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "a"}\n{"prompt": "b", "seed": 3}\n{"prompt": "c", "negative_prompt": "d"}\n')
    names = ("negative_prompt", "num_keyframes", "start_from", "numerics", "until", "seed")
    jobs = read_jobs(file, output=None, run=None, options={**dict.fromkeys(names), "count": 1}, how={})
    pipe, checked = Show1Pipeline.from_pretrained(cascade), list[str]()
    check = pipe.check
    pipe.check = lambda request: checked.append(request.prompts[0]) or check(request)  # type: ignore[method-assign]
    last = None
    for job in jobs:
        last = job.request(pipe, None, (), None, checked=last)
    assert checked == ["a", "c"]


def test_each_of_several_processes_computes_on_a_device_of_its_own(
    cascade: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    options = {"dtype": "float32", "memory": "low"}
    assert load_pipeline(str(cascade), quiet=True, **options).device == torch.device("cuda:1")
    apart = load_pipeline(str(cascade), quiet=True, device="cuda:0,text=cpu,translation=cuda:2", **options).devices
    assert (str(apart.main), str(apart.of("text")), str(apart.of("translation"))) == ("cuda:1", "cpu", "cuda:3")
    assert _feature_options(None, None, True).device == "cuda:1"

    monkeypatch.setenv("WORLD_SIZE", "1")
    assert load_pipeline(str(cascade), quiet=True, **options).device == torch.device("cuda")
