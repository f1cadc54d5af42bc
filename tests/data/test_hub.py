"""Data sets of Hugging Face's `datasets`, all on this disk."""

import builtins
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from show1.data.clips import ClipDataset
from show1.data.hub import HubClips
from show1.data.open import open_clips
from show1.errors import InputError, MissingDependencyError
from show1.training.presets import preset
from tests.data.media_files import frame_numbers, write_picture, write_video

datasets: Any = pytest.importorskip("datasets")

VIEWS = preset("mini").views


# `datasets` leaves files open: they are collected here, so that no other test is blamed for them.
pytestmark = pytest.mark.filterwarnings("ignore:.*FileIO:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def no_network(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, list[Any]]:
    for number in (29, 40):
        write_video(tmp_path / f"{number}.mp4", frames=number)
    contents = [{"bytes": (tmp_path / f"{number}.mp4").read_bytes(), "path": None} for number in (29, 40)]
    return {"video": contents, "text": ["a dog", None]}


def check(clips: HubClips) -> None:
    assert clips.num_clips == 2 and [entry.caption for entry in clips.listed] == ["a dog", None]
    clips.prepare(VIEWS["translation"], captions=False)
    assert frame_numbers(clips.clip(0, num_frames=29, height=16, width=16)) == list(range(29))
    with pytest.raises(InputError, match=r"1 of 2 clips have no caption, such as hf:.* \(row 1\)"):
        clips.prepare(VIEWS["translation"], captions=True)


def test_a_saved_data_set(tmp_path: Path, rows: dict[str, list[Any]]) -> None:
    data = datasets.Dataset.from_dict(rows).cast_column("video", datasets.Video())
    data.save_to_disk(tmp_path / "saved")
    clips = HubClips(str(tmp_path / "saved"))
    check(clips)
    assert clips.spec == f"hf:{tmp_path}/saved"
    assert ClipDataset(clips, VIEWS["vae"], length=4)[3]["video"].shape == (3, 1, 160, 256)


def test_splits_and_columns(tmp_path: Path, rows: dict[str, list[Any]]) -> None:
    raw = {"clip": [cell["bytes"] for cell in rows["video"]], "said": rows["text"]}
    both = datasets.DatasetDict({"test": datasets.Dataset.from_dict(raw), "extra": datasets.Dataset.from_dict(raw)})
    both.save_to_disk(tmp_path / "saved")
    check(HubClips(f"{tmp_path}/saved:video=clip,split=test,caption=said"))
    for choice, message in [
        ("", "has no split 'train'; its splits are test, extra"),
        (":split=test", "has no column of videos or pictures, only clip, said"),
        (":split=test,video=clip,caption=what", "has no column 'what', only clip, said"),
        (":splits=test", "'splits' of hf:.* is not one of split=..., config=..., video=..., caption=..."),
    ]:
        with pytest.raises(InputError, match=message):
            HubClips(f"{tmp_path}/saved{choice}")


def test_a_folder_that_the_library_reads(tmp_path: Path, rows: dict[str, list[Any]]) -> None:
    (tmp_path / "parquet").mkdir()
    data = datasets.Dataset.from_dict(rows).cast_column("video", datasets.Video())
    data.to_parquet(tmp_path / "parquet/train.parquet")
    clips = open_clips(f"hf:{tmp_path}/parquet")
    assert isinstance(clips, HubClips)
    check(clips)
    saved = tmp_path / "saved"
    data.save_to_disk(saved)
    assert HubClips(str(saved)).fingerprint == clips.fingerprint


def test_pictures_and_paths(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 7)
    for kind in (datasets.Image(), datasets.Value("string")):
        data = datasets.Dataset.from_dict({"image": [str(tmp_path / "a.png")], "prompt": ["grey"]})
        folder = tmp_path / type(kind).__name__
        data.cast_column("image", kind).save_to_disk(folder)
        clips = HubClips(str(folder))
        assert clips.caption(0) == "grey"
        assert frame_numbers(clips.clip(0, num_frames=29, height=16, width=16, frames=slice(2, 3))) == [7]
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"\(row 0, .*a.png\) does not exist"):
        HubClips(str(folder)).prepare(VIEWS["vae"], captions=False)


def test_captions_that_the_library_does_not_read(tmp_path: Path) -> None:
    for name in "abc":
        write_video(tmp_path / f"clips/{name}.mp4", frames=29)
    (tmp_path / "clips/captions.csv").write_text("file,caption\na.mp4,a dog\n")
    with pytest.raises(InputError, match=r"row 0, .*a\.mp4.*those of captions.csv, name the folder without hf:"):
        HubClips(f"{tmp_path}/clips").prepare(VIEWS["keyframes"], captions=True)


def test_rows_of_a_list_are_not_swallowed(tmp_path: Path) -> None:
    for name in "abc":
        write_video(tmp_path / f"clips/{name}.mp4", frames=29)
    table = tmp_path / "clips/metadata.csv"
    table.write_text('file_name,text\na.mp4,"a dog\nb.mp4,a cat"\nc.mp4,a bird\n')
    with pytest.raises(InputError, match=r"metadata\.csv, line 2 has a value of several lines"):
        HubClips(f"{tmp_path}/clips")
    table.write_text("file_name,text\na.mp4,a dog\nb.mp4,a cat\nc.mp4,a bird\n")
    assert [entry.caption for entry in HubClips(f"{tmp_path}/clips").listed] == ["a dog", "a cat", "a bird"]


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="hf:nobody/nothing cannot be opened"):
        HubClips("nobody/nothing")
    whole = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "datasets":
            raise ImportError("No module named 'datasets'")
        return whole(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"pip install 'show1\[data\]'"):
        HubClips(str(tmp_path))
