"""What is read from a stranger's files is bounded before it is read."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from show1.errors import OutputError, RunError
from show1.files import _umask, check_no_links, check_regular, link_target, parse_json, read_json_object, write_text
from show1.limits import MAX_JSON_BYTES, MAX_JSON_DEPTH


def test_json_is_read_up_to_its_limits() -> None:
    def nested(depth: int) -> str:
        return "[" * depth + "]" * depth

    assert parse_json(nested(MAX_JSON_DEPTH)) is not None and parse_json(b"3") == 3
    for text in (nested(MAX_JSON_DEPTH + 1), nested(10**5), '{"a":' * 10**5, " " * (MAX_JSON_BYTES + 1), "1" * 5000):
        with pytest.raises(ValueError):
            parse_json(text)


def test_only_ordinary_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "link.json").symlink_to("a.json")
    assert read_json_object(tmp_path / "a.json") == read_json_object(tmp_path / "link.json") == {"a": 1}
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    for place in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "large", Path("/proc/kmsg")):
        with pytest.raises(ValueError):
            read_json_object(place)
    assert check_regular(tmp_path / "large") == MAX_JSON_BYTES + 1


def test_what_a_link_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    for name, target in (("link", "file"), ("dangling", "folder/new"), ("far", "dangling"), ("loop", "loop")):
        (tmp_path / name).symlink_to(target)
    assert link_target(tmp_path / "file") == tmp_path / "file"
    assert link_target(tmp_path / "far") == tmp_path.resolve() / "folder" / "new"
    for name in ("link", "far"):
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "new").read_text() == "new"
    with pytest.raises(OutputError, match="leads to itself"):
        write_text(tmp_path / "loop", "new")


def test_a_link_to_a_pipe_is_not_written_through(tmp_path: Path) -> None:
    """As the superuser, what a link to a device leads to would be replaced by a file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with pytest.raises(OutputError, match="link to .*pipe, which is no ordinary file"):
        write_text(tmp_path / "link", "x")
    assert (tmp_path / "pipe").is_fifo()


def test_a_file_that_is_moved_away_meanwhile_is_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    listed = [tmp_path / ".manifest.json.a1b2.partial", tmp_path / "manifest.json"]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", lambda _: iter(listed))
        check_no_links(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunError, match="is a pipe or a device"):
        check_no_links(tmp_path)


def test_the_umask_is_read_by_one_thread_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    change = os.umask

    def slow(mask: int) -> int:
        before = change(mask)
        time.sleep(0.01)
        return before

    before = change(0o077)
    try:
        monkeypatch.setattr(os, "umask", slow)
        with ThreadPoolExecutor(4) as threads:
            found = set(threads.map(lambda _: _umask(), range(8)))
        assert found == {0o077} and change(0o077) == 0o077
    finally:
        change(before)
