"""Finds the probes of some metrics: feature networks of files, CLIP, and those of plug-ins."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from show1.errors import CheckpointError, InputError
from show1.evaluation.benchmark_protocol import Metric, MetricName
from show1.evaluation.clip_score import ClipScore
from show1.evaluation.feature_networks import NETWORKS, FeatureOptions
from show1.evaluation.features import Probe, load_features


class ProbeSource(Protocol):
    """A feature network that a plug-in brings."""

    @property
    def metrics(self) -> tuple[MetricName, ...]:
        """Metrics that the network serves."""

    def load(self, metric: Metric) -> Probe:
        """Loads the network for a metric."""

    def check_prompt(self, prompt: str) -> None:
        """Raises `InputError` for a prompt that the network cannot judge."""


def load_probes(
    metrics: Sequence[Metric], options: FeatureOptions, sources: Mapping[str, ProbeSource]
) -> dict[str, Probe]:
    """Loads the networks of some metrics, by the metrics' labels; metrics may share one.

    Args:
        metrics: The metrics.
        options: Where networks come from.
        sources: Networks of plug-ins by name.

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
            loaded[kind] = _load_probe(metric, options, sources)
        probe = probes[metric.label] = loaded[kind]
        if metric.sha256 not in (None, probe.sha256):
            raise CheckpointError(
                f"the network of {metric.label} has sha256 {probe.sha256}, the protocol expects {metric.sha256}: take "
                "that file"
            )
    return probes


def _load_probe(metric: Metric, options: FeatureOptions, sources: Mapping[str, ProbeSource]) -> Probe:
    if metric.network in sources:
        source = sources[metric.network]
        if metric.name not in source.metrics:
            raise InputError(f"{metric.label}: the network {metric.network} serves {', '.join(source.metrics)}")
        return source.load(metric)
    if metric.name == "alignment":
        able = [name for name, source in sources.items() if "alignment" in source.metrics]
        raise InputError(f"{metric.label}: no such judge of alignment; there are {', '.join(able) or 'none'}")
    if metric.name == "clipsim":
        return _clip_probe(metric, options)
    network = NETWORKS.get(metric.network)
    if network is not None and network.per_frame != (metric.name == "fid-vid"):
        wants = "a feature for each frame" if metric.name == "fid-vid" else "one feature for each video"
        fitting = [n.name for n in NETWORKS.values() if n.per_frame == (metric.name == "fid-vid")]
        raise InputError(f"{metric.label}: {metric.name} takes {wants}; networks for it are {', '.join(fitting)}")
    return load_features(metric.network, options)


def _clip_probe(metric: Metric, options: FeatureOptions) -> Probe:
    clip = ClipScore.load(metric.network, options)

    def compute(clips: NDArray[np.uint8], prompts: Sequence[str]) -> NDArray[np.float32]:
        return clip.similarity(clips, prompts).astype(np.float32)[:, None, None]

    name = f"clipsim-{Path(metric.network).name}"
    return Probe(name=name, sha256=clip.sha256, compute=compute, uses_prompts=True)
