"""Processes that benchmarks start: threads as the command line chooses them."""

import os
import subprocess
import sys

import pytest

from benchmarks import processes
from benchmarks.processes import environment, run_module

OPENMP = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
TOLD = f"import json, os; print(json.dumps({{name: os.environ.get(name) for name in {OPENMP!r}}}))"


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
