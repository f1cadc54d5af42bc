"""`show1 batch --ray`: the same videos, whatever is killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from show1 import Run, Show1Pipeline, Video, make_request
from tests.cli.conftest import Show1
from tests.server.processes import Process, wait_for

QUICK = {"keyframes": {"num_inference_steps": 30, "num_frames": 2}, "interpolation": {"num_inference_steps": 4}}
SET = [f"--set={stage}.{name}={value}" for stage, own in QUICK.items() for name, value in own.items()]
PROMPTS = ["a cat spins", "a dog moves left", "a panda grows"]


def test_without_ray_it_says_what_to_install(
    show1: Show1, cascade: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("p.txt").write_text("a cat\n")
    monkeypatch.setitem(sys.modules, "ray.data", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    asked = ["batch", "p.txt", "-m", cascade, "--ray", "--until", "keyframes"]
    refused = show1(*asked)
    assert refused.code != 0 and "pip install 'show1[ray]'" in refused.err
    assert "give one of them" in show1(*asked, "--database", "sqlite:///x").err


def test_every_stage_has_an_actor_at_least() -> None:
    from show1.cli.batch_ray import _shares

    assert _shares({"CPU": 2}, 4, None) == ("CPU", 0.5, 1)
    assert _shares({"CPU": 64, "GPU": 1}, 4, None) == ("GPU", 0.25, 1)
    assert _shares({"CPU": 64, "GPU": 3}, 4, None) == ("GPU", 0.5, 3)
    assert _shares({"CPU": 64, "GPU": 8}, 4, "cuda") == ("GPU", 1, 5)
    assert _shares({"CPU": 8, "GPU": 8}, 2, "cpu") == ("CPU", 1, 7)
    assert _shares({"CPU": 2}, 3, None) == ("CPU", 0.5, 2)


def actors(process: Process) -> list[psutil.Process]:
    """The actors of a command that runs."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "MapWorker" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:  # it has just ended
            pass
    return found


@pytest.mark.slow
def test_an_actor_and_the_command_are_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (tmp_path / "p.txt").write_text("".join(f"{prompt}\n" for prompt in [*PROMPTS, "a fox"]))
    runs, out = tmp_path / "runs", tmp_path / "out"
    runs.mkdir()
    (runs / "0004").write_text("in the way")
    words = ["batch", str(tmp_path / "p.txt"), "--ray", "-o", str(out), "--run", str(runs), "--until", "interpolation"]
    files = [out / f"{number:04d}-{prompt.replace(' ', '-')}.mp4" for number, prompt in enumerate(PROMPTS, start=1)]

    def half_done() -> bool:
        """Whether a prompt is in its first stage."""
        return any(
            (run / "manifest.json").is_file() and not (run / "keyframes.safetensors").exists() for run in runs.glob("*")
        )

    with Process(*words, *SET, log=tmp_path / "first.log") as command:
        wait_for(lambda: any(file.exists() for file in files), every=0.01)
        os.kill(command.pid, 9)
    made = {file: file.stat().st_mtime_ns for file in files if file.exists()}
    assert 1 <= len(made) < 3
    with Process(*words, *SET, log=tmp_path / "second.log") as command:
        wait_for(lambda: actors(command) and half_done(), every=0.01)
        for actor in actors(command):
            actor.kill()
        wait_for(lambda: not command.runs, 600)
        said = command.log.read_text()
    assert command.code == 1 and "1 of 4 prompts failed" in said, said
    assert {file: file.stat().st_mtime_ns for file in made} == made, "what was made is not made again"
    report = json.loads((out / "report.json").read_text())
    assert (report["made"], report["failed"]) == (3, 1)
    assert "cannot be made" in report["prompts"][3]["error"]
    pipe = Show1Pipeline.from_pretrained("mini", dtype=Run.open(runs / "0001").manifest.precision)
    for number, prompt in enumerate(PROMPTS):
        request = make_request(prompt, model=pipe, seed=0, until="interpolation", settings=QUICK)
        pipe.generate(request, tmp_path / f"alone-{number}")
        alone = Run.open(tmp_path / f"alone-{number}").load("interpolation")
        assert torch.equal(Run.open(runs / f"{number + 1:04d}").load("interpolation"), alone), prompt
        assert Video.load(files[number]).metadata["prompt"] == prompt


POISON = """
import os, sys
if any(word.endswith("default_worker.py") for word in sys.argv):
    from show1.cli import batch_ray
    advance = batch_ray.StageActor._advance
    def poisoned(self, row):
        os._exit(9) if "dog" in row["prompt"] else advance(self, row)
    batch_ray.StageActor._advance = poisoned
"""


@pytest.mark.slow
def test_a_prompt_that_ends_its_actor_does_not_stop_the_others(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (tmp_path / "p.txt").write_text("".join(f"{prompt}\n" for prompt in PROMPTS))
    (tmp_path / "hack").mkdir()
    (tmp_path / "hack" / "sitecustomize.py").write_text(POISON)
    words = ["batch", str(tmp_path / "p.txt"), "--ray", "-o", str(tmp_path / "out"), "--run", str(tmp_path / "runs")]
    few = ["--until", "keyframes", "--set", "keyframes.num_inference_steps=2", "--set", "keyframes.num_frames=2"]
    path = os.pathsep.join([str(tmp_path / "hack"), os.environ.get("PYTHONPATH", "")])
    with Process(*words, *few, log=tmp_path / "log", env={"PYTHONPATH": path}) as command:
        wait_for(lambda: not command.runs, 900)  # four processes are started for it
        assert command.code == 1, command.log.read_text()
        assert "its process ended 4 times" in command.log.read_text()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["error"] is None for row in report["prompts"]] == [True, False, True]


MANY = """
import os, resource, sys
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
import ray
from show1.cli import batch_ray

class Idle:
    def __init__(self, stage, model, how):
        pass
    def __call__(self, row):
        return row

class Model:
    class cascade:
        model = "mini"

batch_ray.StageActor = Idle
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
row = {"prompt": "a cat", "run": "/none", "error": "", "request": "{}" * 500, "output": "{}"}
rows = [{**row, "number": number} for number in range(int(sys.argv[1]))]
stages = ["keyframes", "interpolation"]
made = batch_ray._dataset(Model, rows, stages, {"device": None, "memory": "auto"})
numbers = [row["number"] for row in made.iter_rows()]
print(sorted(numbers) == list(range(len(rows))), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.thousands
def test_two_thousand_prompts_go_through_the_actors() -> None:
    pytest.importorskip("ray")
    done = subprocess.run([sys.executable, "-c", MANY, "2000"], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    whole, megabytes = done.stdout.split("\n")[-2].split()
    assert whole == "True" and int(megabytes) < 1000
