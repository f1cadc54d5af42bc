"""Motion of the subject, measured: centre, size and turns over a clip, and which of the motions that is.

Centre and size come from the subject's mask and from what is known of its sprite (the share of its box that is drawn,
and where the drawn part lies in it). Turns come from comparing the frames with the turned sprite. Where parts of a mask
are missing, as of thin lines over waves, the sprite's shape is fitted to what is there. Nothing is learned.
"""

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from show1.sprites.scenes import ASPECT, CELL, MARGIN, sprite_texture
from show1.sprites.world import MOTIONS

Array = NDArray[np.float64]

PATCH = 20
"""Side of the patches in which frames and turned sprites are compared."""

MAX_FRAMES = 15
"""Frames, evenly spaced, that turns are measured on."""

ANGLES = 36
"""Angles at which each of these frames is compared."""

TURNS = tuple(float(turn) for turn in np.linspace(-1.25, 1.25, 41))
"""Turns over a clip that are tried."""

FITS = ((0.3, 7, 0.04, 5), (0.1, 5, 0.015, 5))
"""Rounds of a fit: how far the logarithm of the size may go and how many sizes are tried, and how far the centre may go
along each axis (share of the height) and how many places are tried."""

SHAPE = 48
"""Side of the shape that is fitted."""

MIN_TRAVEL, MIN_RISE = 0.3, 0.25
"""A subject moves if it travels this share of the frame's width, or of its height, in the right direction."""

MAX_DRIFT = 0.15
"""A subject stays in place (or in its row or column) if it ends at most this share of the width or height from it."""

MAX_STRAY = 0.12
"""On its way, a subject leaves the steady path by at most this share of the width or height; ground truth at 20x32
pixels leaves it by up to 0.07."""

MAX_LEAP = 0.15
"""From one frame to the next it moves by at most this share more than the steady step."""

MIN_SCALE = 1.5
"""A subject grows (or shrinks) if the ratio of its sizes is at least this; the sprite world's is 2.3."""

MAX_SCALE = 1.3
"""A subject keeps its size if the ratio of sizes is at most this, and it departs from it on the way by no more."""

MIN_TURNS, MAX_TURNS = 0.6, 0.25
"""A subject spins from the first number of turns on, and does not up to the second."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """The subject's place in each frame, and measures of its motion."""

    x: Array
    """(F,) centre of its box, share of the frame's width."""

    y: Array
    """(F,) centre of its box, share of the frame's height."""

    size: Array
    """(F,) side of its box, share of the frame's height."""

    turns: float
    """Full turns over the clip; positive is clockwise."""

    mirrored: bool = False
    """Whether the sprite is seen mirrored."""

    @property
    def travel(self) -> float:
        """Displacement to the right from first to last frame, share of the width; from a line fitted to the track."""
        return _rise(self.x)

    @property
    def fall(self) -> float:
        """Displacement downwards, share of the height."""
        return _rise(self.y)

    @property
    def scaling(self) -> float:
        """Size at the end over size at the beginning."""
        return math.exp(_rise(self._log_size))

    @property
    def strays(self) -> float:
        """Largest distance of the subject from the fitted line, share of the width or height."""
        return max(float(np.abs(_from_line(values)).max()) for values in (self.x, self.y))

    @property
    def leaps(self) -> float:
        """Largest step between frames minus that of a steady motion, share of the width or height."""
        if len(self.x) < 2:
            return 0.0
        return max(
            float(np.abs(np.diff(values)).max()) - abs(_rise(values)) / (len(values) - 1) for values in (self.x, self.y)
        )

    @property
    def swelling(self) -> float:
        """Largest ratio, 1 or more, of a size on the way to that of a steady change; single frames do not count."""
        return math.exp(float(np.abs(_from_line(_without_outliers(self._log_size))).max()))

    @property
    def _log_size(self) -> Array:
        return np.log(np.maximum(self.size, 1e-3))

    def motion(self) -> int | None:
        """Returns the motion that the subject does, an index into `MOTIONS`; None: none of them."""
        if self.strays > MAX_STRAY or self.leaps > MAX_LEAP:
            return None
        as_large = max(self.scaling, 1 / self.scaling) <= MAX_SCALE
        steady = as_large and self.swelling <= MAX_SCALE
        upright = abs(self.turns) <= MAX_TURNS
        in_row, in_column = abs(self.fall) <= MAX_DRIFT, abs(self.travel) <= MAX_DRIFT
        in_place = in_row and in_column
        does = {
            "moves left": self.travel <= -MIN_TRAVEL and in_row and steady and upright,
            "moves right": self.travel >= MIN_TRAVEL and in_row and steady and upright,
            "moves up": self.fall <= -MIN_RISE and in_column and steady and upright,
            "moves down": self.fall >= MIN_RISE and in_column and steady and upright,
            "spins": abs(self.turns) >= MIN_TURNS and in_place and as_large,
            "grows": self.scaling >= MIN_SCALE and in_place and upright,
            "shrinks": self.scaling <= 1 / MIN_SCALE and in_place and upright,
            "stays still": in_place and steady and upright,
        }
        return next((i for i, phrase in enumerate(MOTIONS) if does[phrase]), None)


def track(video: Tensor, masks: Tensor, subject: int) -> Track:
    """Follows a subject.

    Args:
        video: (3, F, H, W) in [-1, 1].
        masks: (F, h, w) coverage of each pixel by the subject, 0 to 1.
        subject: Index into `SUBJECTS`: what is followed.
    """
    masks = masks.double()
    masks = torch.where(masks > 0.1, masks, 0)  # a haze over the whole frame would pull the centre to the middle
    frames, height, width = masks.shape
    area = masks.sum((1, 2)).clamp(min=1e-6)
    columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    x, y = (masks.sum(1) * columns).sum(1) / area, (masks.sum(2) * rows).sum(1) / area
    share, _ = _shape(subject)
    size = (area * ASPECT / (height * width) / share).sqrt()

    turns, mirrored = _turns(video, x, y, size, subject)
    return _boxed(x, y, size, turns, mirrored, subject)


def fitted(path: Track, video: Tensor, masks: Tensor, subject: int) -> Track:
    """Refines a track so that the sprite's shape agrees best with the masks, frame by frame.

    Agreement is the correlation over all pixels, which a mask that is fainter than it should be, or has holes, changes
    less than it changes the mask's area. Turns are measured again from the centres that are found.

    Args:
        path: The track that `track` returns.
        video: (3, F, H, W) in [-1, 1].
        masks: (F, h, w) coverage of each pixel by the subject, 0 to 1.
        subject: Index into `SUBJECTS`: what is followed.
    """
    path = _laid(path, masks, subject)
    x, y, size = _middle(path, subject)
    turns, mirrored = _turns(video, x, y, size, subject)
    if (turns, mirrored) == (path.turns, path.mirrored):
        return path
    return _laid(_boxed(x, y, size, turns, mirrored, subject), masks, subject)


def _boxed(x: Tensor, y: Tensor, size: Tensor, turns: float, mirrored: bool, subject: int) -> Track:
    """A track from the middle of the drawn part, which lies off the box's centre, in a direction that turns."""
    dx, dy = _offset(len(x), turns, mirrored, subject)
    return Track(
        x=(x - dx * size / ASPECT).numpy(),
        y=(y - dy * size).numpy(),
        size=size.numpy(),
        turns=float(turns),
        mirrored=mirrored,
    )


def _middle(path: Track, subject: int) -> tuple[Tensor, Tensor, Tensor]:
    """The middle of the drawn part and the size of its box: x, y, size, (F,) each."""
    x, y, size = (torch.from_numpy(values) for values in (path.x, path.y, path.size))
    dx, dy = _offset(len(x), path.turns, path.mirrored, subject)
    return x + dx * size / ASPECT, y + dy * size, size


def _offset(frames: int, turns: float, mirrored: bool, subject: int) -> tuple[Tensor, Tensor]:
    """Offset of the drawn part's middle from the box's centre, in sides of the box: x, y, (F,) each."""
    angle = 2 * math.pi * turns * torch.linspace(0, 1, frames, dtype=torch.float64)
    return _turned(_shape(subject)[1], angle, mirrored)


def _laid(path: Track, masks: Tensor, subject: int) -> Track:
    """See `fitted`: the fit with the turns as they are."""
    frames, height, width = masks.shape
    rows, columns = ((torch.arange(n) + 0.5) / n for n in (height, width))
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    shape = _silhouette(subject, path.mirrored)
    angles = 2 * math.pi * path.turns * np.linspace(0, 1, frames)
    found = np.stack([path.x, path.y, path.size])
    for reach, sizes, shift, places in FITS:
        steps = torch.linspace(-shift, shift, places)
        tried = torch.meshgrid(torch.linspace(-reach, reach, sizes).exp(), steps, steps, indexing="ij")
        factor, dx, dy = (values.reshape(-1, 1, 1) for values in tried)
        for i in range(frames):
            x, y, size = found[0, i] + dx / ASPECT, found[1, i] + dy, found[2, i] * factor
            across, down = (u - x) * ASPECT / size, (v - y) / size
            cos, sin = math.cos(angles[i]), math.sin(angles[i])
            grid = 2 * torch.stack([across * cos + down * sin, down * cos - across * sin], dim=-1).float()
            drawn = F.grid_sample(shape.expand(len(grid), -1, -1, -1), grid, mode="bilinear", align_corners=False)
            seen = masks[i].float().expand_as(drawn)
            best = int(_correlation(drawn, seen, torch.ones_like(drawn)).argmax())
            found[:, i] = [float(values[best]) for values in (x, y, size)]
    return replace(path, x=found[0], y=found[1], size=found[2])


@cache
def _silhouette(subject: int, mirrored: bool) -> Tensor:
    """The sprite's box: coverage (1, 1, S, S)."""
    inner = sprite_texture(subject)[None, 3:, MARGIN : CELL - MARGIN, MARGIN : CELL - MARGIN]
    small = F.interpolate(inner, size=(SHAPE, SHAPE), mode="area")
    return small.flip(-1) if mirrored else small


def _rise(values: Array) -> float:
    """Difference between the ends of a fitted line."""
    return float(_line(values)[0])


def _from_line(values: Array) -> Array:
    """Residuals of a line that is fitted to the values."""
    rest: Array = values - np.polyval(_line(values), np.linspace(0, 1, len(values)))
    return rest


def _line(values: Array) -> Array:
    """Slope and beginning of the line that fits values over times from 0 to 1; a single value gives a flat one."""
    if len(values) < 2:
        return np.array([0.0, values[0]])
    fitted: Array = np.polyfit(np.linspace(0, 1, len(values)), values, 1)
    return fitted


def _without_outliers(values: Array) -> Array:
    """The median of each value and its neighbours."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    medians: Array = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
    return medians


@cache
def _shape(subject: int) -> tuple[float, tuple[float, float]]:
    """Share of the sprite's box that is drawn, and the middle of the drawn part, in sides from the box's centre."""
    alpha = sprite_texture(subject)[3].double()
    side = CELL - 2 * MARGIN
    place = (torch.arange(CELL, dtype=torch.float64) + 0.5 - CELL / 2) / side
    area = alpha.sum()
    centre = (float((alpha.sum(0) * place).sum() / area), float((alpha.sum(1) * place).sum() / area))
    return float(area) / side**2, centre


def _turned(offset: tuple[float, float], angle: Tensor, mirrored: bool) -> tuple[Tensor, Tensor]:
    """An offset (x, y) of the sprite as it lies in the frame when the sprite is mirrored, then turned clockwise."""
    x, y = -offset[0] if mirrored else offset[0], offset[1]
    return x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()


def _turns(video: Tensor, x: Tensor, y: Tensor, size: Tensor, subject: int) -> tuple[float, bool]:
    """The steady rotation, and the mirroring, under which the frames look most like the sprite.

    Every frame is looked at through windows that are centred on the mask and turned by each of many angles; a window is
    compared with the sprite by the correlation of their colours, inside the sprite. The rotation is the one whose
    angles, frame by frame, have the greatest sum of correlations.
    """
    frames = video.shape[1]
    picked = sorted({round(float(i)) for i in np.linspace(0, frames - 1, min(frames, MAX_FRAMES))})
    times = torch.tensor(picked, dtype=torch.float64) / max(frames - 1, 1)
    angles = torch.arange(ANGLES, dtype=torch.float64) * (2 * math.pi / ANGLES)
    best = (-math.inf, 0.0, False)
    for mirrored in (False, True):
        template = _template(subject, mirrored)
        likeness = torch.stack(
            [_likeness(video[:, i], (float(x[i]), float(y[i])), float(size[i]), angles, template) for i in picked]
        )
        for turns in TURNS:
            total = _interpolated(likeness, turns * ANGLES * times) - 1e-3 * abs(turns)
            best = max(best, (total, turns, mirrored))
    return best[1], best[2]


_Template = tuple[Tensor, Tensor, tuple[float, float]]


def _likeness(frame: Tensor, middle: tuple[float, float], size: float, angles: Tensor, template: _Template) -> Tensor:
    """(A,) correlations of a frame (3, H, W) with the sprite at each angle, its drawn part centred on `middle`."""
    colours, weight, centre = template
    place = (torch.arange(PATCH, dtype=torch.float64) + 0.5) / PATCH - 0.5
    down, across = torch.meshgrid(place, place, indexing="ij")
    u, v = across - centre[0], down - centre[1]  # from the middle of the drawn part, in sides of the box
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    grid_x = 2 * (middle[0] + (u * cos - v * sin) * size / ASPECT) - 1
    grid_y = 2 * (middle[1] + (u * sin + v * cos) * size) - 1
    grid = torch.stack([grid_x, grid_y], dim=-1).float()
    source = frame.float()[None].expand(len(angles), -1, -1, -1)
    seen = F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False)
    inside = weight * (grid.abs().amax(-1) <= 1)[:, None]
    return _correlation(seen, colours[None].expand_as(seen), inside)


def _correlation(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Weighted correlation over all pixels and colours: (A, 3, P, P) twice, (A, 1, P, P) -> (A,)."""
    weight = weight.expand_as(a)
    total = weight.sum((1, 2, 3), keepdim=True).clamp(min=1e-6)
    a = a - (a * weight).sum((1, 2, 3), keepdim=True) / total
    b = b - (b * weight).sum((1, 2, 3), keepdim=True) / total
    product = (a * b * weight).sum((1, 2, 3))
    norms = (a.square() * weight).sum((1, 2, 3)) * (b.square() * weight).sum((1, 2, 3))
    return product / norms.clamp(min=1e-12).sqrt()


@cache
def _template(subject: int, mirrored: bool) -> _Template:
    """The sprite's box: colours (3, P, P) in [-1, 1], coverage (1, P, P), and the middle of the drawn part in it."""
    inner = sprite_texture(subject)[:, MARGIN : CELL - MARGIN, MARGIN : CELL - MARGIN]
    small = F.interpolate(inner[None], size=(PATCH, PATCH), mode="area")[0]
    if mirrored:
        small = small.flip(-1)
    x, y = _shape(subject)[1]
    return 2 * small[:3] / small[3:].clamp(min=1e-3) - 1, small[3:], (-x if mirrored else x, y)


def _interpolated(likeness: Tensor, wanted: Tensor) -> float:
    """Mean of (F, A) at fractional angles (F,), in steps, round the circle."""
    steps = likeness.shape[1]
    low = wanted.floor()
    part = wanted - low
    rows = torch.arange(len(likeness))
    first, second = likeness[rows, low.long() % steps], likeness[rows, (low.long() + 1) % steps]
    return float((first * (1 - part) + second * part).mean())
