"""Styles as image filters, to make clips in a style that a model has never seen.

Each filter is the same in every run. Lengths in it are shares of the frame's height, and small frames are filtered
enlarged and then averaged, so that a style looks alike at every size.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from show1.errors import InputError

Pixels = NDArray[np.uint8]
Array = NDArray[np.floating[Any]]

MIN_HEIGHT = 80
"""Smaller frames are enlarged by a whole factor to at least this height while a filter works."""

PAPER = np.array([244, 240, 228], dtype=np.float32) / 255
SEPIA_DARK = np.array([38, 24, 12], dtype=np.float32) / 255
SEPIA_LIGHT = np.array([252, 226, 178], dtype=np.float32) / 255


def apply_style(name: str, frames: Pixels, *, first_number: int = 0) -> Pixels:
    """Draws frames in a style.

    Args:
        name: One of `STYLES`.
        frames: (F, H, W, 3) uint8 RGB.
        first_number: Of the first frame; the sepia film's grain and scratches depend on a frame's number.

    Returns:
        The same shape.

    Raises:
        InputError: No such style, or frames of another shape.
    """
    if name not in _FILTERS:
        raise InputError(f"the style must be one of {', '.join(STYLES)}, got {name!r}")
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise InputError(f"frames must be uint8 of shape (F, H, W, 3), got {frames.dtype} of shape {frames.shape}")
    return np.stack([_filtered(_FILTERS[name], frame, number) for number, frame in enumerate(frames, first_number)])


def _filtered(function: Callable[[Array, int], Array], frame: Pixels, number: int) -> Pixels:
    height, width = frame.shape[:2]
    factor = -(-MIN_HEIGHT // height)
    image = Image.fromarray(frame)
    if factor > 1:
        image = image.resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    drawn = function(np.asarray(image, dtype=np.float32) / 255, number)
    result = Image.fromarray((drawn.clip(0, 1) * 255).round().astype(np.uint8))
    return np.asarray(result.reduce(factor) if factor > 1 else result)


def _pencil_sketch(image: Array, number: int) -> Array:
    """Lines where a colour is darker than its surroundings, hatching in the shadows, on paper."""
    height, width = image.shape[:2]
    lifted = 0.06 + 0.94 * image
    lines = (lifted / _blurred(lifted, 0.03 * height)).min(2)
    grey = _grey(image)
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    stroke = 0.5 + 0.5 * np.sin(2 * np.pi * 16 * (x + y))
    shade = 1 - 0.5 * (1 - grey) * stroke
    tone = np.clip((lines - 0.45) / 0.5, 0, 1) * shade
    drawn: Array = PAPER * (0.12 + 0.88 * tone[:, :, None])
    return drawn


def _sepia_film(image: Array, number: int) -> Array:
    """Brown and cream, darker towards the corners, with grain, a scratch and an unsteady lamp."""
    height, width = image.shape[:2]
    rng = np.random.default_rng((number, 17))
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    from_middle = np.hypot((x - 0.5 * width / height) / 0.8, y - 0.5)
    grain = _resized(rng.normal(0, 1, (MIN_HEIGHT, -(-MIN_HEIGHT * width // height))), height, width)
    tone = np.clip(0.5 + 1.15 * (_grey(image) - 0.5), 0, 1) * (1 - 0.55 * from_middle**2) + 0.06 * grain
    tone = tone * rng.uniform(0.94, 1.04)
    scratch = np.abs(x - rng.uniform(0, width / height)) < 0.006
    tone = np.where(scratch, 0.5 * tone + 0.5, tone)[:, :, None].clip(0, 1)
    drawn: Array = SEPIA_DARK + (SEPIA_LIGHT - SEPIA_DARK) * tone
    return drawn


def _neon_outline(image: Array, number: int) -> Array:
    """Edges that glow in the most vivid colour near them, on black."""
    height = image.shape[0]
    smooth = _blurred(image, 0.008 * height)
    down, across = np.gradient(smooth, axis=(0, 1))
    steep = np.hypot(down, across).max(2) * height
    edge = np.clip((steep - 1.5) / 7, 0, 1)
    wide = _blurred(image, 0.03 * height)
    vivid = wide - wide.min(2, keepdims=True)
    hue = (vivid + 0.04) / (vivid.max(2, keepdims=True) + 0.04)
    glow = _blurred(edge, 0.03 * height)[:, :, None]
    drawn: Array = hue * (0.9 * edge[:, :, None] + 0.8 * glow) + 0.35 * edge[:, :, None] ** 2
    return drawn


def _pointillism(image: Array, number: int) -> Array:
    """Round dots of paint, each of one heightened colour, on canvas."""
    height, width = image.shape[:2]
    nearest, cover, rows, columns, jitter = _dots(height, width)
    colours = _blurred(image, 0.02 * height)[rows, columns]
    grey = colours.mean(1, keepdims=True)
    colours = grey + 1.5 * (colours - grey) + jitter
    drawn: Array = PAPER + (colours[nearest] - PAPER) * cover[:, :, None]
    return drawn


@cache
def _dots(height: int, width: int) -> tuple[NDArray[np.intp], Array, NDArray[np.intp], NDArray[np.intp], Array]:
    """The dots of a canvas: each pixel's nearest dot and how much that covers it; the dots' places and paints."""
    pitch = height / 16
    down, across = 17, int(width / pitch) + 2
    rng = np.random.default_rng(23)
    row, column = (grid.ravel() for grid in np.mgrid[:down, :across])
    y = (row + rng.uniform(-0.15, 0.15, row.size)) * pitch
    x = (column + 0.5 * (row % 2) - 0.25 + rng.uniform(-0.15, 0.15, row.size)) * pitch
    pixel_x = (np.arange(width) + 0.5)[:, None]
    nearest, distance = np.empty((height, width), dtype=np.intp), np.empty((height, width))
    for line in range(height):
        squares = (pixel_x - x) ** 2 + (line + 0.5 - y) ** 2
        nearest[line] = squares.argmin(1)
        distance[line] = np.sqrt(squares.min(1))
    cover = np.clip(0.52 * pitch - distance + 0.5, 0, 1).astype(np.float32)
    rows, columns = y.clip(0, height - 1).astype(np.intp), x.clip(0, width - 1).astype(np.intp)
    return nearest, cover, rows, columns, rng.normal(0, 0.06, (row.size, 3)).astype(np.float32)


def _grey(image: Array) -> Array:
    return image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def _blurred(values: Array, radius: float) -> Array:
    """Gaussian blur of (H, W) or (H, W, 3) in [0, 1], to 8 bits."""
    image = Image.fromarray((values.clip(0, 1) * 255).round().astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255


def _resized(plane: Array, height: int, width: int) -> Array:
    image = Image.fromarray(plane.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


_FILTERS: dict[str, Callable[[Array, int], Array]] = {
    "pencil sketch": _pencil_sketch,
    "sepia film": _sepia_film,
    "neon outline": _neon_outline,
    "pointillism": _pointillism,
}

STYLES: tuple[str, ...] = tuple(_FILTERS)
"""Names of the styles."""
