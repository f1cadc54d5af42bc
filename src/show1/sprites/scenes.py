"""The sprite world: clips of sprites that move over painted backgrounds, with exact ground truth.

A scene is a function of its index: the same index gives the same scene in any process, and a scene can be rendered at
any size and at any moments. Sizes differ only in resolution: a small rendering is the area average of a large one.
"""

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from show1.data.clips import frame_times
from show1.errors import InputError
from show1.sprites.backgrounds import paint_background
from show1.sprites.world import (
    ASSETS,
    BACKGROUNDS,
    MOTIONS,
    RELATIONS,
    SIZES,
    SUBJECTS,
    Split,
    World,
    combinations,
    is_held_out,
)

ASPECT = 1.6
"""Width over height of the frames that the scenes are laid out for: 20x32, 80x128, 160x256."""

CELL = 256
"""Side of a cell of the sprite sheet in pixels."""

MARGIN = 2
"""Empty pixels round the drawn part of a cell."""

FACES_LEFT = frozenset({"turtle", "fish", "bee", "penguin", "whale", "car", "taxi", "bus", "helicopter"})
"""Subjects drawn looking left; they are mirrored when they move right."""

FACES_RIGHT = frozenset({"rocket"})
"""Subjects drawn looking right; they are mirrored when they move left."""

BOTTOM_HEAVY = {"sailboat": 0.12, "robot": 0.16}
"""Share of the box that may be below the frame, for subjects with much of their area at the bottom; others 0.2."""

TILTS = (0.08, 0.92)
"""Range of the turns at which subjects lie in scenes that are tilted: an eighth of a turn and more, rounded."""

SMALLEST, LARGEST = 0.45, 0.85
"""Sizes of single subjects beyond this range are called small and big."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything about a clip: what it shows and how that moves. Time runs from 0 to 1 over the clip."""

    subject: int
    """Index into `SUBJECTS`."""

    motion: int
    """Index into `MOTIONS`."""

    background: int
    """Index into `BACKGROUNDS`."""

    start: tuple[float, float]
    """Centre (x, y) at time 0, in fractions of the frame's width and height."""

    end: tuple[float, float]
    """Centre (x, y) at time 1."""

    via: tuple[float, float] | None = None
    """Centre (x, y) at time 0.5; None: halfway from start to end."""

    then: int | None = None
    """Index into `MOTIONS` of the motion of the second half; None: one motion fills the clip."""

    size: float
    """Side of the sprite's box at scale 1, in fractions of the frame's height."""

    scales: tuple[float, float] = (1.0, 1.0)
    """Scale at time 0 and at time 1."""

    turns: float = 0.0
    """Full turns over the clip; positive is clockwise."""

    tilt: float = 0.0
    """Rotation at the beginning, as a share of a full turn; positive is clockwise."""

    flip: bool = False
    """Whether the sprite is mirrored left to right."""

    paint_seed: int = 0
    """Picks the variation of the background."""

    others: "tuple[Scene, ...]" = ()
    """Further subjects, drawn in front of the first; their own backgrounds are not drawn."""

    @property
    def count(self) -> int:
        """Number of subjects."""
        return 1 + len(self.others)

    @property
    def relation(self) -> str:
        """Place of the first subject at the beginning, seen from the second: one of `RELATIONS`."""
        return relation(self.start, self.others[0].start)

    @property
    def sized(self) -> str | None:
        """One of `SIZES`, for a single subject beyond the ordinary sizes."""
        if self.others or SMALLEST <= self.size <= LARGEST:
            return None
        return SIZES[int(self.size > LARGEST)]

    def pose(self, time: float) -> tuple[float, float, float, float]:
        """Returns centre x and y (fractions of the frame), scale and clockwise angle (radians) at a time in [0, 1]."""
        start, end, share = self.start, self.end, time
        if self.via is not None:
            start, end, share = (start, self.via, 2 * time) if time < 0.5 else (self.via, end, 2 * time - 1)
        x = start[0] + (end[0] - start[0]) * share
        y = start[1] + (end[1] - start[1]) * share
        angle = 2 * math.pi * (self.tilt + self.turns * time)
        return x, y, self.scales[0] + (self.scales[1] - self.scales[0]) * time, angle


def tilted(scene: Scene, share: float, rng: np.random.Generator) -> Scene:
    """Returns a scene as it is or, with a chance of `share`, with its subject at some angle."""
    return replace(scene, tilt=float(rng.uniform(*TILTS))) if rng.random() < share else scene


def faces_away(subject: int, motion: str) -> bool:
    """Returns whether a subject is drawn looking against a motion, so that it must be mirrored."""
    return SUBJECTS[subject] in {"moves right": FACES_LEFT, "moves left": FACES_RIGHT}.get(motion, ())


def relation(first: tuple[float, float], second: tuple[float, float]) -> str:
    """Returns where a place (x, y, in fractions of the frame) is, seen from a second one: one of `RELATIONS`."""
    right, down = (first[0] - second[0]) * ASPECT, first[1] - second[1]
    if abs(right) > abs(down):
        return RELATIONS[int(right > 0)]
    return RELATIONS[2 + int(down > 0)]


@dataclass(frozen=True, kw_only=True)
class SpriteWorld(World):
    """An endless, deterministic sequence of scenes of one subject with one motion."""

    first_key = 0

    spins: float | None = None
    """Share of the scenes whose subject spins, 0 to 1: the motion that takes longest to learn. None: no more than any
    other motion."""

    tilts: float = 0.0
    """Share of the scenes whose subject lies at some angle, or spins from there, as their captions say, 0 to 1. So a
    network sees what a turned subject looks like that it never sees spin."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spins is not None and not 0 <= self.spins <= 1:
            raise InputError(f"spins must be from 0 to 1, got {self.spins}")
        if not 0 <= self.tilts <= 1:
            raise InputError(f"tilts must be from 0 to 1, got {self.tilts}")

    def scene(self, index: int) -> Scene:
        """The scene at an index from 0 up: an allowed combination of this split, uniformly drawn but for `spins` and
        `subject_shares`; its subject is upright but for `tilts`."""
        rng = self.generator(index)
        spins = None if self.spins is None else bool(rng.random() < self.spins)
        allowed = _allowed(self.split, spins, self.preferred(rng))
        return tilted(self._lay_out(*allowed[int(rng.integers(len(allowed)))], rng), self.tilts, rng)

    def compose(self, subject: int, motion: int, background: int, index: int = 0) -> Scene:
        """Makes a scene of a given combination; the index picks its trajectory and paint.

        Raises:
            InputError: This split does not show the combination, or there is no such subject, motion or background.
        """
        for name, value, names in (
            ("subject", subject, SUBJECTS),
            ("motion", motion, MOTIONS),
            ("background", background, BACKGROUNDS),
        ):
            if not 0 <= value < len(names):
                raise InputError(f"{name} must be from 0 to {len(names) - 1}, got {value}")
        return self._lay_out(subject, motion, background, self.generator(index))

    def sibling(self, index: int, member: int) -> Scene:
        """Makes one of several scenes of one subject at one size over one painted background, in different motions.

        Args:
            index: From 0 up: the subject and the background are those of `scene(index)`.
            member: From 0 up; where this split shows fewer motions of the two, they begin again.
        """
        drawn = self.scene(index)
        motions = [motion for s, motion, b in _combinations(self.split) if (s, b) == (drawn.subject, drawn.background)]
        order = np.random.default_rng((self.seed, index)).permutation(motions)
        scene = self.compose(drawn.subject, int(order[member % len(order)]), drawn.background, index)
        return replace(scene, paint_seed=drawn.paint_seed)

    def _lay_out(self, subject: int, motion: int, background: int, rng: np.random.Generator) -> Scene:
        # The one place through which this world's scenes pass: no other check keeps held-out pairs out of training.
        if not self.shows(is_held_out(subject, motion, background)):
            raise InputError(
                f"split {self.split!r} does not show {SUBJECTS[subject]!r} with {MOTIONS[motion]!r} over "
                f"{BACKGROUNDS[background]!r}; use split 'all' to see every combination"
            )
        return _draw_scene(subject, motion, background, rng)


@cache
def _combinations(split: Split) -> list[tuple[int, int, int]]:
    return combinations(split)


@cache
def _allowed(split: Split, spins: bool | None, subject: int | None) -> list[tuple[int, int, int]]:
    """Combinations that spin, or do not, and show a subject (None: any); of all subjects where it never spins."""
    motion = MOTIONS.index("spins")
    allowed = [triple for triple in _combinations(split) if spins is None or (triple[1] == motion) == spins]
    return [triple for triple in allowed if subject is None or triple[0] == subject] or allowed


def _draw_scene(subject: int, motion: int, background: int, rng: np.random.Generator) -> Scene:
    """Draws the numbers of a scene; the sprite stays at least three quarters inside the frame."""
    phrase = MOTIONS[motion]
    size = float(rng.uniform(0.5, 0.8))
    scales = {"grows": (0.6, 1.4), "shrinks": (1.4, 0.6)}.get(phrase, (1.0, 1.0))
    largest = size * max(scales)
    half_x, half_y = min(0.5 * largest / ASPECT, 0.5), min(0.5 * largest, 0.5)
    start = end = (float(rng.uniform(half_x, 1 - half_x)), float(rng.uniform(half_y, 1 - half_y)))
    # At either end of its way at most a fifth of the box is outside, so that at most a quarter of the drawn area is.
    if phrase in ("moves left", "moves right"):
        near = 0.3 * size / ASPECT
        travel = float(rng.uniform(0.5, 0.7))
        left = float(rng.uniform(near, 1 - near - travel))
        start, end = (left, start[1]), (left + travel, start[1])
    elif phrase in ("moves up", "moves down"):
        highest, lowest = 0.3 * size, 1 - (0.5 - BOTTOM_HEAVY.get(SUBJECTS[subject], 0.2)) * size
        travel = float(rng.uniform(0.4, min(0.6, lowest - highest)))
        top = float(rng.uniform(highest, lowest - travel))
        start, end = (start[0], top), (start[0], top + travel)
    if phrase in ("moves left", "moves up"):
        start, end = end, start
    return Scene(
        subject=subject,
        motion=motion,
        background=background,
        start=start,
        end=end,
        size=size,
        scales=scales,
        turns=float(rng.choice((-1.0, 1.0))) if phrase == "spins" else 0.0,
        flip=faces_away(subject, phrase),
        paint_seed=int(rng.integers(2**31)),
    )


@cache
def _mip_levels() -> list[torch.Tensor]:
    """The sprites at sizes 256, 128, ... 4: each (32, 4, S, S) float32 in [0, 1], colour multiplied by alpha."""
    with (ASSETS / "sprites.png").open("rb") as file, Image.open(file) as image:
        sheet = torch.from_numpy(np.asarray(image.convert("RGBA")).copy())
    rows, columns = sheet.shape[0] // CELL, sheet.shape[1] // CELL
    cells = sheet.reshape(rows, CELL, columns, CELL, 4).permute(0, 2, 4, 1, 3).reshape(-1, 4, CELL, CELL)
    level = cells[: len(SUBJECTS)].float() / 255
    level[:, :3] *= level[:, 3:]
    levels = [level]
    while level.shape[-1] > 4:
        level = F.avg_pool2d(level, 2)
        levels.append(level)
    return levels


def sprite_texture(subject: int) -> torch.Tensor:
    """Returns a subject's sprite: (4, 256, 256) float32 in [0, 1], colour multiplied by alpha, then alpha."""
    return _mip_levels()[0][subject]


def _draw_sprite(scene: Scene, time: float, height: int, width: int) -> tuple[int, int, torch.Tensor]:
    """Draws the sprite of one frame: top row and left column of a patch, and the patch (4, h, w), premultiplied."""
    x, y, scale, angle = scene.pose(time)
    side = scene.size * scale * height  # of the box, in pixels
    reach = 0.5 * side * (math.sqrt(2.0) if scene.turns or scene.tilt else 1.0) + 1
    left, right = max(int(x * width - reach), 0), min(int(math.ceil(x * width + reach)), width)
    top, bottom = max(int(y * height - reach), 0), min(int(math.ceil(y * height + reach)), height)
    if right <= left or bottom <= top:  # all of it is outside the frame
        return 0, 0, torch.zeros(4, 0, 0)
    samples = 4 if height <= 80 else 2  # per pixel and axis
    levels = _mip_levels()
    level = round(math.log2(max((CELL - 2 * MARGIN) / (side * samples), 1)))
    texture = levels[min(level, len(levels) - 1)][scene.subject : scene.subject + 1]
    half = 0.5 * side * CELL / (CELL - 2 * MARGIN)
    dx = ((np.arange((right - left) * samples) + 0.5) / samples + (left - x * width)) / half
    dy = ((np.arange((bottom - top) * samples) + 0.5) / samples + (top - y * height)) / half
    cos, sin, mirror = math.cos(angle), math.sin(angle), -1.0 if scene.flip else 1.0
    grid = np.empty((1, len(dy), len(dx), 2), dtype=np.float32)
    np.add.outer(mirror * sin * dy, mirror * cos * dx, out=grid[0, :, :, 0], casting="same_kind")
    np.add.outer(cos * dy, -sin * dx, out=grid[0, :, :, 1], casting="same_kind")
    patch = F.grid_sample(texture, torch.from_numpy(grid), mode="bilinear", padding_mode="zeros", align_corners=False)
    return top, left, F.avg_pool2d(patch, samples)[0]


def sprite_layer(scene: Scene, time: float, height: int, width: int) -> torch.Tensor:
    """Draws only the sprite: (4, height, width) float32, colour multiplied by alpha, then alpha; all in [0, 1]."""
    layer = torch.zeros(4, height, width)
    top, left, patch = _draw_sprite(scene, time, height, width)
    layer[:, top : top + patch.shape[1], left : left + patch.shape[2]] = patch
    return layer


def render_tensor(scene: Scene, times: NDArray[np.float64], height: int, width: int) -> torch.Tensor:
    """Renders a scene for a network.

    Args:
        scene: What to render.
        times: (F,) moments in [0, 1]; see `frame_times`.
        height: Rows of pixels.
        width: Columns of pixels; the scenes are laid out for a width of 1.6 times the height.

    Returns:
        (3, F, height, width) float32 in [-1, 1].
    """
    background = torch.from_numpy(paint_background(scene.background, scene.paint_seed, height, width))
    video = background[:, None].expand(-1, len(times), -1, -1).contiguous()
    for frame, time in enumerate(times):
        for shown in (scene, *scene.others):
            top, left, patch = _draw_sprite(shown, float(time), height, width)
            window = video[:, frame, top : top + patch.shape[1], left : left + patch.shape[2]]
            window.mul_(1 - patch[3:]).add_(patch[:3])
    return video.mul_(2).sub_(1)


def render(
    scene: Scene, num_frames: int, height: int, width: int, times: NDArray[np.float64] | None = None
) -> NDArray[np.uint8]:
    """Renders a scene to frames.

    Args:
        scene: What to render.
        num_frames: Frames of the whole clip, evenly spaced from its first moment to its last.
        height: Rows of pixels.
        width: Columns of pixels.
        times: (F,) moments in [0, 1] to render instead of the whole clip's.

    Returns:
        (F, height, width, 3) uint8, RGB.
    """
    video = render_tensor(scene, frame_times(num_frames) if times is None else times, height, width)
    frames: NDArray[np.uint8] = ((video + 1) * 127.5).round().byte().permute(1, 2, 3, 0).contiguous().numpy()
    return frames
