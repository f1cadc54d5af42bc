"""Scores gathered batch by batch and merged over processes, and how certain they are.

Everything is computed in float64. Scores that need all samples at once keep them in float32 (`Rows`): 10,000 videos of
400 features are 16 MB.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from show1.errors import CheckpointError, InputError
from show1.evaluation.frechet import Gaussian, frechet_distance

_Z_95 = 1.959963984540054
_BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score computed on several splits or subsets."""

    mean: float
    """Over the splits."""
    std: float
    """Over the splits, with N in the denominator."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score with its 95 % interval."""

    value: float
    """Of all samples."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


@dataclass(frozen=True, kw_only=True)
class BootstrapInterval(Interval):
    """A score with its 95 % bootstrap interval."""

    bias: float
    """Mean of the resamples less the score. It is taken off the ends; add it to them for the plain percentiles."""


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """A Fréchet distance at several numbers of videos, and where they lead."""

    value: float
    """At infinitely many videos; may fall a little below 0."""
    slope: float
    """Of the line in 1/N."""
    sizes: tuple[int, ...]
    """Numbers of generated videos, ascending."""
    distances: tuple[float, ...]
    """Fréchet distance at each."""


class Rows:
    """Rows (N, D) of features or probabilities, kept in float32.

    With the position of each row's video, shards merge in any order and the whole equals one pass. Without positions
    rows stand as they came, and a merged part follows what is there.
    """

    def __init__(self) -> None:
        self._batches: list[NDArray[np.float32]] = []
        self._positions: list[NDArray[np.int64]] = []
        self._placed: bool | None = None

    @property
    def count(self) -> int:
        """Rows so far."""
        return sum(map(len, self._batches))

    def update(self, rows: ArrayLike, positions: Sequence[int] | None = None) -> None:
        """Adds a batch.

        Args:
            rows: (N, D), finite.
            positions: (N,) places in the whole; given always or never.

        Raises:
            InputError: Not a matrix, of another width than before, not finite, or positions do not fit.
        """
        batch = np.array(rows, dtype=np.float32)
        width = self._batches[0].shape[1] if self._batches else None
        if batch.ndim != 2 or width not in (None, batch.shape[1]):
            raise InputError(f"rows must be (N, {'D' if width is None else width}), got {batch.shape}")
        if not np.isfinite(batch).all():
            raise InputError("rows must be finite, got NaN or infinity")
        if not len(batch):
            return
        if positions is not None and len(positions) != len(batch):
            raise InputError(f"{len(batch)} rows need as many positions, got {len(positions)}")
        self._place(positions is not None)
        first = self.count
        places = range(first, first + len(batch)) if positions is None else positions
        self._positions.append(np.array(places, dtype=np.int64))
        self._batches.append(batch)

    def merge(self, other: "Rows") -> None:
        """Adds what another one has gathered.

        Raises:
            InputError: Of another width, or one has positions and the other has none.
        """
        for batch, places in zip(list(other._batches), list(other._positions), strict=True):
            self.update(batch, places.tolist() if other._placed else None)

    def matrix(self) -> NDArray[np.float64]:
        """All rows (N, D), by position.

        Raises:
            InputError: There is none, or two have the same position.
        """
        if not self._batches:
            raise InputError("there are no rows yet: call update first")
        places = np.concatenate(self._positions)
        order = np.argsort(places, kind="stable")
        twice = places[order][1:][np.diff(places[order]) == 0]
        if len(twice):
            raise InputError(f"position {twice[0]} came twice: two shards scored the same video")
        return np.concatenate(self._batches)[order].astype(np.float64)

    def save(self, path: Path) -> None:
        """Writes a safetensors file, whole or not at all.

        Raises:
            InputError: There are no rows.
            OutputError: No permission, or the disk is full.
        """
        import torch

        from show1.files import write_tensors

        tensors = {"rows": torch.from_numpy(self.matrix().astype(np.float32))}
        if self._placed:
            tensors["positions"] = torch.from_numpy(np.sort(np.concatenate(self._positions)))
        write_tensors(path, tensors)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote.

        Raises:
            CheckpointError: The file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = load_file(path)
            rows, positions = tensors["rows"], tensors.get("positions")
        except (OSError, KeyError, SafetensorError) as error:
            raise CheckpointError(f"{path} holds no saved rows ({error}); compute them again") from error
        loaded = cls()
        loaded.update(rows, None if positions is None else positions.tolist())
        return loaded

    def _place(self, placed: bool) -> None:
        if self._placed not in (None, placed):
            raise InputError("positions must be given for all rows or for none")
        self._placed = placed


class InceptionScore:
    """exp of the mean KL divergence from each sample's class probabilities to their mean (arXiv:1606.03498)."""

    def __init__(self) -> None:
        self.probabilities = Rows()

    def update(self, probabilities: ArrayLike, positions: Sequence[int] | None = None) -> None:
        """Adds class probabilities (N, C); each row sums to 1.

        Raises:
            InputError: They are no probabilities, or do not fit what is there (see `Rows.update`).
        """
        batch = np.asarray(probabilities, dtype=np.float64)
        if batch.ndim == 2 and ((batch < 0).any() or (np.abs(batch.sum(1) - 1) > 1e-3).any()):
            raise InputError("probabilities must be at least 0 and sum to 1 in each row; use update_logits for logits")
        self.probabilities.update(batch, positions)

    def update_logits(self, logits: ArrayLike, positions: Sequence[int] | None = None) -> None:
        """Adds logits (N, C); their softmax is taken in float64.

        Raises:
            InputError: As `Rows.update`.
        """
        batch = np.asarray(logits, dtype=np.float64)
        if batch.ndim != 2 or not np.isfinite(batch).all():
            raise InputError(f"logits must be a finite matrix (N, C), got {batch.shape}")
        exponentials = np.exp(batch - batch.max(1, keepdims=True, initial=-np.inf))
        self.probabilities.update(exponentials / exponentials.sum(1, keepdims=True), positions)

    def merge(self, other: "InceptionScore") -> None:
        """Adds what another one has gathered."""
        self.probabilities.merge(other.probabilities)

    def score(self, *, splits: int = 10, seed: int | None = None) -> Estimate:
        """The score over consecutive splits, as torch-fidelity computes it.

        Args:
            splits: Number of splits.
            seed: None: in order. A number shuffles first, which samples sorted by class need (torch-fidelity: 2020).

        Raises:
            InputError: Fewer samples than splits.
        """
        rows = self.probabilities.matrix()
        count = len(rows)
        if not 1 <= splits <= count:
            raise InputError(f"{splits} splits need at least as many samples, got {count}")
        if seed is not None:
            rows = rows[np.random.RandomState(seed).permutation(count)]
        bounds = [i * count // splits for i in range(splits + 1)]
        scores = [_inception_score(rows[a:b]) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        return Estimate(mean=float(np.mean(scores)), std=float(np.std(scores)))


class KernelDistance:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, unbiased (KID, arXiv:1801.01401).

    On features of videos it is the kernel video distance (KVD).
    """

    def __init__(self) -> None:
        self.real = Rows()
        """Features of the reference (N, D)."""
        self.fake = Rows()
        """Features of what is scored (M, D)."""

    def merge(self, other: "KernelDistance") -> None:
        """Adds what another one has gathered."""
        self.real.merge(other.real)
        self.fake.merge(other.fake)

    def full(self) -> float:
        """The unbiased estimate from all samples; may fall a little below 0.

        Raises:
            InputError: Fewer than two samples on a side, or widths differ.
        """
        return _mmd2(*self._pair(2))

    def subsets(self, *, size: int = 1000, count: int = 100, seed: int = 2020) -> Estimate:
        """The unbiased estimate over random subsets, drawn as torch-fidelity draws them.

        Args:
            size: Samples of each side in a subset.
            count: Number of subsets.
            seed: Of the draws.

        Raises:
            InputError: Fewer samples than a subset takes, or widths differ.
        """
        real, fake = self._pair(max(size, 2))
        if size < 2 or count < 1:
            raise InputError(f"subsets must have at least 2 samples and be at least 1, got size {size}, count {count}")
        rng = np.random.RandomState(seed)
        values = []
        for _ in range(count):
            chosen_real = rng.choice(len(real), size, replace=False)
            chosen_fake = rng.choice(len(fake), size, replace=False)
            values.append(_mmd2(real[chosen_real], fake[chosen_fake]))
        return Estimate(mean=float(np.mean(values)), std=float(np.std(values)))

    def _pair(self, least: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        real, fake = self.real.matrix(), self.fake.matrix()
        _check_widths(real, fake)
        if min(len(real), len(fake)) < least:
            raise InputError(f"at least {least} samples are needed on each side, got {len(real)} and {len(fake)}")
        return real, fake


class MeanScore:
    """Mean and variance of a score that each video has, such as CLIPSIM."""

    def __init__(self) -> None:
        self.count = 0
        self._mean = 0.0
        self._scatter = 0.0

    def update(self, values: ArrayLike) -> None:
        """Adds the scores (N,) of some videos.

        Raises:
            InputError: Not a vector, or not finite.
        """
        batch = np.asarray(values, dtype=np.float64)
        if batch.ndim != 1 or not np.isfinite(batch).all():
            raise InputError(f"scores must be a finite vector (N,), got shape {batch.shape}")
        if not len(batch):
            return
        other = type(self)()
        other.count, other._mean = len(batch), float(batch.mean())
        other._scatter = float(((batch - other._mean) ** 2).sum())
        self.merge(other)

    def merge(self, other: "MeanScore") -> None:
        """Adds what another one has gathered (Chan et al., 1979)."""
        if not other.count:
            return
        total = self.count + other.count
        gap = other._mean - self._mean
        self._scatter += other._scatter + gap**2 * (self.count * other.count / total)
        self._mean += gap * (other.count / total)
        self.count = total

    @property
    def mean(self) -> float:
        """Of all scores.

        Raises:
            InputError: There is none.
        """
        if not self.count:
            raise InputError("a mean needs at least 1 score, got 0")
        return self._mean

    @property
    def variance(self) -> float:
        """Unbiased.

        Raises:
            InputError: Fewer than two scores.
        """
        if self.count < 2:
            raise InputError(f"a variance needs at least 2 scores, got {self.count}")
        return self._scatter / (self.count - 1)

    def interval(self) -> Interval:
        """The mean and its 95 % interval, of a normal distribution.

        Raises:
            InputError: Fewer than two scores.
        """
        half = _Z_95 * math.sqrt(self.variance / self.count)
        return Interval(value=self.mean, low=self.mean - half, high=self.mean + half)


def bootstrap_frechet(
    real: ArrayLike, fake: ArrayLike, *, resamples: int = 200, rows_per_video: int = 1, seed: int = 0
) -> BootstrapInterval:
    """The Fréchet distance with its 95 % percentile interval, both sets drawn again with replacement.

    A resample repeats videos, so it has fewer distinct ones and a larger distance: this bias, the mean of the
    resamples less the distance, is taken off the percentiles, else they could exclude the distance itself.

    Args:
        real: Features of the reference (N, D).
        fake: Features of what is scored (M, D).
        resamples: How often to draw; each costs two eigendecompositions of D x D.
        rows_per_video: Consecutive rows that are drawn together, where every frame has a row.
        seed: Of the draws.

    Raises:
        InputError: Shapes do not fit, or too few rows.
    """
    sides = [_by_video(rows, rows_per_video) for rows in (real, fake)]
    _check_widths(*sides)
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
    return BootstrapInterval(value=value, low=low, high=high, bias=bias)


def extrapolated_frechet(
    real: ArrayLike,
    fake: ArrayLike,
    *,
    points: int = 15,
    smallest: int | None = None,
    rows_per_video: int = 1,
    seed: int = 0,
) -> Extrapolation:
    """The Fréchet distance at infinitely many generated videos (arXiv:1911.07023).

    The bias of the distance is linear in 1/N: it is measured at random subsets of `fake` against all of `real`, and a
    line is fitted. The bias from the size of `real` remains.

    Args:
        real: Features of the reference (N, D).
        fake: Features of what is scored (M, D).
        points: Number of sizes, evenly spaced in N.
        smallest: Videos in the smallest subset; None: a fifth. The bias is linear only well above D rows.
        rows_per_video: Consecutive rows that belong together, where every frame has a row.
        seed: Of the subsets.

    Raises:
        InputError: Shapes do not fit, or too few rows.
    """
    reference, videos = _by_video(real, rows_per_video), _by_video(fake, rows_per_video)
    _check_widths(reference, videos)
    least = max(2, len(videos) // 5) if smallest is None else smallest
    if points < 2 or not 2 <= least < len(videos):
        raise InputError(
            f"points must be at least 2 and 2 <= smallest < {len(videos)} videos, got points {points}, smallest {least}"
        )
    fitted, rng = _fit(reference), np.random.default_rng(seed)
    sizes = np.unique(np.linspace(least, len(videos), points).round().astype(int))
    distances = [frechet_distance(fitted, _fit(videos[rng.choice(len(videos), n, replace=False)])) for n in sizes]
    slope, value = np.polyfit(1 / sizes, distances, 1)
    return Extrapolation(
        value=float(value), slope=float(slope), sizes=tuple(map(int, sizes)), distances=tuple(distances)
    )


def sample_warnings(*, real: int, fake: int, dimension: int) -> list[str]:
    """What to say beside a Fréchet distance of few samples.

    Args:
        real: Rows of the reference.
        fake: Rows of what is scored.
        dimension: Of the features.
    """
    return [
        f"{count} {name} samples for {dimension} features: the covariance is below full rank, and the Fréchet distance "
        "is far above its value at many samples; compare it only with figures at the same number, or use KID or KVD"
        for name, count in (("real", real), ("generated", fake))
        if count <= dimension
    ]


def _inception_score(rows: NDArray[np.float64]) -> float:
    divergence = rows * (_safe_log(rows) - _safe_log(rows.mean(0, keepdims=True)))
    return float(np.exp(divergence.sum(1).mean()))


def _safe_log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm, and 0 where it is multiplied by 0."""
    return np.log(values, out=np.zeros_like(values), where=values > 0)


def _mmd2(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    n, m = len(x), len(y)
    within_x = (_kernel_sum(x, x) - _diagonal_sum(x)) / (n * (n - 1))
    within_y = (_kernel_sum(y, y) - _diagonal_sum(y)) / (m * (m - 1))
    return within_x + within_y - 2 * _kernel_sum(x, y) / (n * m)


def _kernel_sum(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    blocks = (x[i : i + _BLOCK] @ y.T / x.shape[1] + 1 for i in range(0, len(x), _BLOCK))
    return sum(float((block * block * block).sum()) for block in blocks)


def _diagonal_sum(x: NDArray[np.float64]) -> float:
    return float((((x * x).sum(1) / x.shape[1] + 1) ** 3).sum())


def _by_video(rows: ArrayLike, rows_per_video: int) -> NDArray[np.float64]:
    """(N, D) as (videos, rows of each, D)."""
    matrix = np.asarray(rows, dtype=np.float64)
    if matrix.ndim != 2 or rows_per_video < 1 or not len(matrix) or len(matrix) % rows_per_video:
        raise InputError(f"features must be (videos x {rows_per_video}, D), got {matrix.shape}")
    return matrix.reshape(-1, rows_per_video, matrix.shape[1])


def _fit(videos: NDArray[np.float64]) -> Gaussian:
    return Gaussian.of(videos.reshape(-1, videos.shape[-1]))


def _check_widths(real: NDArray[np.float64], fake: NDArray[np.float64]) -> None:
    if real.shape[-1] != fake.shape[-1]:
        raise InputError(f"both sides must have features of one network, got widths {real.shape[-1]}, {fake.shape[-1]}")
