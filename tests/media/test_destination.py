"""Output files appear whole or not at all, and errors come early and clear."""

import errno
import os
import resource
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from show1.errors import InputError, OutputError
from show1.media import probe_output, probe_sheet, save_sheet
from show1.video import Video

NAMES = ["v.mp4", "v.webm", "v.mkv", "v.gif", "v.webp", "frames"]


def make(frames: int = 3, height: int = 32, width: int = 48, fps: float = 8.0) -> Video:
    noise = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    return Video(frames=noise, fps=fps, metadata={"prompt": "noise"})


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("name", ["v.xyz", "v.png", "v.mp4.bak", ""])
def test_unknown_suffix(tmp_path: Path, name: str) -> None:
    path = tmp_path / name if name else ""
    for call in (lambda: make().save(path), lambda: probe_output(path)):
        with pytest.raises(InputError, match=r"\.mp4"):
            call()


def test_codec_and_quality_must_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vp9, av1"):
        probe_output(tmp_path / "v.webm", codec="h264")
    with pytest.raises(InputError, match="no codecs"):
        probe_output(tmp_path / "v.gif", codec="h264")
    with pytest.raises(InputError, match="0 .worst. to 100"):
        probe_output(tmp_path / "v.mp4", quality=101)
    with pytest.raises(InputError, match="ffv1"):
        make().save(tmp_path / "v.mkv", quality=80)
    for codec in ("h265", "av1"):
        with pytest.raises(InputError, match="at least 64 pixels per side.*32x48"):
            make().save(tmp_path / "v.mp4", codec=codec)
        with pytest.raises(InputError, match="at least 64"):
            probe_output(tmp_path / "v.mp4", codec=codec, size=(80, 48))
    with pytest.raises(InputError, match="GIF holds at most 50"):
        make(fps=60).save(tmp_path / "v.gif")
    assert entries(tmp_path) == []


def test_empty_video_and_unusable_metadata(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no frames"):
        make(0).save(tmp_path / "v.mp4")
    for value in (Path("x"), float("nan")):
        with pytest.raises(InputError, match="JSON"):
            Video(frames=make().frames, fps=8, metadata={"a": value}).save(tmp_path / "v.mp4")
    assert entries(tmp_path) == []


@pytest.mark.parametrize("name", NAMES)
def test_existing_output_is_kept_or_replaced(tmp_path: Path, name: str) -> None:
    path = make(3).save(tmp_path / name)
    for call in (lambda: make(2).save(path), lambda: probe_output(path)):
        with pytest.raises(OutputError, match="already.*--overwrite"):
            call()
    assert len(Video.load(path)) == 3
    probe_output(path, True)
    make(2).save(path, overwrite=True)
    assert len(Video.load(path)) == 2
    assert entries(tmp_path) == [name]


def test_folders_with_other_files_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for call in (lambda: make().save(tmp_path, overwrite=True), lambda: probe_output(tmp_path, True)):
        with pytest.raises(OutputError, match="other files"):
            call()
    assert entries(tmp_path) == ["thesis.txt"]


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    folder = tmp_path / "clip.mp4"
    folder.mkdir()
    make(2).save(folder)
    assert entries(folder) == ["00000.png", "00001.png"]


@pytest.mark.parametrize("name", NAMES)
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, name: str) -> None:
    former = make(3).save(tmp_path / "store" / name)
    link = tmp_path / name
    link.symlink_to(former)
    for call in (lambda: make(2).save(link), lambda: probe_output(link)):
        with pytest.raises(OutputError, match="already"):
            call()
    probe_output(link, True)
    assert make(2).save(link, overwrite=True) == link
    assert link.is_symlink() and len(Video.load(former)) == 2
    assert entries(tmp_path) == sorted([name, "store"]) and entries(tmp_path / "store") == [name]


@pytest.mark.parametrize("name", NAMES)
def test_a_link_to_nothing(tmp_path: Path, name: str) -> None:
    link = tmp_path / name
    link.symlink_to(Path("store") / name)
    for call in (lambda: make().save(link), lambda: probe_output(link)):
        with pytest.raises(OutputError, match="is a link to .*store.*which does not exist.*--overwrite"):
            call()
    make(2).save(link, overwrite=True)
    assert link.is_symlink() and len(Video.load(tmp_path / "store" / name)) == 2
    (tmp_path / "round.mp4").symlink_to("round.mp4")
    for call in (lambda: make().save(tmp_path / "round.mp4"), lambda: probe_output(tmp_path / "round.mp4", True)):
        with pytest.raises(OutputError, match="leads to itself"):
            call()


def test_a_link_to_a_sheet(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    (tmp_path / "b.png").symlink_to("a.png")
    save_sheet(Image.new("RGB", (8, 8)), tmp_path / "b.png", overwrite=True)
    assert (tmp_path / "b.png").is_symlink()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (8, 8)


def test_parents_are_created(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "v.mkv"
    probe_output(path)
    assert entries(tmp_path) == []
    assert make().save(path).is_file()


def test_devices_and_files_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe.mp4")
    for path, match in [
        (tmp_path / "file" / "v.mp4", "is a file"),
        (tmp_path / "file", "not a folder"),
        (tmp_path / "pipe.mp4", "not a file"),
    ]:
        for call in (
            lambda path=path: make().save(path, overwrite=True),
            lambda path=path: probe_output(path, True),
        ):
            with pytest.raises(OutputError, match=match):
                call()
    assert entries(tmp_path) == ["file", "pipe.mp4"]


@pytest.mark.parametrize(
    ("code", "match"),
    [
        (errno.EACCES, "no permission.*choose"),
        (errno.EROFS, "no permission"),
        (errno.ENOSPC, "no room left.*free some"),
    ],
)
def test_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, match: str) -> None:
    def refuse(self: Path, data: bytes) -> int:
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError, match=match):
        probe_output(tmp_path / "v.mp4")
    with pytest.raises(OutputError, match=match):
        probe_sheet(tmp_path / "v.png")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    for call in (lambda: make().save(tmp_path / "v.mp4"), lambda: probe_output(tmp_path / "v.mp4")):
        with pytest.raises(OutputError, match="no permission"):
            call()


@pytest.mark.parametrize("name", NAMES)
def test_full_disk_leaves_nothing(tmp_path: Path, name: str) -> None:
    """A limit on the size of files makes real writes fail half-way, in FFmpeg and Pillow alike."""
    video = make(8, 64, 96)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, former[1]))
    try:
        with pytest.raises(OutputError, match="no room left"):
            video.save(tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert entries(tmp_path) == []


@pytest.mark.parametrize("name", ["v.mp4", "frames"])
def test_disk_that_tells_late_that_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = make(2).save(tmp_path / name)

    def refuse(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match="no room left"):
        make(3).save(path, overwrite=True)
    monkeypatch.undo()
    assert len(Video.load(path)) == 2
    assert entries(tmp_path) == [name]


def test_folder_of_frames_comes_back_if_its_successor_cannot_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(2).save(tmp_path / "frames")
    real = os.replace

    def refuse_new(source: Path, target: Path) -> None:
        if Path(source).suffix == ".partial":
            raise OSError(errno.EIO, "input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse_new)
    with pytest.raises(OutputError, match="input/output error"):
        make(3).save(path, overwrite=True)
    assert len(Video.load(path)) == 2
    assert entries(tmp_path) == ["frames"]


@pytest.mark.parametrize(
    "failure", [av.error.ExternalError(542398533, "broken"), KeyboardInterrupt(), RuntimeError("bug")]
)
def test_failing_encoder_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    path = make(2).save(tmp_path / "v.mp4")
    before = path.read_bytes()

    def fail(partial: str, *args: object, **options: object) -> None:
        Path(partial).write_bytes(b"half of a video")
        raise failure

    monkeypatch.setattr(av, "open", fail)
    expected = OutputError if isinstance(failure, av.error.FFmpegError) else type(failure)
    for target in (path, tmp_path / "other.mp4"):
        with pytest.raises(expected):
            make(3).save(target, overwrite=True)
    assert path.read_bytes() == before
    assert entries(tmp_path) == ["v.mp4"]


def test_file_that_appears_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.mp4"
    real = av.open

    def open_slowly(*args: Any, **options: Any) -> Any:
        path.write_text("another program was faster")
        return real(*args, **options)

    monkeypatch.setattr(av, "open", open_slowly)
    with pytest.raises(OutputError, match="already"):
        make().save(path)
    assert path.read_text() == "another program was faster"
    assert entries(tmp_path) == ["v.mp4"]


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    former = os.umask(0o022)
    try:
        for name in ("v.mp4", "v.webp"):
            assert make().save(tmp_path / name).stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(former)


def test_sheet_is_saved_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.new("RGB", (30, 20), "red")
    for name in ("s.png", "s.JPG", "s.webp"):
        with Image.open(save_sheet(image, tmp_path / name)) as back:
            assert back.size == (30, 20)
    with pytest.raises(OutputError, match="already"):
        save_sheet(image, tmp_path / "s.png")
    save_sheet(Image.new("RGB", (10, 20)), tmp_path / "s.png", overwrite=True)
    with pytest.raises(InputError, match=r"\.png"):
        save_sheet(image, tmp_path / "s.mp4")

    def fail(self: Image.Image, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OutputError, match="no room left"):
        save_sheet(image, tmp_path / "t.png")
    assert entries(tmp_path) == ["s.JPG", "s.png", "s.webp"]
