"""Contact sheets: frames of one or many videos side by side in one image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from show1.errors import InputError
from show1.files import user_path
from show1.media.destination import probe_sheet, replacing

GAP = 4
"""Space between cells in pixels."""

FONT_SIZE = 16
"""Height of the captions' letters in pixels."""

MAX_CAPTION_LINES = 3
"""Lines after which a caption is cut."""

BACKGROUND = (24, 24, 27)
"""Colour between the cells, RGB."""

INK = (228, 228, 231)
"""Colour of the captions, RGB."""

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(
    clips: Sequence[NDArray[np.uint8]],
    *,
    labels: Sequence[str],
    columns: int = 8,
    rows: int = 1,
    max_width: int = 2100,
) -> Image.Image:
    """Draws evenly spaced frames of each clip in rows, with a caption below them.

    Small frames are enlarged by a whole factor without smoothing, so that the pixels of a 20x32 video can be judged;
    large ones are reduced to fit.

    Args:
        clips: Frames of (F, H, W, 3), RGB; of each clip, `columns * rows` are shown (all, if it has fewer).
        labels: A caption per clip, such as `Video.label`.
        columns: Frames per row.
        rows: Rows per clip.
        max_width: Greatest width of the image in pixels.

    Raises:
        InputError: There is no clip, or the numbers leave no room.
    """
    if not clips or any(len(clip) == 0 for clip in clips):
        raise InputError("a contact sheet needs at least one video, each with at least one frame")
    if columns < 1 or rows < 1 or max_width < columns * (GAP + 1) + GAP:
        raise InputError(f"columns {columns}, rows {rows}, max_width {max_width} leave no room for frames")
    if len(labels) != len(clips):
        raise InputError(f"{len(clips)} videos need as many labels, got {len(labels)}")
    cell_width = (max_width - GAP) // columns - GAP
    strips = [_strip(clip, columns, rows, cell_width) for clip in clips]
    return _stack(strips, labels, max(strip.width for strip in strips))


def save_sheet(image: Image.Image, path: str | Path, *, overwrite: bool = False) -> Path:
    """Saves a contact sheet as PNG, JPEG or WebP; the file appears when it is whole.

    Raises:
        InputError: The suffix is another one.
        OutputError: The file exists, or cannot be written.
    """
    path = user_path(path)
    probe_sheet(path, overwrite)
    suffix = path.suffix.lower()
    kind = {".png": "PNG", ".webp": "WEBP"}.get(suffix, "JPEG")
    with replacing(path, overwrite=overwrite) as partial:
        image.convert("RGB").save(partial, format=kind)
    return path


def _strip(clip: NDArray[np.uint8], columns: int, rows: int, cell_width: int) -> Image.Image:
    """Draws the frames of one clip in rows."""
    count = min(len(clip), columns * rows)
    picked = np.linspace(0, len(clip) - 1, count).round().astype(int)
    cells = [_fit(Image.fromarray(clip[index]), cell_width) for index in picked]
    width, height = cells[0].size
    used_rows = -(-count // columns)
    strip = Image.new("RGB", (min(count, columns) * (width + GAP) - GAP, used_rows * (height + GAP) - GAP), BACKGROUND)
    for place, cell in enumerate(cells):
        strip.paste(cell, (place % columns * (width + GAP), place // columns * (height + GAP)))
    return strip


def _fit(image: Image.Image, width: int) -> Image.Image:
    factor = width // image.width
    if factor >= 1:
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)


def _stack(strips: list[Image.Image], captions: Sequence[str], width: int) -> Image.Image:
    font = ImageFont.load_default(size=FONT_SIZE)
    line_height = round(FONT_SIZE * 1.4)
    texts = [_wrap(caption, font, width) for caption in captions]
    heights = [strip.height + GAP + len(lines) * line_height for strip, lines in zip(strips, texts, strict=True)]
    spacing = 3 * GAP
    sheet = Image.new("RGB", (width + 2 * GAP, sum(heights) + spacing * (len(strips) - 1) + GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for strip, lines, height in zip(strips, texts, heights, strict=True):
        sheet.paste(strip, (GAP, top))
        for number, line in enumerate(lines):
            draw.text((GAP, top + strip.height + GAP // 2 + number * line_height), line, fill=INK, font=font)
        top += height + spacing
    return sheet


def _wrap(text: str, font: _Font, width: int) -> list[str]:
    """Breaks a caption between words; after `MAX_CAPTION_LINES` lines it ends in dots."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > MAX_CAPTION_LINES:
        lines = [*lines[: MAX_CAPTION_LINES - 1], lines[MAX_CAPTION_LINES - 1] + " ..."]
    return lines
