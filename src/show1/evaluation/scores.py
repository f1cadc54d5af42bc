"""Scores of features, computed in float64."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from show1.errors import InputError
from show1.evaluation.frechet import check_widths, feature_matrix

_Z_95 = 1.959963984540054
_BLOCK = 1024


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


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of the mean of scores (N,), assuming a normal distribution.

    Raises:
        InputError: Fewer than two scores.
    """
    if len(values) < 2:
        raise InputError(f"an interval needs at least 2 scores, got {len(values)}")
    mean, half = float(values.mean()), _Z_95 * math.sqrt(float(values.var(ddof=1)) / len(values))
    return mean - half, mean + half


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
