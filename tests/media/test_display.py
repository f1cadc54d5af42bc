"""Frames are as a player shows them: upright, with square pixels, the right colours, opaque."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray

from show1.data.decoding import pictures_at
from show1.data.reference import ReferenceOptions, load_reference
from show1.errors import MediaError
from show1.media import read_facts, read_video
from show1.media.stream import stream_video
from tests.media.numbered import remux

Pixels = NDArray[np.uint8]

_OPTIONS = {
    "libx264": {"qp": "0"},
    "libx265": {"x265-params": "log-level=none:bframes=0"},
    "libvpx": {"auto-alt-ref": "0"},
    "libvpx-vp9": {"auto-alt-ref": "0"},
}


def encode(
    path: Path,
    frames: list[Pixels] | list[av.VideoFrame],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    aspect: Fraction | None = None,
    tags: dict[str, int] | None = None,
) -> Path:
    """Writes pictures, (H, W, 3) or ready frames, at 8 frames per second."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=8, options=_OPTIONS.get(codec, {}))
        first = frames[0]
        stream.height, stream.width = first.shape[:2] if isinstance(first, np.ndarray) else (first.height, first.width)
        stream.pix_fmt = pix_fmt
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        for number, each in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(each, format="rgb24") if isinstance(each, np.ndarray) else each
            frame.pts, frame.time_base = number, Fraction(1, 8)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def readings(path: Path) -> dict[str, Pixels]:
    """The first frame, as each reader gives it at its full size."""
    frame = next(stream_video(path))
    options = ReferenceOptions(num_frames=1, height=frame.height, width=frame.width)
    return {
        "read_video": read_video(path, max_frames=1)[0][0],
        "stream_video": frame.draw(frame.height, frame.width),
        "pictures_at": pictures_at(path, "line 1", lambda length, frame: np.zeros(1))[0],
        "load_reference": load_reference(path, options).video.frames[0],
    }


def corners(pixels: Pixels) -> str:
    """The colours of the quarters, row by row: (r)ed, (g)reen, (b)lue, (-) gray."""
    height, width = pixels.shape[:2]
    found = [pixels[y * height // 4, x * width // 4].astype(int) for y in (1, 3) for x in (1, 3)]
    return "".join("-" if p.max() - p.min() < 60 else "rgb"[p.argmax()] for p in found)


@pytest.fixture(scope="module")
def quarters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.full((48, 80, 3), 120, np.uint8)
    pixels[:24, :40], pixels[:24, 40:], pixels[24:, :40] = (220, 20, 20), (20, 200, 20), (20, 20, 220)
    return encode(tmp_path_factory.mktemp("quarters") / "plain.mp4", [pixels] * 3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
@pytest.mark.parametrize(
    ("degrees", "mirrored", "upside_down", "right"),
    [
        (0, False, False, "rgb-"),
        (90, False, False, "g-rb"),
        (180, False, False, "-bgr"),
        (270, False, False, "br-g"),
        (0, True, False, "gr-b"),
        (0, False, True, "b-rg"),
        (90, True, False, None),
        (270, True, False, None),
        (90, False, True, None),
        (180, True, False, "b-rg"),
    ],
)
def test_display_matrices(
    quarters: Path, tmp_path: Path, name: str, degrees: int, mirrored: bool, upside_down: bool, right: str | None
) -> None:
    def edit(stream: Any) -> None:
        stream.set_display_rotation(degrees, hflip=mirrored, vflip=upside_down)

    path = remux(quarters, tmp_path / name, edit=edit)
    found = readings(path)
    assert {corners(pixels) for pixels in found.values()} == {right or matrix_applied(path)}
    size = (80, 48) if degrees % 180 else (48, 80)
    assert all(pixels.shape[:2] == size for pixels in found.values())
    assert (read_facts(path).height, read_facts(path).width) == size


def matrix_applied(path: Path) -> str:
    """Turns the quarters by the definition of a display matrix: (x, y) goes to (a x + c y, b x + d y)."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        a, b, _, c, d, *_ = struct.unpack("9i", bytes(frame.side_data["DISPLAYMATRIX"]))
    stored = {(-1, -1): "r", (1, -1): "g", (-1, 1): "b", (1, 1): "-"}
    sign = lambda value: 1 if value > 0 else -1  # noqa: E731
    moved = {(sign(a * x + c * y), sign(b * x + d * y)): colour for (x, y), colour in stored.items()}
    return "".join(moved[x, y] for y in (-1, 1) for x in (-1, 1))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mov"])
@pytest.mark.parametrize("aspect", [Fraction(2, 1), Fraction(1, 2), Fraction(64, 45), Fraction(8, 9), Fraction(1, 1)])
def test_pixels_that_are_not_square(tmp_path: Path, name: str, aspect: Fraction) -> None:
    """A circle is a circle in every reader."""
    height, width = 96, round(128 / aspect) // 2 * 2
    y, x = np.mgrid[:height, :width]
    disc = (((x - width / 2) * aspect.numerator / aspect.denominator) ** 2 + (y - 48) ** 2 < 40**2)[..., None]
    pixels = np.broadcast_to(disc * np.uint8(235), (height, width, 3)).astype(np.uint8)
    path = encode(tmp_path / name, [np.ascontiguousarray(pixels)] * 3, aspect=aspect)
    for reader, seen in readings(path).items():
        across, down = ((seen[..., 1] > 120).any(axis).sum() for axis in (0, 1))
        assert abs(int(across) - int(down)) <= 2, reader
        assert seen.shape[:2] == (96, round(width * aspect)), reader


def test_turned_pixels_that_are_not_square(tmp_path: Path) -> None:
    flat = encode(tmp_path / "flat.mp4", [np.full((48, 64, 3), 90, np.uint8)] * 2, aspect=Fraction(2, 1))
    path = remux(flat, tmp_path / "a.mp4", edit=lambda stream: stream.set_display_rotation(90))
    assert {pixels.shape for pixels in readings(path).values()} == {(128, 48, 3)}


def flat_yuv(pix_fmt: str, height: int, width: int, values: tuple[int, int, int], bits: int = 8) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane, value in zip(frame.planes, values, strict=False):
        kind = np.uint8 if bits == 8 else np.uint16
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, value << (bits - 8), kind).tobytes())
    return frame


RED = (81, 90, 240)
"""Full red by the matrix of BT.601."""


@pytest.mark.parametrize("codec", ["libx264", "ffv1", "libx265"])
@pytest.mark.parametrize(
    ("size", "tagged", "full", "right"),
    [
        ((480, 640), None, False, (254, 0, 0)),
        ((576, 720), None, False, (254, 0, 0)),
        ((720, 1280), None, False, (255, 24, 0)),
        ((1280, 720), None, False, (255, 24, 0)),
        ((480, 640), Colorspace.ITU709, False, (255, 24, 0)),
        ((720, 1280), Colorspace.ITU601, False, (254, 0, 0)),
        ((720, 1280), None, True, (255, 36, 10)),
        ((480, 640), None, True, (238, 14, 14)),
    ],
)
def test_matrix_and_range_of_colours(
    tmp_path: Path, codec: str, size: tuple[int, int], tagged: int | None, full: bool, right: tuple[int, int, int]
) -> None:
    frame = flat_yuv("yuv420p", *size, RED)
    tags = {} if tagged is None else {"colorspace": tagged}
    frame.color_range = ColorRange.JPEG if full else ColorRange.MPEG
    tags["color_range"] = frame.color_range
    if tagged is not None:
        frame.colorspace = tagged
    path = encode(tmp_path / "a.mkv", [frame], codec=codec, tags=tags)
    for reader, pixels in readings(path).items():
        np.testing.assert_allclose(pixels[9, 9].astype(int), right, atol=3, err_msg=reader)


def test_colours_that_cannot_be_converted(tmp_path: Path) -> None:
    """FFmpeg has no conversion for YCgCo (8); it does for BT.2020, also with constant luminance (10), nearly."""
    for matrix in (8, 9, 10):
        frame = flat_yuv("yuv420p", 48, 64, (126, 128, 128))
        frame.colorspace = matrix
        path = encode(tmp_path / f"{matrix}.mkv", [frame], tags={"colorspace": matrix})
        if matrix == 8:
            for read in (read_video, lambda path: next(stream_video(path)).draw(8, 8), readings):
                with pytest.raises(MediaError, match="8.mkv"):
                    read(path)
        else:
            for pixels in readings(path).values():
                np.testing.assert_allclose(pixels.astype(int), 128, atol=2)


@pytest.mark.parametrize("size", [(480, 640), (720, 1280)])
def test_ten_bits(tmp_path: Path, size: tuple[int, int]) -> None:
    frame = flat_yuv("yuv420p10le", *size, RED, bits=10)
    path = encode(tmp_path / "a.mkv", [frame], codec="ffv1", pix_fmt="yuv420p10le")
    right = (254, 0, 0) if size[0] == 480 else (255, 24, 0)
    for pixels in readings(path).values():
        np.testing.assert_allclose(pixels[9, 9].astype(int), right, atol=3)
    gray = av.VideoFrame.from_ndarray(np.full((48, 64), 20000, np.uint16), format="gray16le")
    for pixels in readings(encode(tmp_path / "b.mkv", [gray], codec="ffv1", pix_fmt="gray16le")).values():
        np.testing.assert_allclose(pixels[9, 9].astype(int), 78, atol=1)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mov", "prores_ks", "yuva444p10le"),
        ("a.mov", "qtrle", "argb"),
        ("a.mkv", "ffv1", "bgra"),
        ("a.mkv", "ffv1", "yuva420p"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("a.webm", "libvpx", "yuva420p"),
    ],
)
def test_transparent_parts_are_white(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    pixels = np.zeros((64, 96, 4), np.uint8)
    pixels[:, :32] = (200, 40, 40, 255)
    pixels[:, 64:] = (200, 40, 40, 128)
    frames = [av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=pix_fmt) for _ in range(3)]
    for reader, seen in readings(encode(tmp_path / name, frames, codec=codec, pix_fmt=pix_fmt)).items():
        np.testing.assert_allclose(seen[32, 8].astype(int), (200, 40, 40), atol=8, err_msg=reader)
        np.testing.assert_allclose(seen[32, 48].astype(int), (255, 255, 255), atol=8, err_msg=reader)
        np.testing.assert_allclose(seen[32, 88].astype(int), (227, 147, 147), atol=8, err_msg=reader)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_change_of_size_in_midstream_is_scaled(tmp_path: Path, codec: str) -> None:
    parts = [((48, 64), 40), ((96, 128), 120), ((48, 64), 200)]
    suffix = {"libx264": "h264", "libx265": "hevc"}[codec]
    data = b""
    for number, ((height, width), gray) in enumerate(parts):
        pixels = [np.full((height, width, 3), gray, np.uint8)] * 3
        data += encode(tmp_path / f"{number}.{suffix}", pixels, codec=codec).read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(data)
    frames = read_video(tmp_path / f"a.{suffix}")[0]
    assert frames.shape == (9, 48, 64, 3)
    np.testing.assert_allclose(frames.mean((1, 2, 3)), np.repeat([40, 120, 200], 3), atol=3)


@pytest.mark.parametrize("size", [(33, 49), (1, 1), (37, 2), (2, 101)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    path = encode(tmp_path / "a.mkv", [pixels] * 2, codec="ffv1", pix_fmt="bgr0")
    for reader, seen in readings(path).items():
        np.testing.assert_array_equal(seen, pixels, err_msg=reader)


def test_ordinary_videos_are_converted_as_ever(tmp_path: Path) -> None:
    """The flags of the conversion decide the last bit of each pixel, and with them golden values."""
    y, x = np.mgrid[0:48, 0:80]
    pixels = np.stack([x * 3, y * 5, 255 - x - y], -1).astype(np.uint8)
    path = encode(tmp_path / "a.mp4", [pixels] * 2)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        smooth = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
        area = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
        whole = frame.reformat(format="rgb24", interpolation=smooth).to_ndarray()
        drawn = frame.reformat(format="rgb24", interpolation=area).to_ndarray()
        clip = frame.to_ndarray(format="rgb24")
    found = readings(path)
    np.testing.assert_array_equal(found["read_video"], whole)
    np.testing.assert_array_equal(found["stream_video"], drawn)
    np.testing.assert_array_equal(found["pictures_at"], clip)
