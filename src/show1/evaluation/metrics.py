"""From features to the figures of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from show1.errors import CheckpointError, InputError
from show1.evaluation.benchmark_protocol import NEEDS_REAL, SPRITE_READER, Metric
from show1.evaluation.feature_cache import ClipFeatures, Probe
from show1.evaluation.features import NETWORKS, load_features
from show1.evaluation.frechet import Gaussian, frechet_distance
from show1.evaluation.scores import (
    InceptionScore,
    KernelDistance,
    MeanScore,
    bootstrap_frechet,
    extrapolated_frechet,
    sample_warnings,
)
from show1.video import Video

NEEDS_PROMPTS = ("clipsim", "alignment")
"""Metrics that compare videos with their prompts."""

HIGHER_IS_BETTER = ("is", "clipsim", "alignment")
"""Of the others lower is better."""

_WIDE = 1024
_LEAST_FOR_LINE = 10
_CURVES = 3
"""Draws of the subsets; what lies between their curves is luck."""


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """Where feature networks come from and where they compute."""

    folder: Path | None = None
    """Where their files may lie; else the cache, else a download."""

    device: str = "cpu"
    """Where they compute."""

    local_files_only: bool = False
    """Do not download."""


def load_probes(metrics: Sequence[Metric], options: FeatureOptions) -> dict[str, Probe]:
    """The networks of some metrics by the metrics' labels; metrics may share one.

    Raises:
        InputError: No such network, or it does not fit the metric.
        ModelNotFoundError: A network's file is not on this disk.
        CheckpointError: It is another file than the metric names.
    """
    loaded: dict[tuple[str, str], Probe] = {}
    probes = {}
    for metric in metrics:
        kind = (metric.network, {"fid-vid": "frames", "clipsim": "text", "alignment": "text"}.get(metric.name, "clips"))
        if kind not in loaded:
            loaded[kind] = _load_probe(metric, options)
        probe = probes[metric.label] = loaded[kind]
        if metric.sha256 not in (None, probe.sha256):
            raise CheckpointError(
                f"the network of {metric.label} has sha256 {probe.sha256}, the protocol expects {metric.sha256}: take "
                "that file"
            )
    return probes


def figure(
    metric: Metric, probe: Probe, fake: ClipFeatures, real: ClipFeatures | None, *, resamples: int = 200
) -> dict[str, Any]:
    """Computes one figure with its interval, its limit at many videos, and what to be careful about.

    Args:
        metric: Which.
        probe: Its network.
        fake: Features of generated videos.
        real: Features of real ones, where the metric compares.
        resamples: Of the bootstrap; a tenth of them at more than 1,024 features; 0: no interval.

    Raises:
        InputError: Too few videos.
    """
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
        distance = KernelDistance()
        distance.real.update(real.matrix)
        distance.fake.update(fake.matrix)
        return found | {"value": distance.full()}
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
        interval = bootstrap_frechet(*sides, resamples=draws, rows_per_video=rows)
        found |= {"low": interval.low, "high": interval.high, "resamples": draws}
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
    score = InceptionScore()
    score.update(fake.matrix)
    used = min(splits, len(fake.rows))
    estimate = score.score(splits=used, seed=2020)
    notes = []
    if len(fake.rows) < 100 * splits:
        notes = [
            f"{len(fake.rows)} videos in {used} splits: the Inception Score of few videos is too low; compare it only "
            "with figures at the same number"
        ]
    return {"value": estimate.mean, "std": estimate.std, "splits": used, "warnings": notes}


def _alignment(metric: Metric, probe: Probe, fake: ClipFeatures) -> list[dict[str, Any]]:
    """A figure for each criterion: the share of videos for which it holds."""
    from show1.sprites.alignment.judge import CRITERIA, Share

    found = []
    for criterion, held in zip(CRITERIA, fake.matrix.T > 0.5, strict=True):
        share = Share.of(held.tolist())
        low, high = share.interval
        about = _about(metric, probe, fake) | {"metric": f"{metric.name}:{criterion}", "criterion": criterion}
        found.append(about | {"value": share.share, "low": low, "high": high})
    return found


def _clipsim(fake: ClipFeatures) -> dict[str, Any]:
    score = MeanScore()
    score.update(fake.rows[:, 0, 0])
    if score.count < 2:
        return {"value": score.mean}
    interval = score.interval()
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _load_probe(metric: Metric, options: FeatureOptions) -> Probe:
    if metric.network == SPRITE_READER:
        return _sprite_probe(metric)
    if metric.name == "clipsim":
        return _clip_probe(metric, options)
    network = NETWORKS.get(metric.network)
    if network is not None and network.per_frame != (metric.name == "fid-vid"):
        wants = "a feature for each frame" if metric.name == "fid-vid" else "one feature for each video"
        fitting = [n.name for n in NETWORKS.values() if n.per_frame == (metric.name == "fid-vid")]
        raise InputError(f"{metric.label}: {metric.name} takes {wants}; networks for it are {', '.join(fitting)}")
    extract = load_features(
        metric.network, folder=options.folder, device=options.device, local_files_only=options.local_files_only
    )

    def compute(clips: NDArray[np.uint8], prompts: Sequence[str]) -> NDArray[np.float32]:
        features = extract(clips)
        return features.reshape(len(clips), -1, features.shape[1])

    return Probe(name=metric.network, sha256=extract.sha256, compute=compute)


def _clip_probe(metric: Metric, options: FeatureOptions) -> Probe:
    from show1.evaluation.clip_score import ClipScore

    clip = ClipScore.load(
        metric.network, folder=options.folder, device=options.device, local_files_only=options.local_files_only
    )

    def compute(clips: NDArray[np.uint8], prompts: Sequence[str]) -> NDArray[np.float32]:
        return clip.similarity(clips, prompts).astype(np.float32)[:, None, None]

    name = f"clipsim-{Path(metric.network).name}"
    return Probe(name=name, sha256=clip.sha256, compute=compute, uses_prompts=True)


def _sprite_probe(metric: Metric) -> Probe:
    """The sprite world's reader: features of frames, their moments over a clip, or what is right of the prompt."""
    from show1.sprites.alignment.judge import SceneJudge, clip_moments
    from show1.sprites.alignment.prompts import read_prompt
    from show1.sprites.readers.subject import reader_sha256

    if metric.name not in (*NEEDS_REAL, "alignment"):
        raise InputError(f"{metric.label}: the sprite reader serves {', '.join(NEEDS_REAL)} and alignment")
    judge = SceneJudge()

    def rows(video: Tensor, prompt: str) -> NDArray[np.float32]:
        if metric.name == "alignment":
            judged = judge.score(video)[0].judged(read_prompt(prompt))
            return np.array([list(judged.values())], dtype=np.float32)
        features: NDArray[np.float32] = judge.reader.read(video).features.numpy()
        return features if metric.name == "fid-vid" else clip_moments(features)[None]

    def compute(clips: NDArray[np.uint8], prompts: Sequence[str]) -> NDArray[np.float32]:
        videos = [Video(frames=np.ascontiguousarray(clip), fps=1.0).to_tensor() for clip in clips]
        return np.stack([rows(video, prompt) for video, prompt in zip(videos, prompts, strict=True)])

    part = {"fid-vid": "frames", "alignment": "alignment"}.get(metric.name, "clips")
    of_prompts = metric.name == "alignment"
    sha256 = "-".join(judge.readers) if of_prompts else reader_sha256()
    return Probe(name=f"{SPRITE_READER}-{part}", sha256=sha256, compute=compute, uses_prompts=of_prompts)


def figures_of(
    metrics: Sequence[Metric],
    probes: Mapping[str, Probe],
    fake: Mapping[str, ClipFeatures],
    real: Mapping[str, ClipFeatures],
    *,
    resamples: int,
) -> list[dict[str, Any]]:
    """All figures; features come by the networks' names."""
    found = []
    for metric in metrics:
        probe = probes[metric.label]
        if metric.name == "alignment":
            found += _alignment(metric, probe, fake[probe.name])
        else:
            found.append(figure(metric, probe, fake[probe.name], real.get(probe.name), resamples=resamples))
    return found
