"""Videos whose frames show their numbers, in many containers and codecs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from show1.media.priority import ordinary_priority

HEIGHT, WIDTH = 96, 128

Pixels = NDArray[np.uint8]


def picture(number: int) -> Pixels:
    """A picture whose lower half shows a number from 0 to 255 as 8 black and white cells."""
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for bit in range(8):
        pixels[48:, bit * 16 : bit * 16 + 16] = 235 if number >> bit & 1 else 16
    return pixels


def number_of(pixels: Pixels) -> int:
    """Reads the number off a picture of any size."""
    height, width = pixels.shape[:2]
    return sum(1 << bit for bit in range(8) if pixels[height * 3 // 4, (2 * bit + 1) * width // 16].mean() > 126)


@dataclass(frozen=True)
class Kind:
    """A container and a codec."""

    name: str
    codec: str = "libx264"
    rate: int = 8
    options: dict[str, str] = field(default_factory=dict)
    container: dict[str, str] = field(default_factory=dict)
    pix_fmt: str = "yuv420p"

    def __str__(self) -> str:
        return self.name


_QUIET = {"x265-params": "log-level=none"}
_OPEN = {"x264-params": "open-gop=1:keyint=24:bframes=3:b-adapt=0:scenecut=0"}
_REFRESH = {"intra-refresh": "1", "x264-params": "keyint=24"}
_FAST = {"deadline": "realtime", "cpu-used": "8"}
_B = {"bf": "2"}

KINDS = [
    Kind("plain.mp4"),
    Kind("plain.mov"),
    Kind("plain.mkv"),
    Kind("plain.ts"),
    Kind("plain.flv"),
    Kind("plain.nut"),
    Kind("plain.avi"),
    Kind("plain.h264", rate=25),
    Kind("open.mp4", options=_OPEN),
    Kind("open.ts", options=_OPEN),
    Kind("open.mkv", options=_OPEN),
    Kind("refresh.mp4", options=_REFRESH),
    Kind("refresh.ts", options=_REFRESH),
    Kind("refresh.flv", options=_REFRESH),
    Kind("fragments.mp4", container={"movflags": "frag_keyframe+empty_moov"}),
    Kind("many-fragments.mp4", container={"movflags": "frag_every_frame+empty_moov+default_base_moof"}),
    Kind("live.mkv", container={"live": "1"}),
    Kind("hevc.mp4", "libx265", options=_QUIET),
    Kind("hevc.mkv", "libx265", options=_QUIET),
    Kind("hevc.ts", "libx265", options=_QUIET),
    Kind("hevc.hevc", "libx265", 25, _QUIET),
    Kind("mpeg2.mpg", "mpeg2video", 25, _B),
    Kind("mpeg2.ts", "mpeg2video", 25, _B),
    Kind("mpeg2.mxf", "mpeg2video", 25, _B),
    Kind("mpeg2.m2v", "mpeg2video", 25, _B),
    Kind("mpeg1.mpg", "mpeg1video", 25, _B),
    Kind("mpeg4.avi", "mpeg4", options=_B),
    Kind("mpeg4.mp4", "mpeg4", options=_B),
    Kind("sorenson.flv", "flv"),
    Kind("v3.asf", "msmpeg4"),
    Kind("v8.wmv", "wmv2"),
    Kind("vp8.webm", "libvpx", options=_FAST),
    Kind("vp9.webm", "libvpx-vp9", options=_FAST),
    Kind("vp9.ivf", "libvpx-vp9", options=_FAST),
    Kind("av1.mp4", "libsvtav1", options={"preset": "8", "crf": "10"}),
    Kind("av1.mkv", "libsvtav1", options={"preset": "8", "crf": "10"}),
    Kind("motion.avi", "mjpeg", pix_fmt="yuvj420p"),
    Kind("prores.mov", "prores_ks", pix_fmt="yuv422p10le"),
    Kind("lossless.mkv", "ffv1"),
    Kind("lossless.avi", "huffyuv", pix_fmt="yuv422p"),
    Kind("raw.y4m", "rawvideo"),
]


def write(path: Path, kind: Kind, *, frames: int = 120, gop: int = 48, times: Iterable[Fraction] | None = None) -> Path:
    """Writes frames that show their numbers, at an even rate or at these times in seconds."""
    rate = kind.rate
    with av.open(str(path.absolute()), "w", options=kind.container) as container:
        stream: Any = container.add_stream(kind.codec, rate=rate, options=kind.options)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, kind.pix_fmt
        stream.codec_context.gop_size = gop
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if "bf" in kind.options:
            stream.codec_context.max_b_frames = int(kind.options["bf"])
        with ordinary_priority():
            container.start_encoding()
        for number, time in enumerate(times or [Fraction(i, rate) for i in range(frames)]):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.time_base = Fraction(1, 1000) if times is not None else Fraction(1, rate)
            frame.pts = round(time / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(
    source: Path,
    target: Path,
    *,
    begin: float = 0.0,
    shift: float = 0.0,
    edit: Callable[[Any], None] | None = None,
    **options: str,
) -> Path:
    """Copies the packets of a video from the key frame before `begin` on, as `ffmpeg -ss BEGIN -c copy` does.

    Args:
        source: The video.
        target: The copy.
        begin: Time in seconds that becomes 0.
        shift: Seconds added to all times.
        edit: Called with the stream of the copy.
        options: Options of the container.
    """
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        if edit is not None:
            edit(copy)
        offset = round((begin - shift) / stream.time_base)
        if begin:
            old.seek(round(begin / stream.time_base), stream=stream)
        for packet in old.demux(stream):
            if packet.dts is not None:
                packet.pts -= offset
                packet.dts -= offset
                packet.stream = copy
                new.mux(packet)
    return target
