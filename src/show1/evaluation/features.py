"""Feature networks of the published metrics: where they come from, what they are fed, and how to get them.

All videos are uint8 RGB (B, F, H, W, 3) in 0..255. The order of channels cannot be seen in the numbers: OpenCV gives
BGR, which must be turned round first, or every score is silently wrong.
"""

import hashlib
import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from show1.errors import CheckpointError, InputError, ModelNotFoundError
from show1.files import cache_dir, cached_sha256, write_atomically

logger = logging.getLogger(__name__)

Preprocessing = Literal["as-is", "squash", "crop", "clean-fid", "torch-fidelity", "clip"]
Videos = Tensor | NDArray[np.uint8]
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class FeatureNetwork:
    """A network whose features a metric compares."""

    name: str
    """In the registry and in reports."""
    file: str
    """Name of its file, in a folder or in the cache."""
    address: str | None
    """URL, or Hub repository@commit; None: no TorchScript file is published, so a local one must be given."""
    sha256: str | None
    """Of the file; None: no hash is published, so reports record what was computed, and nothing is verified."""
    preprocessing: Preprocessing
    """What a video goes through first; see `preprocess`."""
    dimension: int
    """Of a feature."""
    source: str
    """Who published it, and what is to be known."""
    arguments: tuple[tuple[str, bool], ...] = ()
    """Named arguments of the TorchScript call."""
    part: str | None = None
    """Submodule that is called instead of the whole."""
    per_frame: bool = False
    """A feature for each frame instead of each video."""
    min_frames: int = 1
    """Fewest frames it takes."""
    max_frames: int | None = None
    """Most frames it takes."""


_I3D: dict[str, Any] = {
    "file": "i3d_torchscript.pt",
    "address": "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
    "sha256": "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
    "dimension": 400,
    "min_frames": 10,
}
_INCEPTION: dict[str, Any] = {
    "file": "inception-2015-12-05.pt",
    "address": "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    "sha256": "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    "dimension": 2048,
    "part": "layers",
    "per_frame": True,
}
_ALL = (
    FeatureNetwork(
        name="i3d-stylegan-v",
        **_I3D,
        preprocessing="as-is",
        arguments=(("rescale", True), ("resize", True), ("return_features", True)),
        source="I3D on Kinetics-400 as StyleGAN-V (arXiv:2112.14683) calls it: the network squashes to 224x224 itself; "
        "the same file is in huggingface.co/flateon/FVD-I3D-torchscript",
    ),
    FeatureNetwork(
        name="i3d-stylegan-v-crop",
        **_I3D,
        preprocessing="crop",
        arguments=(("rescale", False), ("resize", False), ("return_features", True)),
        source="the file of i3d-stylegan-v, fed as common_metrics_on_video_quality feeds it: shorter side to 224, then "
        "the centre",
    ),
    FeatureNetwork(
        name="i3d-tats",
        file="i3d_tats_torchscript.pt",
        address=None,
        sha256=None,
        preprocessing="squash",
        dimension=400,
        min_frames=10,
        source="I3D as TATS (arXiv:2204.03638) and VideoGPT use it is published as weights alone "
        "(https://github.com/songweige/TATS/blob/main/tats/fvd/i3d_pretrained_400.pt): load them into their "
        "InceptionI3d(400, in_channels=3), trace it in eval mode with torch.jit.trace on a (1, 3, F, 224, 224) input "
        "with as many frames F as your videos have, and save it under this name",
    ),
    FeatureNetwork(
        name="inception-clean-fid",
        **_INCEPTION,
        preprocessing="clean-fid",
        source="Inception-v3 of 2015-12-05 as TorchScript (NVIDIA), frames resized as clean-fid (arXiv:2104.11222)",
    ),
    FeatureNetwork(
        name="inception-torch-fidelity",
        **_INCEPTION,
        preprocessing="torch-fidelity",
        source="Inception-v3 of 2015-12-05 as TorchScript (NVIDIA), frames resized as torch-fidelity and the original "
        "FID (arXiv:1706.08500) do",
    ),
    FeatureNetwork(
        name="c3d-ucf101",
        file="c3d_ucf101.pt",
        address="https://www.dropbox.com/s/jxpu7avzdc9n97q/c3d_ucf101.pt?dl=1",
        sha256=None,
        preprocessing="as-is",
        dimension=101,
        min_frames=16,
        max_frames=16,
        source="C3D tuned on UCF-101 (TGANv2, arXiv:1811.09245), TorchScript by StyleGAN-V: gives class probabilities, "
        "for the Inception Score; it resizes itself; no hash of it is published",
    ),
    FeatureNetwork(
        name="clip-vit-b-32",
        file="pytorch_model.bin",
        address="openai/clip-vit-base-patch32@3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
        sha256="a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
        preprocessing="clip",
        dimension=512,
        per_frame=True,
        source="CLIP ViT-B/32 (arXiv:2103.00020) through transformers: embeddings of frames, of length 1",
    ),
)
NETWORKS: dict[str, FeatureNetwork] = {network.name: network for network in _ALL}
"""Feature networks by name."""


class FeatureExtractor:
    """A feature network that is ready; call it with videos."""

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
            raise CheckpointError(f"{self.path} gives features {features.shape}, expected {wanted}: another network?")
        return np.ascontiguousarray(features)


def load_features(
    name: str, *, folder: Path | None = None, device: torch.device | str = "cpu", local_files_only: bool = False
) -> FeatureExtractor:
    """Finds a feature network in a folder, else in the cache, else downloads and verifies it.

    Args:
        name: One of `NETWORKS`.
        folder: Where its file may lie; CLIP lies there as transformers saves it.
        device: Where it computes.
        local_files_only: Do not download.

    Raises:
        InputError: No such name.
        ModelNotFoundError: Not on this disk, and it may not or cannot be downloaded.
        CheckpointError: The hash is wrong, or the file is no TorchScript.
    """
    if name not in NETWORKS:
        raise InputError(f"there is no feature network {name!r}; there are {', '.join(NETWORKS)}")
    network = NETWORKS[name]
    if network.preprocessing == "clip":
        from show1.evaluation.clip_score import ClipScore

        clip = ClipScore.load(name, folder=folder, device=device, local_files_only=local_files_only)
        return FeatureExtractor(network, path=clip.path, sha256=clip.sha256, forward=clip.embed_frames)
    path = _find(network, folder, local_files_only)
    digest = verified_sha256(network, path)
    module = _load_torchscript(network, path).to(device)
    arguments = dict(network.arguments)

    def forward(videos: Tensor) -> Tensor:
        features: Tensor = module(preprocess(videos, network.preprocessing).to(device), **arguments)
        return features

    return FeatureExtractor(network, path=path, sha256=digest, forward=forward)


def verified_sha256(network: FeatureNetwork, path: Path) -> str:
    """Hash of a network's file.

    Raises:
        CheckpointError: Another one than the published.
    """
    digest = cached_sha256(path)
    if network.sha256 is None:
        logger.warning("no hash of %s is published; %s has sha256 %s", network.file, path, digest)
    elif digest != network.sha256:
        raise _wrong_hash(network, str(path), digest)
    return digest


def check_videos(videos: Videos) -> Tensor:
    """Refuses all but uint8 videos (B, F, H, W, 3).

    Raises:
        InputError: Another type or shape.
    """
    tensor = videos if isinstance(videos, Tensor) else torch.from_numpy(np.require(videos, requirements=["C", "W"]))
    if tensor.dtype != torch.uint8:
        raise InputError(
            f"videos must be uint8 in 0..255, got {tensor.dtype}: scale to 0..255, round and convert; metrics are "
            "computed on what a viewer gets"
        )
    if tensor.ndim != 5 or tensor.shape[-1] != 3 or not tensor.numel():
        raise InputError(f"videos must be (B, F, H, W, 3), got {tuple(tensor.shape)}; channels come last, in RGB")
    return tensor


def preprocess(videos: Videos, rule: Preprocessing) -> Tensor:
    """Makes a network's input from videos (B, F, H, W, 3), uint8 RGB.

    Args:
        videos: As they are seen.
        rule: `as-is`: (B, 3, F, H, W) in 0..255, the network resizes. `squash`, `crop`: see there. `clean-fid`,
            `torch-fidelity`: frames (B*F, 3, 299, 299) in [-1, 1). `clip` belongs to transformers.

    Raises:
        InputError: Not such videos, or no such rule.
    """
    rules: dict[str, Callable[[Videos], Tensor]] = {
        "as-is": _as_is,
        "squash": squash,
        "crop": crop,
        "clean-fid": clean_fid,
        "torch-fidelity": torch_fidelity,
    }
    if rule not in rules:
        raise InputError(f"there is no such preprocessing here: {rule!r}; there are {', '.join(rules)}")
    return rules[rule](videos)


def squash(videos: Videos, size: int = 224) -> Tensor:
    """Bilinear without antialias to a square, whatever the proportions, as TATS and StyleGAN-V do.

    Returns:
        (B, 3, F, size, size) in [-1, 1].
    """
    frames, count = _frames(videos)
    resized = functional.interpolate(frames, size=(size, size), mode="bilinear", align_corners=False)
    return _as_videos(resized, count)


def crop(videos: Videos, size: int = 224) -> Tensor:
    """Bilinear without antialias until the shorter side fits, then the centre, as common_metrics_on_video_quality does.

    Returns:
        (B, 3, F, size, size) in [-1, 1].
    """
    frames, count = _frames(videos)
    height, width = frames.shape[-2:]
    short = min(height, width)
    target = [-(-side * size // short) for side in (height, width)]  # rounded up
    resized = functional.interpolate(frames, size=target, mode="bilinear", align_corners=False)
    top, left = ((side - size) // 2 for side in target)
    return _as_videos(resized[..., top : top + size, left : left + size], count)


def clean_fid(videos: Videos, size: int = 299) -> Tensor:
    """Pillow's bicubic with antialias, in float32 and not clipped, as clean-fid does (arXiv:2104.11222).

    Returns:
        Frames (B*F, 3, size, size) in [-1, 1), and a little beyond where bicubic overshoots.
    """
    from PIL import Image

    frames, _ = _frames(videos)
    resized = np.empty((len(frames), 3, size, size), dtype=np.float32)
    for frame, out in zip(frames.numpy(force=True), resized, strict=True):
        for channel in range(3):
            out[channel] = np.asarray(Image.fromarray(frame[channel]).resize((size, size), Image.Resampling.BICUBIC))
    return (torch.from_numpy(resized) - 128) / 128


def torch_fidelity(videos: Videos, size: int = 299) -> Tensor:
    """TensorFlow 1's bilinear (corners aligned at the top left, no antialias), as torch-fidelity and the first FID do.

    Returns:
        Frames (B*F, 3, size, size) in [-1, 1).
    """
    frames, _ = _frames(videos)
    for axis in (3, 2):
        places = torch.arange(size, dtype=torch.float32, device=frames.device) * (frames.shape[axis] / size)
        low = places.floor().long()
        high = (low + 1).clamp(max=frames.shape[axis] - 1)
        share = (places - low).view([-1 if axis == a else 1 for a in range(4)])
        start = frames.index_select(axis, low)
        frames = start + (frames.index_select(axis, high) - start) * share
    return (frames - 128) / 128


def _as_is(videos: Videos) -> Tensor:
    return check_videos(videos).permute(0, 4, 1, 2, 3).float().contiguous()


def _frames(videos: Videos) -> tuple[Tensor, int]:
    """(B*F, 3, H, W) float32 in 0..255, and B."""
    checked = check_videos(videos)
    return checked.flatten(0, 1).permute(0, 3, 1, 2).float().contiguous(), len(checked)


def _as_videos(frames: Tensor, count: int) -> Tensor:
    """(B*F, 3, H, W) in 0..255 as (B, 3, F, H, W) in [-1, 1]."""
    return frames.reshape(count, -1, *frames.shape[1:]).transpose(1, 2).contiguous() * 2 / 255 - 1


def _check_frames(network: FeatureNetwork, frames: int) -> None:
    most = math.inf if network.max_frames is None else network.max_frames
    if not network.min_frames <= frames <= most:
        wanted = f"at least {network.min_frames}" if most == math.inf else f"{network.min_frames} to {most}"
        raise InputError(f"{network.name} takes {wanted} frames, got {frames}: generate or read other lengths")


def _find(network: FeatureNetwork, folder: Path | None, local_files_only: bool) -> Path:
    cached = cache_dir() / "features" / network.file
    for path in [cached] if folder is None else [folder / network.file, cached]:
        if path.is_file():
            return path
    if network.address is None:
        raise _missing(network, folder, "is not on this disk and cannot be downloaded")
    if local_files_only:
        raise _missing(network, folder, "is not on this disk")
    logger.info("downloading %s from %s", network.file, network.address)
    write_atomically(cached, lambda partial: _download(network, folder, partial))
    return cached


def _download(network: FeatureNetwork, folder: Path | None, partial: Path) -> None:
    """Fills a file from the network's address; it is only kept if size and hash are right."""
    digest, size = hashlib.sha256(), 0
    try:
        response = urlopen(Request(str(network.address), headers={"User-Agent": "show1"}), timeout=60)
    except (OSError, HTTPException, ValueError) as error:
        raise _unreachable(network, folder, error) from error
    with response, partial.open("wb") as file:
        while chunk := _read(response, network, folder):
            digest.update(chunk)
            size += file.write(chunk)
        announced = response.headers.get("Content-Length")
    if announced is not None and size != int(announced):
        raise _unreachable(network, folder, OSError(f"{size} of {announced} bytes came"))
    if network.sha256 not in (None, digest.hexdigest()):
        raise _wrong_hash(network, str(network.address), digest.hexdigest())


def _read(response: Any, network: FeatureNetwork, folder: Path | None) -> bytes:
    try:
        chunk: bytes = response.read(_CHUNK)
    except (OSError, HTTPException) as error:
        raise _unreachable(network, folder, error) from error
    return chunk


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


def _missing(network: FeatureNetwork, folder: Path | None, what: str) -> ModelNotFoundError:
    place = cache_dir() / "features" if folder is None else folder
    origin = "there is no address" if network.address is None else f"it comes from {network.address}"
    known = f", sha256 {network.sha256}" if network.sha256 else ""
    return ModelNotFoundError(
        f"{network.file} of the feature network {network.name} {what}: put it into {place}; {origin}{known}; "
        f"{network.source}"
    )


def _unreachable(network: FeatureNetwork, folder: Path | None, error: Exception) -> ModelNotFoundError:
    reason = error.reason if type(error) is URLError else error
    return _missing(network, folder, f"is not on this disk and its download failed ({reason})")


def _wrong_hash(network: FeatureNetwork, where: str, digest: str) -> CheckpointError:
    return CheckpointError(
        f"{where} is not the {network.file} of {network.name}: sha256 {digest}, expected {network.sha256}; delete it "
        f"and take it from {network.address}"
    )
