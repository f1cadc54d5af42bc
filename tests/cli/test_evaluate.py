"""`show1 evaluate`."""

from pathlib import Path

from tests.cli.conftest import Show1


def test_alignment_of_a_small_cascade(show1: Show1, cascade: Path, tmp_path: Path) -> None:
    asked = ("evaluate", "alignment", "--model", cascade, "--sets", "held_out", "--videos", 1, "--until", "keyframes")
    made = show1(*asked, "--out", "run")
    assert made.code == 0, made.err
    assert "| held_out, keyframes | 1 |" in made.out and "| ground truth | 1 | 100.0" in made.out
    assert "1/1 videos" in made.err and (tmp_path / "run" / "index.html").is_file()
    other = show1(*asked, "--batch-size", 2, "--out", "run")
    assert other.code == 2 and "another plan" in other.err and "--out" in other.err
    rounded = show1(*asked, "--dtype", "bfloat16", "--out", "run")
    assert rounded.code == 2 and "another dtype" in rounded.err
    assert show1(*asked, "--dtype", "bfloat16", "--out", "rounded").code == 0


def test_a_set_that_is_not_there(show1: Show1) -> None:
    words = show1("evaluate", "alignment", "--level", "0.3;0.4")
    assert words.code == 2 and "--level must be numbers with commas between them" in words.err
    wrong = show1("evaluate", "alignment", "--sets", "unseen")
    assert wrong.code == 2 and "held_out, seen, paraphrase" in wrong.err
