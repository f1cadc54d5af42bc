"""A suite resumes where it was interrupted; a report shows the same table as Markdown and on its page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from show1.config import PUBLISHED
from show1.errors import InputError, RunError
from show1.evaluation.report import Report, Table
from show1.evaluation.suite import Suite, identify
from show1.files import read_json_object, write_text


class Squares:
    """Writes the square of each number into a file; fails once at a number, if one is given."""

    def __init__(self, out: Path, fails_at: int | None = None) -> None:
        self.out, self.fails_at = out, fails_at
        self.made: list[list[int]] = []

    def make(self, batch: Sequence[int]) -> None:
        self.made.append(list(batch))
        for number in batch:
            if number == self.fails_at:
                raise KeyboardInterrupt
            write_text(self.file(number), str(number**2))

    def file(self, number: int) -> Path:
        return self.out / f"{number}.txt"

    def suite(self, **changes: Any) -> Suite[int]:
        fields: dict[str, Any] = {
            "out": self.out,
            "kind": "a list of squares",
            "record": "squares.json",
            "identity": identify({"numbers": 5}),
            "items": range(5),
            "is_made": lambda number: self.file(number).is_file(),
            "make": self.make,
            "measure": lambda: {"sum": sum(int(self.file(number).read_text()) for number in range(5))},
            "write": lambda report: Report(title="Squares", parts=[f"The sum is {report['sum']}."]),
            "batch_size": 2,
        }
        return Suite(**{**fields, **changes})


def test_an_interrupted_suite_resumes_and_makes_nothing_twice(tmp_path: Path) -> None:
    broken, progress = Squares(tmp_path, fails_at=3), []
    with pytest.raises(KeyboardInterrupt):
        broken.suite().run()
    assert broken.made == [[0, 1], [2, 3]] and not (tmp_path / "report.json").exists()
    again = Squares(tmp_path)
    report = again.suite().run(on_progress=lambda done, total: progress.append((done, total)))
    assert again.made == [[2, 3], [4]]  # the interrupted batch as a whole
    assert progress == [(2, 5), (4, 5), (5, 5)]
    assert report == {**identify({"numbers": 5}), "sum": 30} == read_json_object(tmp_path / "report.json")
    assert (tmp_path / "report.md").read_text() == "# Squares\n\nThe sum is 30.\n"
    assert "<h1>Squares</h1><p>The sum is 30.</p>" in (tmp_path / "index.html").read_text()
    assert Squares(tmp_path).suite().run() == report


def test_shards_share_a_folder_and_the_last_one_measures(tmp_path: Path) -> None:
    first, second = Squares(tmp_path), Squares(tmp_path)
    assert second.suite().run(shard=(2, 2)) == {"complete": False, "videos": 2, "of": 5}
    assert first.suite().run(shard=(1, 2))["sum"] == 30
    assert (first.made, second.made) == ([[0, 1], [4]], [[2, 3]])
    for wrong in ({"shard": (3, 2)}, {"shard": (0, 2)}):
        with pytest.raises(InputError, match="shard must be i/n"):
            first.suite().run(**wrong)
    with pytest.raises(InputError, match="batch_size 1 or more"):
        first.suite(batch_size=0).run()


def test_a_folder_takes_one_suite(tmp_path: Path) -> None:
    Squares(tmp_path).suite().run()
    with pytest.raises(RunError, match="holds a list of squares with other numbers; name another folder"):
        Squares(tmp_path).suite(identity=identify({"numbers": 6})).run()
    (tmp_path / "squares.json").write_text("{")
    with pytest.raises(RunError, match="squares.json is damaged"):
        Squares(tmp_path).suite().run()


def test_a_folder_that_was_begun_before_there_were_some_settings_resumes(tmp_path: Path) -> None:
    now = PUBLISHED.to_dict()
    before = {
        k: v if not isinstance(v, dict) else {n: o for n, o in v.items() if n != "split_guidance"}
        for k, v in now.items()
    }
    Squares(tmp_path).suite(identity=identify({"numbers": 5, "settings": before})).run()
    later = Squares(tmp_path)
    report = later.suite(identity=identify({"numbers": 5, "settings": now})).run()
    assert later.made == [] and report["id"] == identify({"numbers": 5, "settings": now})["id"]
    others = PUBLISHED.replace(keyframes={"split_guidance": True}).to_dict()
    with pytest.raises(RunError, match="with other settings"):
        Squares(tmp_path).suite(identity=identify({"numbers": 5, "settings": others})).run()


def test_a_table_is_the_same_in_markdown_and_html() -> None:
    table = Table(("video", "hits", "why"), [("**a<b**", "12", "*guessed*")], words=(0, 2))
    assert table.markdown() == "| video | hits | why |\n|---|---:|---|\n| **a<b** | 12 | *guessed* |"
    parts = ["## Beside", table, "**Careful:** a < b.", "plain"]
    report = Report(title="1 < 2", parts=parts, pictures={"drawn": "<svg></svg>", "a file": "sheets/a.png"})
    assert report.markdown == f"# 1 < 2\n\n## Beside\n\n{table.markdown()}\n\n**Careful:** a < b.\n\nplain\n"
    text = report.page
    assert "<h1>1 &lt; 2</h1><h2>Beside</h2><table>" in text
    assert '<p class="warning">Careful: a &lt; b.</p><p>plain</p>' in text
    assert "<h2>drawn</h2><svg></svg>" in text and '<img src="sheets/a.png" alt="a file"' in text
    assert '<tr><td>a&lt;b</td><td class="number">12</td><td>guessed</td></tr>' in text
