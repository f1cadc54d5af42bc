"""Scores of features, computed in float64: Fréchet and kernel distances, and the Inception Score."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from show1.errors import InputError

_BLOCK = 1024


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
    """Fréchet distance (FID, arXiv:1706.08500; FVD, arXiv:1812.01717) between Gaussians.

    |mean_a - mean_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), from eigenvalues of symmetric matrices.

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


def inception_score(probabilities: ArrayLike, *, splits: int = 10, seed: int = 2020) -> tuple[float, float]:
    """exp of the mean KL divergence from each sample's class probabilities to their mean (arXiv:1606.03498).

    As torch-fidelity does, it is computed over consecutive splits of the shuffled samples.

    Args:
        probabilities: (N, C) class probabilities; each row sums to 1.
        splits: Number of splits.
        seed: Shuffles the samples, which might be sorted by class.

    Returns:
        Mean over the splits, and standard deviation with the number of splits in the denominator.

    Raises:
        InputError: They are no probabilities, or there are fewer samples than splits.
    """
    rows = feature_matrix(probabilities)
    if (rows < 0).any() or (np.abs(rows.sum(1) - 1) > 1e-3).any():
        raise InputError("probabilities must be at least 0 and sum to 1 in each row; take the softmax of logits")
    count = len(rows)
    if not 1 <= splits <= count:
        raise InputError(f"{splits} splits need at least as many samples, got {count}")
    rows = rows[np.random.RandomState(seed).permutation(count)]
    bounds = [i * count // splits for i in range(splits + 1)]
    scores = [_inception_score(rows[a:b]) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    return float(np.mean(scores)), float(np.std(scores))


def kernel_distance(real: ArrayLike, fake: ArrayLike) -> float:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, unbiased (KID, arXiv:1801.01401).

    On features of videos it is the kernel video distance (KVD). It may fall a little below 0.

    Args:
        real: Features of the reference (N, D).
        fake: Features of what is scored (M, D).

    Raises:
        InputError: Fewer than two samples on a side, or widths differ.
    """
    x, y = feature_matrix(real), feature_matrix(fake)
    check_widths(x, y)
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise InputError(f"at least 2 samples are needed on each side, got {n} and {m}")
    within_x = (_kernel_sum(x, x) - _diagonal_sum(x)) / (n * (n - 1))
    within_y = (_kernel_sum(y, y) - _diagonal_sum(y)) / (m * (m - 1))
    return within_x + within_y - 2 * _kernel_sum(x, y) / (n * m)


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    root: NDArray[np.float64] = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root


def _inception_score(rows: NDArray[np.float64]) -> float:
    divergence = rows * (_safe_log(rows) - _safe_log(rows.mean(0, keepdims=True)))
    return float(np.exp(divergence.sum(1).mean()))


def _safe_log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm, and 0 where it is multiplied by 0."""
    return np.log(values, out=np.zeros_like(values), where=values > 0)


def _kernel_sum(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    blocks = (x[i : i + _BLOCK] @ y.T / x.shape[1] + 1 for i in range(0, len(x), _BLOCK))
    return sum(float((block * block * block).sum()) for block in blocks)


def _diagonal_sum(x: NDArray[np.float64]) -> float:
    return float((((x * x).sum(1) / x.shape[1] + 1) ** 3).sum())
