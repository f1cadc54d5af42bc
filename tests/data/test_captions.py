"""Which videos and captions a folder holds, in each of the layouts that people have."""

import json
import os
from pathlib import Path

import pytest

from show1.data.captions import read_captions
from show1.data.folder import ClipFolder
from show1.errors import InputError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path) -> dict[str, str | None]:
    return {entry.file.relative_to(folder).as_posix(): entry.caption for entry in read_captions(folder)}


@pytest.mark.parametrize("keys", [("file", "caption"), ("file_name", "text")])
@pytest.mark.parametrize("name", ["captions.jsonl", "captions.csv", "metadata.jsonl", "metadata.csv"])
def test_lists_by_every_name(tmp_path: Path, name: str, keys: tuple[str, str]) -> None:
    touch(tmp_path, "a.mp4", "below/b.webm", "unlisted.mp4")
    rows = [("a.mp4", "a dog, running"), ("below/b.webm", ""), ("a.mp4", "a brown dog")]
    if name.endswith(".csv"):
        text = f"{keys[0]},{keys[1]},size\n" + "".join(f'{file},"{caption}",3\n' for file, caption in rows)
    else:
        text = "".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows)
    (tmp_path / name).write_text(text)
    entries = read_captions(tmp_path)
    assert [(entry.file.relative_to(tmp_path).as_posix(), entry.caption) for entry in entries] == rows
    first = 2 if name.endswith(".csv") else 1
    assert [entry.where for entry in entries] == [f"{name}, line {first + i}" for i in range(3)]


def test_texts_beside_files_and_below(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "below/b.PNG", "below/further/c.mov", "notes.md", ".cache/d.mp4", "below/._b.png")
    (tmp_path / "a.txt").write_text("\ufeffa dog\n")
    (tmp_path / "below/b.txt").write_text("")
    assert found(tmp_path) == {"a.mp4": "a dog", "below/b.PNG": "", "below/further/c.mov": None}
    assert [entry.where for entry in read_captions(tmp_path)] == ["a.txt", "b.txt", "no c.txt"]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.mp4", "clips/b.mp4")
    (tmp_path / "clips/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "clips/again").symlink_to(tmp_path / "clips")
    (tmp_path / "link").symlink_to(tmp_path / "clips")
    assert found(tmp_path / "link") == {"b.mp4": None, "linked/a.mp4": None}


def test_links_to_nothing_are_not_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "b.mp4").symlink_to("gone.mp4")
    assert found(tmp_path) == {"a.mp4": None, "b.mp4": None}  # and `data check` calls it bad
    (tmp_path / "a.txt").symlink_to("gone.txt")
    with pytest.raises(InputError, match=r"a\.txt cannot be read \(No such file"):
        read_captions(tmp_path)
    (tmp_path / "captions.jsonl").symlink_to("gone.jsonl")
    with pytest.raises(InputError, match=r"captions\.jsonl cannot be read \(No such file"):
        read_captions(tmp_path)


def test_a_list_in_each_subfolder(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.mp4", "y/a.mp4", "y/z/b.mp4")
    (tmp_path / "x/metadata.jsonl").write_text('{"file_name": "a.mp4", "text": "one"}\n')
    (tmp_path / "y/captions.csv").write_text("file,caption\na.mp4,two\nz/b.mp4,three\n")
    assert found(tmp_path) == {"x/a.mp4": "one", "y/a.mp4": "two", "y/z/b.mp4": "three"}
    assert read_captions(tmp_path)[2].where == "y/captions.csv, line 3"


def test_captions_may_be_absent_from_a_list(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "captions.jsonl").write_text('{"file": "a.mp4"}\n{"file": "b.mp4", "caption": null}\n')
    assert found(tmp_path) == {"a.mp4": None, "b.mp4": None}


def test_own_captions_come_before_other_metadata(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "captions.jsonl").write_text('{"file": "a.mp4", "caption": "x"}\n')
    (tmp_path / "metadata.csv").write_text("what,ever\n1,2\n")
    assert found(tmp_path) == {"a.mp4": "x"}


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        ClipFolder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds neither a list of captions nor videos or pictures"):
        ClipFolder(tmp_path)
    (tmp_path / "captions.jsonl").write_text("\n")
    with pytest.raises(InputError, match="lists no videos"):
        ClipFolder(tmp_path)
    (tmp_path / "captions.csv").write_text("file,caption\n")
    with pytest.raises(InputError, match="both captions.jsonl and captions.csv"):
        ClipFolder(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 2 is not JSON"),
        ('{"name": "a.mp4"}', "line 2 has no text for 'file': got None"),
        ('{"file": 3, "caption": "x"}', "line 2 has no text for 'file'"),
        ('{"file": "a.mp4", "caption": ["x"]}', "line 2 has no text for a caption: got"),
        ('{"file": "gone.mp4", "caption": "x"}', "line 2 names 'gone.mp4'.*does not exist"),
        ('{"file": "a\\u0000.mp4", "caption": "x"}', "line 2 names .* which no file can be called"),
        ('{"file": "' + "a" * 500 + '", "caption": "x"}', "line 2 names .* does not exist"),
        ('{"file": "a.mp4", "caption": "\\ud800"}', "line 2 holds half of a surrogate pair"),
        ('{"file": "a.mp4", "caption": "' + "a" * 100_001 + '"}', "line 2 has a caption of more than 100,000 letters"),
    ],
)
def test_faulty_lines_of_a_jsonl_list(tmp_path: Path, line: str, message: str) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "captions.jsonl").write_text('{"file": "a.mp4", "caption": "x"}\n' + line + "\n")
    with pytest.raises(InputError, match=message):
        ClipFolder(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.mp4,x\n", "line 2 has no 'caption', only 'file', 'label'"),
        ("file;caption\na.mp4;x\n", "line 2 has no 'file', only 'file;caption'"),
        ("", "lists no videos"),
        ("file,caption\na.mp4\n", "line 2 has 1 value for 2 columns"),
        ("file,caption\na.mp4,a red dog, running on the beach\n", "line 2 has 3 values"),
        ("file,caption\na.mp4,x\n\ngone.mp4,y\n", "line 4 names 'gone.mp4'"),
        ('file,caption\na.mp4,"a 5 foot dog\na.mp4,"\na.mp4,a cat\n', "line 2 has a value of several lines"),
        ('caption,file\n"a dog,a.mp4\na cat",b.mp4\n', "line 2 has a value of several lines"),
        ('id,file,caption\n1,a.mp4,"a dog\n2,b.mp4,a cat"\n', "line 2 has a value of several lines"),
        ('file,caption\na.mp4,"a dog\n""b.mp4"",a cat"\n', "line 2 has a value of several lines"),
    ],
)
def test_faulty_csv_lists(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "captions.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        ClipFolder(tmp_path)


def test_a_list_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_bytes("file,caption\ncafé.mp4,x\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        ClipFolder(tmp_path)
    touch(tmp_path / "texts", "a.mp4")
    (tmp_path / "texts/a.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(InputError, match="a.txt is not UTF-8"):
        ClipFolder(tmp_path / "texts")


def test_a_list_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "captions.jsonl")
    with pytest.raises(InputError, match="not an ordinary file"):
        ClipFolder(tmp_path)
