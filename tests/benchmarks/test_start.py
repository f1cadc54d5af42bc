"""The tables of the benchmark of a cold start."""

import math
import sys
from pathlib import Path

import pytest

from benchmarks import start
from benchmarks.pages import measured_on
from benchmarks.processes import OPENMP
from benchmarks.start import _timed, beside_table, main, split, table

NAN = math.nan


def test_medians_and_ratios():
    runs = {
        "this": [{"imports": (t, 2.0), "text": (0.5, NAN), "whole": (4.0, 6.0)} for t in (1.0, 9.0, 2.0)],
        "other": [{"imports": (3.0, 4.0), "text": (1.0, NAN), "whole": (8.0, 15.0)}],
    }
    lines = table(runs).splitlines()
    assert lines[0] == "| part | this, s | this, core-s | other, s | other, core-s | ratio | ratio, core-s |"
    assert lines[2] == "| imports | 2.00 | 2.00 | 3.00 | 4.00 | 1.50 | 2.00 |"
    assert lines[3] == "| text | 0.50 |  | 1.00 |  | 2.00 |  |"
    assert lines[4] == "| whole | 4.00 | 6.00 | 8.00 | 15.00 | 2.00 | 2.50 |"


def test_a_command_is_timed_and_a_failure_is_told(tmp_path: Path):
    (wall, cores), out = _timed([sys.executable, "-c", "print(sum(range(10**6)))"], {}, tmp_path)
    assert out == "499999500000\n" and 0 < cores < wall + 1
    with pytest.raises(SystemExit, match="ZeroDivisionError"):
        _timed([sys.executable, "-c", "1 / 0"], {}, tmp_path)


def test_loading_and_writing_are_told_apart():
    result = {"seconds": 5.0, "stages": {"text": {"seconds": 0.5}, "keyframes": {"seconds": 4.0}}}
    parts = {name: wall for name, (wall, _) in split(result, 7.0).items()}
    assert parts == {"loading": 2.0, "text": 0.5, "keyframes": 4.0, "writing": 0.5}
    assert list(parts) == ["loading", "text", "keyframes", "writing"]
    joined = split(result, 7.0, joined=True)
    assert {name: wall for name, (wall, _) in joined.items()} == {
        "text": 0.5,
        "keyframes": 4.0,
        "loading, writing": 2.5,
    }


@pytest.mark.parametrize(
    ("options", "name"), [([], "start"), (["--preset", "fast", "--count", "8"], "start, fast, 8 drafts")]
)
def test_the_table_is_written_with_what_it_was_measured_on(options, name, tmp_path, monkeypatch, capsys):
    seen = []

    def run(source, given, folder, *, joined):
        seen.append((source == start.OURS, given))
        return {"whole": (2.0, 3.0)}

    monkeypatch.setattr(start, "run", run)
    page, other = tmp_path / "page.md", tmp_path / "src"
    page.write_text(f"<!-- {name} -->\n<!-- end -->\n")
    words = ["start", *options, "--against", str(other), "--repeat", "1", "--write", str(page)]
    monkeypatch.setattr(sys, "argv", words)
    main()
    written = page.read_text().splitlines()
    assert written[3] == "| whole | 2.00 | 3.00 | 2.00 | 3.00 | 1.00 | 1.00 |"
    assert written[5].startswith(measured_on()[:6]) and "torch" in written[5]
    assert "; one run of each, in turn, `show1 generate 'a panda spins over the snow'" in written[5]
    both = ["--count", "8"] if options else []
    assert seen == [(True, [*both, *options[:2]]), (False, both)]


def test_a_command_is_timed_beside_busy_processes_in_turn(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # is left out, so that the command chooses
    log, script = tmp_path / "log", tmp_path / "tells.py"
    script.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "siblings = Path(f'/proc/{os.getppid()}/task/{os.getppid()}/children')\n"
        "others = len(siblings.read_text().split()) if siblings.is_file() else 0\n"
        f"print(others, [os.environ.get(name) for name in {OPENMP!r}], file=Path(sys.argv[1]).open('a'))\n"
    )
    lines = beside_table([sys.executable, str(script), str(log)], count=2, repeat=2).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        *("| alone", "| beside 2 busy processes", "| beside 2 busy processes, threads left to OpenMP")
    ]
    assert lines[2].endswith("| 1.00 | 1.00 |") and all(len(line.split("|")) == 7 for line in lines)
    chosen, left = [None] * len(OPENMP), [start.without_policy().get(name) for name in OPENMP]
    told = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert [variables for _, variables in told] == 2 * [str(chosen), str(chosen), str(left)]
    more = [int(number) - int(told[0][0]) for number, _ in told]
    assert more in (2 * [0, 2, 2], 6 * [0])  # nothing is listed where the system does not tell


@pytest.mark.parametrize("options", [["--beside", "0"], ["--beside", "1", "--against", "src"]])
def test_beside_takes_a_number_of_processes_and_no_other_checkout(options, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["start", *options])
    with pytest.raises(SystemExit):
        main()
    assert "--beside takes a number of processes" in capsys.readouterr().err
