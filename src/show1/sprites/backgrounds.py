"""The eight painted backgrounds of the sprite world.

A background is a function of continuous coordinates, painted at any size with analytic anti-aliasing: an edge is the
share of a pixel that it covers, a star smaller than a pixel keeps its light. So a small painting is the area average
of a large one. Lengths are in units of the image height; x runs from 0 to the aspect ratio, y from 0 (top) to 1.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Colour = tuple[float, float, float]


class Canvas:
    """An RGB image, (3, H, W) float32 in [0, 1], with the coordinates of its pixels and the random draws of a scene."""

    def __init__(self, height: int, width: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.pixel = 1.0 / height
        self.aspect = width / height
        self.y: Array = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]  # (H, 1)
        self.x: Array = ((np.arange(width, dtype=np.float32) + 0.5) / height)[None, :]  # (1, W)
        self.tint = ((1 + 0.07 * self.rng.uniform(-1, 1, (3, 1, 1))) / 255).astype(np.float32)
        self.image: Array = np.zeros((3, height, width), dtype=np.float32)

    def uniform(self, low: float, high: float) -> float:
        """One draw, the same at every size of the canvas."""
        return float(self.rng.uniform(low, high))

    def uniforms(self, low: float, high: float, count: int) -> Array:
        """`count` draws, shaped (count, 1, 1)."""
        return self.rng.uniform(low, high, (count, 1, 1)).astype(np.float32)

    def across(self, margin: float) -> tuple[float, float]:
        """Range of places from left to right that are this far from both edges; only the middle if there are none."""
        low = min(margin, self.aspect / 2)
        return low, self.aspect - low

    def cover(self, distance: Array, softness: float = 0.0) -> Array:
        """Share of each pixel that is inside, from the signed distance to an edge (positive inside)."""
        alpha: Array = distance * (1 / (self.pixel + softness)) + 0.5
        np.maximum(alpha, 0, out=alpha)
        return np.minimum(alpha, 1, out=alpha)

    def band(self, distance: Array, half_width: float | Array) -> Array:
        """Share of each pixel within `half_width` of a line, also for lines thinner than a pixel."""
        return self.cover(distance + half_width) - self.cover(distance - half_width)

    def fill(self, stops: Sequence[tuple[float, Colour]], alpha: Array | float = 1.0) -> None:
        """Paints a vertical gradient through `stops` of (y, colour in 0..255)."""
        ys = [stop[0] for stop in stops]
        column = np.empty((3, len(self.y), 1), dtype=np.float32)
        for channel in range(3):
            column[channel, :, 0] = np.interp(self.y[:, 0], ys, [stop[1][channel] for stop in stops])
        self.paint(column * self.tint, alpha)

    def paint(self, colour: Colour | Array, alpha: Array | float) -> None:
        """Paints a colour (0..255), or an array that broadcasts to the image, through `alpha`."""
        if isinstance(colour, tuple):
            colour = np.array(colour, dtype=np.float32).reshape(3, 1, 1) / 255
        self.image += (colour - self.image) * alpha

    def discs(self, x: Array, y: Array, radius: Array | float, softness: float = 0.0) -> Array:
        """Coverage of a union of discs; x, y and radius are shaped (N, 1, 1)."""
        distance = radius - np.sqrt((self.x - x) ** 2 + (self.y - y) ** 2)  # (N, H, W)
        return self.cover(distance.max(axis=0), softness)

    def glow(self, x: float, y: float, radius: float) -> Array:
        """A soft light round a point, 1 at its centre."""
        light: Array = np.exp(-((self.x - x) ** 2) / (2 * radius**2)) * np.exp(-((self.y - y) ** 2) / (2 * radius**2))
        return light

    def specks(self, count: int, radius: tuple[float, float], y: tuple[float, float]) -> Array:
        """Coverage of many small round specks at random places, each keeping its light at any size."""
        px, py = self.uniforms(0, self.aspect, count)[..., 0], self.uniforms(*y, count)[..., 0]
        r = self.uniforms(*radius, count)[..., 0]
        variance = r**2 + self.pixel**2 / 12  # the speck's own and that of the pixel
        across = np.exp(-((self.x - px) ** 2) / (2 * variance))  # (N, W)
        down = np.exp(-((self.y.T - py) ** 2) / (2 * variance)) * (r**2 / variance)  # (N, H)
        alpha: Array = np.minimum(down.T @ across, 1)
        return alpha

    def hills(self, level: float, height: float, waves: int) -> Array:
        """Coverage of the land below a rolling line near `level`."""
        line = np.full_like(self.x, level)
        for k in range(1, waves + 1):
            phase, frequency = self.uniform(0, 2 * np.pi), self.uniform(1.2, 2.2) * k
            line += height / k * np.sin(frequency * self.x + phase)
        return self.cover(self.y - line)


def _blue_sky(c: Canvas) -> None:
    c.fill([(0, (74, 150, 236)), (1, (196, 230, 252))])
    for cloud_y in (0.18, 0.5, 0.82):
        x, y, size = c.uniform(0, c.aspect), cloud_y + c.uniform(-0.1, 0.1), c.uniform(0.7, 1.2)
        puffs = np.array([-0.17, -0.06, 0.07, 0.18], dtype=np.float32).reshape(4, 1, 1) * size
        radius = np.array([0.06, 0.1, 0.085, 0.055], dtype=np.float32).reshape(4, 1, 1) * size
        rise = c.uniforms(-0.03, 0.0, 4) * size - radius * 0.4
        body = c.discs(x + puffs, y + rise, radius, softness=0.015) * c.cover(y - c.y, softness=0.03)
        c.paint((255, 255, 255), 0.92 * body)


def _green_field(c: Canvas) -> None:
    horizon = c.uniform(0.34, 0.46)
    c.fill([(0, (150, 208, 250)), (horizon, (226, 242, 250))])
    c.fill([(horizon - 0.1, (92, 158, 120)), (horizon + 0.1, (70, 140, 96))], c.hills(horizon - 0.05, 0.035, 3))
    ground = c.hills(horizon + 0.04, 0.015, 2)
    c.fill([(horizon, (118, 186, 76)), (1, (40, 122, 44))], ground)
    slope, phase = c.uniform(-0.6, 0.6), c.uniform(0, 6.28)
    depth = 1 / (c.y - horizon + 0.12)
    c.paint((168, 214, 96), ground * (0.16 + 0.16 * np.sin(1.7 * (c.x - 0.8 + slope) * depth + phase)))


def _night_sky(c: Canvas) -> None:
    c.fill([(0, (8, 10, 44)), (0.6, (28, 28, 86)), (1, (66, 52, 120))])
    c.paint((255, 250, 225), c.specks(60, (0.004, 0.011), (0, 1)))
    x, y, r = c.uniform(*c.across(0.15)), c.uniform(0.14, 0.3), c.uniform(0.085, 0.12)
    c.paint((150, 150, 220), 0.5 * c.glow(x, y, 2 * r))
    bite = np.array([[[x + 0.45 * r]]], dtype=np.float32), np.array([[[y - 0.2 * r]]], dtype=np.float32)
    centre = np.array([[[x]]], dtype=np.float32), np.array([[[y]]], dtype=np.float32)
    c.paint((255, 240, 190), np.clip(c.discs(*centre, r) - c.discs(*bite, 0.85 * r), 0, 1))


def _sunset(c: Canvas) -> None:
    horizon = c.uniform(0.68, 0.8)
    c.fill([(0, (86, 50, 122)), (0.45 * horizon, (206, 84, 106)), (horizon, (255, 186, 84)), (1, (255, 196, 100))])
    x, y, r = c.uniform(*c.across(0.3)), horizon - c.uniform(0.0, 0.08), c.uniform(0.16, 0.21)
    c.paint((255, 214, 120), 0.75 * c.glow(x, y, 1.7 * r))
    sun = np.array([[[x]]], dtype=np.float32), np.array([[[y]]], dtype=np.float32)
    c.paint((255, 242, 180), c.discs(*sun, r))
    for _ in range(3):
        level, middle = c.uniform(0.12, 0.55) * horizon, c.uniform(0, c.aspect)
        thickness = 0.018 * np.exp(-((c.x - middle) ** 2) / (2 * c.uniform(0.15, 0.35) ** 2))
        c.paint((255, 166, 120), 0.6 * c.band(c.y - level, thickness))
    c.paint((108, 48, 92), c.hills(horizon + 0.02, 0.03, 3))
    c.paint((66, 32, 74), c.hills(horizon + 0.1, 0.025, 2))


def _sea(c: Canvas) -> None:
    horizon = c.uniform(0.24, 0.36)
    c.fill([(0, (178, 222, 238)), (horizon, (238, 244, 236))])
    c.fill([(horizon, (38, 148, 176)), (1, (6, 66, 112))], c.cover(c.y - horizon + 0 * c.x))
    for k in range(8):
        near = (k + c.uniform(0.3, 0.7)) / 8
        level = horizon + (1 - horizon) * near**1.4
        swell = (0.006 + 0.022 * near) * np.sin(c.x * (26 - 16 * near) + c.uniform(0, 6.28))
        crest = c.band(c.y - level - np.abs(swell), 0.004 + 0.011 * near)
        c.paint((176, 232, 236), 0.6 * crest)


def _desert(c: Canvas) -> None:
    c.fill([(0, (112, 196, 214)), (0.5, (250, 236, 200))])
    horizon = c.uniform(0.38, 0.48)
    sun = c.uniforms(*c.across(0.15), 1), c.uniforms(0.1, 0.2, 1)
    c.paint((255, 246, 200), c.discs(*sun, 0.07, softness=0.02))
    c.fill([(horizon - 0.1, (240, 206, 136)), (horizon + 0.2, (228, 180, 104))], c.hills(horizon, 0.05, 2))
    c.fill([(horizon + 0.1, (236, 184, 100)), (horizon + 0.5, (208, 144, 72))], c.hills(horizon + 0.2, 0.05, 2))
    near = c.hills(horizon + 0.42, 0.045, 2)
    c.fill([(horizon + 0.35, (222, 158, 78)), (1, (188, 120, 56))], near)
    ripple = np.sin(70 * (c.y + 0.05 * np.sin(5 * c.x + c.uniform(0, 6.28))))
    c.paint((250, 206, 130), near * (0.1 + 0.1 * ripple))


def _snow(c: Canvas) -> None:
    horizon = c.uniform(0.42, 0.54)
    c.fill([(0, (128, 160, 200)), (horizon, (206, 222, 238))])
    c.fill([(horizon - 0.1, (224, 234, 246)), (horizon + 0.3, (196, 214, 236))], c.hills(horizon - 0.06, 0.045, 2))
    for x in c.uniforms(0, c.aspect, 6)[:, 0, 0]:
        foot, tall = horizon + c.uniform(0.0, 0.06), c.uniform(0.12, 0.2)
        slope = (0.36 * (c.y - foot + tall) - np.abs(c.x - x)) * 0.94
        c.paint((70, 108, 112), c.cover(np.minimum(slope, foot - c.y)))
    c.fill([(horizon, (246, 250, 255)), (1, (206, 222, 242))], c.hills(horizon + 0.06, 0.025, 2))
    c.paint((255, 255, 255), 0.9 * c.specks(70, (0.006, 0.012), (0, 1)))


def _pink_room(c: Canvas) -> None:
    floor = c.uniform(0.7, 0.8)
    c.fill([(0, (246, 138, 186)), (floor, (252, 168, 204))])
    stripes = np.sin(2 * np.pi * (c.x / c.uniform(0.2, 0.26) + c.uniform(0, 1)))
    c.paint((255, 196, 222), 0.3 + 0.3 * stripes + 0 * c.y)
    x, y, half = c.uniform(*c.across(0.3)), c.uniform(0.24, 0.34), c.uniform(0.13, 0.17)
    away = np.maximum(np.abs(c.x - x), np.abs(c.y - y))
    c.paint((255, 246, 240), c.cover(half + 0.025 - away))
    c.paint((176, 224, 246), c.cover(half - away))
    c.paint((255, 246, 240), c.cover(half - away) * np.maximum(c.band(c.x - x, 0.01), c.band(c.y - y, 0.01)))
    c.fill([(floor, (176, 96, 118)), (1, (146, 72, 98))], c.cover(c.y - floor + 0 * c.x))
    c.paint((255, 236, 240), c.band(c.y - floor, 0.018) + 0 * c.x)


PAINTERS: tuple[Callable[[Canvas], None], ...] = (
    _blue_sky,
    _green_field,
    _night_sky,
    _sunset,
    _sea,
    _desert,
    _snow,
    _pink_room,
)
"""One painter for each of `show1.sprites.world.BACKGROUNDS`, in that order."""


def paint_background(background: int, seed: int, height: int, width: int) -> Array:
    """Paints a background.

    Args:
        background: Index into `show1.sprites.world.BACKGROUNDS`.
        seed: Picks the variation: horizon, clouds, tint and the like.
        height: Rows of pixels.
        width: Columns of pixels.

    Returns:
        (3, height, width) float32, RGB in [0, 1].
    """
    canvas = Canvas(height, width, seed)
    PAINTERS[background](canvas)
    return np.minimum(canvas.image, 1, out=canvas.image)
