"""Every format: what goes in comes out, with its metadata."""

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from show1.errors import InputError, MediaError
from show1.media import read_metadata, write
from show1.video import Video

METADATA = {"prompt": 'a panda 熊猫 "spins" – été 🐼', "seed": 7, "stages": {"keyframes": [25, 3.0, None, True]}}


def colorful(frames: int = 5, height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    """Smooth moving gradients that fill the colour cube."""
    f, y, x = np.mgrid[0:frames, 0:height, 0:width]
    red = 127 + 127 * np.sin(x / 9 + f / 3)
    green = 127 + 127 * np.cos(y / 8 + f / 5)
    blue = 127 + 127 * np.sin((x + y) / 13 - f / 4)
    return np.stack([red, green, blue], axis=-1).round().astype(np.uint8)


def make(frames: int = 5, height: int = 32, width: int = 48, fps: float = 8.0) -> Video:
    return Video(frames=colorful(frames, height, width), fps=fps, metadata=METADATA)


def error(first: Video, second: Video) -> float:
    assert first.frames.shape == second.frames.shape
    return float(np.abs(first.frames.astype(int) - second.frames).mean())


FORMATS = [
    # name, codec, height and width, greatest mean absolute error of 255
    ("v.mp4", None, (32, 48), 2.5),
    ("v.mp4", "h264", (33, 49), 3.0),
    ("v.MP4", "h265", (64, 96), 2.5),
    ("v.mp4", "h265", (65, 97), 2.0),
    ("v.mp4", "av1", (64, 96), 2.5),
    ("v.mp4", "av1", (65, 97), 2.5),
    ("v.webm", None, (32, 48), 2.5),
    ("v.webm", "vp9", (33, 49), 2.5),
    ("v.webm", "av1", (64, 96), 2.5),
    ("v.mkv", None, (32, 48), 0.0),
    ("v.mkv", "ffv1", (33, 49), 0.0),
    ("v.mkv", "h264", (32, 48), 2.5),
    ("v.gif", None, (33, 49), 14.0),
    ("v.webp", None, (33, 49), 3.0),
    ("frames/", None, (33, 49), 0.0),
    ("frames", None, (32, 48), 0.0),
]


@pytest.mark.parametrize(("name", "codec", "size", "limit"), FORMATS)
def test_round_trip(tmp_path: Path, name: str, codec: str | None, size: tuple[int, int], limit: float) -> None:
    video = make(5, *size)
    path = video.save(f"{tmp_path}/{name}", codec=codec)
    back = Video.load(path)
    assert error(video, back) <= limit
    assert back.fps == 8.0
    assert back.metadata == METADATA
    assert read_metadata(path) == METADATA
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("fps", [24.0, 30000 / 1001, 0.5])
@pytest.mark.parametrize("name", ["v.mp4", "v.webm", "v.mkv", "v.gif", "v.webp", "frames"])
def test_frame_rate(tmp_path: Path, name: str, fps: float) -> None:
    back = Video.load(make(fps=fps).save(tmp_path / name))
    assert back.fps == pytest.approx(fps, rel=1e-4)
    assert len(back) == 5


def test_ffv1_keeps_noise_bit_by_bit(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 20, 32, 3), dtype=np.uint8)
    back = Video.load(Video(frames=noise, fps=2).save(tmp_path / "v.mkv"))
    np.testing.assert_array_equal(back.frames, noise)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_clips_whatever_memory_holds(tmp_path: Path, frames: int) -> None:
    """x265 takes decode times of one or two frames from memory that it did not set, if they may be B-frames."""
    code = f"""if True:
        import numpy as np
        from show1.video import Video
        Video(frames=np.zeros(({frames}, 64, 96, 3), np.uint8), fps=8.0, metadata={{}}).save("a.mkv", codec="h265")
    """
    environment = {**os.environ, "MALLOC_PERTURB_": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert len(Video.load(tmp_path / "a.mkv")) == frames


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no priorities of threads here")
def test_no_encoder_raises_the_priority_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SVT-AV1 does, as root, and a server in a container would leave the machine to nothing else."""
    seen = set()

    def look(*arguments: Any) -> Iterator[av.VideoFrame]:
        seen.update(os.sched_getscheduler(int(thread.name)) for thread in Path("/proc/self/task").iterdir())
        yield from frames_of(*arguments)

    frames_of = write._av_frames
    monkeypatch.setattr(write, "_av_frames", look)
    before = os.sched_getscheduler(0)
    Video(frames=colorful(3, 64, 96), fps=8).save(tmp_path / "v.webm", codec="av1")
    assert seen == {before} == {os.sched_getscheduler(0)}


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1"])
def test_flat_colors_survive(tmp_path: Path, codec: str) -> None:
    """Wrong matrix or range shifts saturated colours by ten and more."""
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (250, 200, 20)]
    frames = np.array(colors, dtype=np.uint8)[:, None, None].repeat(64, 1).repeat(64, 2)
    path = Video(frames=frames, fps=2).save(tmp_path / "v.mkv", codec=codec)
    np.testing.assert_allclose(Video.load(path).frames.astype(int), frames.astype(int), atol=4)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)


@pytest.mark.parametrize("name", ["v.gif", "v.webp", "v.mp4"])
def test_equal_frames_are_kept(tmp_path: Path, name: str) -> None:
    frames = np.repeat(colorful(1), 6, axis=0)
    frames[4:] = 255 - frames[4:]
    back = Video.load(Video(frames=frames, fps=8).save(tmp_path / name))
    assert len(back) == 6
    brightness = back.frames.reshape(6, -1).astype(float)
    assert np.abs(brightness[3] - brightness[0]).mean() < 3 < np.abs(brightness[4] - brightness[3]).mean()


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "h264"), ("v.webm", "vp9"), ("v.webp", None)])
def test_quality_orders_sizes(tmp_path: Path, name: str, codec: str | None) -> None:
    noise = Video(frames=np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8), fps=8)
    sizes = []
    for quality in (10, 50, 95):
        path = noise.save(tmp_path / f"{quality}{name}", codec=codec, quality=quality)
        sizes.append(path.stat().st_size)
    assert sizes[0] < sizes[1] < sizes[2]


def test_the_best_quality_is_a_file_that_plays_everywhere(tmp_path: Path) -> None:
    video = Video(frames=np.zeros((3, 64, 64, 3), dtype=np.uint8), fps=8)
    with av.open(str(video.save(tmp_path / "v.mp4", quality=100))) as container:
        assert container.streams.video[0].codec_context.profile == "High"


def test_one_frame_and_max_frames(tmp_path: Path) -> None:
    for name in ("v.mp4", "v.gif", "v.webp", "frames"):
        assert len(Video.load(make(1).save(tmp_path / "one" / name))) == 1
        path = make(5).save(tmp_path / "five" / name)
        assert len(Video.load(path, max_frames=2)) == 2
        assert len(Video.load(path, max_frames=99)) == 5
    with pytest.raises(InputError, match="max_frames"):
        Video.load(path, max_frames=0)


def test_comment_holds_the_prompt(tmp_path: Path) -> None:
    for name in ("v.mp4", "v.webm", "v.mkv"):
        with av.open(str(make().save(tmp_path / name))) as container:
            tags = {key.lower(): value for key, value in container.metadata.items()}
        assert tags["comment"] == METADATA["prompt"]
    with Image.open(make().save(tmp_path / "frames") / "00000.png") as image:
        assert image.text["Description"] == METADATA["prompt"]


def test_odd_prompts_do_not_break_the_tags(tmp_path: Path) -> None:
    metadata = {"prompt": "zero \0 and half \ud83d of a pair"}
    path = Video(frames=colorful(2), fps=8, metadata=metadata).save(tmp_path / "v.mp4")
    assert read_metadata(path) == metadata


def test_long_metadata_in_a_gif(tmp_path: Path) -> None:
    metadata = {"prompt": "x" * 5000}
    path = Video(frames=colorful(2), fps=8, metadata=metadata).save(tmp_path / "v.gif")
    assert Video.load(path).metadata == metadata
    with Image.open(path) as image:
        assert image.n_frames == 2


def test_file_of_another_origin_has_no_metadata(tmp_path: Path) -> None:
    for name, rate in (("v.mp4", 25), ("v.mov", 25), ("v.avi", 25)):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=rate)
            stream.width, stream.height = 64, 48
            for pixels in colorful(4, 48, 64):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
        assert read_metadata(tmp_path / name) == {}
        video = Video.load(tmp_path / name)
        assert video.frames.shape == (4, 48, 64, 3)
        assert video.fps == 25.0
    images = [Image.fromarray(pixels) for pixels in colorful(4)]
    images[0].save(tmp_path / "v.gif", save_all=True, append_images=images[1:], duration=40, comment=b"made by hand")
    images[0].save(tmp_path / "v.webp", save_all=True, append_images=images[1:], duration=40)
    for name in ("v.gif", "v.webp"):
        assert read_metadata(tmp_path / name) == {}
        assert Video.load(tmp_path / name).fps == 25.0


def test_rotation_of_phones_is_applied(tmp_path: Path) -> None:
    path = make(2, 32, 48).save(tmp_path / "v.mp4")
    upright = Video.load(path).frames
    data = path.read_bytes()
    start = data.index(b"tkhd") + 4 + 40  # the 3x3 matrix of the track header, fixed point
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:start] + quarter + data[start + 36 :])
    turned = Video.load(path).frames
    np.testing.assert_array_equal(turned, np.rot90(upright, k=-1, axes=(1, 2)))


def test_transparent_images_get_a_white_ground(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    Image.new("RGBA", (8, 6), (255, 0, 0, 0)).save(folder / "a.png")
    video = Video.load(folder)
    assert video.frames.shape == (1, 6, 8, 3)
    assert (video.frames == 255).all()


@pytest.mark.parametrize("name", ["v.mp4", "v.webm", "v.mkv", "v.gif", "v.webp", "v.png"])
@pytest.mark.parametrize("content", [b"", b"this is no video\n" * 50, bytes(range(256)) * 20])
def test_not_a_video(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for read in (Video.load, read_metadata):
        with pytest.raises(MediaError, match=f"{name}.*(damaged|fresh copy)"):
            read(path)


@pytest.mark.parametrize("name", ["v.mp4", "v.webm", "v.mkv", "v.webp", "frames/00001.png"])
def test_cut_off_file(tmp_path: Path, name: str) -> None:
    written = make(height=64, width=96).save(tmp_path / name.split("/")[0])
    path = tmp_path / name
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(MediaError, match="damaged|incomplete"):
        Video.load(written)


def test_text_files_and_playlists_are_no_videos(tmp_path: Path) -> None:
    """FFmpeg would draw the first, and open what the second names."""
    (tmp_path / "notes.txt").write_text("just some notes\n" * 20)
    secret = make().save(tmp_path / "secret.mp4")
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {secret}\n")
    for name in ("notes.txt", "list.m3u8", "list.mp4"):
        with pytest.raises(MediaError):
            Video.load(tmp_path / name)


def test_missing_file_empty_folder_and_sound(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        Video.load(tmp_path / "none.mp4")
    with pytest.raises(MediaError, match="no PNG or JPEG"):
        read_metadata(tmp_path)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match="holds no video"):
        Video.load(tmp_path / "sound.mp4")


def test_images_of_two_sizes(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 7)).save(tmp_path / "b.jpg")
    with pytest.raises(MediaError, match="differ in size"):
        Video.load(tmp_path)
