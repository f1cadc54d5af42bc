import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from show1.data.captions import read_captions
from show1.data.clips import ClipDataset
from show1.data.folder import ClipFolder
from show1.errors import InputError, MediaError
from show1.training.presets import preset
from tests.data.media_files import frame_numbers, write_captions, write_picture, write_video

VIEWS = preset("mini").views


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_video(tmp_path / "a.mp4", frames=29)
    write_captions(tmp_path, {"file": "a.mp4", "caption": "grey gets lighter"})
    return tmp_path


def test_a_clip_at_its_own_rate(folder: Path) -> None:
    clips = ClipFolder(folder)
    assert clips.num_clips == 1 and clips.caption(0) == "grey gets lighter"
    video = clips.clip(0, num_frames=29, height=20, width=32)
    assert video.shape == (3, 29, 20, 32) and video.dtype == torch.float32
    assert -1 <= float(video.min()) and float(video.max()) <= 1
    assert frame_numbers(video) == list(range(29))
    assert frame_numbers(clips.clip(0, num_frames=8, height=20, width=32)) == list(range(0, 29, 4))
    assert frame_numbers(clips.clip(0, num_frames=29, height=20, width=32, frames=slice(20, 25))) == [
        20,
        21,
        22,
        23,
        24,
    ]


def test_other_frame_rates_are_resampled(tmp_path: Path) -> None:
    write_video(tmp_path / "fast.mp4", frames=30, fps=24)
    write_captions(tmp_path, {"file": "fast.mp4", "caption": "x"})
    video = ClipFolder(tmp_path, num_frames=9, fps=8).clip(0, num_frames=9, height=16, width=16)
    numbers = frame_numbers(video)
    assert np.diff(numbers).tolist() == [3] * 8


def test_long_videos_give_different_parts_that_repeat_by_index(tmp_path: Path) -> None:
    write_video(tmp_path / "long.mp4", frames=48)
    write_captions(tmp_path, {"file": "long.mp4", "caption": "x"})
    clips = ClipFolder(tmp_path, num_frames=5)
    parts = [frame_numbers(clips.clip(index, num_frames=5, height=16, width=16)) for index in range(8)]
    assert all(np.diff(part).tolist() == [1] * 4 for part in parts)
    assert len({part[0] for part in parts}) > 3
    again = ClipFolder(tmp_path, num_frames=5).clip(6, num_frames=5, height=16, width=16)
    assert frame_numbers(again) == parts[6]


def test_frames_are_resized_and_cropped_at_the_centre(tmp_path: Path) -> None:
    picture = np.zeros((64, 192, 3), dtype=np.uint8)
    picture[:, 64:128] = 255  # the middle third, which a square crop shows
    with av.open(str(tmp_path / "wide.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = 64, 192, "yuv420p"
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")), *stream.encode(None)]:
            container.mux(packet)
    write_captions(tmp_path, {"file": "wide.mp4", "caption": "x"})
    video = ClipFolder(tmp_path, num_frames=1).clip(0, num_frames=1, height=16, width=16)
    assert float(video[..., 1:-1].min()) > 0.97


def test_a_csv_list_and_the_stages_views(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=29)
    write_video(tmp_path / "b.mp4", frames=40)
    (tmp_path / "captions.csv").write_text('file,caption\na.mp4,"grey, lighter"\nb.mp4,more grey\n')
    dataset = ClipDataset(ClipFolder(tmp_path), VIEWS["super_resolution"], length=6)
    item = dataset[4]
    assert item["caption"] == "grey, lighter"
    assert item["video"].shape == (3, 8, 80, 128) and item["low"].shape == (3, 8, 20, 32)
    assert frame_numbers(item["video"]) == frame_numbers(item["low"])


def test_short_videos_give_the_windows_that_fit(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", frames=10)
    write_captions(tmp_path, {"file": "short.mp4", "caption": "x"})
    clips = ClipFolder(tmp_path)
    with pytest.raises(InputError, match=r"short.mp4 \(captions.jsonl, line 1\) lasts 1.25 s, but 29 frames .* 3.50 s"):
        clips.clip(0, num_frames=8, height=16, width=16)

    def numbers(start: int, count: int) -> list[int]:
        frames = slice(start, start + count)
        return frame_numbers(clips.clip(0, num_frames=29, height=16, width=16, frames=frames))

    singles = [numbers(i, 1)[0] for i in range(29)]
    assert singles == sorted(singles) and singles[0] == 0 and singles[-1] == 9 and len(set(singles)) == 10
    windows = [numbers(i, 5) for i in range(0, 25, 4)]
    assert all(np.diff(window).tolist() == [1] * 4 for window in windows)
    assert windows[0][0] == 0 and windows[-1][-1] == 9


def test_folders_of_frames_that_a_list_names(tmp_path: Path) -> None:
    for number in range(29):
        write_picture(tmp_path / f"dog/{number}.png", number)
    write_captions(tmp_path, {"file": "dog", "caption": "a dog"})
    clips = ClipFolder(tmp_path)
    clips.prepare(VIEWS["translation"], captions=True)
    assert frame_numbers(clips.clip(0, num_frames=29, height=16, width=16)) == list(range(29))
    known = clips.fingerprint
    (tmp_path / "dog/28.png").unlink()
    assert ClipFolder(tmp_path).fingerprint != known


def test_pictures_serve_single_frames(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 7)
    write_picture(tmp_path / "b.jpg", 9, size=(200, 30))
    clips = ClipFolder(tmp_path)
    assert [
        frame_numbers(clips.clip(i, num_frames=29, height=20, width=32, frames=slice(12, 13))) for i in range(2)
    ] == [[7], [9]]
    with pytest.raises(InputError, match=r"a.png \(no a.txt\) is a still picture, but 0.50 s of video are needed"):
        clips.clip(0, num_frames=29, height=20, width=32, frames=slice(0, 5))


def test_other_numbers_of_frames_and_rates(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=34, fps=16)
    clips = ClipFolder(tmp_path, num_frames=17, fps=16)
    view = VIEWS["keyframes"].of_frames(17)
    assert view.num_frames == 5 and VIEWS["translation"].of_frames(17).num_frames == 17
    item = ClipDataset(clips, view, length=1)[0]
    assert np.diff(frame_numbers(item["video"])).tolist() == [4] * 4
    with pytest.raises(InputError, match="frames must be a multiple of 4, plus 1, .* such as 13 or 17, got 16"):
        VIEWS["keyframes"].of_frames(16)
    with pytest.raises(InputError, match="frames must be at least 8"):
        VIEWS["super_resolution"].of_frames(5)
    assert VIEWS["vae"].of_frames(1).num_frames == 1


def test_bad_clips_are_found_before_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_video(tmp_path / "good.mp4", frames=40)
    write_video(tmp_path / "short.mp4", frames=10)
    write_picture(tmp_path / "still.png", 3)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    names = ("good.mp4", "short.mp4", "still.png", "noise.mp4", "gone.mp4")
    write_captions(tmp_path, *({"file": name, "caption": "x"} for name in names))
    with pytest.raises(InputError, match="names 'gone.mp4'"):
        ClipFolder(tmp_path)
    clips = ClipFolder(tmp_path, skip_bad=True)
    clips.prepare(VIEWS["keyframe_images"], captions=True)
    assert [entry.file.name for entry in clips.entries] == ["good.mp4", "short.mp4", "still.png"]
    assert "2 of 5 clips cannot be used" in caplog.text and "They are left out" in caplog.text
    assert "gone.mp4 (captions.jsonl, line 5) does not exist" in caplog.text
    clips.prepare(VIEWS["keyframes"], captions=True)
    assert [entry.file.name for entry in clips.entries] == ["good.mp4"] and clips.num_clips == 1
    write_captions(tmp_path, *({"file": name, "caption": "x"} for name in names[:-1]))
    with pytest.raises(InputError, match=r"(?s)3 of 4 clips cannot.*short.mp4.*still.png.*noise.mp4.*--skip-bad"):
        ClipFolder(tmp_path).prepare(VIEWS["keyframes"], captions=True)


def test_captions_are_asked_for_where_they_are_used(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_video(tmp_path / f"{name}.mp4", frames=29)
    (tmp_path / "a.txt").write_text("a dog")
    (tmp_path / "b.txt").write_text("")
    clips = ClipFolder(tmp_path)
    clips.prepare(VIEWS["vae"], captions=False)
    assert [clips.caption(i) for i in range(3)] == ["a dog", "", ""]
    with pytest.raises(InputError, match=r"1 of 3 clips have no caption, such as .*c.mp4 \(no c.txt\)"):
        clips.prepare(VIEWS["keyframes"], captions=True)


def test_another_clip_stands_in_for_one_that_breaks_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b", "c"):
        write_video(tmp_path / f"{name}.mkv", frames=50)
    write_captions(tmp_path, *({"file": f"{name}.mkv", "caption": name} for name in ("a", "b", "c")))
    data = (tmp_path / "b.mkv").read_bytes()
    (tmp_path / "b.mkv").write_bytes(data[: len(data) // 2])  # its header is whole
    strict, lenient = ClipFolder(tmp_path), ClipFolder(tmp_path, skip_bad=True)
    with pytest.raises((InputError, MediaError), match="b.mkv") as caught:
        for index in range(30):
            ClipDataset(strict, VIEWS["keyframes"], length=30)[index]
    assert "--skip-bad" in caught.value.__notes__[0]
    items = [ClipDataset(lenient, VIEWS["keyframes"], length=30)[index] for index in range(12)]
    assert {item["caption"] for item in items[1::3]} <= {"a", "c"}
    assert "another clip stands in" in caplog.text and "b.mkv" in caplog.text
    again = [ClipDataset(lenient, VIEWS["keyframes"], length=30)[index] for index in range(12)]
    assert all(torch.equal(x["video"], y["video"]) for x, y in zip(items, again, strict=True))


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    write_video(tmp_path / "x/a.mp4", frames=29)
    write_captions(tmp_path / "x", {"file": "a.mp4", "caption": "a dog"})
    known = ClipFolder(tmp_path / "x").fingerprint
    shutil.copytree(tmp_path / "x", tmp_path / "y")
    assert ClipFolder(tmp_path / "y").fingerprint == known
    write_captions(tmp_path / "y", {"file": "a.mp4", "caption": "a cat"})
    assert ClipFolder(tmp_path / "y").fingerprint != known
    write_video(tmp_path / "x/a.mp4", frames=30)
    assert ClipFolder(tmp_path / "x").fingerprint != known


@pytest.mark.parametrize("kind", ["empty", "noise", "cut", "sound"])
def test_a_video_that_cannot_be_decoded(folder: Path, kind: str) -> None:
    bad = folder / "bad.mkv"
    if kind == "sound":
        with av.open(str(bad), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.int16), format="s16", layout="mono")
            sound.sample_rate = 8000
            for packet in [*stream.encode(sound), *stream.encode(None)]:
                container.mux(packet)
    else:
        data = np.random.default_rng(0).bytes(5000) if kind == "noise" else (folder / "a.mp4").read_bytes()
        bad.write_bytes({"empty": b"", "cut": data[: len(data) // 2]}.get(kind, data))
    write_captions(folder, {"file": "a.mp4", "caption": "x"}, {"file": "bad.mkv", "caption": "x"})
    with pytest.raises(MediaError, match=r"bad.mkv \(captions.jsonl, line 2\) cannot be decoded: .*or leave it out"):
        ClipFolder(folder).clip(1, num_frames=8, height=16, width=16)


def test_a_video_whose_end_is_missing(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mkv"
    write_video(whole, frames=40)
    data = whole.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: int(len(data) * 0.6)])
    write_captions(tmp_path, {"file": "cut.mkv", "caption": "x"})
    with pytest.raises(InputError, match="cut.mkv .* lasts"):
        ClipFolder(tmp_path).clip(0, num_frames=29, height=16, width=16)


def write_timed(path: Path, times: list[int], *, last: int = 125, sound: float = 0.0) -> None:
    """A video whose frames begin at these milliseconds; the last one lasts so many; with seconds of silence."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"qp": "0", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        silence = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        for number, time in enumerate(times):
            picture = np.full((48, 64, 3), 5 * number, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            frame.duration = last if number == len(times) - 1 else times[number + 1] - time
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
        if silence is not None:
            quiet = av.AudioFrame.from_ndarray(
                np.zeros((1, int(8000 * sound)), dtype=np.float32), format="fltp", layout="mono"
            )
            quiet.sample_rate = 8000
            for packet in [*silence.encode(quiet), *silence.encode(None)]:
                container.mux(packet)


@pytest.mark.parametrize(
    ("name", "begin", "last", "sound"),
    [
        ("longer sound.mkv", 0, 125, 7.0),
        ("late start.mkv", 2000, 125, 0.0),
        ("long last frame.mp4", 0, 1500, 0.0),
        ("long last frame.mkv", 0, 1500, 0.0),
    ],
)
def test_sound_videos_are_not_called_damaged(tmp_path: Path, name: str, begin: int, last: int, sound: float) -> None:
    write_timed(tmp_path / name, [begin + 125 * i for i in range(40)], last=last, sound=sound)
    write_captions(tmp_path, {"file": name, "caption": "x"})
    clips = ClipFolder(tmp_path)
    for index in range(40):
        numbers = frame_numbers(clips.clip(index, num_frames=8, height=16, width=16))
        assert numbers == sorted(numbers) and numbers[-1] <= 39


def test_an_animation_that_rests_at_its_end(tmp_path: Path) -> None:
    images = [Image.new("L", (64, 48), 5 * i) for i in range(40)]
    images[0].save(
        tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[120] * 39 + [2000], disposal=1
    )
    write_captions(tmp_path, {"file": "a.gif", "caption": "x"})
    for index in range(40):
        assert ClipFolder(tmp_path).clip(index, num_frames=8, height=16, width=16).isfinite().all()


def test_the_fingerprint_sees_the_middle_of_files_and_frames(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for number in range(2):
        Image.new("RGB", (32, 32)).save(tmp_path / "frames" / f"{number}.png", compress_level=0)
    (tmp_path / "a.mp4").write_bytes(bytes(2_000_000))
    rows = [{"file": name, "caption": "x"} for name in ("frames", "a.mp4")]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def fingerprint() -> str:
        entries = read_captions(tmp_path, frame_folders=True)
        return str([entry.sample() for entry in entries])

    known = fingerprint()
    Image.new("RGB", (32, 32), (255, 0, 0)).save(tmp_path / "frames" / "1.png", compress_level=0)
    repainted = fingerprint()
    (tmp_path / "a.mp4").write_bytes(bytes(500_000) + b"\1" * 500_000 + bytes(1_000_000))
    assert len({known, repainted, fingerprint()}) == 3


def test_a_pipe_in_a_list_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    rows = [{"file": "a.mp4", "caption": "x"}]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (entry,) = read_captions(tmp_path, missing=True)
    with pytest.raises(ValueError, match="pipe|ordinary"):
        entry.sample()
