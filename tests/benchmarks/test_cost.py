"""The counted cost of the published run, and the command that names a benchmark."""

import subprocess
import sys

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.cost import Count, count, parts, table
from show1.config import PRESETS
from show1.config import PUBLISHED as SETTINGS

PUBLISHED = {  # calls, billions of parameters, TFLOP of a call at batch 2, counted by others from the published configs
    ("keyframes", "pixel UNet"): (75, 1.727, 10.47),
    ("interpolation", "pixel UNet"): (7 * 75, 1.727, 6.55),
    ("first frame", "image UNet"): (70, 1.188, 3.85),
    ("super_resolution", "pixel UNet"): (4 * 125, 0.783, 26.17),
    ("translation", "latent UNet"): (40, 1.411, 51.73),
    ("translation", "VAE, encoding a frame"): (29, 0.084, 0.78),
    ("translation", "VAE, decoding a frame"): (29, 0.084, 1.76),
}


@pytest.mark.slow
def test_the_published_run_is_counted_within_one_percent():
    found = {(part.stage, part.network): count(part) for part in parts()}
    for key, (calls, parameters, operations) in PUBLISHED.items():
        assert found[key].calls == calls
        assert found[key].parameters / 1e9 == pytest.approx(parameters, rel=0.01)
        assert found[key].operations / 1e12 == pytest.approx(operations, rel=0.01)
    assert sum(each.total for each in found.values()) / 1e15 == pytest.approx(19.72, rel=0.01)


def test_calls_follow_the_published_settings():
    calls = {(part.stage, part.network): part.calls for part in parts()}
    assert {key: calls[key] for key in PUBLISHED} == {key: row[0] for key, row in PUBLISHED.items()}
    assert sum(n for (_, network), n in calls.items() if "UNet" in network) == 1210


def test_calls_follow_a_preset():
    calls = {(part.stage, part.network): part.calls for part in parts(SETTINGS.replace(**PRESETS["efficient"]))}
    assert calls["keyframes", "pixel UNet"] == 25 and calls["interpolation", "pixel UNet"] == 7 * 25
    assert calls["super_resolution", "pixel UNet"] == 4 * 41 and calls["translation", "latent UNet"] == 13


def test_the_table_adds_up():
    one = Count(stage="a", network="pixel UNet", calls=2, parameters=10**9, weight_bytes=2 * 10**9, operations=10**15)
    two = Count(stage="b", network="VAE", calls=1, parameters=10**9, weight_bytes=2 * 10**9, operations=2 * 10**15)
    lines = table([one, two]).splitlines()
    assert lines[2] == "| a | pixel UNet | 1.000 | 2.00 | 2 | 1000.00 | 2.000 | 50.0 |"
    assert lines[-1] == "| all | | | | 2 of UNets | | 4.00 | 100 |"


def test_the_command_lists_the_benchmarks():
    shown = subprocess.run([sys.executable, "-m", "benchmarks", "--help"], capture_output=True, text=True, check=True)
    assert all(f"  {name} " in shown.stdout for name in BENCHMARKS)
