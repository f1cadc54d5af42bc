"""Shows where the time of scoring goes: the feature network's forward against everything else.

    python -m benchmarks.metrics.speed --clips 2048 --device cuda
    python -m benchmarks.metrics.speed --clips 32 --threads 2

Clips of 16 frames of 256x256 are written as lossless videos, then scored as `show1 evaluate score` does, by a
network of the layers of C3D (arXiv:1412.0767) with random weights.
"""

import argparse
import datetime
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from show1.evaluation import probes
from show1.evaluation.benchmark_protocol import Metric
from show1.evaluation.clips import ClipRule
from show1.evaluation.feature_networks import NETWORKS, FeatureNetwork, FeatureOptions
from show1.evaluation.folder_scores import score_folders
from show1.video import Video

_FRAMES, _SIDE = 16, 256


class C3D(nn.Module):
    """The layers of C3D: eight convolutions, five poolings, three linear layers; 128x171 frames cut to 112x112."""

    def __init__(self) -> None:
        super().__init__()
        widths, layers, before = ((64,), (128,), (256, 256), (512, 512), (512, 512)), [], 3
        for i, block in enumerate(widths):
            for width in block:
                layers += [nn.Conv3d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            size = (1, 2, 2) if i == 0 else (2, 2, 2)
            layers.append(nn.MaxPool3d(size, size, padding=(0, 1, 1) if i == 4 else 0))
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(8192, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU())
        self.classes = nn.Linear(4096, 101)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 16, H, W) in 0 to 255 -> (B, 101) probabilities."""
        x = x.float() / 127.5 - 1
        x = nn.functional.interpolate(x, size=[16, 112, 112], mode="trilinear")
        return self.classes(self.head(self.features(x).flatten(1))).softmax(1)


def write_clips(folder: Path, count: int) -> None:
    """Moving gradients with a little noise: neither trivial to decode, nor as slow as pure noise."""
    y, x = np.mgrid[0:_SIDE, 0:_SIDE]
    for i in range(count):
        rng = np.random.default_rng(i)
        shades = [(x * (i % 5 + 1) + y + 8 * f) % 256 for f in range(_FRAMES)]
        frames = np.stack([np.stack([s, s.T, 255 - s], -1) for s in shades]) + rng.integers(-2, 3, (1, _SIDE, _SIDE, 1))
        Video(frames=frames.clip(0, 255).astype(np.uint8), fps=8.0).save(folder / f"{i:05d}.mkv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    inside = 0.0
    load = probes._load_torchscript

    def timed(network: FeatureNetwork, path: Path) -> nn.Module:
        module = load(network, path)

        class Timed(nn.Module):
            def forward(self, *inputs: Tensor, **options: Any) -> Tensor:
                nonlocal inside
                start = time.perf_counter()
                found: Tensor = module.to(inputs[0].device)(*inputs, **options)
                found = found.cpu()  # the device has finished
                inside += time.perf_counter() - start
                return found

        return Timed()

    probes._load_torchscript = timed
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["SHOW1_CACHE"] = str(folder / "cache")
        (folder / "clips").mkdir()
        (folder / "networks").mkdir()
        write_clips(folder / "clips", arguments.clips)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.script(C3D().eval()).save(str(folder / "networks" / NETWORKS["c3d-ucf101"].file))
        options = FeatureOptions(folder=folder / "networks", device=arguments.device, local_files_only=True)
        start = time.perf_counter()
        score_folders(
            None,
            folder / "clips",
            [Metric(name="is", network="c3d-ucf101")],
            rule=ClipRule(frames=_FRAMES),
            options=options,
        )
        total = time.perf_counter() - start
    print(f"{arguments.clips} clips of {_FRAMES}x{_SIDE}x{_SIDE}, {arguments.device}, {arguments.threads} threads:")
    print(f"{total:.1f} s in all, {inside:.1f} s ({inside / total:.1%}) in the network's forward")
    print(f"torch {torch.__version__}, {datetime.date.today()}")


if __name__ == "__main__":
    main()
