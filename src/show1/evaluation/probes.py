"""Probes: what computes the features of clips that a metric needs."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from show1.errors import CheckpointError, InputError
from show1.evaluation.benchmark_protocol import Metric, MetricName
from show1.evaluation.clip_score import ClipScore
from show1.evaluation.feature_networks import NETWORKS, FeatureNetwork, FeatureOptions, find_file, verified_sha256
from show1.evaluation.preprocessing import check_videos, preprocess


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Computes features of clips."""

    name: str
    """Name of the network, and of the files that keep its features."""

    sha256: str
    """Hash of the network's weights."""

    compute: Callable[[NDArray[np.uint8], Sequence[str]], NDArray[np.float32]]
    """Takes clips (B, F, H, W, 3) and prompts, gives rows (B, R, D): R is 1, or F where each frame has a row."""

    uses_prompts: bool = False
    """Whether the features depend on prompts."""

    criteria: tuple[str, ...] = ()
    """Names of the D features where each says whether a criterion holds, 0 or 1: for the metric `alignment`."""


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


def load_features(name: str, options: FeatureOptions) -> Probe:
    """Finds a feature network in a folder, else in the cache, else downloads and verifies it.

    Args:
        name: One of `NETWORKS`.
        options: Where it comes from and computes; CLIP lies in the folder as transformers saves it.

    Returns:
        A probe, which raises InputError for clips that are no videos or have too few or too many frames, and
        CheckpointError if the file turns out to be that of another network.

    Raises:
        InputError: No such name.
        ModelNotFoundError: Not on this disk, and it may not or cannot be downloaded.
        CheckpointError: The hash is wrong, or the file is no TorchScript.
    """
    if name not in NETWORKS:
        raise InputError(f"there is no feature network {name!r}; there are {', '.join(NETWORKS)}")
    network = NETWORKS[name]
    if network.preprocessing == "clip":
        clip = ClipScore.load(name, options)
        return _probe(network, clip.path, clip.sha256, clip.embed_frames)
    path = find_file(network, options)
    digest = verified_sha256(network, path)
    module = _load_torchscript(network, path).to(options.device)
    arguments = dict(network.arguments)

    def forward(videos: Tensor) -> Tensor:
        features: Tensor = module(preprocess(videos, network.preprocessing).to(options.device), **arguments)
        return features

    return _probe(network, path, digest, forward)


def _probe(network: FeatureNetwork, path: Path, sha256: str, forward: Callable[[Tensor], Tensor]) -> Probe:
    def compute(clips: NDArray[np.uint8], prompts: Sequence[str]) -> NDArray[np.float32]:
        checked = check_videos(clips)
        count, frames = checked.shape[:2]
        _check_frames(network, frames)
        with torch.no_grad():
            features = forward(checked).flatten(1).float().cpu().numpy()
        rows = frames if network.per_frame else 1
        if features.shape != (count * rows, network.dimension):
            raise CheckpointError(
                f"{path} gives features {features.shape}, expected {(count * rows, network.dimension)}; it belongs to "
                "another network"
            )
        return features.reshape(count, rows, network.dimension)

    return Probe(name=network.name, sha256=sha256, compute=compute)


def _check_frames(network: FeatureNetwork, frames: int) -> None:
    most = math.inf if network.max_frames is None else network.max_frames
    if not network.min_frames <= frames <= most:
        wanted = f"at least {network.min_frames}" if most == math.inf else f"{network.min_frames} to {most}"
        raise InputError(f"{network.name} takes {wanted} frames, got {frames}: generate or read other lengths")


def _load_torchscript(network: FeatureNetwork, path: Path) -> torch.nn.Module:
    load: Callable[..., torch.nn.Module] = torch.jit.load
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, which all published files need
            module = load(str(path), map_location="cpu")
        return (module if network.part is None else getattr(module, network.part)).eval()
    except (RuntimeError, ValueError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path} is not the TorchScript file of {network.name} ({reason}); {network.source}"
        ) from error
