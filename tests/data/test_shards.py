"""WebDataset shards, as the library writes them, and as others do."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from show1.data.clips import ClipDataset
from show1.data.open import open_clips
from show1.data.shards import ShardClips
from show1.errors import InputError, MediaError
from show1.training.batches import clip_batches
from show1.training.options import LoopOptions
from show1.training.presets import preset
from tests.data.media_files import frame_numbers, write_picture, write_video

VIEWS = preset("mini").views


def shard(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    write_video(tmp_path / "source/a.mp4", frames=29)
    return (tmp_path / "source/a.mp4").read_bytes()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards of four samples, written by the library."""
    webdataset = pytest.importorskip("webdataset")
    (tmp_path / "shards").mkdir()
    with webdataset.ShardWriter(str(tmp_path / "shards/%03d.tar"), maxcount=4, verbose=0) as writer:
        for number in range(12):
            write_video(tmp_path / "one.mp4", frames=29 + number)
            text: dict[str, Any] = {"txt": f"clip {number}"} if number % 2 else {"json": {"caption": f"clip {number}"}}
            writer.write({"__key__": f"{number:06d}", "mp4": (tmp_path / "one.mp4").read_bytes(), **text})
    return tmp_path / "shards"


def test_clips_of_shards(shards: Path) -> None:
    clips = open_clips(str(shards))
    assert isinstance(clips, ShardClips) and clips.num_clips == 12
    assert [clips.caption(i) for i in range(12)] == [f"clip {i}" for i in range(12)]
    clips.prepare(VIEWS["translation"], captions=True)
    assert frame_numbers(clips.clip(0, num_frames=29, height=16, width=16)) == list(range(29))
    with_range = open_clips(str(shards / "{000..002}.tar"))
    assert with_range.fingerprint == clips.fingerprint == open_clips(str(shards / "*.tar")).fingerprint
    assert open_clips(str(shards / "{000..001}.tar")).num_clips == 8
    assert open_clips(str(shards / "002.tar")).num_clips == 4


def test_any_number_of_processes_sees_the_same_clips_and_a_run_resumes(shards: Path) -> None:
    def captions(world: int, batch_size: int, start: int, steps: int) -> list[list[str]]:
        loop = LoopOptions(out="run", batch_size=batch_size, seed=3)
        clips, view = open_clips(str(shards)), VIEWS["keyframes"]
        parts = [clip_batches(clips, view, loop, rank, world, start) for rank in range(world)]
        return [[caption for part in parts for caption in next(part)["caption"]] for _ in range(steps)]

    single = captions(1, 4, 0, 6)
    assert captions(2, 2, 0, 6) == single and captions(1, 4, 2, 4) == single[2:]
    assert sorted(sum(single[:3], [])) == sorted(sum(single[3:], [])) == sorted(f"clip {i}" for i in range(12))


def test_workers_read_shards(shards: Path) -> None:
    loop = LoopOptions(out="run", batch_size=2, workers=2)
    with_workers = next(clip_batches(open_clips(str(shards)), VIEWS["vae"], loop, 0, 1, 0))
    item = ClipDataset(open_clips(str(shards)), VIEWS["vae"], length=12)
    assert with_workers["video"].shape == (2, 3, 1, 160, 256) and torch.isfinite(item[3]["video"]).all()


def test_samples_of_several_files(tmp_path: Path, video: bytes) -> None:
    write_picture(tmp_path / "a.png", 4)
    picture = (tmp_path / "a.png").read_bytes()
    files = {
        "train/0001.jpg": b"a thumbnail",
        "train/0001.video.MP4": video,
        "train/0001.json": json.dumps({"caption": "less", "fps": 8}).encode(),
        "train/0001.txt": b"more",
        "train/0002.png": picture,
        "train/0003.txt": b"without a video",
        "__metadata__.json": b"{}",
        "train/0004.png": picture,
        "train/0004.json": b'{"fps": 8}',
    }
    clips = ShardClips(shard(tmp_path / "x/0.tar", files))
    assert [entry.caption for entry in clips.listed] == ["more", None, None]
    assert [entry.is_picture for entry in clips.listed] == [False, True, True]
    assert frame_numbers(clips.clip(1, num_frames=29, height=16, width=16, frames=slice(3, 4))) == [4]


def test_messages_name_the_file_in_the_shard(tmp_path: Path) -> None:
    clips = ShardClips(shard(tmp_path / "0.tar", {"a.mp4": b"no video", "a.txt": b"x", "b.png": b"no picture"}))
    with pytest.raises(InputError, match=r"(?s)2 of 2 clips.*0.tar/a.mp4.*0.tar/b.png") as caught:
        clips.prepare(VIEWS["vae"], captions=False)
    assert "/show1-" not in str(caught.value)
    (tmp_path / "0.tar").unlink()
    with pytest.raises(MediaError, match=r"0.tar/a.mp4 \(0.tar\) cannot be read: No such file"):
        clips.clip(0, num_frames=1, height=8, width=8)


def test_faulty_shards(tmp_path: Path, video: bytes) -> None:
    whole = shard(tmp_path / "0.tar", {"a.mp4": video, "b.mp4": video})
    (tmp_path / "cut/0.tar").parent.mkdir()
    (tmp_path / "cut/0.tar").write_bytes(whole.read_bytes()[: len(video) + 700])
    for data, message in [
        (str(tmp_path / "{0..2}.tar"), "1.tar cannot be read"),
        (str(tmp_path / "x*.tar"), "there is no shard"),
        (str(tmp_path / "{5..2}.tar"), "must ascend"),
        (str(tmp_path / "cut"), "0.tar cannot be read as a tar file"),
        (str(shard(tmp_path / "twice.tar", {"a.txt": b"x", "a.TXT": b"y"})), "holds a.TXT twice"),
        (str(shard(tmp_path / "empty.tar", {"a.md": b"x"})), "holds no videos or pictures"),
        (str(shard(tmp_path / "latin.tar", {"a.mp4": video, "a.txt": b"caf\xe9"})), "latin.tar, a.txt cannot be read"),
        (str(shard(tmp_path / "list.tar", {"a.mp4": video, "a.json": b'{"text": [1]}'})), "has no text for a caption"),
        ("https://example.com/0.tar", "is an address"),
        ("pipe:cat 0.tar", "is an address"),
    ]:
        with pytest.raises(InputError, match=message):
            open_clips(data)
