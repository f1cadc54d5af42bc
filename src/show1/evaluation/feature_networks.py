"""The feature networks of the published metrics: where they come from, and how to get their files."""

import hashlib
import logging
from dataclasses import dataclass, replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from show1.errors import CheckpointError, ModelNotFoundError
from show1.evaluation.preprocessing import Preprocessing
from show1.files import cache_dir, cached_sha256, write_atomically

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class FeatureNetwork:
    """A network whose features a metric compares."""

    name: str
    """Name in the registry and in reports."""
    file: str
    """Name of its file, in a folder or in the cache."""
    address: str | None
    """URL, or Hub repository@commit; None: no TorchScript file is published, so a local one must be given."""
    sha256: str | None
    """Hash of the file; None: none is published, so reports record the computed one, and nothing is verified."""
    preprocessing: Preprocessing
    """Preprocessing of videos; see `show1.evaluation.preprocessing.preprocess`."""
    dimension: int
    """Dimension of a feature."""
    source: str
    """Who published it, and what a user should know about it."""
    arguments: tuple[tuple[str, bool], ...] = ()
    """Named arguments of the TorchScript call."""
    part: str | None = None
    """Submodule that is called instead of the whole."""
    per_frame: bool = False
    """Whether it gives one feature per frame instead of per video."""
    min_frames: int = 1
    """Smallest number of frames that it takes."""
    max_frames: int | None = None
    """Largest number of frames that it takes; None: any."""


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """Where feature networks come from and where they compute."""

    folder: Path | None = None
    """Folder in which their files are looked for first; then the cache is, then they are downloaded."""

    device: str = "cpu"
    """Device that computes."""

    local_files_only: bool = False
    """Do not download."""


_I3D = FeatureNetwork(
    name="i3d-stylegan-v",
    file="i3d_torchscript.pt",
    address="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
    sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
    preprocessing="as-is",
    dimension=400,
    min_frames=10,
    arguments=(("rescale", True), ("resize", True), ("return_features", True)),
    source="I3D on Kinetics-400 as StyleGAN-V (arXiv:2112.14683) calls it: the network squashes to 224x224 itself; "
    "the same file is in huggingface.co/flateon/FVD-I3D-torchscript",
)
_INCEPTION = FeatureNetwork(
    name="inception-clean-fid",
    file="inception-2015-12-05.pt",
    address="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    preprocessing="clean-fid",
    dimension=2048,
    part="layers",
    per_frame=True,
    source="Inception-v3 of 2015-12-05 as TorchScript (NVIDIA), frames resized as clean-fid (arXiv:2104.11222)",
)
_ALL = (
    _I3D,
    replace(
        _I3D,
        name="i3d-stylegan-v-crop",
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
    _INCEPTION,
    replace(
        _INCEPTION,
        name="inception-torch-fidelity",
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


def find_file(network: FeatureNetwork, options: FeatureOptions) -> Path:
    """Finds a network's file in the folder of the options, else in the cache, else downloads it.

    Raises:
        ModelNotFoundError: The file is not on this disk, and it may not or cannot be downloaded.
        CheckpointError: The downloaded file has the wrong hash.
    """
    cached = cache_dir() / "features" / network.file
    for path in [cached] if options.folder is None else [options.folder / network.file, cached]:
        if path.is_file():
            return path
    if network.address is None:
        raise _missing(network, options, "is not on this disk and cannot be downloaded")
    if options.local_files_only:
        raise _missing(network, options, "is not on this disk")
    logger.info("downloading %s from %s", network.file, network.address)
    write_atomically(cached, lambda partial: _download(network, options, partial))
    return cached


def _download(network: FeatureNetwork, options: FeatureOptions, partial: Path) -> None:
    """Fills a file from the network's address; it is only kept if size and hash are right."""
    digest, size = hashlib.sha256(), 0
    try:
        response = urlopen(Request(str(network.address), headers={"User-Agent": "show1"}), timeout=60)
    except (OSError, HTTPException, ValueError) as error:
        raise _unreachable(network, options, error) from error
    with response, partial.open("wb") as file:
        while chunk := _read(response, network, options):
            digest.update(chunk)
            size += file.write(chunk)
        announced = response.headers.get("Content-Length")
    if announced is not None and size != int(announced):
        raise _unreachable(network, options, OSError(f"{size} of {announced} bytes arrived"))
    if network.sha256 not in (None, digest.hexdigest()):
        raise _wrong_hash(network, str(network.address), digest.hexdigest())


def _read(response: HTTPResponse, network: FeatureNetwork, options: FeatureOptions) -> bytes:
    try:
        return response.read(_CHUNK)
    except (OSError, HTTPException) as error:
        raise _unreachable(network, options, error) from error


def verified_sha256(network: FeatureNetwork, path: Path) -> str:
    """Returns the hash of a network's file.

    Raises:
        CheckpointError: Another one than the published.
    """
    digest = cached_sha256(path)
    if network.sha256 is None:
        logger.warning("no hash of %s is published; %s has sha256 %s", network.file, path, digest)
    elif digest != network.sha256:
        raise _wrong_hash(network, str(path), digest)
    return digest


def _missing(network: FeatureNetwork, options: FeatureOptions, what: str) -> ModelNotFoundError:
    origin = "no address of it is known" if network.address is None else f"it comes from {network.address}"
    known = f", sha256 {network.sha256}" if network.sha256 else ""
    return ModelNotFoundError(
        f"{network.file} of the feature network {network.name} {what}: put it into "
        f"{options.folder or cache_dir() / 'features'}; {origin}{known}; {network.source}"
    )


def _unreachable(network: FeatureNetwork, options: FeatureOptions, error: Exception) -> ModelNotFoundError:
    reason = error.reason if type(error) is URLError else error
    return _missing(network, options, f"is not on this disk and its download failed ({reason})")


def _wrong_hash(network: FeatureNetwork, where: str, digest: str) -> CheckpointError:
    return CheckpointError(
        f"{where} is not the {network.file} of {network.name}: sha256 {digest}, expected {network.sha256}; delete it "
        f"and take it from {network.address}"
    )
