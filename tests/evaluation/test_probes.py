"""Feature networks: resize rules against formulas written out, and a small TorchScript through the whole way."""

import hashlib
import logging
import math
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from show1.errors import CheckpointError, InputError, ModelNotFoundError
from show1.evaluation.feature_networks import NETWORKS, FeatureOptions
from show1.evaluation.preprocessing import (
    Preprocessing,
    check_videos,
    clean_fid,
    crop,
    preprocess,
    squash,
    torch_fidelity,
)
from show1.evaluation.probes import Probe, load_features
from show1.evaluation.scores import Gaussian, frechet_distance
from show1.files import cache_dir


class TinyI3D(nn.Module):
    """Takes what the I3D of StyleGAN-V takes, gives mean colours."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 400)

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        assert return_features
        x = x.mean(dim=[2, 3, 4])
        if rescale:
            assert resize
            x = x * 2 / 255 - 1
        return self.head(x)


class TinyInception(nn.Module):
    """Has the submodule that is called in the published Inception."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(299), nn.Conv2d(3, 2048, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x


def save(module: nn.Module, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.fixture
def i3d(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyI3D:
    """In `tmp_path / "networks"`, with its hash in the registry."""
    monkeypatch.setenv("SHOW1_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    module = TinyI3D()
    digest = save(module, tmp_path / "networks" / "i3d_torchscript.pt")
    for name in ("i3d-stylegan-v", "i3d-stylegan-v-crop"):
        monkeypatch.setitem(NETWORKS, name, replace(NETWORKS[name], sha256=digest))
    return module


@pytest.fixture
def served(tmp_path: Path, i3d: TinyI3D, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of `tmp_path / "networks"`; of short.pt, only 10 of 100 bytes arrive."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            if not self.path.endswith("short.pt"):
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(bytes(10))

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "networks")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def rows(probe: Probe, videos: np.ndarray) -> np.ndarray:
    """All features of some videos, (N, D)."""
    return np.concatenate(probe.compute(videos, ()))


def test_features_of_a_local_network_in_the_range_that_it_takes(tmp_path: Path, i3d: TinyI3D) -> None:
    videos = noise(2, 10, 8, 6)
    probe = load_features("i3d-stylegan-v", FeatureOptions(folder=tmp_path / "networks", local_files_only=True))
    wanted = i3d.head(torch.from_numpy(videos.mean((1, 2, 3))).float() * 2 / 255 - 1)
    np.testing.assert_allclose(rows(probe, videos), wanted.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert probe.sha256 == NETWORKS["i3d-stylegan-v"].sha256
    np.testing.assert_allclose(rows(probe, videos[1:]), rows(probe, videos)[1:], rtol=1e-5)
    flipped = rows(probe, videos[..., ::-1])
    assert not np.allclose(flipped, rows(probe, videos), atol=1e-4)  # BGR is another video


def test_the_cropped_variant_is_scaled_before_the_network(tmp_path: Path, i3d: TinyI3D) -> None:
    grey = np.full((1, 10, 8, 6, 3), 255, dtype=np.uint8)
    probe = load_features("i3d-stylegan-v-crop", FeatureOptions(folder=tmp_path / "networks", local_files_only=True))
    np.testing.assert_allclose(rows(probe, grey), i3d.head(torch.ones(1, 3)).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_frechet_video_distance_from_videos_to_number(tmp_path: Path, i3d: TinyI3D) -> None:
    probe = load_features("i3d-stylegan-v", FeatureOptions(folder=tmp_path / "networks", local_files_only=True))
    videos = noise(12, 10, 6, 6)
    real, fake = rows(probe, videos), rows(probe, videos // 2)
    first, second = (Gaussian.of(side) for side in (real, fake))
    assert frechet_distance(first, first) < 1e-3 * frechet_distance(first, second)
    # the features are linear in the mean colours, so they can be computed here
    colours = [side.mean((1, 2, 3)) * 2 / 255 - 1 for side in (videos.astype(float), (videos // 2).astype(float))]
    weight = i3d.head.weight.detach().double().numpy()
    wanted = [Gaussian.of(side @ weight.T + i3d.head.bias.detach().double().numpy()) for side in colours]
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(*wanted), rel=1e-3)


def test_inception_gives_a_feature_for_each_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = TinyInception()
    digest = save(module, tmp_path / "inception-2015-12-05.pt")
    for name in ("inception-clean-fid", "inception-torch-fidelity"):
        monkeypatch.setitem(NETWORKS, name, replace(NETWORKS[name], sha256=digest))
        probe = load_features(name, FeatureOptions(folder=tmp_path, local_files_only=True))
        found = rows(probe, noise(2, 3, 5, 4))
        inputs = preprocess(noise(2, 3, 5, 4), NETWORKS[name].preprocessing)
        assert inputs.shape == (6, 3, 299, 299)
        np.testing.assert_allclose(found, module.layers(inputs).flatten(1).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [9, 1])
def test_too_few_frames(tmp_path: Path, i3d: TinyI3D, frames: int) -> None:
    probe = load_features("i3d-stylegan-v", FeatureOptions(folder=tmp_path / "networks", local_files_only=True))
    with pytest.raises(InputError, match=f"at least 10 frames, got {frames}"):
        rows(probe, noise(1, frames, 4, 4))


def test_a_network_without_a_published_hash_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    digest = save(nn.Flatten(), tmp_path / "c3d_ucf101.pt")
    assert NETWORKS["c3d-ucf101"].sha256 is None
    with caplog.at_level(logging.WARNING):
        probe = load_features("c3d-ucf101", FeatureOptions(folder=tmp_path, local_files_only=True))
    assert probe.sha256 == digest and digest in caplog.text
    with pytest.raises(InputError, match="16 to 16 frames, got 17"):
        rows(probe, noise(1, 17, 2, 2))
    with pytest.raises(CheckpointError, match=r"features \(1, 192\), expected \(1, 101\)"):
        rows(probe, noise(1, 16, 2, 2))


def test_wrong_hash(tmp_path: Path, i3d: TinyI3D) -> None:
    file = tmp_path / "networks" / "i3d_torchscript.pt"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError) as error:
        load_features("i3d-stylegan-v", FeatureOptions(folder=tmp_path / "networks"))
    for part in (str(file), "sha256", str(NETWORKS["i3d-stylegan-v"].sha256), "delete it"):
        assert part in str(error.value)


def test_offline_names_file_place_and_origin(tmp_path: Path, i3d: TinyI3D) -> None:
    network = NETWORKS["i3d-stylegan-v"]
    with pytest.raises(ModelNotFoundError) as error:
        load_features(network.name, FeatureOptions(folder=tmp_path / "other", local_files_only=True))
    for part in (network.file, str(tmp_path / "other"), str(network.address), str(network.sha256)):
        assert part in str(error.value)
    with pytest.raises(ModelNotFoundError) as error:
        load_features("i3d-tats", FeatureOptions())  # nothing to download
    for part in (
        "i3d_tats_torchscript.pt",
        str(cache_dir() / "features"),
        "no address of it is known",
        "torch.jit.trace",
    ):
        assert part in str(error.value)


def test_weights_that_are_no_torchscript(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "i3d_tats_torchscript.pt")
    with pytest.raises(CheckpointError, match="torch.jit.trace"):
        load_features("i3d-tats", FeatureOptions(folder=tmp_path))


def test_no_such_network() -> None:
    with pytest.raises(InputError, match="i3d-stylegan-v, "):
        load_features("i3d", FeatureOptions())


def test_download_is_verified_and_cached(tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = replace(NETWORKS["i3d-stylegan-v"], address=f"{served}/i3d_torchscript.pt")
    monkeypatch.setitem(NETWORKS, network.name, network)
    first = load_features(network.name, FeatureOptions())
    cached = cache_dir() / "features" / network.file
    assert cached.read_bytes() == (tmp_path / "networks" / network.file).read_bytes()
    again = load_features(network.name, FeatureOptions(folder=tmp_path / "other", local_files_only=True))
    np.testing.assert_array_equal(rows(first, noise(1, 10, 4, 4)), rows(again, noise(1, 10, 4, 4)))


@pytest.mark.parametrize("trouble", ["hash", "missing", "short"])
def test_a_bad_download_leaves_nothing(served: str, trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = {"hash": "i3d_torchscript.pt", "missing": "nothing.pt", "short": "short.pt"}[trouble]
    wrong = replace(NETWORKS["i3d-stylegan-v"], address=f"{served}/{name}", sha256="0" * 64)
    if trouble == "short":
        wrong = replace(wrong, sha256=None)
    monkeypatch.setitem(NETWORKS, wrong.name, wrong)
    expected = {
        "hash": (CheckpointError, "0000"),
        "missing": (ModelNotFoundError, "404"),
        "short": (ModelNotFoundError, "10 of 100 bytes"),
    }
    kind, message = expected[trouble]
    with pytest.raises(kind, match=message):
        load_features(wrong.name, FeatureOptions())
    assert list((cache_dir() / "features").iterdir()) == []


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        (noise(1, 2, 4, 4).astype(np.float32) / 255, "uint8 in 0..255, got torch.float32"),
        (noise(1, 2, 4, 4).astype(np.int64), "uint8"),
        (noise(2, 4, 4), r"\(B, F, H, W, 3\), got \(2, 4, 4, 3\)"),
        (noise(1, 2, 4, 4).transpose(0, 4, 1, 2, 3), "channels come last"),
        (noise(0, 2, 4, 4), r"got \(0, 2"),
    ],
)
def test_traps_of_range_and_shape(videos: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_videos(videos)


def test_a_read_only_array_is_no_trouble() -> None:
    videos = noise(1, 1, 4, 4)
    videos.flags.writeable = False
    assert check_videos(videos).shape == (1, 1, 4, 4, 3)


def bilinear(image: np.ndarray, height: int, width: int, *, centred: bool) -> np.ndarray:
    """Bilinear without antialias, pixel by pixel; aligned are the pixels' centres (torch), or the first pixels."""
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y, x = i * image.shape[0] / height, j * image.shape[1] / width
            if centred:
                y, x = y + image.shape[0] / height / 2 - 0.5, x + image.shape[1] / width / 2 - 0.5
            y, x = max(y, 0), max(x, 0)
            top, left = int(y), int(x)
            below, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
            upper = image[top, left] * (1 - x + left) + image[top, right] * (x - left)
            lower = image[below, left] * (1 - x + left) + image[below, right] * (x - left)
            result[i, j] = upper * (1 - y + top) + lower * (y - top)
    return result


def test_squash_is_bilinear_without_antialias() -> None:
    videos = noise(2, 3, 20, 7)
    found = squash(videos, 9)
    assert found.shape == (2, 3, 3, 9, 9)
    wanted = bilinear(videos[1, 2, :, :, 0].astype(float), 9, 9, centred=True) / 127.5 - 1
    np.testing.assert_allclose(found[1, 0, 2].numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 31), (31, 20)])
def test_crop_keeps_the_proportions(shape: tuple[int, int]) -> None:
    videos = noise(1, 2, *shape)
    found = crop(videos, 9)
    long = math.ceil(31 * 9 / 20)  # 14
    height, width = (9, long) if shape[0] < shape[1] else (long, 9)
    whole = bilinear(videos[0, 1, :, :, 2].astype(float), height, width, centred=True) / 127.5 - 1
    top, left = (height - 9) // 2, (width - 9) // 2
    np.testing.assert_allclose(found[0, 2, 1].numpy(), whole[top : top + 9, left : left + 9], atol=1e-5)


def test_crop_of_a_square_loses_nothing() -> None:
    assert all(torch.equal(crop(noise(1, 1, n, n), 224), squash(noise(1, 1, n, n), 224)) for n in (49, 57, 224))


def test_torch_fidelity_aligns_the_first_pixels() -> None:
    videos = noise(1, 2, 5, 8)
    found = torch_fidelity(videos, 31)
    wanted = (bilinear(videos[0, 1, :, :, 1].astype(float), 31, 31, centred=False) - 128) / 128
    np.testing.assert_allclose(found[1, 1].numpy(), wanted, atol=1e-4)


def test_clean_fid_keeps_the_fractions() -> None:
    videos = noise(1, 2, 40, 30)
    found = clean_fid(videos, 16)
    channel = Image.fromarray(videos[0, 1, :, :, 2].astype(np.float32), mode=None)
    wanted = (np.asarray(channel.resize((16, 16), Image.Resampling.BICUBIC)) - 128) / 128
    np.testing.assert_array_equal(found[1, 2].numpy(), wanted)
    assert not torch.equal(found * 128, (found * 128).round())
    assert float(found.std()) < 0.5 * float(np.std(videos / 128))  # antialiased: noise averages out


def test_as_is_moves_the_axes_alone() -> None:
    videos = noise(2, 3, 4, 5)
    found = preprocess(videos, "as-is")
    assert found.shape == (2, 3, 3, 4, 5) and found.dtype == torch.float32
    assert float(found[1, 2, 0, 3, 4]) == videos[1, 0, 3, 4, 2]
    with pytest.raises(InputError, match="no such preprocessing"):
        preprocess(videos, "clip")


@pytest.mark.parametrize("rule", ["squash", "crop", "clean-fid", "torch-fidelity"])
def test_black_and_white_keep_their_range(rule: Preprocessing) -> None:
    both = np.stack([np.zeros((1, 6, 8, 3), np.uint8), np.full((1, 6, 8, 3), 255, np.uint8)])
    black, white = preprocess(both, rule)
    top = 1.0 if rule in ("squash", "crop") else 127 / 128
    assert float(black.min()) == pytest.approx(-1) == float(black.max())
    assert float(white.min()) == pytest.approx(top) and float(white.max()) == pytest.approx(top)
