"""What the benchmark of speed compares gives the same numbers."""

import sys

import pytest
import torch

from benchmarks import whole
from benchmarks.pages import measured_on
from benchmarks.plain import plain, plain_settings
from benchmarks.speed import STAGES, Case, cases, halved, latent, main, pixel, rows, timed
from show1 import Show1Pipeline, make_request
from show1.networks import attention
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
    quick = type(case)(stage="keyframes", name="nothing", calls=lambda dtype: (lambda: None, lambda: None))
    lines = [row.split(" | ")[1] for row in rows(quick, 1)]
    assert lines[:2] == ["float32 both", "bfloat16 both"] and lines[-1].startswith("float32, ")
    assert min(timed((lambda: sum(range(10**5)), lambda: sum(range(10**5))), 3)) > 0


@pytest.mark.slow
def test_the_plain_run_gives_the_same_video_and_leaves_nothing_behind():
    pipe = Show1Pipeline.from_pretrained("mini", dtype="float32")
    few = {stage: {"num_inference_steps": 1} for stage in ("keyframes", "interpolation", "super_resolution")}
    small = {"keyframes": {"num_frames": 2, "num_inference_steps": 2}}
    options = {"model": pipe, "seed": 1, "until": "super_resolution"}
    request = make_request("a panda spins over the snow", settings={**few, **small}, **options)
    one_by_one = make_request("a panda spins over the snow", settings=plain_settings(request.settings), **options)
    (ours,) = pipe.generate(request, output_type="pt")
    attend = attention.attend
    with plain():
        assert attention.attend is not attend
        (published,) = pipe.generate(one_by_one, output_type="pt")
    assert attention.attend is attend
    torch.testing.assert_close(published, ours, atol=2e-3, rtol=0)
    assert not torch.equal(published, ours)


def test_text_is_computed_for_each_frame_in_the_plain_run():
    seen = []
    plain_call, _ = pixel(preset("mini").network("keyframes"), (3, 16, 16))(torch.float32)
    original = attention.AddedTextAttention.text_key_value
    with pytest.MonkeyPatch.context() as patched, torch.inference_mode():
        patched.setattr(
            attention.AddedTextAttention,
            "text_key_value",
            lambda self, text: seen.append(len(text)) or original(self, text),
        )
        plain_call()
    assert set(seen) == {2 * 3}


def test_the_networks_of_the_published_shape_are_at_half_width():
    assert halved("keyframes")["block_out_channels"] == [160, 320, 480, 640]
    assert preset("show-1").network("keyframes")["block_out_channels"] == [320, 640, 960, 1280]
    assert len(list(cases(quick=True))) == 4


def test_the_table_of_whole_runs(monkeypatch):
    def run(way, dtype, folder):
        seconds = 2.0 if way == "plain" else 1.0
        parts = {
            "text": {"seconds": seconds, "evaluations": 0},
            "keyframes": {"seconds": 3 * seconds, "evaluations": 64},
        }
        return {"parts": parts, "peak": 10**9, "whole": 5 * seconds, "frames": torch.zeros(2, 4, 4, 3).byte().numpy()}

    monkeypatch.setattr(whole, "in_process", run)
    lines = whole.whole_table(2).splitlines()
    assert lines[2] == "| text | 0 | float32 both | 2.00 | 1.00 | 2.00 |"
    assert lines[4] == "| whole command | 64 | float32 both | 10.00 | 5.00 | 2.00 |"
    assert any("differ by 0.000 levels" in line for line in lines) and lines[-1].startswith(measured_on()[:6])
    assert "; medians of 2 runs in turn, " in lines[-1]
    assert "; one run of each, in turn, " in whole.whole_table(1).splitlines()[-1]


def test_tables_are_put_between_their_marks(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- evaluations -->\nold\n<!-- end -->\nb\n<!-- whole run -->\nc\n<!-- end -->\n")
    monkeypatch.setattr("benchmarks.speed.cases", lambda quick: iter(()))
    monkeypatch.setattr(sys, "argv", ["speed", "--only", "keyframes", "--write", str(page)])
    main()
    text = page.read_text()
    assert text.startswith("a\n<!-- evaluations -->\n| network |") and text.endswith("c\n<!-- end -->\n")
    assert "old" not in text and measured_on()[:6] in text


def test_rows_of_networks_that_were_not_timed_stay(tmp_path, monkeypatch, capsys):
    head = "| network | precision of plain, ours | plain, core-ms | ours, core-ms | ratio |\n|---|---|---:|---:|---:|"
    old = "\n".join(f"| mini {name} | float32 both | 999 | 9 | 111.00 |" for name in ("keyframes", "expert"))
    page = tmp_path / "page.md"
    page.write_text(f"<!-- evaluations -->\n{head}\n{old}\n\nearlier\n<!-- end -->\n")
    idle = lambda dtype: (lambda: None, lambda: sum(range(10**5)))  # noqa: E731
    made = [Case(stage=name, name=f"mini {name}", calls=idle) for name in ("keyframes", "expert")]
    monkeypatch.setattr("benchmarks.speed.cases", lambda quick: iter(made))
    monkeypatch.setattr(sys, "argv", ["speed", "--only", "expert", "--repeat", "1", "--write", str(page)])
    main()
    text = page.read_text()
    assert "| mini keyframes | float32 both | 999 | 9 | 111.00 |" in text and "mini keyframes: earlier" in text
    assert "| mini expert | float32 both | 999" not in text and "| mini expert | bfloat16 both | " in text
    assert text.splitlines()[-2].endswith("random weights, one call of each, in turn")
    monkeypatch.setattr(sys, "argv", ["speed", *(f"--only={name}" for name in STAGES), "--write", str(page)])
    main()
    assert "999" not in page.read_text() and "earlier" not in page.read_text()
