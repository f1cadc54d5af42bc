"""Compares show1's metrics with those of other packages on the same features.

pip install torch-fidelity torchmetrics        # torch-fidelity pulls torchvision; `--no-deps` and tqdm do as well
python -m benchmarks.metrics.compare           # prints a Markdown table; fails where a difference is too large
python -m benchmarks.metrics.compare --networks DIR       # and published FVDs, if DIR holds i3d_torchscript.pt
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

from show1.evaluation.clip_score import ClipScore
from show1.evaluation.feature_networks import FeatureOptions
from show1.evaluation.probes import load_features
from show1.evaluation.scores import Gaussian, frechet_distance, inception_score, kernel_distance

Matrix = NDArray[np.float64]

CONSTANT_FVD = {10: 570.07320378183, 16: 153.11023578170108, 20: 338.18221898178774, 30: 151.16806952692093}
"""FVD of 8 black videos of 64x64 against 8 white ones, by their number of frames, as the README of
https://github.com/JunyaoHu/common_metrics_on_video_quality gives it for StyleGAN-V's network."""


@dataclass(frozen=True)
class Row:
    """One figure, from here and from elsewhere."""

    what: str
    ours: float
    theirs: float
    package: str
    tolerance: float

    @property
    def difference(self) -> float:
        """Relative difference."""
        return abs(self.ours - self.theirs) / max(abs(self.theirs), 1e-12)


def features(rows: int, width: int, seed: int, *, shift: float = 0.0) -> Matrix:
    """Correlated features, as networks give them."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).standard_normal((width, width)) / width**0.5
    return rng.standard_normal((rows, width)) @ mixing + shift


def frechet_rows() -> Iterator[Row]:
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Flat(torch.nn.Module):
        """Gives "images" back as features."""

        num_features = 64

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)[:, :64]

    for name, width, rows, shift in (("64 features", 64, 500, 0.3), ("400 features, 256 clips", 400, 256, 0.1)):
        real, fake = features(rows, width, 0), features(rows, width, 1, shift=shift)
        ours = frechet_distance(Gaussian.of(real), Gaussian.of(fake))
        statistics = [fid_features_to_statistics(torch.from_numpy(side)) for side in (real, fake)]
        theirs = fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]
        # below full rank torch-fidelity takes roots of eigenvalues that rounding made a little wrong
        yield Row(f"Fréchet distance, {name}", ours, theirs, "torch-fidelity", 1e-6 if rows > width else 1e-4)
        if width == 64:
            metric = FrechetInceptionDistance(feature=Flat(), input_img_size=(3, 8, 8)).set_dtype(torch.float64)
            for side, is_real in ((real, True), (fake, False)):
                images = np.concatenate([side, np.zeros((rows, 192 - width))], axis=1).reshape(rows, 3, 8, 8)
                metric.update(torch.from_numpy(images), real=is_real)
            yield Row(f"Fréchet distance, {name}", ours, float(metric.compute()), "torchmetrics", 1e-6)


def constant_rows(networks: Path) -> Iterator[Row]:
    """The published figures of constant videos, from videos to number with the published network."""
    probe = load_features("i3d-stylegan-v-crop", FeatureOptions(folder=networks, local_files_only=True))
    for frames, published in CONSTANT_FVD.items():
        sides = [probe.compute(np.full((8, frames, 64, 64, 3), level, np.uint8), ())[:, 0] for level in (0, 255)]
        ours = frechet_distance(*(Gaussian.of(side) for side in sides))
        yield Row(f"FVD, black and white, {frames} frames", ours, published, "common_metrics_on_video_quality", 1e-3)


def inception_rows() -> Iterator[Row]:
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    logits = 3 * np.random.default_rng(2).standard_normal((1003, 101))
    mean, deviation = inception_score(torch.from_numpy(logits).softmax(1).numpy(), splits=10)
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=True, rng_seed=2020)
    yield Row("Inception Score, mean of 10 splits", mean, theirs[KEY_METRIC_ISC_MEAN], "torch-fidelity", 1e-6)
    yield Row("Inception Score, deviation", deviation, theirs[KEY_METRIC_ISC_STD], "torch-fidelity", 1e-6)


def kernel_rows() -> Iterator[Row]:
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    real, fake = features(700, 96, 3), features(700, 96, 4, shift=0.2)
    sides = [torch.from_numpy(side) for side in (real, fake)]
    options: dict[str, Any] = {"kid_subsets": 1, "kid_subset_size": 700, "rng_seed": 2020, "verbose": False}
    theirs = kid_features_to_metric(*sides, **options)[KEY_METRIC_KID_MEAN]
    yield Row("KID of 700 samples", kernel_distance(real, fake), theirs, "torch-fidelity", 1e-6)


def clip_rows(folder: Path) -> Iterator[Row]:
    from torchmetrics.multimodal.clip_score import CLIPScore

    words = ["<pad>", "<unk>", "a", "red", "fox", "blue", "whale", "in", "the", "rain"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>")),
        pad_token="<pad>",
        unk_token="<unk>",
    )
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tiny = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**tiny, "vocab_size": len(words), "max_position_embeddings": 16, "bos_token_id": 8, "eos_token_id": 9}
    vision = {**tiny, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=48)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        model.text_projection.weight.neg_()  # else the mean cosine is negative, which torchmetrics reports as 0
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})

    class Adapter:
        """The model as the release of torchmetrics expects it, which wants tensors where transformers gives objects."""

        config = model.config

        def to(self, device: Any) -> "Adapter":
            return self

        def eval(self) -> "Adapter":
            return self

        def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
            found: Any = model.get_image_features(pixel_values=pixels)
            return found if isinstance(found, torch.Tensor) else found.pooler_output

        def get_text_features(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            found: Any = model.get_text_features(input_ids=ids, attention_mask=mask)
            return found if isinstance(found, torch.Tensor) else found.pooler_output

    def processor(text: Any = None, images: Any = None, **_: Any) -> Any:
        if text is not None:
            return tokenizer(text, padding="max_length", max_length=16, return_tensors="pt")
        return image_processor(images=[i.permute(1, 2, 0).numpy() for i in images], return_tensors="pt")

    videos = np.random.default_rng(5).integers(0, 256, (3, 4, 40, 56, 3), dtype=np.uint8)
    prompts = ["a red fox", "a blue whale in the rain", "the fox"]
    clip = ClipScore(model, tokenizer, image_processor, path=folder, sha256="")
    ours = 100 * float(clip.similarity(videos, prompts).mean())
    theirs = CLIPScore(model_name_or_path=lambda: (Adapter(), processor))
    frames = torch.from_numpy(videos).permute(0, 1, 4, 2, 3).flatten(0, 1)
    with torch.no_grad():
        theirs.update(list(frames), [p for p in prompts for _ in range(videos.shape[1])])
    yield Row("CLIPSIM, random CLIP, 3 clips of 4 frames", ours, float(theirs.compute()), "torchmetrics", 1e-5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=Path, help="folder that holds i3d_torchscript.pt")
    networks = parser.parse_args().networks
    if importlib.util.find_spec("torchvision") is None:
        # torch-fidelity imports it for data sets and other networks, which nothing here uses
        names = ("", ".datasets", ".transforms", ".transforms.functional", ".models")
        sys.modules.update({f"torchvision{name}": mock.MagicMock() for name in names})
        importlib.import_module("torch_fidelity")
        for name in names:  # torchmetrics looks for it too, and must not find these
            del sys.modules[f"torchvision{name}"]
    with tempfile.TemporaryDirectory() as folder:
        rows = [*frechet_rows(), *inception_rows(), *kernel_rows(), *clip_rows(Path(folder))]
    if networks is not None:
        rows += constant_rows(networks)
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("torch-fidelity", "torchmetrics", "torch"))
    print("| figure | show1 | other | package | relative difference |\n|---|---:|---:|---|---:|")
    for row in rows:
        print(f"| {row.what} | {row.ours:.9g} | {row.theirs:.9g} | {row.package} | {row.difference:.1e} |")
    print(f"\n{versions}; {platform.machine()}, {datetime.date.today()}")
    if wrong := [row.what for row in rows if not row.difference <= row.tolerance]:
        sys.exit(f"too far from the others: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
