"""Feature networks, ready to be called with videos."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from show1.errors import CheckpointError, InputError
from show1.evaluation.clip_score import ClipScore
from show1.evaluation.feature_networks import NETWORKS, FeatureNetwork, FeatureOptions, find_file, verified_sha256
from show1.evaluation.preprocessing import Videos, check_videos, preprocess


class FeatureExtractor:
    """A loaded feature network, to be called with videos."""

    def __init__(
        self, network: FeatureNetwork, *, path: Path, sha256: str, forward: Callable[[Tensor], Tensor]
    ) -> None:
        """Wraps what computes the features.

        Args:
            network: Its entry in the registry.
            path: File or folder that it was loaded from.
            sha256: Computed from the file, for reports.
            forward: Takes checked videos, gives features.
        """
        self.network = network
        self.path = path
        self.sha256 = sha256
        self._forward = forward

    def __call__(self, videos: Videos) -> NDArray[np.float32]:
        """Computes features; where a network takes single frames, those of a video follow one another.

        Args:
            videos: (B, F, H, W, 3), uint8 RGB.

        Returns:
            (B, D), or (B*F, D) if `network.per_frame`.

        Raises:
            InputError: Not such videos, or too few or too many frames.
            CheckpointError: The file is another network's.
        """
        checked = check_videos(videos)
        frames = checked.shape[1]
        _check_frames(self.network, frames)
        with torch.no_grad():
            features = self._forward(checked).flatten(1).float().cpu().numpy()
        wanted = (len(checked) * (frames if self.network.per_frame else 1), self.network.dimension)
        if features.shape != wanted:
            raise CheckpointError(
                f"{self.path} gives features {features.shape}, expected {wanted}; it belongs to another network"
            )
        return np.ascontiguousarray(features)


def load_features(name: str, options: FeatureOptions) -> FeatureExtractor:
    """Finds a feature network in a folder, else in the cache, else downloads and verifies it.

    Args:
        name: One of `NETWORKS`.
        options: Where it comes from and computes; CLIP lies in the folder as transformers saves it.

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
        return FeatureExtractor(network, path=clip.path, sha256=clip.sha256, forward=clip.embed_frames)
    path = find_file(network, options)
    digest = verified_sha256(network, path)
    module = _load_torchscript(network, path).to(options.device)
    arguments = dict(network.arguments)

    def forward(videos: Tensor) -> Tensor:
        features: Tensor = module(preprocess(videos, network.preprocessing).to(options.device), **arguments)
        return features

    return FeatureExtractor(network, path=path, sha256=digest, forward=forward)


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
