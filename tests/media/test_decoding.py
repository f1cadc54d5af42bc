"""Any place of any video is decoded as if it were decoded from the beginning."""

import json
import os
import resource
import shutil
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from show1.data.decoding import pictures_at
from show1.data.reference import ReferenceOptions, load_reference
from show1.errors import MediaError, Show1Error
from show1.media import read_facts, read_metadata, read_video
from show1.media.stream import open_video, stream_video
from tests.media.numbered import KINDS, Kind, number_of, remux, write

Shown = tuple[float, bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("numbered")


def made(folder: Path, kind: Kind) -> Path:
    path = folder / kind.name
    if not path.exists():
        try:
            av.Codec(kind.codec, "w")
        except av.codec.codec.UnknownCodecError:
            pytest.skip(f"PyAV lacks {kind.codec} here")
        write(path, kind)
    return path


def shown(path: Path, start: float = 0.0, seconds: float = 1e9) -> list[Shown]:
    """Times and pixels of the frames from a start on."""
    found: list[Shown] = []
    with open_video(path) as video:
        for frame in video.frames(start):
            found.append((round(frame.time, 4), frame.draw(frame.height, frame.width).tobytes()))
            if frame.time > start + seconds:
                break
    return found


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_frames_from_any_start_are_those_of_the_whole(folder: Path, kind: Kind) -> None:
    path = made(folder, kind)
    whole = shown(path)
    assert len(whole) == 120
    times = [time for time, _ in whole]
    assert all(later > sooner for sooner, later in pairwise(times))
    pixels = dict(whole)
    for part in range(1, 9):
        start = times[0] + (times[-1] - times[0]) * part / 8.7
        some = shown(path, start, 2 / kind.rate)
        assert some[0][0] <= start
        first = times.index(some[0][0])
        assert [time for time, _ in some] == times[first : first + len(some)]
        assert all(pixels[time] == data for time, data in some)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_clips_and_references_show_the_frames_of_their_times(folder: Path, kind: Kind) -> None:
    path = made(folder, kind)
    assert [number_of(frame) for frame in read_video(path)[0]] == list(range(120))
    lasts = 1 / kind.rate
    for first in (0, 7, 47, 48, 49, 66, 95, 110):
        moments = (first + np.arange(0, 9, 2)) * lasts
        pictures = pictures_at(path, "line 1", lambda length, frame, moments=moments: moments)
        late = {"mpeg4.avi": 1}.get(kind.name, 0)  # the first frame of these begins after the start
        assert [number_of(p) for p in pictures] == [max(first + i - late, 0) for i in range(0, 9, 2)]
    start = 36 * lasts
    options = ReferenceOptions(num_frames=8, height=48, width=64, fps=kind.rate, start=start, duration=8.5 * lasts)
    reference = load_reference(path, options)
    numbers = [number_of(frame) for frame in reference.video.frames]
    assert numbers == [36 - late + i for i in range(8)] and reference.warnings == ()


@pytest.mark.parametrize("name", ["plain.ts", "hevc.ts", "refresh.mp4", "mpeg2.mpg"])
def test_a_long_recording_with_few_key_frames(folder: Path, name: str) -> None:
    """Half a minute with a key frame every 20 s: a seek lands after the wanted time by more than one guess."""
    kind = next(kind for kind in KINDS if kind.name == name)
    path = write(folder / f"long-{name}", kind, frames=30 * kind.rate if kind.rate == 8 else 250, gop=20 * kind.rate)
    times = [frame.time for frame in stream_video(path)]
    for start in (0.3, 3.0, 6.5, 9.0, 21.0, 24.0):
        if start < times[-1]:
            frame = next(stream_video(path, start=start))
            expected = next(i for i, time in enumerate(times) if time >= start - 1e-6)
            assert number_of(frame.draw(frame.height, frame.width)) == expected % 256


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts", "v.mov"])
@pytest.mark.parametrize("shift", [5.0, 1000.0, -1.0])
def test_recordings_that_do_not_begin_at_zero(folder: Path, tmp_path: Path, name: str, shift: float) -> None:
    """Broadcasts begin at any time, and the first frames of a cut may lie before zero."""
    path = remux(made(folder, Kind("plain.mp4")), tmp_path / name, shift=shift)
    numbers = [number_of(frame) for frame in read_video(path)[0]]
    first = numbers[0]
    assert numbers == list(range(first, 120)) and first in (0, 8)
    frames = list(stream_video(path))
    assert frames[0].time == pytest.approx(0, abs=1e-3) or frames[0].time == pytest.approx(shift, abs=0.3)
    late = next(stream_video(path, start=frames[0].time + 6.0))
    assert number_of(late.draw(96, 128)) == first + 48


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mov", "cut.mkv", "cut.ts"])
@pytest.mark.parametrize("begin", [2.5, 6.0, 7.75])
def test_cuts_without_encoding_are_whole(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, begin: float
) -> None:
    """An edit list hides the frames between the key frame and the cut."""
    path = remux(made(folder, Kind("plain.mp4")), tmp_path / name, begin=begin)
    numbers = [number_of(frame) for frame in read_video(path)[0]]
    first = round(begin * 8) if name.endswith(("mp4", "mov")) else 0 if begin < 6 else 48
    assert numbers == list(range(first, 120))
    assert caplog.messages == []
    assert read_facts(path).num_frames == len(numbers)
    late = next(stream_video(path, start=2.0))
    assert number_of(late.draw(96, 128)) == first + 16 and late.time == pytest.approx(2.0)


def test_a_cut_of_a_video_by_show1_is_whole(folder: Path, tmp_path: Path) -> None:
    from show1.video import Video

    frames = read_video(made(folder, Kind("plain.mp4")))[0][:40]
    whole = Video(frames=frames, fps=8, metadata={"prompt": "numbers"}).save(tmp_path / "a.mp4")
    cut = remux(whole, tmp_path / "b.mp4", begin=1.25, movflags="use_metadata_tags")
    with av.open(str(whole)) as old, av.open(str(cut), "r") as new:
        assert old.streams.video[0].frames == new.streams.video[0].frames == 40
    data = cut.read_bytes()
    assert len(Video.load(cut)) == 30
    (tmp_path / "c.mp4").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(MediaError):
        Video.load(tmp_path / "c.mp4")


def test_held_frames_do_not_make_a_video_incomplete(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The header of an AVI counts a frame once for each moment that it is held."""
    path = tmp_path / "held.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=15)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number, pts in enumerate((0, 11, 17, 40)):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 60 * number, np.uint8), format="rgb24")
            picture.pts, picture.time_base = pts, Fraction(1, 15)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    frames, fps, _ = read_video(path)
    levels = (frames[:, 24, 32, 0].astype(int) + 20) // 60
    assert fps == 15 and levels[:41].tolist() == [0] * 11 + [1] * 6 + [2] * 23 + [3]
    assert "incomplete" not in caplog.text


def test_a_longer_sound_does_not_make_a_video_incomplete(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, 24000), np.int16), format="s16", layout="mono")
        quiet.sample_rate = 8000
        container.mux([*sound.encode(quiet), *sound.encode(None)])
    assert len(read_video(tmp_path / "a.mkv")[0]) == 8
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.webm"])
def test_frames_that_last_longer_are_repeated(tmp_path: Path, name: str) -> None:
    """Screen recordings and videos without their repeated frames: each frame is shown for its time."""
    kind = Kind(name, "libvpx-vp9", options={"deadline": "realtime"}) if name == "a.webm" else Kind(name)
    gaps = [1, 1, 6, 1, 2, 1, 1, 3, 1, 1]
    times = [Fraction(sum(gaps[:i]), 10) for i in range(len(gaps) + 1)]
    frames, fps, _ = read_video(write(tmp_path / name, kind, times=times))
    assert fps == 10
    expected = [number for number, gap in enumerate([*gaps, 1]) for _ in range(gap)]
    assert [number_of(frame) for frame in frames[: len(expected)]] == expected
    assert [number_of(frame) for frame in read_video(tmp_path / name, max_frames=6)[0]] == expected[:6]


def test_clips_of_uneven_frames_go_by_time(tmp_path: Path) -> None:
    times = [Fraction(sum([1, 1, 6, 1, 2, 1, 1, 3, 1, 1][:i]), 10) for i in range(11)]
    path = write(tmp_path / "a.mkv", Kind("a.mkv"), times=times)
    pictures = pictures_at(path, "line 1", lambda length, frame: np.array([0.0, 0.1, 0.5, 0.79, 0.8, 1.2, 1.79]))
    assert [number_of(picture) for picture in pictures] == [0, 1, 2, 3, 3, 6, 10]


def test_jitter_is_no_uneven_duration(tmp_path: Path) -> None:
    """Frames of telephones come a few milliseconds early or late."""
    rng = np.random.default_rng(0)
    times = [Fraction(1000 * i // 30 + int(rng.integers(0, 12)), 1000) for i in range(60)]
    frames, fps, _ = read_video(write(tmp_path / "a.mkv", Kind("a.mkv", rate=30), times=times))
    assert [number_of(frame) for frame in frames] == list(range(60))
    assert fps == pytest.approx(30, rel=0.02)


def test_names_that_ffmpeg_takes_for_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("10:30")
    write(Path("10:30/a.mp4"), Kind("a.mp4"), frames=40)
    shutil.copy("10:30/a.mp4", "file:b.mp4")
    shutil.copy("10:30/a.mp4", "http:c%03d.mp4")
    for name in ("10:30/a.mp4", "file:b.mp4", "http:c%03d.mp4"):
        assert len(read_video(name)[0]) == 40
        assert len(pictures_at(Path(name), "line 1", lambda length, frame: np.array([0.0, 1.0]))) == 2


def test_paths_below_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    from show1.video import Video

    video = Video(frames=np.zeros((2, 32, 32, 3), np.uint8), fps=8)
    assert video.save("~/a/b.mp4") == tmp_path / "a" / "b.mp4"
    video.save("~/frames")
    assert len(Video.load("~/a/b.mp4")) == len(Video.load("~/frames")) == 2
    assert read_metadata("~/a/b.mp4") == {} and len(list(stream_video("~/frames"))) == 2
    assert len(load_reference("~/a/b.mp4", ReferenceOptions(num_frames=2, height=8, width=8)).times) == 2
    assert not Path("~").exists()


def test_pipes_and_devices_are_refused_before_they_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe.mp4", tmp_path / "link.mp4", Path("/dev/null")):
        for read in (read_video, read_metadata, read_facts, lambda path: next(stream_video(path))):
            with pytest.raises(MediaError, match="not an ordinary file"):
                read(path)
    (tmp_path / "captions.jsonl").write_text(json.dumps({"file": "pipe.mp4", "caption": "x"}))
    with pytest.raises(MediaError, match="not an ordinary file"):
        pictures_at(tmp_path / "pipe.mp4", "captions.jsonl, line 1", lambda length, frame: np.zeros(1))


def test_videos_too_long_to_be_read_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(folder, Kind("plain.mp4"))
    monkeypatch.setattr("show1.media.read.MAX_DECODED_BYTES", 50 * 96 * 128 * 3)
    with pytest.raises(MediaError, match="too long to be read whole: 120 frames of 96x128"):
        read_video(path)
    assert len(read_video(path, max_frames=50)[0]) == 50
    assert read_facts(path).num_frames == 120 and len(list(stream_video(path))) == 120


def test_facts_keep_no_frames(tmp_path: Path) -> None:
    """A small file of many large frames: 800 MB, if they were kept."""
    from tests.media.test_display import encode

    path = encode(tmp_path / "a.mp4", [np.zeros((720, 1280, 3), np.uint8)] * 300)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    facts = read_facts(path)
    assert (facts.num_frames, facts.height, facts.width, facts.fps) == (300, 720, 1280, 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Changes some bytes, often those of the header, or cuts some out."""
    broken = bytearray(data)
    if rng.random() < 0.3:
        place = int(rng.integers(len(data)))
        return data[:place] + data[place + int(rng.integers(1, len(data))) :]
    for _ in range(rng.integers(1, 12)):
        broken[rng.integers(len(data) if rng.random() < 0.5 else min(len(data), 600))] = rng.integers(256)
    return bytes(broken)


@pytest.mark.parametrize("rounds", [25, pytest.param(300, marks=pytest.mark.thousands)])
def test_damaged_files_raise_nothing_else(folder: Path, tmp_path: Path, rounds: int) -> None:
    """Whatever is wrong with a file: frames, or an error of this package, in bounded memory."""
    kinds = [kind for kind in KINDS if kind.name.startswith("plain") or kind.codec in ("mpeg2video", "libvpx-vp9")]
    rng = np.random.default_rng(rounds)
    options = ReferenceOptions(num_frames=4, height=16, width=16, start=2.0, duration=5.0)
    for _ in range(rounds):
        source = made(folder, kinds[rng.integers(len(kinds))])
        path = tmp_path / f"damaged{source.suffix}"
        path.write_bytes(damaged(source.read_bytes(), rng))
        for read in (
            lambda path=path: read_video(path),
            lambda path=path: read_facts(path),
            lambda path=path: pictures_at(path, "line 1", lambda length, frame: 2 + np.arange(4) / 4),
            lambda path=path: load_reference(path, options),
        ):
            try:
                read()
            except Show1Error as error:
                assert path.name in str(error)


def test_a_change_to_giant_frames_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("show1.media.containers.MAX_IMAGE_PIXELS", 20000)
    write(tmp_path / "a.h264", Kind("a.h264"), frames=5)
    from tests.media.test_display import encode

    encode(tmp_path / "b.h264", [np.zeros((192, 256, 3), np.uint8)] * 5)
    joined = tmp_path / "c.h264"
    joined.write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    with pytest.raises(MediaError, match="c.h264"):
        read_video(joined)
