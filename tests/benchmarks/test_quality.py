"""The gate's tables, and the table of lengths, from made-up measurements."""

import sys

import pytest
import torch

from benchmarks import gate, length, quality, solver_errors
from show1.sprites.alignment.run import AlignmentPlan

SHARE = {"count": 4, "share": 0.75, "interval": [0.3, 0.95]}


def test_each_variant_is_judged_in_a_folder_of_its_own(tmp_path, monkeypatch):
    seen = []

    def evaluate(pipe, folder, plan, settings, on_video):
        seen.append((pipe.cascade.name, pipe.dtype, settings.keyframes.num_inference_steps, folder.name, plan.videos))
        on_video(1, 2)
        on_video(2, 2)
        figures = dict.fromkeys(gate.FIGURES, 1.5) | {"sharpness": None}
        return {"rows": [{"name": "held out, keyframes", **dict.fromkeys(gate.CRITERIA, SHARE), **figures}]}

    monkeypatch.setattr(gate, "evaluate_alignment", evaluate)
    plan = AlignmentPlan(sets=("held_out",), videos=2)
    table = gate.gate_table(["mini", "mini keyframes.num_inference_steps=8"], plan, out=tmp_path, dtype="float32")
    assert seen == [
        ("mini", torch.float32, 12, "mini", 2),
        ("mini", torch.float32, 8, "mini_keyframes.num_inference_steps=8", 2),
    ]
    row = table.splitlines()[2]
    assert row.startswith("| mini: held out, keyframes | 4 | 0.0 |")
    assert "75.0 (30 to 95)" in row and row.endswith("|  | 1.50 | 1.50 | 1.50 |")
    assert not torch.nn.modules.module._global_forward_pre_hooks  # nothing is counted afterwards


def test_one_command_prints_the_whole_gate(tmp_path, monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr(
        quality, "gate_table", lambda variants, plan, **_: asked.update(v=variants, n=plan.videos) or "g"
    )
    monkeypatch.setattr(quality, "errors_table", lambda chosen: asked.update(errors=chosen) or "e")
    monkeypatch.setattr(quality, "seams_table", lambda: "s")
    page = tmp_path / "page.md"
    page.write_text("<!-- gate -->\n<!-- end -->\n<!-- seams -->\n<!-- end -->\n")
    monkeypatch.setattr(sys, "argv", ["quality", "other", "--quick", "--write", str(page)])
    quality.main()
    assert asked == {"v": ["mini", "other"], "n": 4, "errors": ["gaussians"]}
    assert capsys.readouterr().out.split() == ["g", "e", "s"]
    assert page.read_text() == "<!-- gate -->\ng\n<!-- end -->\n<!-- seams -->\ns\n<!-- end -->\n"


def test_the_gate_alone_is_written_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gate, "gate_table", lambda variants, plan, **_: f"{variants} {plan.videos}")
    page = tmp_path / "page.md"
    page.write_text("<!-- gate -->\n<!-- end -->\n")
    monkeypatch.setattr(sys, "argv", ["gate", "mini", "other", "--videos", "2", "--write", str(page)])
    gate.main()
    assert page.read_text() == "<!-- gate -->\n['mini', 'other'] 2\n<!-- end -->\n"


def test_errors_are_against_the_exact_path():
    def run(steps, grid):
        return torch.full((3, 1, 1, 2, 2), 2 / 127.5 if steps < 900 else 0.0)

    rows = list(solver_errors.rows("a path", run, [75], [25]))
    assert rows == ["| a path | published | 75 | 2.00 | 2.00 |", "| a path | logsnr | 25 | 2.00 | 2.00 |"]


def test_lengths_are_compared_with_the_shortest(monkeypatch):
    def made(frames):
        peak = length.video_bytes(frames) + 10**9
        return {stage: {"seconds": frames / 4, "peak": peak} for stage in length.STAGES}

    monkeypatch.setattr(length, "in_process", made)
    rows = length.measured_table([57, 29]).splitlines()[2:4]
    assert rows[0].startswith("| 29 | ") and "| 29.0 | 1.00x |" in rows[0]
    assert rows[1].startswith("| 57 | ") and "| 57.0 | 1.00x |" in rows[1] and rows[1].endswith("| 1.00 (1.00x) |")


@pytest.mark.slow
def test_counted_memory_hardly_grows_with_the_length(capsys):
    table = length.counted_table([29, 57]).splitlines()
    assert table[2].startswith("| 29 |") and table[3].startswith("| 57 |")
    assert float(table[3].rsplit("|", 2)[1].strip().removesuffix("x")) < 1.1
