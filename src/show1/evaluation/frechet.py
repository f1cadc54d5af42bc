"""Fréchet distance between Gaussians fitted to features (FID, arXiv:1706.08500; FVD, arXiv:1812.01717)."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from show1.errors import InputError


def feature_matrix(features: ArrayLike) -> NDArray[np.float64]:
    """Checks features (N, D), and returns them in float64.

    Raises:
        InputError: Not a matrix, or with numbers that are not finite.
    """
    matrix = np.asarray(features, dtype=np.float64)
    if matrix.ndim != 2:
        raise InputError(f"features must be (N, D), got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise InputError("features must be finite, got NaN or infinity")
    return matrix


def check_widths(real: NDArray[np.float64], fake: NDArray[np.float64]) -> None:
    """Raises `InputError` unless both sides, of shape (..., D), have the same number of features D."""
    if real.shape[-1] != fake.shape[-1]:
        raise InputError(f"both sides must have features of one network, got widths {real.shape[-1]}, {fake.shape[-1]}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaussian:
    """Mean and covariance of features."""

    mean: NDArray[np.float64]
    """(D,)."""

    covariance: NDArray[np.float64]
    """(D, D), unbiased."""

    @classmethod
    def of(cls, features: ArrayLike) -> Self:
        """Fits features (N, D).

        Raises:
            InputError: Not a finite matrix, or fewer than two samples.
        """
        rows = feature_matrix(features)
        if len(rows) < 2:
            raise InputError(f"a covariance needs at least 2 samples, got {len(rows)}")
        mean = rows.mean(0)
        centred = rows - mean
        return cls(mean=mean, covariance=centred.T @ centred / (len(rows) - 1))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), from eigenvalues of symmetric matrices.

    Covariances below full rank need no care: roots of small negative eigenvalues, which are rounding, count as 0.

    Raises:
        InputError: They have another number of features.
    """
    check_widths(a.mean, b.mean)
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
