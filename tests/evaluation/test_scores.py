"""Scores against closed forms and formulas written out."""

import math

import numpy as np
import pytest

from show1.errors import InputError
from show1.evaluation.frechet import Gaussian, frechet_distance
from show1.evaluation.intervals import bootstrap_frechet, extrapolated_frechet, sample_warnings
from show1.evaluation.rows import Rows
from show1.evaluation.scores import InceptionScore, KernelDistance, MeanScore


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_inception_score_of_certain_classes_is_their_number() -> None:
    score = InceptionScore()
    score.update(np.tile(np.eye(7), (10, 1)))
    assert score.score().mean == pytest.approx(7)
    assert score.score().std == pytest.approx(0, abs=1e-12)


def test_inception_score_of_equal_rows_is_one() -> None:
    score = InceptionScore()
    score.update_logits(np.tile(normal(0, 1, 5), (20, 1)))
    assert score.score().mean == pytest.approx(1)


def test_inception_score_by_hand_over_uneven_splits() -> None:
    logits = normal(1, 23, 6).astype(np.float64) * 3
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wanted = []
    for i in range(4):
        part = p[i * 23 // 4 : (i + 1) * 23 // 4]
        q = part.mean(0)
        divergences = [sum(row[c] * math.log(row[c] / q[c]) for c in range(6)) for row in part]
        wanted.append(math.exp(sum(divergences) / len(part)))
    score = InceptionScore()
    score.update_logits(logits)
    assert score.score(splits=4).mean == pytest.approx(np.mean(wanted), rel=1e-6)
    assert score.score(splits=4).std == pytest.approx(np.std(wanted), rel=1e-5)


def test_samples_sorted_by_class_need_the_shuffle() -> None:
    score = InceptionScore()
    score.update(np.repeat(np.eye(10), 50, axis=0))
    assert score.score().mean == pytest.approx(1)  # each split sees one class
    assert score.score(seed=2020).mean > 8


def test_logits_are_not_probabilities() -> None:
    with pytest.raises(InputError, match="update_logits"):
        InceptionScore().update(normal(0, 4, 3))
    with pytest.raises(InputError, match="10 splits"):
        score = InceptionScore()
        score.update(np.eye(3))
        score.score()


@pytest.mark.parametrize("interleaved", [False, True])
def test_merged_shards_equal_one_pass(interleaved: bool) -> None:
    logits, values = normal(2, 50, 4), normal(3, 50)
    whole, merged, mean, merged_mean = InceptionScore(), InceptionScore(), MeanScore(), MeanScore()
    whole.update_logits(logits)
    mean.update(values)
    shards = [list(range(50))[i::4] for i in range(4)] if interleaved else np.array_split(np.arange(50), 4)
    for shard in reversed(shards) if interleaved else shards:
        part, part_mean = InceptionScore(), MeanScore()
        for batch in np.array_split(np.asarray(shard), 3):
            part.update_logits(logits[batch], batch.tolist() if interleaved else None)
            part_mean.update(values[batch])
        merged.merge(part)
        merged_mean.merge(part_mean)
    assert merged.score() == whole.score()
    assert (merged_mean.count, mean.count) == (50, 50)
    assert merged_mean.mean == pytest.approx(mean.mean, rel=1e-12)
    assert merged_mean.variance == pytest.approx(mean.variance, rel=1e-12)


def test_merged_kernel_distances_equal_one_pass() -> None:
    whole, merged = KernelDistance(), KernelDistance()
    real, fake = normal(4, 30, 5), normal(5, 24, 5) + 0.3
    whole.real.update(real)
    whole.fake.update(fake)
    for i in range(3):
        part = KernelDistance()
        part.real.update(real[10 * i : 10 * i + 10])
        part.fake.update(fake[8 * i : 8 * i + 8])
        merged.merge(part)
    assert merged.full() == whole.full()
    assert merged.subsets(size=20, count=3) == whole.subsets(size=20, count=3)


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Eq. 4 of arXiv:1801.01401, term by term."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (float(a.astype(np.float64) @ b.astype(np.float64)) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    total = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    total += sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return total - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_kernel_distance_term_by_term() -> None:
    x, y = normal(6, 9, 4), normal(7, 7, 4) * 2 - 1
    distance = KernelDistance()
    distance.real.update(x)
    distance.fake.update(y)
    assert distance.full() == pytest.approx(kernel_distance(x, y), rel=1e-12)
    rng = np.random.RandomState(11)
    wanted = [kernel_distance(x[rng.choice(9, 5, False)], y[rng.choice(7, 5, False)]) for _ in range(3)]
    subsets = distance.subsets(size=5, count=3, seed=11)
    assert (subsets.mean, subsets.std) == pytest.approx((np.mean(wanted), np.std(wanted)), rel=1e-10)


def test_kernel_distance_is_unbiased_and_large_for_disjoint_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    alike, apart = KernelDistance(), KernelDistance()
    alike.real.update(normal(8, 1500, 8))
    alike.fake.update(normal(9, 1500, 8))
    apart.real.update(normal(8, 300, 8) + 5)
    apart.fake.update(normal(9, 300, 8) - 5)
    assert abs(alike.full()) < 0.01 and abs(alike.subsets(count=5).mean) < 0.01
    assert apart.full() > 100
    in_one = apart.full()
    monkeypatch.setattr("show1.evaluation.scores._BLOCK", 7)
    assert apart.full() == pytest.approx(in_one, rel=1e-12)


def test_kernel_distance_of_too_few_or_unlike_samples() -> None:
    distance = KernelDistance()
    distance.real.update(normal(0, 10, 4))
    distance.fake.update(normal(1, 10, 4))
    with pytest.raises(InputError, match="at least 1000 samples"):
        distance.subsets()
    distance.fake = Rows()
    distance.fake.update(normal(1, 10, 3))
    with pytest.raises(InputError, match="widths 4, 3"):
        distance.full()


def test_mean_score_and_its_interval() -> None:
    values = np.array([0.1, 0.4, 0.35, 0.2, 0.9])
    score = MeanScore()
    score.update(values[:2])
    score.update([])
    score.update(values[2:])
    half = 1.96 * values.std(ddof=1) / math.sqrt(5)
    interval = score.interval()
    assert (score.mean, score.variance) == pytest.approx((values.mean(), values.var(ddof=1)))
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-4)
    one = MeanScore()
    one.update([0.5])
    with pytest.raises(InputError, match="at least 2"):
        one.interval()
    with pytest.raises(InputError, match="finite"):
        one.update([math.nan])


@pytest.mark.parametrize(
    ("rows", "positions", "message"),
    [
        (np.zeros(3), None, "(N, 2)"),
        (np.zeros((2, 3)), None, "(N, 2)"),
        (np.full((1, 2), np.inf), None, "finite"),
        (np.zeros((2, 2)), [4, 5], "for all rows or for none"),
        (np.zeros((2, 2)), [4], "as many positions"),
    ],
)
def test_bad_rows(rows: np.ndarray, positions: list[int] | None, message: str) -> None:
    gathered = Rows()
    gathered.update(np.zeros((1, 2)))
    with pytest.raises(InputError) as error:
        gathered.update(rows, positions)
    assert message in str(error.value)


def test_a_video_scored_by_two_shards_is_noticed() -> None:
    gathered = Rows()
    gathered.update(np.zeros((2, 2)), [0, 3])
    gathered.update(np.zeros((1, 2)), [3])
    with pytest.raises(InputError, match="position 3 came twice"):
        gathered.matrix()
    with pytest.raises(InputError, match="no rows"):
        Rows().matrix()


def test_bootstrap_interval_of_a_frechet_distance() -> None:
    real, fake = normal(10, 400, 3), normal(11, 400, 3) + np.float32(1)
    found = bootstrap_frechet(real, fake, resamples=100, seed=1)
    assert found.value == frechet_distance(Gaussian.of(real), Gaussian.of(fake))
    assert found.low < found.value < found.high
    assert found == bootstrap_frechet(real, fake, resamples=100, seed=1)
    assert found != bootstrap_frechet(real, fake, resamples=100, seed=2)
    fewer = bootstrap_frechet(real[:60], fake[:60], resamples=100, seed=1)
    assert fewer.high - fewer.low > 1.5 * (found.high - found.low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(25):
        real, fake = normal(100 + trial, 150, 1), normal(200 + trial, 150, 1) + np.float32(1)
        interval = bootstrap_frechet(real, fake, resamples=60, seed=trial)
        covered += interval.low < 1 < interval.high
    assert covered >= 20


def test_the_bias_of_resampling_is_taken_off() -> None:
    real, fake = normal(12, 60, 20), normal(13, 60, 20)
    found = bootstrap_frechet(real, fake, resamples=60)
    assert found.bias > found.value * 0.3  # the plain percentiles lie above the distance
    assert found.low < found.value < found.high


def test_frames_of_a_video_are_drawn_together() -> None:
    real, fake = normal(14, 40, 2), normal(15, 40, 2) + np.float32(1)
    alone = bootstrap_frechet(real, fake, resamples=60)
    repeated = bootstrap_frechet(np.repeat(real, 4, 0), np.repeat(fake, 4, 0), resamples=60, rows_per_video=4)
    as_if_independent = bootstrap_frechet(np.repeat(real, 4, 0), np.repeat(fake, 4, 0), resamples=60)
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert as_if_independent.high - as_if_independent.low < 0.7 * (alone.high - alone.low)
    with pytest.raises(InputError, match="videos x 3"):
        bootstrap_frechet(real, fake, rows_per_video=3)


def test_extrapolation_removes_the_bias_of_few_videos() -> None:
    real, fake = normal(16, 20000, 16), normal(17, 600, 16)
    found = extrapolated_frechet(real, fake, smallest=100)
    assert found.sizes[0] == 100 and found.sizes[-1] == 600 and len(found.distances) == 15
    assert found.distances[-1] == pytest.approx(frechet_distance(Gaussian.of(real), Gaussian.of(fake)))
    assert found.distances[0] > found.distances[-1] > 0.1
    assert abs(found.value) < 0.5 * found.distances[-1]  # the distributions are equal
    assert found.slope > 0
    with pytest.raises(InputError, match="smallest"):
        extrapolated_frechet(real, fake, smallest=600)


def test_extrapolation_is_the_line_through_its_points() -> None:
    found = extrapolated_frechet(normal(18, 500, 2), normal(19, 100, 2), points=2, smallest=20)
    (n, m), (a, b) = found.sizes, found.distances
    slope = (a - b) / (1 / n - 1 / m)
    assert (found.slope, found.value) == pytest.approx((slope, b - slope / m))


def test_warning_below_the_dimension() -> None:
    assert sample_warnings(real=5000, fake=401, dimension=400) == []
    (only,) = sample_warnings(real=5000, fake=400, dimension=400)
    assert "400 generated samples for 400 features" in only
    assert len(sample_warnings(real=16, fake=16, dimension=400)) == 2
