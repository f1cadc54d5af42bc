"""A process that really computes keeps to its budget and to the prediction; see `tests/generation/within_budget.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from show1.generation.memory import CPU_SCRATCH

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says what a process took at the peak"),
]


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What generations within a roomy and a tight budget took, each in a process of its own."""

    def run(kind: str, folder: Path) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.generation.within_budget", kind],
            capture_output=True,
            text=True,
            env={**os.environ, "SHOW1_CACHE": str(folder)},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    return {kind: run(kind, tmp_path_factory.mktemp(kind)) for kind in ("roomy", "tight")}


@pytest.mark.parametrize("kind", ["roomy", "tight"])
def test_the_process_stays_within_the_budget_and_near_the_prediction(
    taken: dict[str, dict[str, Any]], kind: str
) -> None:
    found = taken[kind]
    assert found["peak"] <= found["budget"]
    beyond = found["peak"] - found["before"] - found["predicted"]
    assert -0.1 * found["predicted"] <= beyond <= CPU_SCRATCH / 2


def test_a_tight_budget_takes_less(taken: dict[str, dict[str, Any]]) -> None:
    roomy, tight = taken["roomy"], taken["tight"]
    assert (roomy["samples"], tight["samples"]) == (2, 1)
    assert "weights layer by layer" in tight["way"] and "weights layer by layer" not in roomy["way"]
    assert tight["peak"] < roomy["peak"] - (roomy["predicted"] - tight["predicted"]) / 2
