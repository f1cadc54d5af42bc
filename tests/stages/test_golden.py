"""Whole sampling runs, as our code gave them when it gave those of the published code: see `replay_golden`."""

import re
import sys
from pathlib import Path

import pytest
import torch

from tests import replay_golden
from tests.replay_golden import load, main

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(autouse=True)
def one_thread():
    """As the published runs were made: more threads round otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rounds_as_the_reference() -> bool:
    """Whether this machine's kernels are known to round as the machine's did that made `tests/golden`: an Intel
    processor with AVX-512."""
    cpu = Path("/proc/cpuinfo")
    intel = cpu.exists() and "GenuineIntel" in cpu.read_text()
    return intel and torch.backends.cpu.get_cpu_capability() == "AVX512"


@pytest.mark.parametrize("name", ["pipelines/keyframes", "pipelines_ddpm/interpolation"])
def test_runs_are_repeated(name):
    replay = load(GOLDEN / name)
    ours = replay.run()
    assert ours.shape == replay.output.shape
    assert (ours - replay.output).abs().max() <= 2e-3


def test_the_published_solver_s_super_resolution_is_repeated():
    # each window starts from the last one's end and multiplies its rounding errors, which are of the machine
    replay = load(GOLDEN / "pipelines" / "super_resolution")
    difference = (replay.run() - replay.output).abs()
    assert difference[:, :, :3].max() <= 2e-3
    assert difference[:, :, 3:].median() <= 1e-3
    if rounds_as_the_reference():
        assert difference.max() <= 2e-3
    assert not replay.stage.unet.published_order  # for that run alone


def test_the_script_prints_the_difference_as_its_last_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["replay_golden.py", str(GOLDEN / "pipelines_ddpm" / "interpolation")])
    main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"[0-9.e-]+", last) and float(last) <= 2e-3


def test_the_script_replays_all_runs_unless_one_is_named(monkeypatch, capsys):
    monkeypatch.setattr(replay_golden, "difference", lambda folder: {"keyframes": 0.5}.get(folder.name, 0.25))
    monkeypatch.setattr(sys, "argv", ["replay_golden.py"])
    main()
    names = sorted(str(call.parent.relative_to(GOLDEN)) for call in GOLDEN.rglob("call.json"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == names and lines[-1] == "0.5"
    monkeypatch.setattr(sys, "argv", ["replay_golden.py", "--keep"])
    with pytest.raises(SystemExit):
        main()
    assert "--keep needs the folder" in capsys.readouterr().err
