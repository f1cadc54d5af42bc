"""What the benchmark of speed compares gives the same numbers."""

import pytest
import torch

from benchmarks.speed import cases, latent, pixel, rows, timed
from show1.training.presets import preset


@pytest.mark.parametrize("stage", ["keyframes", "interpolation", "super_resolution"])
def test_plain_and_ours_compute_the_same(stage):
    config = {**preset("mini").network(stage)}
    plain, ours = pixel(config, (3, 16, 16), segments=2)(torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(torch.cat(plain()), ours().sample, atol=1e-4, rtol=1e-4)


def test_the_expert_computes_the_same():
    plain, ours = latent(preset("mini").network("translation"), 3, 8, 8)(torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(plain().sample, ours().sample, atol=1e-4, rtol=1e-4)


def test_each_precision_has_a_row_and_the_user_s():
    case = next(cases(quick=True))
    quick = type(case)(name="nothing", calls=lambda dtype: (lambda: None, lambda: None))
    lines = [row.split(" | ")[1] for row in rows(quick, 1)]
    assert lines[:2] == ["float32 both", "bfloat16 both"] and lines[-1].startswith("float32, ")
    assert min(timed((lambda: sum(range(10**5)), lambda: sum(range(10**5))), 3)) > 0
