"""The metadata of a video inside its file.

=============  ==========================================================================================
file           place
=============  ==========================================================================================
MP4, MKV, WebM  container tag ``show1``: the metadata as JSON; tag ``comment``: the prompt
PNG frames     first frame: text ``show1`` (the metadata as JSON), ``fps``, ``Description`` (the prompt)
GIF            comment block: JSON ``{"show1": metadata, "fps": rate}``
WebP           EXIF ImageDescription: the same JSON
=============  ==========================================================================================

The JSON is pure ASCII (other characters escaped), so that no reader can garble it.
"""

import json
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from show1.errors import InputError, MediaError
from show1.files import parse_json

KEY = "show1"
"""Name of the entry that holds the metadata."""

EXIF_IMAGE_DESCRIPTION = 0x010E
"""Number of the EXIF tag that holds the metadata of a WebP."""


def dump_metadata(metadata: dict[str, Any]) -> str:
    """Returns the metadata as ASCII JSON.

    Raises:
        InputError: A value has no JSON type.
    """
    try:
        return json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the video's metadata must be plain JSON values: {error}") from error


def dump_record(metadata: dict[str, Any], fps: float) -> str:
    """Returns metadata and frame rate as ASCII JSON, for files that hold one text and no exact frame rate."""
    return json.dumps({KEY: json.loads(dump_metadata(metadata)), "fps": fps})


def container_tags(metadata: dict[str, Any]) -> dict[str, str]:
    """Returns the tags of a video container."""
    tags = {KEY: dump_metadata(metadata)}
    if prompt := _prompt(metadata):
        tags["comment"] = prompt
    return tags


def png_text(metadata: dict[str, Any], fps: float) -> PngImagePlugin.PngInfo:
    """Returns the text chunks of the first frame of a folder."""
    info = PngImagePlugin.PngInfo()
    info.add_text(KEY, dump_metadata(metadata))
    info.add_text("fps", repr(float(fps)))
    if prompt := _prompt(metadata):
        info.add_itxt("Description", prompt)
    return info


def add_gif_comment(path: Path, text: str) -> None:
    """Adds a comment block to a GIF file, behind its header and its global palette."""
    data = path.read_bytes()
    flags = data[10]
    start = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    body = text.encode("ascii")
    pieces = [body[i : i + 255] for i in range(0, len(body), 255)]
    block = b"\x21\xfe" + b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\x00"
    path.write_bytes(data[:start] + block + data[start:])


def parse_metadata(text: str | None) -> dict[str, Any]:
    """Returns the metadata written by `dump_metadata`; an empty dict for anything else."""
    try:
        value = parse_json(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def image_record(path: Path) -> tuple[dict[str, Any], float | None]:
    """Reads metadata and frame rate from a PNG, GIF or WebP file of ours.

    Returns:
        The metadata (empty if there is none) and the frame rate (None if it is not stated).

    Raises:
        MediaError: The file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            if image.format == "PNG":
                text = image.info.get(KEY)  # `image.text` would decode the image
                return parse_metadata(text if isinstance(text, str) else None), _rate(image.info.get("fps"))
            if image.format == "GIF":
                comment = image.info.get("comment", b"")
                record = parse_metadata(comment.decode("utf-8", "replace"))
            else:
                record = parse_metadata(str(image.getexif().get(EXIF_IMAGE_DESCRIPTION, "")))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(f"cannot read {path}: it is not an image, or it is damaged ({error})") from error
    metadata = record.get(KEY)
    return (metadata if isinstance(metadata, dict) else {}), _rate(record.get("fps"))


def _prompt(metadata: dict[str, Any]) -> str:
    prompt = metadata.get("prompt")
    if not isinstance(prompt, str):
        return ""
    return prompt.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _rate(value: object) -> float | None:
    try:
        rate = float(value) if isinstance(value, str | int | float) else 0.0
    except ValueError:
        return None
    return rate if 1e-3 <= rate <= 1e3 else None
