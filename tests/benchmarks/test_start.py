"""The table of the benchmark of a cold start."""

import math
import sys
from pathlib import Path

import pytest

from benchmarks.start import _timed, table

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
