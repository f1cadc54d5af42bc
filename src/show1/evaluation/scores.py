"""Scores gathered batch by batch and merged over processes, computed in float64."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from show1.errors import InputError
from show1.evaluation.intervals import Interval
from show1.evaluation.rows import Rows, check_widths

_Z_95 = 1.959963984540054
_BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score computed on several splits or subsets."""

    mean: float
    """Mean over the splits."""
    std: float
    """Standard deviation over the splits, with N in the denominator."""


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
        """Computes the score over consecutive splits, as torch-fidelity does.

        Args:
            splits: Number of splits.
            seed: None keeps the order; a number shuffles first, which samples sorted by class need (torch-fidelity:
                2020).

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
        """Computes the unbiased estimate from all samples, which may fall a little below 0.

        Raises:
            InputError: Fewer than two samples on a side, or widths differ.
        """
        return _mmd2(*self._pair(2))

    def subsets(self, *, size: int = 1000, count: int = 100, seed: int = 2020) -> Estimate:
        """Computes the unbiased estimate over random subsets, drawn as torch-fidelity draws them.

        Args:
            size: Samples of each side in a subset.
            count: Number of subsets.
            seed: Seed of the draws.

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
        check_widths(real, fake)
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
        """Mean of all scores.

        Raises:
            InputError: There is none.
        """
        if not self.count:
            raise InputError("a mean needs at least 1 score, got 0")
        return self._mean

    @property
    def variance(self) -> float:
        """Unbiased variance.

        Raises:
            InputError: Fewer than two scores.
        """
        if self.count < 2:
            raise InputError(f"a variance needs at least 2 scores, got {self.count}")
        return self._scatter / (self.count - 1)

    def interval(self) -> Interval:
        """Returns the mean and its 95 % interval, assuming a normal distribution.

        Raises:
            InputError: Fewer than two scores.
        """
        half = _Z_95 * math.sqrt(self.variance / self.count)
        return Interval(value=self.mean, low=self.mean - half, high=self.mean + half)


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
