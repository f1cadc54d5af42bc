"""Tables that benchmarks write themselves: pages with their marks, rows that stay, and what was measured."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from benchmarks.pages import Page, measured_on, merged, times

ROOT = Path(__file__).parent.parent.parent
WRITTEN = [
    ("cost", "", "speed"),
    ("cost", "--preset efficient", "speed"),
    ("deep_features", "", "samplers"),
    ("gate", "mini", "distil"),
    ("gate", "mini", "samplers"),
    ("gpu_full", "", "speed"),
    ("length", "", "speed"),
    ("length", "--seams", "speed"),
    ("memory", "", "memory"),
    ("memory", "--quick", "memory"),
    ("memory", "--measure", "memory"),
    ("memory", "--experts", "experts"),
    ("quality", "", "speed"),
    ("solver_errors", "", "samplers"),
    ("speed", "", "speed"),
    ("speed", "--quick --only expert", "speed"),
    ("start", "", "speed"),
    ("start", "--preset fast", "speed"),
    ("start", "--preset fast --until keyframes --count 8", "speed"),
    ("start", "--beside 1", "speed"),
    ("storage", "", "memory"),
]
"""Benchmarks with options, and the page that has their tables."""
MARK = re.compile(r"<!-- (?!end )(.+?) -->")
HEAD = "| network | ms |\n|---|---:|\n"


def marks_of(monkeypatch: pytest.MonkeyPatch, page: Path, benchmark: str, options: str) -> list[str]:
    """The marks that a benchmark asks for before it measures anything."""
    page.write_text("a page without marks\n")
    monkeypatch.setattr(sys, "argv", [benchmark, *options.split(), "--write", str(page)])
    with pytest.raises(SystemExit, match="has no table to replace: put a line with") as ended:
        importlib.import_module(f"benchmarks.{benchmark}").main()
    return MARK.findall(str(ended.value))


@pytest.mark.parametrize(("benchmark", "options", "page"), WRITTEN)
def test_a_page_has_the_marks_of_what_is_written_into_it(benchmark, options, page, tmp_path, monkeypatch):
    names = marks_of(monkeypatch, tmp_path / "page.md", benchmark, options)
    assert names
    Page(ROOT / "docs" / f"{page}.md", *names)  # complains if one is missing


def test_each_mark_of_a_page_belongs_to_a_benchmark_and_each_benchmark_that_writes_is_known(tmp_path, monkeypatch):
    known = {
        (page, name) for b, options, page in WRITTEN for name in marks_of(monkeypatch, tmp_path / "page.md", b, options)
    }
    files = (ROOT / "docs").glob("*.md")
    assert {(file.stem, name) for file in files for name in MARK.findall(file.read_text(encoding="utf-8"))} == known
    writing = {file.stem for file in (ROOT / "benchmarks").glob("*.py") if "write_option(parser)" in file.read_text()}
    assert writing == {benchmark for benchmark, *_ in WRITTEN}


def test_a_table_is_put_between_its_marks(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("a\n<!-- one -->\nold\n<!-- end -->\nb\n<!-- two -->\nc\n<!-- end -->\n")
    page = Page(file, "one", "two")
    assert page.table("two") == "c"
    page.write("one", "new")
    assert file.read_text() == "a\n<!-- one -->\nnew\n<!-- end -->\nb\n<!-- two -->\nc\n<!-- end -->\n"
    Page(None, "one").write("one", "nowhere")
    assert Page(None, "one").table("one") == ""


def test_marks_that_are_missing_are_told_before_anything_is_measured(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("<!-- one -->\n<!-- two -->\n<!-- end -->\n")
    with pytest.raises(SystemExit, match="put a line with `<!-- one -->` and `<!-- three -->`, and below each a line"):
        Page(file, "one", "two", "three")  # the first has no end of its own
    with pytest.raises(SystemExit, match="is no page: --write takes a file"):
        Page(tmp_path / "other.md", "one")


def test_rows_of_other_networks_stay():
    old = f"{HEAD}| a, 8x8 | 1 |\n| a, 8x8 | 2 |\n| b | 3 |\n| c | 4 |\n\nearlier"
    once = merged(old, f"{HEAD}| b | 30 |\n| d | 5 |\n\nnow")
    assert once.splitlines()[2:] == [
        *("| a, 8x8 | 1 |", "| a, 8x8 | 2 |", "| b | 30 |", "| c | 4 |", "| d | 5 |", ""),
        *("a, 8x8; c: earlier", "", "b; d: now"),
    ]
    twice = merged(once, f"{HEAD}| a, 8x8 | 10 |\n\nlater")
    assert twice.splitlines()[-5:] == ["a, 8x8: later", "", "b; d: now", "", "c: earlier"]
    rest = f"{HEAD}| a, 8x8 | 1 |\n| b | 1 |\n| c | 1 |\n| d | 1 |\n\nlater"
    assert merged(twice, rest) == rest


def test_what_is_no_table_or_has_other_columns_does_not_stay():
    new = f"{HEAD}| a | 1 |\n\nnow"
    assert merged("Not measured yet.", new) == merged("", new) == merged("| x |\n|---|\n| b |\n\nold", new) == new


def test_one_run_has_no_median():
    assert times(1) == "one run of each, in turn"
    assert times(3, "call") == "medians of 3 calls in turn"
    assert "torch" in measured_on()
