"""Fréchet distance between Gaussians fitted to features (FID, arXiv:1706.08500; FVD, arXiv:1812.01717)."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from show1.errors import InputError


class Gaussian:
    """Mean and covariance of features, gathered batch by batch in float64."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: NDArray[np.float64] = np.zeros(0)
        self._scatter: NDArray[np.float64] = np.zeros((0, 0))

    @classmethod
    def of(cls, features: ArrayLike) -> Self:
        """Fits features (N, D) at once."""
        fitted = cls()
        fitted.update(features)
        return fitted

    def update(self, features: ArrayLike) -> None:
        """Adds a batch (N, D).

        Raises:
            InputError: Not a matrix, of another width than before, or with numbers that are not finite.
        """
        batch = np.asarray(features, dtype=np.float64)
        if batch.ndim != 2 or (self.count and batch.shape[1] != len(self._mean)):
            wanted = f"(N, {len(self._mean)})" if self.count else "(N, D)"
            raise InputError(f"features must be {wanted}, got {batch.shape}")
        if not np.isfinite(batch).all():
            raise InputError("features must be finite, got NaN or infinity")
        if not len(batch):
            return
        other = type(self)()
        other.count, other._mean = len(batch), batch.mean(0)
        centred = batch - other._mean
        other._scatter = centred.T @ centred
        self.merge(other)

    def merge(self, other: "Gaussian") -> None:
        """Adds what another one has gathered (Chan et al., 1979)."""
        if not other.count:
            return
        if not self.count:
            self.count, self._mean, self._scatter = other.count, other._mean.copy(), other._scatter.copy()
            return
        total = self.count + other.count
        gap = other._mean - self._mean
        self._scatter = self._scatter + other._scatter + np.outer(gap, gap) * (self.count * other.count / total)
        self._mean = self._mean + gap * (other.count / total)
        self.count = total

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean, (D,)."""
        return self._mean

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Unbiased covariance, (D, D).

        Raises:
            InputError: Fewer than two samples.
        """
        if self.count < 2:
            raise InputError(f"a covariance needs at least 2 samples, got {self.count}")
        return self._scatter / (self.count - 1)


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), from eigenvalues of symmetric matrices.

    Covariances below full rank need no care: roots of small negative eigenvalues, which are rounding, count as 0.
    """
    root = _root(a.covariance)
    inner = root @ b.covariance @ root
    cross = np.sqrt(np.linalg.eigvalsh((inner + inner.T) / 2).clip(min=0)).sum()
    gap = a.mean - b.mean
    distance = gap @ gap + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross
    return max(float(distance), 0.0)


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    root: NDArray[np.float64] = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root
