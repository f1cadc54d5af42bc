"""Writing videos: MP4, WebM, Matroska, GIF, WebP, PNG frames."""

import logging
import os
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from show1.errors import InputError
from show1.files import user_path
from show1.media.destination import replacing
from show1.media.formats import OutputFormat, choose_format
from show1.media.metadata import EXIF_IMAGE_DESCRIPTION, add_gif_comment, container_tags, dump_record, png_text
from show1.media.priority import ordinary_priority

logger = logging.getLogger(__name__)

WEBP_QUALITY = 90
"""Quality of a WebP if none is asked for."""

Frames = NDArray[np.uint8]
"""(F, H, W, 3), RGB."""


def write_video(
    frames: Frames,
    path: str | Path,
    *,
    fps: float,
    metadata: dict[str, Any] | None = None,
    overwrite: bool = False,
    codec: str | None = None,
    quality: int | None = None,
) -> Path:
    """Writes frames with their metadata as a video; the suffix of the path picks the format.

    ========  ================================================  ============================
    suffix    codecs (the first is the default)                 note
    ========  ================================================  ============================
    .mp4      h264, h265, av1                                   plays everywhere
    .webm     vp9, av1
    .mkv      ffv1, h264, h265, vp9, av1                        ffv1 keeps every bit
    .gif                                                        256 colours, one palette
    .webp                                                       animated
    folder                                                      ``00000.png``, ...; lossless
    ========  ================================================  ============================

    A path that ends in ``/``, an existing folder or a path without a suffix makes a folder of PNG frames. Missing
    parent folders are created. The file appears under its name when it is whole: whatever goes wrong, nothing
    half-written is left.

    Args:
        frames: (F, H, W, 3), RGB; at least one frame.
        path: The file or folder to write.
        fps: Frames per second.
        metadata: Record of how the video was made, in JSON types; it travels in the file.
        overwrite: Replace an existing file, or a folder that holds numbered frames only.
        codec: One of the codecs of the container.
        quality: 0 (worst) to 100 (best) for lossy formats. The default is near the point where losses become invisible.

    Returns:
        The path written.

    Raises:
        InputError: The path, codec, quality, metadata or the video's size does not fit the format.
        OutputError: The file exists, or cannot be written (permission, disk full).
    """
    output = choose_format(path, codec=codec, quality=quality)
    path, metadata = user_path(path), metadata or {}
    if len(frames) == 0:
        raise InputError("the video has no frames")
    output.check_video(frames.shape[1], frames.shape[2], fps)
    tags = container_tags(metadata)  # refuses unusable metadata before the encoding
    with replacing(path, overwrite=overwrite, folder=not output.suffix) as partial:
        if output.codec:
            _encode(frames, partial, fps, tags, output)
        else:
            _write_images(frames, partial, fps, metadata, output, WEBP_QUALITY if quality is None else quality)
    logger.debug("wrote %d frames to %s", len(frames), path)
    return path


def _write_images(
    frames: Frames, path: Path, fps: float, metadata: dict[str, Any], output: OutputFormat, quality: int
) -> None:
    """Writes an animated image, or a folder of PNG frames."""
    if output.suffix == ".gif":
        _write_gif(frames, path, fps)
        add_gif_comment(path, dump_record(metadata, fps))
    elif output.suffix == ".webp":
        _write_webp(frames, path, fps, dump_record(metadata, fps), quality)
    else:
        _write_png_frames(frames, path, png_text(metadata, fps))


def _encode(frames: Frames, path: Path, fps: float, tags: dict[str, str], output: OutputFormat) -> None:
    """Writes a container through FFmpeg: colours as BT.709 in limited range, or RGB untouched for a lossless codec."""
    height, width = frames.shape[1:3]
    encoder = output.encoder
    rate = Fraction(fps).limit_denominator(1001)
    if output.codec == "av1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only: the encoder prints its settings otherwise
    with av.open(str(path), "w", format=output.container.muxer, options=output.container.options) as container:
        container.metadata.update(tags)
        stream = container.add_stream(encoder.name, rate=rate, options=_encoder_options(output, len(frames)))
        stream.width, stream.height = width, height
        stream.pix_fmt = encoder.odd_pix_fmt if height % 2 or width % 2 else encoder.pix_fmt
        if output.codec == "h265":
            stream.codec_context.codec_tag = "hvc1"  # the tag that Apple's players ask for
        if stream.pix_fmt.startswith("yuv"):
            _tag_colors(stream.codec_context)
        with ordinary_priority():
            container.start_encoding()
        for frame in _av_frames(frames, stream.pix_fmt, encoder.chroma_location, 1 / rate):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _encoder_options(output: OutputFormat, num_frames: int) -> dict[str, str]:
    encoder, crf, options = output.encoder, output.encoder.crf, dict(output.encoder.options)
    if encoder.name == "libx265" and num_frames <= 2:
        # x265 computes its decode times from the third frame; without one they are arbitrary if there are B-frames
        options["x265-params"] += ":bframes=0"
    if crf is None:
        return options
    if output.quality is not None:
        crf = max(encoder.best_crf, round(encoder.worst_crf * (100 - output.quality) / 100))
    return {**options, "crf": str(crf)}


def _av_frames(frames: Frames, pix_fmt: str, chroma_location: str, time_base: Fraction) -> Iterator[av.VideoFrame]:
    """Yields the frames in the encoder's pixel format."""
    if not pix_fmt.startswith("yuv"):
        for index, frame in enumerate(_rgb_frames(frames)):
            converted = frame.reformat(format=pix_fmt)
            converted.pts, converted.time_base = index, time_base
            yield converted
        return
    height, width = frames.shape[1:3]
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=time_base)
    flags = "bicubic+accurate_rnd+full_chroma_inp"
    scale = graph.add("scale", f"out_color_matrix=bt709:out_range=tv:out_chroma_loc={chroma_location}:flags={flags}")
    to_format, sink = graph.add("format", f"pix_fmts={pix_fmt}"), graph.add("buffersink")
    graph.link_nodes(source, scale, to_format, sink).configure()
    for index, frame in enumerate(_rgb_frames(frames)):
        frame.pts, frame.time_base = index, time_base
        source.push(frame)
        converted = sink.pull()
        _tag_colors(converted)
        yield converted


def _rgb_frames(frames: Frames) -> Iterator[av.VideoFrame]:
    for pixels in frames:
        yield av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")


def _tag_colors(target: "av.VideoFrame | av.VideoCodecContext") -> None:
    target.colorspace = Colorspace.ITU709
    target.color_range = ColorRange.MPEG
    target.color_primaries = ColorPrimaries.BT709
    target.color_trc = ColorTrc.BT709


def _write_gif(frames: Frames, path: Path, fps: float) -> None:
    """Writes a GIF with one palette for all frames and ordered dithering, which does not crawl between frames."""
    height, width = frames.shape[1:3]
    tick = Fraction(1, 100)
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=tick)
    split, sink = graph.add("split"), graph.add("buffersink")
    palette = graph.add("palettegen", "reserve_transparent=0")
    paint = graph.add("paletteuse", "dither=bayer:bayer_scale=4:diff_mode=rectangle")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(paint, 1, 0)
    palette.link_to(paint, 0, 1)
    paint.link_to(sink)
    graph.configure()
    with av.open(str(path), "w", format="gif", options={"loop": "0"}) as container:
        stream = container.add_stream("gif", rate=Fraction(fps).limit_denominator(100))
        stream.width, stream.height, stream.pix_fmt = width, height, "pal8"
        stream.codec_context.time_base = tick
        for index, frame in enumerate(_rgb_frames(frames)):
            frame.pts, frame.time_base = round(100 * index / fps), tick
            source.push(frame)
        source.push(None)
        for _ in range(len(frames)):
            container.mux(stream.encode(sink.pull()))
        container.mux(stream.encode(None))


def _write_webp(frames: Frames, path: Path, fps: float, record: str, quality: int) -> None:
    exif = Image.Exif()
    exif[EXIF_IMAGE_DESCRIPTION] = record
    ends = [round(1000 * index / fps) for index in range(len(frames) + 1)]
    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(
        path,
        format="WEBP",
        save_all=True,
        append_images=others,
        duration=[end - start for start, end in pairwise(ends)],
        loop=0,
        quality=quality,
        exif=exif,
    )


def _write_png_frames(frames: Frames, folder: Path, text: PngImagePlugin.PngInfo) -> None:
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{index:05d}.png", pnginfo=text if index == 0 else None)
