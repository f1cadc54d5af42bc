"""Images of every kind, animated ones, and folders of frames."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from show1.data.reference import load_images
from show1.errors import MediaError
from show1.media import read_facts, read_video
from show1.media.pictures import open_picture
from show1.media.stream import stream_video


def gray(path: Path, level: int, size: tuple[int, int] = (32, 20)) -> None:
    Image.new("RGB", size, (level, level, level)).save(path)


def levels(path: Path) -> list[int]:
    """Gray levels of the frames, which all readers agree on."""
    found = [int(frame[0, 0, 0]) for frame in read_video(path)[0]]
    assert [int(frame.draw(20, 32)[0, 0, 0]) for frame in stream_video(path)] == found
    assert read_facts(path).num_frames == len(found)
    return found


@pytest.mark.parametrize("pattern", ["{}.png", "frame_{}.png", "shot1-take2_{}.jpg", "{:05d}.png", "a{} (copy).png"])
def test_numbers_in_names_sort_as_numbers(tmp_path: Path, pattern: str) -> None:
    for number in range(1, 13):
        gray(tmp_path / pattern.format(number), 10 * number)
    assert levels(tmp_path) == [10 * number for number in range(1, 13)]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    for number in range(2):
        gray(tmp_path / f"{number}.png", 100 * number)
        (tmp_path / f"._{number}.png").write_bytes(b"\0\5\x16\7" + bytes(100))
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "3.png").mkdir()
    assert levels(tmp_path) == [0, 100]
    assert load_images(tmp_path, 8, 8).shape[0] == 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_photos_are_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    stored = np.zeros((40, 80, 3), np.uint8)
    stored[:20, :40], stored[:20, 40:], stored[20:, :40] = (220, 20, 20), (20, 200, 20), (20, 20, 220)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for number in range(2):
        Image.fromarray(stored).save(tmp_path / f"{number}.{suffix}", exif=exif, quality=100)
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: stored[::-1].transpose(1, 0, 2),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: stored[:, ::-1].transpose(1, 0, 2),
    }[orientation]
    found = [read_video(tmp_path / f"0.{suffix}")[0][0], load_images(tmp_path, *turned.shape[:2])[0]]
    found[1] = ((found[1].permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)
    if suffix != "webp":
        found.append(read_video(tmp_path)[0][0])
        frame = next(stream_video(tmp_path))
        found.append(frame.draw(frame.height, frame.width))
    for pixels in found:
        np.testing.assert_allclose(pixels[5::10, 5::10].astype(int), turned[5::10, 5::10], atol=20)


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 32), 20000, np.uint16)).save(tmp_path / "a.png")
    (tmp_path / "b.pgm").write_bytes(b"P5 32 20 65535\n" + np.full((20, 32), 20000, ">u2").tobytes())
    Image.fromarray(np.full((20, 32), 20000, np.uint16)).save(tmp_path / "c.tif")
    for name in ("a.png", "b.pgm", "c.tif"):
        np.testing.assert_array_equal(np.asarray(open_picture(tmp_path / name)), 78)
    assert read_video(tmp_path / "a.png")[0].max() == 78
    np.testing.assert_allclose(((load_images(tmp_path, 20, 32) + 1) * 127.5).numpy(), 78, atol=0.01)


@pytest.mark.parametrize("values", [np.full((20, 32), 0.5, np.float32), np.full((20, 32), 1 << 20, np.int32)])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(MediaError, match="8 or 16 bits"):
        load_images(tmp_path, 8, 8)


@pytest.mark.parametrize("name", ["rgba.png", "gray.png", "palette.png", "a.gif", "a.webp"])
def test_transparent_images_are_white(tmp_path: Path, name: str) -> None:
    pixels = np.zeros((20, 32, 4), np.uint8)
    pixels[:, :16] = (200, 200, 200, 255)
    image = Image.fromarray(pixels)
    if name == "gray.png":
        image = image.convert("LA")
    elif name in ("palette.png", "a.gif"):
        image = Image.fromarray((pixels[..., 0] > 0).astype(np.uint8), mode="P")
        image.putpalette([0, 0, 0, 200, 200, 200])
        image.info["transparency"] = 0
    image.save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    found = [np.asarray(open_picture(tmp_path / name)), read_video(tmp_path / name)[0][0]]
    frame = next(stream_video(tmp_path / name))
    found.append(frame.draw(20, 32))
    for seen in found:
        assert (seen[:, :16] == 200).all() and (seen[:, 16:] == 255).all()


def test_colours_for_print(tmp_path: Path) -> None:
    for number, colour in enumerate([(0, 255, 255, 0), (255, 0, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0)]):
        Image.new("CMYK", (32, 20), colour).save(tmp_path / f"{number}.jpg", quality=100)
    frames = read_video(tmp_path)[0][:, 10, 10].astype(int)
    np.testing.assert_allclose(frames, [(255, 0, 0), (0, 255, 0), (0, 0, 0), (255, 255, 255)], atol=6)


def test_other_modes_of_images(tmp_path: Path) -> None:
    Image.new("1", (32, 20), 1).save(tmp_path / "0.png")
    Image.new("L", (32, 20), 255).save(tmp_path / "1.png")
    Image.new("LA", (32, 20), (0, 0)).save(tmp_path / "2.png")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (32, 20), "white").save(tmp_path / "3.jpg", icc_profile=profile)
    assert levels(tmp_path) == [255] * 4


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
@pytest.mark.parametrize("durations", [[100, 100, 1000, 100], [40] * 6, [120] * 5 + [2000], [100, 50, 50, 200, 100]])
def test_frames_of_animations_are_shown_for_their_time(tmp_path: Path, name: str, durations: list[int]) -> None:
    images = [Image.new("RGB", (32, 20), (40 * i,) * 3) for i in range(len(durations))]
    options = {"lossless": True} if name == "a.webp" else {}
    images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=durations, loop=0, **options)
    frames, fps, _ = read_video(tmp_path / name)
    assert len(frames) / fps == pytest.approx(sum(durations) / 1000, abs=0.6 / fps)
    shown = np.round(frames[:, 0, 0, 0] / 40).astype(int)
    seconds = np.bincount(shown, minlength=len(durations)) / fps
    np.testing.assert_allclose(seconds, np.array(durations) / 1000, atol=0.6 / fps)
    times = [frame.time for frame in stream_video(tmp_path / name)]
    assert times == pytest.approx([sum(durations[:i]) / 1000 for i in range(len(durations))])
    facts = read_facts(tmp_path / name)
    assert facts.num_frames == len(durations) and facts.seconds == pytest.approx(sum(durations) / 1000)


def test_still_images_are_videos_of_one_frame(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.webp", "a.gif"):
        gray(tmp_path / name, 80)
        frames, _, metadata = read_video(tmp_path / name)
        assert frames.shape == (1, 20, 32, 3) and metadata == {}
        assert read_facts(tmp_path / name).num_frames == 1


def test_a_photo_with_a_preview_is_one_frame(tmp_path: Path) -> None:
    """Telephones store more than one picture in a JPEG."""
    Image.new("RGB", (32, 20)).save(
        tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (16, 10))]
    )
    assert read_video(tmp_path / "a.jpg")[0].shape == (1, 20, 32, 3)


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_giant_images_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr("show1.media.frames.MAX_IMAGE_PIXELS", 100)
    gray(tmp_path / f"a.{suffix}", 0)
    for read in (read_video, read_facts, open_picture):
        with pytest.raises(MediaError, match="more than 100 pixels"):
            read(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_damaged_chunks_end(tmp_path: Path, name: str) -> None:
    """Headers of frames are followed to the end of the file, whatever they say."""
    images = [Image.new("RGB", (32, 20), (40 * i,) * 3) for i in range(3)]
    images[0].save(tmp_path / name, save_all=True, append_images=images[1:], duration=100)
    data = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(data)
        for place in rng.integers(8, len(data), 3):
            broken[place] = rng.integers(256)
        (tmp_path / f"b{name}").write_bytes(broken)
        for read in (read_video, read_facts):
            try:
                read(tmp_path / f"b{name}")
            except MediaError as error:
                assert f"b{name}" in str(error)


def test_an_animation_whose_last_frame_never_ends(tmp_path: Path) -> None:
    images = [Image.new("RGB", (32, 20), (40 * i,) * 3) for i in range(3)]
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:], duration=[20, 20, (1 << 24) - 1])
    frames, fps, _ = read_video(tmp_path / "a.webp", max_frames=20)
    assert len(frames) == 20 and fps == 50
    buffer = io.BytesIO()
    images[0].save(buffer, "PNG", save_all=True, append_images=images[1:], duration=[20, 20, 65_000_000])
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    with pytest.raises(MediaError, match="for too long to be read whole"):
        read_video(tmp_path / "a.png")
