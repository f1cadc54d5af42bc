"""Several processes that share network calls: the videos are those of one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from show1 import Run, Show1Pipeline
from show1.config import STAGES
from show1.runtime.plan import Need, ways
from tests.generation.two_processes import PROMPT
from tests.published_layout import small_changes


def start(*words: str, count: int = 2) -> list["subprocess.Popen[str]"]:
    """Starts a command once for each process, as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


@pytest.fixture(scope="module")
def made(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes have filled; see `tests/generation/two_processes.py`."""
    out = tmp_path_factory.mktemp("two")
    processes = start("-m", "tests.generation.two_processes", str(published), str(out), "lose")
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert (out / "lost").is_file(), "\n".join(said)
    return out


def single(published: Path, prompt: Any = PROMPT, *, split: bool = False, **options: Any) -> torch.Tensor:
    changes = small_changes()
    if split:
        for stage in STAGES:
            changes[stage] = {**changes.get(stage, {}), "split_guidance": True}
    pipe = Show1Pipeline.from_pretrained(published, device="cpu", dtype="float64", cache_embeddings=False)
    out = pipe(prompt, seed=3, settings=changes, output_type="pt", **options)
    return torch.stack(out) if isinstance(out, list) else out


@pytest.mark.slow
def test_two_processes_give_what_one_gives_with_the_same_calls(made: Path, published: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = single(published, split=True)
    finally:
        torch.set_num_threads(threads)
    one = load_file(made / "videos.safetensors")["one"]
    torch.testing.assert_close(one, expected, rtol=0, atol=0)  # each process has the rows of one half of guidance
    torch.testing.assert_close(one, single(published), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_samples_are_shared_though_their_number_is_odd(made: Path, published: Path) -> None:
    several = load_file(made / "videos.safetensors")["several"]
    expected = single(published, [PROMPT, "a panda spins over the snow", PROMPT], until="interpolation")
    torch.testing.assert_close(several, expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_memory_that_runs_out_in_one_process_changes_the_plan_of_all(made: Path, published: Path) -> None:
    again = load_file(made / "videos.safetensors")["again"]
    torch.testing.assert_close(again, single(published, count=2, until="interpolation"), rtol=0, atol=1e-6)
    log = (made / "log").read_text()
    assert "memory ran out in the stage 'keyframes': computed again with less memory" in log


@pytest.mark.slow
def test_what_goes_wrong_in_another_process_is_said(made: Path) -> None:
    assert "process 2 of 2 failed" in (said := (made / "message").read_text())
    assert "the second process has its own trouble" in said


@pytest.mark.slow
def test_published_numerics_are_computed_alone(made: Path, published: Path) -> None:
    alone = load_file(made / "videos.safetensors")["published"]
    expected = single(published, numerics="published", until="keyframes")
    torch.testing.assert_close(alone, expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_process_that_ends_ends_the_work_and_leaves_a_run_that_resumes(made: Path) -> None:
    assert "another process of this command has ended" in (made / "lost").read_text()
    assert (made / "ended-0").is_file() and not (made / "ended-1").is_file()
    run = Run.open(made / "run")
    assert run.begun_request.prompts == (PROMPT,) and run.finished_stages == ()
    assert not list(run.path.glob(".*.partial"))


def test_a_plan_counts_the_rows_of_one_process() -> None:
    need = Need(weights=100, largest_layer=5, row=10, samples=6, guided=True, processes=4)
    assert [(way.samples, way.peak) for way in ways(need) if not way.streamed] == [(6, 130), (3, 120), (2, 110)]


def launch(*words: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command in two processes by torchrun."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "show1"]
    return subprocess.run(
        [*torchrun, *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_a_command_of_two_processes_writes_once_and_a_batch_is_split(tmp_path: Path) -> None:
    draft = ("--until", "keyframes", "--device", "cpu", "--set", "keyframes.num_inference_steps=4")
    made = launch("generate", "a panda spins over the snow", "--seed", "1", "-o", "a.mp4", *draft[:4], folder=tmp_path)
    assert made.returncode == 0 and made.stdout.split() == ["a.mp4"], made.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert Run.open(run).finished_stages == ("keyframes",)

    (tmp_path / "p.txt").write_text("a panda spins over the snow\na cat spins\na dog spins\n")
    made = launch("batch", "p.txt", *draft, folder=tmp_path)
    names = ["p/0001-a-panda-spins-over-the-snow.mp4", "p/0002-a-cat-spins.mp4", "p/0003-a-dog-spins.mp4"]
    assert made.returncode == 0 and sorted(made.stdout.split()) == names, made.stderr
    assert "[2/2] a dog spins" in made.stderr and "[1/1] a cat spins" in made.stderr
    report = json.loads((tmp_path / "p/report.json").read_text())
    assert (report["made"], report["failed"]) == (3, 0)

    refused = launch("batch", "-", folder=tmp_path)
    assert refused.returncode != 0 and "several processes need a file of prompts" in refused.stderr


@pytest.mark.slow
def test_an_evaluation_is_split_and_measured_once(tmp_path: Path) -> None:
    words = ("--quick", "--videos", "4", "--batch-size", "1", "--out", "e", "--device", "cpu")
    made = launch("evaluate", "alignment", *words, folder=tmp_path)
    assert made.returncode == 0 and made.stdout.count("# ") >= 1, made.stderr
    assert made.stdout.count("held_out") == (tmp_path / "e/report.md").read_text().count("held_out")
    assert "2/2 videos" in made.stderr
