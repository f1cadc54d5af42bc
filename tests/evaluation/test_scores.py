"""Scores against closed forms and formulas written out."""

import math

import numpy as np
import pytest

from show1.errors import InputError
from show1.evaluation.intervals import bootstrap_frechet, extrapolated_frechet, mean_interval, sample_warnings
from show1.evaluation.scores import Gaussian, frechet_distance, inception_score, kernel_distance


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64))
    return exponentials / exponentials.sum(1, keepdims=True)


def test_inception_score_of_certain_classes_is_their_number() -> None:
    mean, deviation = inception_score(np.tile(np.eye(7), (700, 1)))
    assert mean == pytest.approx(7, rel=1e-2)
    assert deviation < 0.02


def test_inception_score_of_equal_rows_is_one() -> None:
    assert inception_score(softmax(np.tile(normal(0, 1, 5), (20, 1))))[0] == pytest.approx(1)


def test_inception_score_by_hand_over_uneven_splits() -> None:
    p = softmax(normal(1, 23, 6).astype(np.float64) * 3)
    shuffled = p[np.random.RandomState(5).permutation(23)]
    wanted = []
    for i in range(4):
        part = shuffled[i * 23 // 4 : (i + 1) * 23 // 4]
        q = part.mean(0)
        divergences = [sum(row[c] * math.log(row[c] / q[c]) for c in range(6)) for row in part]
        wanted.append(math.exp(sum(divergences) / len(part)))
    mean, deviation = inception_score(p, splits=4, seed=5)
    assert mean == pytest.approx(np.mean(wanted), rel=1e-12)
    assert deviation == pytest.approx(np.std(wanted), rel=1e-12)


def test_samples_may_be_sorted_by_class() -> None:
    assert inception_score(np.repeat(np.eye(10), 50, axis=0))[0] > 8


def test_logits_are_not_probabilities() -> None:
    with pytest.raises(InputError, match="softmax"):
        inception_score(normal(0, 4, 3))
    with pytest.raises(InputError, match="10 splits"):
        inception_score(np.eye(3))


def by_terms(x: np.ndarray, y: np.ndarray) -> float:
    """Eq. 4 of arXiv:1801.01401, term by term."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (float(a.astype(np.float64) @ b.astype(np.float64)) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    total = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    total += sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return total - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_kernel_distance_term_by_term() -> None:
    x, y = normal(6, 9, 4), normal(7, 7, 4) * 2 - 1
    assert kernel_distance(x, y) == pytest.approx(by_terms(x, y), rel=1e-12)


def test_kernel_distance_is_unbiased_and_large_for_disjoint_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert abs(kernel_distance(normal(8, 1500, 8), normal(9, 1500, 8))) < 0.01
    apart = normal(8, 300, 8) + 5, normal(9, 300, 8) - 5
    in_one = kernel_distance(*apart)
    assert in_one > 100
    monkeypatch.setattr("show1.evaluation.scores._BLOCK", 7)
    assert kernel_distance(*apart) == pytest.approx(in_one, rel=1e-12)


def test_kernel_distance_of_too_few_or_unlike_samples() -> None:
    with pytest.raises(InputError, match="at least 2 samples"):
        kernel_distance(normal(0, 10, 4), normal(1, 1, 4))
    with pytest.raises(InputError, match="widths 4, 3"):
        kernel_distance(normal(0, 10, 4), normal(1, 10, 3))


def test_the_interval_of_a_mean() -> None:
    values = np.array([0.1, 0.4, 0.35, 0.2, 0.9])
    half = 1.96 * values.std(ddof=1) / math.sqrt(5)
    assert mean_interval(values) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-4)
    with pytest.raises(InputError, match="at least 2"):
        mean_interval(values[:1])


def test_bootstrap_interval_of_a_frechet_distance() -> None:
    real, fake = normal(10, 400, 3), normal(11, 400, 3) + np.float32(1)
    low, high = bootstrap_frechet(real, fake, resamples=100, seed=1)
    assert low < frechet_distance(Gaussian.of(real), Gaussian.of(fake)) < high
    assert (low, high) == bootstrap_frechet(real, fake, resamples=100, seed=1)
    assert (low, high) != bootstrap_frechet(real, fake, resamples=100, seed=2)
    lower, higher = bootstrap_frechet(real[:60], fake[:60], resamples=100, seed=1)
    assert higher - lower > 1.5 * (high - low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(25):
        real, fake = normal(100 + trial, 150, 1), normal(200 + trial, 150, 1) + np.float32(1)
        low, high = bootstrap_frechet(real, fake, resamples=60, seed=trial)
        covered += low < 1 < high
    assert covered >= 20


def test_the_bias_of_resampling_is_taken_off() -> None:
    real, fake = normal(12, 60, 20), normal(13, 60, 20)  # the plain percentiles lie above the distance
    low, high = bootstrap_frechet(real, fake, resamples=60)
    assert low < frechet_distance(Gaussian.of(real), Gaussian.of(fake)) < high


def test_frames_of_a_video_are_drawn_together() -> None:
    def width(*sides: np.ndarray, **options: int) -> float:
        low, high = bootstrap_frechet(*sides, resamples=60, **options)
        return high - low

    real, fake = normal(14, 40, 2), normal(15, 40, 2) + np.float32(1)
    repeated = np.repeat(real, 4, 0), np.repeat(fake, 4, 0)
    assert width(*repeated, rows_per_video=4) == pytest.approx(width(real, fake), rel=0.1)
    assert width(*repeated) < 0.7 * width(real, fake)
    with pytest.raises(InputError, match="videos x 3"):
        bootstrap_frechet(real, fake, rows_per_video=3)


def test_extrapolation_removes_the_bias_of_few_videos() -> None:
    real, fake = normal(16, 20000, 16), normal(17, 600, 16)
    found = extrapolated_frechet(real, fake)
    assert found.sizes[0] == 120 and found.sizes[-1] == 600 and len(found.distances) == 15
    assert found.distances[-1] == pytest.approx(frechet_distance(Gaussian.of(real), Gaussian.of(fake)))
    assert found.distances[0] > found.distances[-1] > 0.1
    assert abs(found.value) < 0.5 * found.distances[-1]  # the distributions are equal
    assert found.slope > 0
    with pytest.raises(InputError, match="at least 3 videos"):
        extrapolated_frechet(real, fake[:2])


def test_extrapolation_is_the_line_through_its_points() -> None:
    found = extrapolated_frechet(normal(18, 500, 2), normal(19, 3, 2))
    (n, m), (a, b) = found.sizes, found.distances
    assert (n, m) == (2, 3)
    slope = (a - b) / (1 / n - 1 / m)
    assert (found.slope, found.value) == pytest.approx((slope, b - slope / m))


def test_warning_below_the_dimension() -> None:
    assert sample_warnings(real=5000, fake=401, dimension=400) == []
    (only,) = sample_warnings(real=5000, fake=400, dimension=400)
    assert "400 generated samples for 400 features" in only
    assert len(sample_warnings(real=16, fake=16, dimension=400)) == 2
