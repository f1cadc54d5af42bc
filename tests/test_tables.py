"""Lists in text files are read as they were meant, or refused with the file and the line."""

from pathlib import Path

import pytest

from show1.errors import InputError
from show1.tables import csv_rows, json_rows, read_rows, text_lines


def read(tmp_path: Path, name: str, text: str) -> list[tuple[int, dict[str, object]]]:
    (tmp_path / name).write_bytes(text.encode())
    return list(read_rows(tmp_path / name))


@pytest.mark.parametrize(
    ("row", "caption"),
    [
        ('a.mp4,"a red dog, running"', "a red dog, running"),
        ('a.mp4, "a red dog, running"', "a red dog, running"),
        ('a.mp4,"a ""red"" dog"', 'a "red" dog'),
        ("a.mp4,a 5\" dog and 6' cat", "a 5\" dog and 6' cat"),
        ('a.mp4,"\na dog\n"', "\na dog\n"),
        ("a.mp4,", ""),
        ("a.mp4,a\u2028dog\x0bruns\x85", "a\u2028dog\x0bruns\x85"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
def test_rows_of_csv(tmp_path: Path, row: str, caption: str, end: str) -> None:
    (line, values), *rest = read(tmp_path, "a.csv", f"\ufefffile,caption{end or chr(10)}{row}{end}")
    assert (line, values, rest) == (2, {"file": "a.mp4", "caption": caption}, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,caption\na.mp4,a red dog, on the beach\n", r"line 2 has 3 values for 2 columns"),
        ("file,caption\n\na.mp4\n", r"line 3 has 1 value for"),
        ('file,caption\na.mp4,x\nb.mp4,"a 5 foot dog\nc.mp4,a cat\n', r"line 3 is not CSV \(unexpected end of data\)"),
        ('file,caption\na.mp4,"a 5 foot dog\nc.mp4,"a cat"\n', r"line 2 is not CSV"),
        ('file,caption\na.mp4,"a dog" runs\n', r"line 2 is not CSV"),
        ('prompt\na bird\n"a dog\na cat"\na cow\n', r"line 3 has a value of several lines"),
        ('prompt,seed\n"a dog,1\na cat",2\n', r"line 2 has a value of several lines"),
        ('prompt\r"a dog\ra cat"\r', r"line 2 has a value of several lines"),
        ('"prompt\na dog",seed\na cat,2\n', r"line 1 has a value of several lines"),
        ("file,caption\na.mp4," + "x" * 200_000 + "\n", r"line 2 is not CSV \(field larger than field limit"),
        ("file,caption,caption\na.mp4,x,y\n", r"line 1 names the column 'caption' twice"),
        ("file,caption\na.mp4,x\n\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), None),
    ],
)
def test_faulty_csv(tmp_path: Path, text: str, message: str | None) -> None:
    if message is None:
        (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match="a.csv is not UTF-8 text"):
            list(read_rows(tmp_path / "a.csv"))
        return
    with pytest.raises(InputError, match=r"a\.csv, " + message):
        read(tmp_path, "a.csv", text)


def test_rows_of_json(tmp_path: Path) -> None:
    text = '{"file": "a.mp4", "caption": "a\u2028dog"}\r\n\n{"file": "b.mp4"}\n'
    assert read(tmp_path, "a.jsonl", text) == [(1, {"file": "a.mp4", "caption": "a\u2028dog"}), (3, {"file": "b.mp4"})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "is not JSON"),
        ('["a.mp4"]', "must be a JSON object"),
        ('{"file": "a", "file": "b"}', "the key 'file' stands twice"),
        ('{"a": {"x": 1, "x": 2}}', "the key 'x' stands twice"),
        ("[" * 100_000, "is not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "is not JSON"),
        ('{"file": "a"} {"file": "b"}', "is not JSON"),
    ],
)
def test_faulty_json(line: str, message: str) -> None:
    with pytest.raises(InputError, match=f"x.jsonl, line 2 .*{message}"):
        list(json_rows(["{}\n", line + "\n"], "x.jsonl"))


def test_lines_end_only_where_editors_end_them() -> None:
    assert text_lines("a\u2028dog\r\n\n  a cat\x0bruns \ra bird") == ["a\u2028dog", "a cat\x0bruns", "a bird"]


def test_suffixes_in_capitals(tmp_path: Path) -> None:
    assert read(tmp_path, "A.CSV", "prompt\na dog\n") == [(2, {"prompt": "a dog"})]


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(InputError, match="not an ordinary file"):
        list(read_rows(tmp_path / "a.csv"))


def test_names_for_messages() -> None:
    with pytest.raises(InputError, match="^there, line 1 names the column"):
        list(csv_rows(["a,a"], "there"))
