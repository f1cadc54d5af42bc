"""Probes: what computes the features of clips that a metric needs; and the feature networks as probes."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from show1.errors import CheckpointError, InputError
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
