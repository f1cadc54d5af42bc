"""Videos that FFmpeg reads: every way into a file leads through here."""

import functools
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import Colorspace, Interpolation

from show1.errors import MediaError, Show1Error
from show1.limits import MAX_IMAGE_PIXELS
from show1.media.frames import DEFAULT_FPS, Frame, Pixels, check_size
from show1.media.metadata import KEY, image_record, parse_metadata

logger = logging.getLogger(__name__)

# Playlists, which open other files and addresses, and text, which FFmpeg draws as a video, are left out.
_DEMUXERS = "mov,matroska,avi,gif,mpeg,mpegts,flv,ogg,asf,mxf,nut,ivf,dv,yuv4mpegpipe,mpegvideo,h264,hevc,obu"

_EARLIER = (0.0, 4.0, 16.0)
"""Seconds before a wanted time to which it is sought, one after the other, until a picture early enough comes."""

_WITHOUT_TIMES = ("h264", "hevc", "mpegvideo", "obu")
"""Formats without times: frames are counted, from the beginning."""

_FEW_TIMES = ("mpeg",)
"""Formats that give few pictures a time: the others are counted from there, and wrong at first after a seek."""

_JUMPING = ("mpeg", "mpegts")
"""Formats of broadcasts and joined recordings, whose times may jump."""

SMOOTH = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Chroma is interpolated rather than repeated."""

_SHRINKING = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

_SHARED = 1 << 19
"""Pixels from which on several threads draw a picture; for a smaller one, it takes longer to start them."""

_MATRIX = SideData.DISPLAYMATRIX

_UNSPECIFIED, _BT2020_CONSTANT_LUMINANCE = 2, 10


class ContainerVideo:
    """A video file.

    Args:
        path: The file.
        container: The file, just opened.
    """

    def __init__(self, path: Path, container: Any) -> None:
        self.path = path
        self._container, self._used = container, False
        self._stream = stream = container.streams.video[0]
        check_size(path, stream.codec_context.height, stream.codec_context.width)
        self.rate = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
        self.metadata = _tags(container)
        self.tick: float | None = None
        if container.format.name == "gif":
            self.metadata, stated = image_record(path)
            self.rate, self.tick = stated or self.rate, None if stated else 0.01
        self.discarded = 0
        """Pictures that were read and not shown, because an edit list cuts them off."""
        self.jumps = container.format.name in _JUMPING
        self._aspect = float(stream.sample_aspect_ratio or 1) or 1.0
        self._time_base = float(stream.time_base or 0)
        self._begins = (stream.start_time or 0) * self._time_base
        self._translucent = stream.codec_context.name != "gif"  # its transparent parts are white already
        # AVI knows the order of decoding only, and FFmpeg passes that off as times.
        reordered = stream.codec_context.name in ("h264", "hevc") and stream.codec_context.has_b_frames
        form = container.format.name
        self._counted = form in _WITHOUT_TIMES or (form == "avi" and reordered)
        # FFmpeg's own decoders leave out the transparency of VP8 and VP9.
        translucent = stream.codec_context.name in ("vp8", "vp9") and stream.metadata.get("alpha_mode") == "1"
        self._decoder = {"vp8": "libvpx", "vp9": "libvpx-vp9"}[stream.codec_context.name] if translucent else None

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """See `OpenVideo.frames`."""
        time = -1 / self.rate
        on_show = None
        for number, picture in enumerate(self._pictures(start)):
            if self._counted:
                time = number / self.rate
            else:
                time = time + 1 / self.rate if picture.time is None else max(picture.time - self._begins, 0.0)
            if 0 < start >= time:
                on_show = picture, time
                continue
            if on_show is not None:
                yield self._frame(*on_show)
                on_show = None
            yield self._frame(picture, time)
        if on_show is not None:
            yield self._frame(*on_show)

    def count(self) -> int:
        """See `OpenVideo.count`."""
        with opened(self.path) as container:
            return sum(packet.size > 0 and not packet.is_discard for packet in _packets(self.path, container))

    def seconds(self) -> float | None:
        """See `OpenVideo.seconds`: by the header, or by the packets where the header gives the file's duration only."""
        stream = self._stream
        if stream.duration:
            return float(stream.duration * stream.time_base)
        state = self.path.stat()
        return _length_of_packets(self.path, state.st_size, state.st_mtime_ns, self.rate)

    def announced(self) -> int:
        """See `OpenVideo.announced`."""
        stream, container = self._stream, self._container
        if stream.frames and "mov" in container.format.name:
            return int(min(stream.frames, len(stream.index_entries)))  # an edit list drops what is far outside of it
        alone = len(container.streams) == 1  # or else the duration may be that of the sound
        return int(stream.frames) or (round((container.duration or 0) / 1e6 * self.rate) if alone else 0)

    def _pictures(self, start: float) -> Iterator[Any]:
        """Decodes pictures in the order in which they are shown: the first at `start` or before, if there is one."""
        if start > 0 and not self._counted:
            for pictures in self._late_starts(start):
                try:
                    first = next(pictures, None)
                except av.error.FFmpegError as error:
                    logger.debug("cannot decode %s from a later place: %s", self.path, error)
                    continue
                if first is not None and first.time is not None and first.time - self._begins <= start + 1e-6:
                    yield first
                    yield from pictures
                    return
        yield from self._decode()

    def _late_starts(self, start: float) -> Iterator[Iterator[Any]]:
        """Ways to decode from a key picture before `start`, the fastest first.

        A seek may land late: by the order of decoding, because a decoder leaves out what it cannot decode after an open
        group of pictures or without an intra-coded picture, or because there is no index.
        """
        if self._container.format.name not in _FEW_TIMES:
            for earlier in _EARLIER:
                if start > earlier:
                    yield self._sought(start - earlier)
        skip = self._last_key_packet(start)
        if skip > 0:
            yield self._decode(skip)

    def _sought(self, time: float) -> Iterator[Any]:
        self._used = True
        self._container.seek(int(max(time + self._begins, 0.0) / self._time_base), stream=self._stream)
        yield from self._decoded(self._container)

    def _last_key_packet(self, start: float) -> int:
        """Number of the last packet from which the picture at `start` can be decoded, by reading all before it."""
        found = 0
        with opened(self.path) as container:
            for number, packet in enumerate(_packets(self.path, container)):
                if packet.dts is not None and float(packet.dts * packet.time_base) - self._begins > start:
                    break
                if packet.is_keyframe and packet.pts is not None:
                    found = number if float(packet.pts * packet.time_base) - self._begins <= start else found
        return found

    def _decode(self, skip: int = 0) -> Iterator[Any]:
        """Decodes the file from its beginning, or from a packet on."""
        self.discarded = 0
        if not self._used:
            self._used = True
            yield from self._decoded(self._container)
            return
        with opened(self.path) as container:
            yield from self._decoded(container, skip)

    def _decoded(self, container: Any, skip: int = 0) -> Iterator[Any]:
        decoder = av.CodecContext.create(self._decoder, "r") if self._decoder else container.streams.video[0]
        for packet in islice(_packets(self.path, container), skip, None):
            self.discarded += packet.is_discard
            yield from decoder.decode(packet)

    def _frame(self, picture: Any, time: float) -> Frame:
        turn = _turn_of(picture)
        height, width = picture.height, max(round(picture.width * self._aspect), 1)
        check_size(self.path, height, width)
        if turn[0]:
            height, width = width, height
        lasts = 1 / self.rate if self._counted else picture.duration * self._time_base
        draw = functools.partial(_draw, self.path, picture, turn, self._translucent)
        return Frame(time=time, duration=lasts, height=height, width=width, draw=draw)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Opens a file that has a video stream; errors of FFmpeg become MediaError, also those within the block."""
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file", "max_pixels": str(MAX_IMAGE_PIXELS)}
    try:
        with av.open(str(path.absolute()), options=options, metadata_errors="replace") as container:
            if not container.streams.video:
                raise MediaError(f"{path} holds no video: give a video file")
            if container.streams.video[0].codec_context is None:
                raise MediaError(
                    f"{path} has a codec that FFmpeg does not know: convert it to MP4, or get a fresh copy"
                )
            container.streams.video[0].codec_context.options = {"max_pixels": options["max_pixels"]}
            yield container
    except Show1Error:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"cannot read {path}: it is no video, or damaged ({error}); get a fresh copy, or convert it to MP4"
        ) from error


def _tags(container: Any) -> dict[str, Any]:
    """Returns the metadata that show1 put into a file."""
    tags = {name.lower(): text for name, text in container.metadata.items()}
    return parse_metadata(tags.get(KEY))


def _packets(path: Path, container: Any) -> Iterator[Any]:
    """Reads the packets of the first video stream; the last is empty and makes a decoder give what it still holds."""
    try:
        yield from container.demux(container.streams.video[0])
    except IndexError as error:  # PyAV, where a damaged file has a packet of a stream that does not exist
        raise MediaError(f"cannot read {path}: it is damaged; get a fresh copy") from error


@functools.lru_cache(maxsize=64)
def _length_of_packets(path: Path, _size: int, _changed: int, fps: float) -> float | None:
    """Seconds from the first picture to the end of the last; None if there is none."""
    with opened(path) as container:
        stream = container.streams.video[0]
        usual = 1 / fps / float(stream.time_base)
        packets = [(p.pts, p.duration or usual) for p in _packets(path, container) if p.size]
        times = [(pts, pts + lasts) for pts, lasts in packets if pts is not None]
        if not times:
            return len(packets) / fps or None
        return float((max(end for _, end in times) - min(start for start, _ in times)) * stream.time_base)


Turn = tuple[bool, bool, bool]
"""How a stored picture is turned: rows and columns exchanged, then mirrored left to right, then upside down."""


def _turn_of(picture: Any) -> Turn:
    """Reads the display matrix, rounded to quarter turns and mirrorings."""
    try:
        data = next((each for each in picture.side_data if each.type is _MATRIX), None)
    except ValueError:  # PyAV does not know the kind of some other side data
        quarters = round(picture.rotation / 90) % 4
        return ((False, False, False), (True, False, True), (False, True, True), (True, True, False))[quarters]
    if data is None:
        return False, False, False
    a, b, _, c, d, *_ = struct.unpack("9i", bytes(data))  # (x, y) goes to (a x + c y, b x + d y)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


@functools.cache
def _kind_of(pix_fmt: str) -> tuple[bool, bool]:
    """Whether a pixel format holds RGB, and whether it holds transparency."""
    kind = av.VideoFormat(pix_fmt)
    return kind.is_rgb, any(component.is_alpha for component in kind.components)


def _draw(
    path: Path,
    picture: Any,
    turn: Turn,
    alpha: bool,
    height: int,
    width: int,
    interpolation: Interpolation | None = None,
) -> Pixels:
    """Scales while converting, so that no full-size copy is made."""
    exchanged, mirrored, upside_down = turn
    if exchanged:
        height, width = width, height
    if interpolation is None:
        interpolation = _SHRINKING if height <= picture.height and width <= picture.width else SMOOTH
    is_rgb, has_alpha = _kind_of(picture.format.name)
    if not is_rgb:
        _name_colours(picture)
    layout = "rgba" if has_alpha and alpha else "rgb24"
    threads = 1 if height * width < _SHARED else 0
    try:
        pixels: Pixels = picture.reformat(
            width=width, height=height, format=layout, interpolation=interpolation, threads=threads
        ).to_ndarray()
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"cannot convert the colours of {path} ({error}); convert it to MP4") from error
    if layout == "rgba":
        share = pixels[..., 3:].astype(np.uint16)
        pixels = ((pixels[..., :3] * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)
    if exchanged:
        pixels = pixels.transpose(1, 0, 2)
    return pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


def _name_colours(picture: Any) -> None:
    """Untagged colours of pictures larger than standard definition are BT.709, as players take them."""
    if picture.colorspace == _UNSPECIFIED and (picture.width >= 1280 or picture.height > 576):
        picture.colorspace = Colorspace.ITU709
    elif picture.colorspace == _BT2020_CONSTANT_LUMINANCE:
        picture.colorspace = Colorspace.BT2020
