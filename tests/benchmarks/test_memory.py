"""The tables of memory and of weights in fewer bits."""

import sys

from benchmarks import memory, storage
from show1.runtime.plan import Need


def test_the_tables_of_memory_are_written(tmp_path, monkeypatch, capsys):
    need = Need(weights=3 * 10**9, largest_layer=10**8, row=10**9, guided=True)
    monkeypatch.setattr(memory, "published_configs", lambda folder: {})
    monkeypatch.setattr(memory, "counted_needs", lambda *_: {"keyframes": need})
    monkeypatch.setattr(memory, "compared_table", lambda folder, stages: f"measured {stages}")
    page = tmp_path / "page.md"
    page.write_text("<!-- memory -->\n<!-- end -->\n<!-- memory, measured -->\n<!-- end -->\n")
    monkeypatch.setattr(sys, "argv", ["memory", "--quick", "--write", str(page)])
    memory.main()
    lines = page.read_text().splitlines()
    assert lines[1].startswith("| part | weights, GB | activations per row, GB | within 10 GB |")
    assert lines[3].startswith("| keyframes | 3.00 | 1.00 | ") and lines[5].startswith("counted, bfloat16; torch ")
    assert lines[-2] == "measured ('keyframes',)"
    monkeypatch.setattr(memory, "counted_experts", lambda folder: {"an expert": need})
    page.write_text("<!-- memory, experts -->\n<!-- end -->\n")
    monkeypatch.setattr(sys, "argv", ["memory", "--experts", "--write", str(page)])
    memory.main()
    written = page.read_text()
    assert "| a step beside them, GB | within 16 GB |" in written and "| an expert | 3.00 |" in written


def test_sizes_and_errors_are_in_one_table(tmp_path, monkeypatch, capsys):
    sizes = {"T5, `int8`": (9 * 10**9, 5 * 10**9), "keyframes, `fp8`": (3 * 10**9, 2 * 10**9)}
    monkeypatch.setattr(storage, "counted", lambda folder: sizes)
    monkeypatch.setattr(storage, "errors_of_networks", lambda: {"keyframes, `fp8`": 0.0231})
    monkeypatch.setattr(storage, "errors_of_text_encoders", lambda folder: {})
    page = tmp_path / "page.md"
    page.write_text("<!-- storage -->\n<!-- end -->\n")
    monkeypatch.setattr(sys, "argv", ["storage", "--write", str(page)])
    storage.main()
    text = page.read_text()
    assert "| T5, `int8` | 9.00 | 5.00 | not measured |\n| keyframes, `fp8` | 3.00 | 2.00 | 2.3 % |" in text
    assert "not measured without bitsandbytes" in text and "torch" in text.splitlines()[-2]
    monkeypatch.setattr(storage, "errors_of_text_encoders", lambda folder: {"T5, `int8`": 0.1})
    storage.main()
    assert "not measured" not in page.read_text()
