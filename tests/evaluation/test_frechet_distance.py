"""Fréchet distances against closed forms."""

import numpy as np
import pytest

from show1.errors import InputError
from show1.evaluation.scores import Gaussian, frechet_distance


def gaussian(mean: np.ndarray, covariance: np.ndarray, count: int = 2000) -> Gaussian:
    """Samples whose mean and covariance are exactly these."""
    raw = np.random.default_rng(0).standard_normal((count, len(mean)))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T).reshape(len(mean), -1))).T
    return Gaussian.of(white @ np.linalg.cholesky(covariance).T + mean)


def test_one_dimension_is_the_textbook_formula() -> None:
    a, b = gaussian(np.array([1.0]), np.array([[4.0]])), gaussian(np.array([3.0]), np.array([[9.0]]))
    assert frechet_distance(a, b) == pytest.approx((3 - 1) ** 2 + (3 - 2) ** 2, rel=1e-9)


def test_commuting_covariances() -> None:
    first, second = np.diag([1.0, 4.0, 9.0]), np.diag([4.0, 4.0, 1.0])
    zero = np.zeros(3)
    assert frechet_distance(gaussian(zero, first), gaussian(zero, second)) == pytest.approx(1 + 0 + 4, rel=1e-9)


def test_covariances_that_do_not_commute() -> None:
    rng = np.random.default_rng(1)
    a, b = (m @ m.T + np.eye(4) for m in rng.standard_normal((2, 4, 4)))
    values = np.linalg.eigvals(a @ b)  # the trace of the root of A B, by its eigenvalues
    wanted = np.trace(a) + np.trace(b) - 2 * np.sqrt(values.real).sum()
    assert frechet_distance(gaussian(np.zeros(4), a), gaussian(np.zeros(4), b)) == pytest.approx(wanted, rel=1e-9)


def test_identical_sets_are_at_distance_zero_even_below_full_rank() -> None:
    features = np.random.default_rng(2).standard_normal((10, 50))
    scale = np.trace(Gaussian.of(features).covariance)
    assert frechet_distance(Gaussian.of(features), Gaussian.of(features)) < 1e-6 * scale


def test_the_covariance_is_unbiased() -> None:
    features = np.random.default_rng(3).standard_normal((400, 6)) * 5 + 100
    fitted = Gaussian.of(features)
    np.testing.assert_allclose(fitted.mean, features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(fitted.covariance, np.cov(features.T), rtol=1e-9)


@pytest.mark.parametrize(("features", "message"), [(np.zeros(5), "(N, D)"), (np.full((2, 3), np.nan), "finite")])
def test_bad_features(features: np.ndarray, message: str) -> None:
    with pytest.raises(InputError) as error:
        Gaussian.of(features)
    assert message in str(error.value)


def test_other_widths_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="widths 2, 3"):
        frechet_distance(Gaussian.of(np.zeros((2, 2))), Gaussian.of(np.zeros((2, 3))))


def test_one_sample_has_no_covariance() -> None:
    with pytest.raises(InputError, match="at least 2"):
        frechet_distance(Gaussian.of(np.zeros((1, 2))), Gaussian.of(np.zeros((3, 2))))
