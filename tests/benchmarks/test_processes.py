"""Processes that benchmarks start: threads as the command line chooses them, and cores that are kept busy."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import processes
from benchmarks.processes import OPENMP, busy, environment, run_module, without_policy
from show1.cli.threads import Processor, missing

TOLD = f"import json, os; print(json.dumps({{name: os.environ.get(name) for name in {OPENMP!r}}}))"


def children(parent: int) -> set[int]:
    """The processes that a process has started and that live."""
    return {int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()}


def test_a_module_runs_with_threads_as_the_command_line_chooses_them(tmp_path, monkeypatch):
    for name in OPENMP:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tells.py").write_text(
        f"import sys\n{TOLD}\nassert sys.argv[1:] == ['word'] and __name__ == '__main__'"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    found = run_module("tells", "word", cache=tmp_path)
    assert found["OMP_WAIT_POLICY"] == "PASSIVE" or found["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")  # what the user has set stays
    found = run_module("tells", "word", cache=tmp_path)
    assert found["OMP_WAIT_POLICY"] == "ACTIVE" and found["GOMP_SPINCOUNT"] is None
    with pytest.raises(SystemExit, match="tells another failed: (.|\n)*AssertionError"):
        run_module("tells", "another", cache=tmp_path)


def test_processes_do_not_inherit_what_a_benchmark_has_chosen_for_itself(monkeypatch):
    for name in OPENMP:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KMP_BLOCKTIME", "7")
    monkeypatch.setattr(processes, "_chosen", set())
    monkeypatch.setattr(processes, "prepare_threads", lambda: monkeypatch.setenv("OMP_NUM_THREADS", "1"))
    processes.choose_threads()
    assert os.environ["OMP_NUM_THREADS"] == "1"
    given = environment(SHOW1_CACHE="here")
    assert "OMP_NUM_THREADS" not in given and given["KMP_BLOCKTIME"] == "7" and given["SHOW1_CACHE"] == "here"


def test_a_benchmark_chooses_its_threads_before_torch_is_there():
    program = (
        "import sys, runpy, benchmarks.__main__ as b; sys.argv = ['benchmarks', 'cost'];"
        "runpy.run_module = lambda *a, **k: print('torch' in sys.modules, __import__('os').environ['KMP_BLOCKTIME']);"
        "b.main()"
    )
    known = {name: value for name, value in os.environ.items() if name not in OPENMP}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=known)
    assert done.stdout.split() in (["False", "0"], ["False", "1"])


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system does not list a process's children")
def test_busy_processes_compute_and_end_with_the_block():
    before = children(os.getpid())
    with pytest.raises(ZeroDivisionError), busy(2):
        others = children(os.getpid()) - before
        assert len(others) == 2
        1 / 0  # noqa: B018
    assert children(os.getpid()) == before


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system does not list a process's children")
def test_a_busy_process_ends_with_a_benchmark_that_is_killed():
    program = "import time; from benchmarks.processes import busy\nwith busy(1): print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as benchmark:
        assert benchmark.stdout is not None
        benchmark.stdout.readline()
        (other,) = children(benchmark.pid)
        benchmark.kill()
    ends = time.monotonic() + 60
    while Path(f"/proc/{other}").exists() and "zombie" not in Path(f"/proc/{other}/status").read_text():
        assert time.monotonic() < ends, "it lives on"
        time.sleep(0.05)


def test_without_the_policy_nothing_is_left_to_choose():
    for load in (0.0, 3.0):
        for quota in (None, 0.5):
            chosen = Processor(cores=4, quota=quota, load=load).settings()
            assert missing(chosen, without_policy()) == {}
    assert json.loads(subprocess.check_output([sys.executable, "-c", TOLD], env=without_policy())) == {
        "OMP_WAIT_POLICY": None,
        **without_policy(),
    }
