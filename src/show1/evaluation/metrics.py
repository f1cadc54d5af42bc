"""Turns clips into features, and features into the figures of a report."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from show1.errors import InputError
from show1.evaluation.benchmark_protocol import NEEDS_REAL, Metric
from show1.evaluation.clips import ClipSet
from show1.evaluation.feature_cache import ClipFeatures, clip_features
from show1.evaluation.intervals import Share, bootstrap_frechet, extrapolated_frechet, mean_interval, sample_warnings
from show1.evaluation.probes import Probe
from show1.evaluation.scores import Gaussian, feature_matrix, frechet_distance, inception_score, kernel_distance
from show1.options import counted

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are."""

_WIDE = 1024
_LEAST_FOR_LINE = 10
_CURVES = 3
"""Draws of the subsets; what lies between their curves is luck."""


def read_features(
    side: str,
    clips: ClipSet,
    metrics: Sequence[Metric],
    probes: Mapping[str, Probe],
    folder: Path,
    rule: str,
    on_progress: Progress | None,
) -> dict[str, ClipFeatures]:
    """Computes the features that some metrics need of a set of clips, or reads them from the folder that keeps them.

    Args:
        side: What the clips are, in messages: `real` or `generated`.
        clips: The clips.
        metrics: The metrics.
        probes: Networks by the metrics' labels.
        folder: Folder that keeps features.
        rule: How the clips are cut: an id that changes with it.
        on_progress: Called as the work advances.

    Returns:
        Features by the networks' names.

    Raises:
        InputError: No clip can be read.
    """
    used = {probe.name: probe for probe in (probes[metric.label] for metric in metrics)}
    show = None if on_progress is None else partial(on_progress, f"features of {side} videos")
    features = clip_features(clips, list(used.values()), folder, rule=rule, on_clip=show)
    for found in features.values():
        if not len(found.rows):
            first = found.rejected[0]
            raise InputError(f"no {side} video can be read, of {len(clips)}; the first is {first.key}: {first.reason}")
    return features


def count_used(clips: ClipSet, features: Mapping[str, ClipFeatures]) -> dict[str, Any]:
    """Returns how many clips of a set were used, and which were not, with the reason: JSON types."""
    rejected = next((found.rejected for found in features.values()), ())
    return {
        "listed": len(clips),
        "used": len(clips) - len(rejected),
        "rejected": [{"key": r.key, "reason": r.reason} for r in rejected],
        "fingerprint": clips.fingerprint,
    }


def warnings_of(figures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the warnings of all figures, each with its metric's name."""
    return [f"{figure['metric']}: {note}" for figure in figures for note in figure["warnings"]]


def _figure(
    metric: Metric, probe: Probe, fake: ClipFeatures, real: ClipFeatures | None, *, resamples: int
) -> dict[str, Any]:
    """One figure with its interval, its limit at many videos, and warnings."""
    found = _about(metric, probe, fake)
    if real is not None and metric.name in NEEDS_REAL:
        found["real"] = len(real.rows)
    if metric.name == "is":
        return found | _inception(fake, metric.splits)
    if metric.name == "clipsim":
        return found | _clipsim(fake)
    if real is None:
        raise InputError(f"{metric.label} compares with real videos, and there are none")
    for side, features in (("real", real), ("generated", fake)):
        if len(features.rows) < 2:
            raise InputError(
                f"{metric.label} needs at least 2 {side} videos that can be read, got {len(features.rows)}"
            )
    if metric.name == "kvd":
        return found | {"value": kernel_distance(real.matrix, fake.matrix)}
    return found | _frechet(fake, real, resamples)


def _about(metric: Metric, probe: Probe, fake: ClipFeatures) -> dict[str, Any]:
    return {
        "metric": metric.label,
        "name": metric.name,
        "network": metric.network,
        "network_sha256": probe.sha256,
        "generated": len(fake.rows),
        "real": None,
        "dimension": int(fake.rows.shape[-1]),
        "warnings": [],
    }


def _frechet(fake: ClipFeatures, real: ClipFeatures, resamples: int) -> dict[str, Any]:
    rows = fake.rows.shape[1]
    sides = (real.matrix, fake.matrix)
    width = fake.rows.shape[-1]
    found: dict[str, Any] = {
        "value": frechet_distance(*(Gaussian.of(side) for side in sides)),
        "warnings": sample_warnings(real=len(sides[0]), fake=len(sides[1]), dimension=width),
    }
    if (draws := resamples // 10 if width > _WIDE else resamples) >= 2:
        low, high = bootstrap_frechet(*sides, resamples=draws, rows_per_video=rows)
        found |= {"low": low, "high": high, "resamples": draws}
    if len(fake.rows) >= _LEAST_FOR_LINE:
        lines = [extrapolated_frechet(*sides, rows_per_video=rows, seed=seed) for seed in range(_CURVES)]
        found["extrapolation"] = {
            "value": float(np.mean([line.value for line in lines])),
            "slope": float(np.mean([line.slope for line in lines])),
            "sizes": list(lines[0].sizes),
            "distances": [list(line.distances) for line in lines],
        }
    return found


def _inception(fake: ClipFeatures, splits: int) -> dict[str, Any]:
    used = min(splits, len(fake.rows))
    mean, deviation = inception_score(fake.matrix, splits=used)
    notes = []
    if len(fake.rows) < 100 * splits:
        notes = [
            f"{counted(len(fake.rows), 'video')} in {counted(used, 'split')}: the Inception Score of few videos is too "
            "low; compare it only with figures at the same number"
        ]
    return {"value": mean, "std": deviation, "splits": used, "warnings": notes}


def _alignment(metric: Metric, probe: Probe, fake: ClipFeatures) -> list[dict[str, Any]]:
    """A figure for each criterion: the share of videos for which it holds."""
    found = []
    for criterion, held in zip(probe.criteria, fake.matrix.T > 0.5, strict=True):
        share = Share.of(held.tolist())
        low, high = share.interval
        about = _about(metric, probe, fake) | {"metric": f"{metric.name}:{criterion}", "criterion": criterion}
        found.append(about | {"value": share.share, "low": low, "high": high})
    return found


def _clipsim(fake: ClipFeatures) -> dict[str, Any]:
    scores = feature_matrix(fake.matrix)[:, 0]
    found = {"value": float(scores.mean())}
    if len(scores) > 1:
        found["low"], found["high"] = mean_interval(scores)
    return found


def figures_of(
    metrics: Sequence[Metric],
    probes: Mapping[str, Probe],
    fake: Mapping[str, ClipFeatures],
    real: Mapping[str, ClipFeatures],
    *,
    resamples: int,
) -> list[dict[str, Any]]:
    """Computes all figures, with their intervals, their limits at many videos, and warnings.

    Args:
        metrics: The metrics.
        probes: Networks by the metrics' labels.
        fake: Features of generated videos, by the networks' names.
        real: Features of real ones, for the metrics that compare.
        resamples: Number of bootstrap resamples, of which networks of more than 1,024 features use a tenth; 0: no
            intervals.

    Raises:
        InputError: Too few videos.
    """
    found = []
    for metric in metrics:
        probe = probes[metric.label]
        if metric.name == "alignment":
            found += _alignment(metric, probe, fake[probe.name])
        else:
            found.append(_figure(metric, probe, fake[probe.name], real.get(probe.name), resamples=resamples))
    return found
