"""Data sets in their official layouts, and how clips are cut out of videos."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from show1.errors import InputError
from show1.evaluation.catalogue import STANDARD
from show1.evaluation.clips import Clip, ClipRule, Entry, Rejected, choose_entries, cut_clip, file_clips, read_clip
from show1.evaluation.datasets import DATASETS, read_clip_folder, read_msrvtt, read_ucf101, read_video_folder
from show1.video import Video
from tests.evaluation.standard_sets import msrvtt, ucf101, write_clip


def video(frames: int, fps: float, size: tuple[int, int] = (4, 4)) -> Video:
    """Frame i is i everywhere."""
    return Video(frames=np.tile(np.arange(frames, dtype=np.uint8)[:, None, None, None], (1, *size, 3)), fps=fps)


def shown(frames: np.ndarray) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in frames]


@pytest.mark.parametrize(
    ("rule", "fps", "wanted"),
    [
        ({"frames": 4}, 25, [0, 1, 2, 3]),
        ({"frames": 4, "stride": 3}, 25, [0, 3, 6, 9]),
        ({"frames": 4, "fps": 8}, 24, [0, 3, 6, 9]),
        ({"frames": 4, "fps": 8}, 25, [0, 3, 6, 9]),
        ({"frames": 5, "fps": 10}, 25, [0, 3, 5, 8, 10]),  # halves go up: 2.5 and 7.5
        ({"frames": 3, "fps": 8, "stride": 2}, 16, [0, 4, 8]),
        ({"frames": 3, "fps": 30}, 29.97, [0, 1, 2]),
        ({"frames": None}, 25, list(range(20))),
        ({"frames": None, "stride": 7}, 25, [0, 7, 14]),
        ({"frames": None, "fps": 10}, 25, [0, 3, 5, 8, 10, 13, 15, 18]),
    ],
)
def test_frames_by_stride_and_rate(rule: dict[str, int], fps: float, wanted: list[int]) -> None:
    assert shown(cut_clip(video(20, fps), ClipRule(**rule))) == wanted  # type: ignore[arg-type]


def test_too_short_and_too_slow() -> None:
    assert len(cut_clip(video(7, 8), ClipRule(frames=4, stride=2))) == 4
    with pytest.raises(InputError, match="it has 6 frames, but 4 with stride 2 at 8 frames per second need 7"):
        cut_clip(video(6, 8), ClipRule(frames=4, stride=2))
    with pytest.raises(InputError, match="5 frames per second and is to be read at 8"):
        cut_clip(video(60, 5), ClipRule(frames=4, fps=8))


def test_a_start_drawn_by_hash() -> None:
    rule = ClipRule(frames=3, start="hash")
    starts = {key: shown(cut_clip(video(40, 8), rule, key))[0] for key in "abcdefgh"}
    assert starts == {key: shown(cut_clip(video(40, 8), rule, key))[0] for key in "abcdefgh"}
    assert len(set(starts.values())) > 4 and max(starts.values()) <= 37
    assert shown(cut_clip(video(3, 8), rule, "a")) == [0, 1, 2]


def test_squash_and_crop() -> None:
    wide = video(2, 8, (8, 16))
    wide.frames[:, :, :4] = 200  # the left quarter, which a centred crop cuts off
    squashed = cut_clip(wide, ClipRule(frames=1, height=8, width=8, resize="squash"))
    cropped = cut_clip(wide, ClipRule(frames=1, height=8, width=8, resize="crop"))
    assert squashed.shape == cropped.shape == (1, 8, 8, 3)
    assert squashed[0, 4, 0, 0] > 150 and cropped[0, 4, 2, 0] == 0
    np.testing.assert_array_equal(cropped[0], wide.frames[0][:, 4:12])  # no scaling: the very pixels
    tall = cut_clip(video(2, 8, (16, 8)), ClipRule(frames=1, height=4, width=8, resize="crop"))
    assert tall.shape == (1, 4, 8, 3)


def test_reading_stops_early_and_gives_the_same(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv", frames=12, fps=16)
    entry = Entry(key="a.mkv", file=tmp_path / "a.mkv")
    for rule in (ClipRule(frames=3), ClipRule(frames=3, fps=8), ClipRule(frames=3, stride=4)):
        np.testing.assert_array_equal(read_clip(entry, rule), cut_clip(Video.load(entry.file), rule))
    write_clip(tmp_path / "fast.mkv", frames=12, fps=120)
    assert len(read_clip(Entry(key="f", file=tmp_path / "fast.mkv"), ClipRule(frames=2, fps=24))) == 2


def test_ucf101(tmp_path: Path) -> None:
    entries = read_ucf101(ucf101(tmp_path), "train01")
    assert len(entries) == 10 and entries[0].key == "Archery/v_Archery_g01_c01.avi" and entries[0].label == "Archery"
    assert [e.label for e in read_ucf101(tmp_path, "test01")] == ["Archery", "Biking"]
    assert len(read_ucf101(tmp_path, "all")) == 10
    clips = file_clips(entries, ClipRule(frames=5, height=8, width=8))
    read = list(clips.clips(range(10)))
    bad = {r.key: r.reason for r in read if isinstance(r, Rejected)}
    assert sorted(bad) == ["Archery/v_Archery_g01_c02.avi", "YoYo/v_YoYo_g01_c02.avi"]
    assert "damaged" in bad["Archery/v_Archery_g01_c02.avi"] and str(tmp_path) not in str(bad)
    assert "3 frames" in bad["YoYo/v_YoYo_g01_c02.avi"]
    good = [r for r in read if isinstance(r, Clip)]
    assert all(r.frames.shape == (5, 8, 8, 3) and r.frames.dtype == np.uint8 for r in good) and len(good) == 8
    np.testing.assert_allclose(good[0].frames[:, 0, 0, 0], 20 * np.arange(5) + 10, atol=5)  # the order of the frames


def test_reading_ahead_keeps_the_order(tmp_path: Path) -> None:
    clips = file_clips(read_ucf101(ucf101(tmp_path), "train01"), ClipRule(frames=4))
    for index, ahead in enumerate(clips.clips(range(1, 10)), 1):
        assert (ahead.index, ahead.key) == (index, clips.keys[index])
        if isinstance(ahead, Clip):
            np.testing.assert_array_equal(ahead.frames, clips.read(index))


def test_a_listed_video_that_is_not_there(tmp_path: Path) -> None:
    ucf101(tmp_path)
    (tmp_path / "UCF-101" / "Biking" / "v_Biking_g01_c03.avi").unlink()
    entries = read_ucf101(tmp_path, "train01")
    missing = [r for r in file_clips(entries, ClipRule(frames=2)).clips(range(10)) if isinstance(r, Rejected)]
    assert any(r.key == "Biking/v_Biking_g01_c03.avi" and "no such file" in r.reason for r in missing)


def test_msrvtt(tmp_path: Path) -> None:
    entries = read_msrvtt(msrvtt(tmp_path), "test")
    assert [e.key for e in entries] == ["video7010", "video7011", "video7012", "video7013"]
    assert entries[0].captions == tuple(f"caption {k} of video7010" for k in range(3))  # by sen_id
    read = list(file_clips(entries, ClipRule(frames=2)).clips(range(4)))
    assert [isinstance(r, Rejected) for r in read] == [False, False, False, True]
    assert len(read_msrvtt(tmp_path, "all")) == 5
    with pytest.raises(InputError, match="no videos of 'val'"):
        read_msrvtt(tmp_path, "val")


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    for name in ("a.mp4", "below/b.mp4"):
        write_clip(tmp_path / "clips" / name)
    Image.new("RGB", (8, 8)).save(tmp_path / "clips/still.png")
    (tmp_path / "clips/metadata.csv").write_text(
        'file_name,text\na.mp4,"a dog, running"\nbelow/b.mp4,a cat\na.mp4,a brown dog\nstill.png,a still\n'
    )
    entries = read_clip_folder(tmp_path / "clips", "all")
    assert [(e.key, e.captions) for e in entries] == [
        ("a.mp4", ("a dog, running", "a brown dog")),
        ("below/b.mp4", ("a cat",)),
    ]
    protocol = STANDARD.load_protocol("folder")
    assert len(DATASETS["folder"].list_prompts(protocol, entries)) == 2
    (tmp_path / "clips/metadata.csv").unlink()
    with pytest.raises(InputError, match=r"a.mp4 \(no a.txt\) has no caption"):
        read_clip_folder(tmp_path / "clips", "all")
    with pytest.raises(InputError, match="split: a folder has no 'test', only all"):
        read_clip_folder(tmp_path / "clips", "test")


def test_folders_of_another_layout(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    with pytest.raises(InputError, match=r"not the layout of UCF-101: expected UCF-101/.*it holds videos"):
        read_ucf101(tmp_path, "train01")
    with pytest.raises(InputError, match=r"not the layout of MSR-VTT: expected test_videodatainfo.json"):
        read_msrvtt(tmp_path, "test")
    with pytest.raises(InputError, match="nowhere is not a folder; give the one of UCF-101 with --data"):
        read_ucf101(tmp_path / "nowhere", "train01")
    (tmp_path / "UCF-101").mkdir()
    (tmp_path / "ucfTrainTestlist").mkdir()
    with pytest.raises(InputError, match="no 'train09' here"):
        read_ucf101(tmp_path, "train09")
    with pytest.raises(InputError, match="holds no videos"):
        read_video_folder(tmp_path)


def test_any_folder_of_videos(tmp_path: Path) -> None:
    write_clip(tmp_path / "b" / "two.mkv")
    Video.load(tmp_path / "b" / "two.mkv").save(tmp_path / "a")
    entries = read_video_folder(tmp_path)
    assert [entry.key for entry in entries] == ["a", "b/two.mkv"]
    first, second = (read_clip(entry, ClipRule(frames=4)) for entry in entries)
    np.testing.assert_array_equal(first, second)


def test_a_draw_of_references_is_stable() -> None:
    entries = [Entry(key=str(i), file=Path(str(i))) for i in range(50)]
    some = choose_entries(entries, 10, 0)
    assert some == [entry for entry in entries if entry in choose_entries(list(reversed(entries)), 10, 0)]
    assert some != choose_entries(entries, 10, 1) and choose_entries(entries, 0, 0) == entries
    assert set(e.key for e in some) < set(e.key for e in choose_entries(entries, 11, 0))
    with pytest.raises(InputError, match="51 real videos are asked for, but the split has 50"):
        choose_entries(entries, 51, 0)


def test_fingerprint_sees_names_and_sizes(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv")
    entry = Entry(key="a", file=tmp_path / "a.mkv")
    before = file_clips([entry], ClipRule()).fingerprint
    assert file_clips([Entry(key="b", file=entry.file)], ClipRule()).fingerprint != before
    entry.file.write_bytes(entry.file.read_bytes() + b"0")
    assert file_clips([entry], ClipRule()).fingerprint != before
    with pytest.raises(InputError, match="two videos are called a"):
        file_clips([entry, entry], ClipRule())
