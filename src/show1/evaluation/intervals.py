"""How certain scores are: 95 % intervals, and Fréchet distances at infinitely many videos."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from show1.errors import InputError
from show1.evaluation.scores import Gaussian, feature_matrix, frechet_distance
from show1.options import counted

_Z_95 = 1.959963984540054
_POINTS = 15


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """A Fréchet distance at several numbers of videos, extrapolated."""

    value: float
    """Distance at infinitely many videos; may fall a little below 0."""
    slope: float
    """Slope of the line in 1/N."""
    sizes: tuple[int, ...]
    """Numbers of generated videos, ascending."""
    distances: tuple[float, ...]
    """Fréchet distance at each number."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """Share of the videos for which something holds, with a 95 % interval (Wilson, 1927)."""

    hits: int
    """Number of videos for which it holds."""

    count: int
    """Number of videos."""

    @classmethod
    def of(cls, values: Iterable[bool]) -> Self:
        """Counts the true values."""
        listed = list(values)
        return cls(hits=sum(listed), count=len(listed))

    @property
    def share(self) -> float:
        """The share, 0 to 1."""
        return self.hits / self.count if self.count else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the interval."""
        if not self.count:
            return math.nan, math.nan
        z, n, p = 1.959964, self.count, self.share
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(middle - half, 0.0), min(middle + half, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Returns the share as JSON types."""
        low, high = self.interval
        return {"hits": self.hits, "count": self.count, "share": round(self.share, 4)} | {
            "interval": [round(low, 4), round(high, 4)]
        }


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of the mean of scores (N,), assuming a normal distribution.

    Raises:
        InputError: Fewer than two scores.
    """
    if len(values) < 2:
        raise InputError(f"an interval needs at least 2 scores, got {len(values)}")
    mean, half = float(values.mean()), _Z_95 * math.sqrt(float(values.var(ddof=1)) / len(values))
    return mean - half, mean + half


def bootstrap_frechet(
    real: ArrayLike, fake: ArrayLike, *, resamples: int = 200, rows_per_video: int = 1, seed: int = 0
) -> tuple[float, float]:
    """Computes the 95 % percentile interval of the Fréchet distance, drawing both sets again with replacement.

    A resample repeats videos, so it has fewer distinct ones and a larger distance: this bias, the mean of the
    resamples minus the distance, is subtracted from the percentiles, which could otherwise exclude the distance itself.

    Args:
        real: Features of the reference (N, D).
        fake: Features of what is scored (M, D).
        resamples: How often to draw; each costs two eigendecompositions of D x D.
        rows_per_video: Consecutive rows that are drawn together, where every frame has a row.
        seed: Seed of the draws.

    Raises:
        InputError: Shapes do not fit, or too few rows.
    """
    sides = [_by_video(rows, rows_per_video) for rows in (real, fake)]
    if resamples < 2:
        raise InputError(f"resamples must be at least 2, got {resamples}")
    value = frechet_distance(*(_fit(side) for side in sides))
    rng = np.random.default_rng(seed)
    draws = [
        frechet_distance(*(_fit(side[rng.integers(len(side), size=len(side))]) for side in sides))
        for _ in range(resamples)
    ]
    bias = float(np.mean(draws)) - value
    low, high = (max(float(end) - bias, 0.0) for end in np.percentile(draws, [2.5, 97.5]))
    return low, high


def extrapolated_frechet(real: ArrayLike, fake: ArrayLike, *, rows_per_video: int = 1, seed: int = 0) -> Extrapolation:
    """Extrapolates the Fréchet distance to infinitely many generated videos (arXiv:1911.07023).

    The bias of the distance is linear in 1/N: it is measured at random subsets of `fake`, from a fifth of its videos
    on, against all of `real`, and a line is fitted. The bias from the size of `real` remains.

    Args:
        real: Features of the reference (N, D).
        fake: Features of what is scored (M, D).
        rows_per_video: Consecutive rows that belong together, where every frame has a row.
        seed: Seed of the subsets.

    Raises:
        InputError: Shapes do not fit, or too few rows.
    """
    reference, videos = _by_video(real, rows_per_video), _by_video(fake, rows_per_video)
    if len(videos) < 3:
        raise InputError(f"a line needs at least 3 videos, got {len(videos)}")
    fitted, rng = _fit(reference), np.random.default_rng(seed)
    sizes = np.unique(np.linspace(max(2, len(videos) // 5), len(videos), _POINTS).round().astype(int))
    distances = [frechet_distance(fitted, _fit(videos[rng.choice(len(videos), n, replace=False)])) for n in sizes]
    slope, value = np.polyfit(1 / sizes, distances, 1)
    return Extrapolation(
        value=float(value), slope=float(slope), sizes=tuple(map(int, sizes)), distances=tuple(distances)
    )


def sample_warnings(*, real: int, fake: int, dimension: int) -> list[str]:
    """Returns warnings about a Fréchet distance of few samples.

    Args:
        real: Rows of the reference.
        fake: Rows of what is scored.
        dimension: Number of features.
    """
    return [
        f"{counted(count, f'{name} sample')} for {dimension} features: the covariance is below full rank, and the "
        "Fréchet distance is far above its value at many samples; compare it only with figures at the same number, or "
        "use KID or KVD"
        for name, count in (("real", real), ("generated", fake))
        if count <= dimension
    ]


def _by_video(rows: ArrayLike, rows_per_video: int) -> NDArray[np.float64]:
    """(N, D) as (videos, rows of each, D)."""
    matrix = feature_matrix(rows)
    if not len(matrix) or len(matrix) % rows_per_video:
        raise InputError(f"features must be (videos x {rows_per_video}, D), got {matrix.shape}")
    return matrix.reshape(-1, rows_per_video, matrix.shape[1])


def _fit(videos: NDArray[np.float64]) -> Gaussian:
    return Gaussian.of(videos.reshape(-1, videos.shape[-1]))
