"""Small synthetic folders in the official layouts of the data sets, and small random feature networks."""

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from show1.evaluation.benchmark_protocol import BenchmarkProtocol, Metric
from show1.video import Video

CLASSES = {"Archery": 5, "Biking": 3, "YoYo": 2}


class TinyI3D(nn.Module):
    """Takes what the I3D of StyleGAN-V takes; sees colours and their change over time."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 400)

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        x = x.mean(dim=[3, 4]) * 2 / 255 - 1
        frames = x.shape[2]
        quarters = torch.stack([x[:, :, i * frames // 4] for i in range(4)], dim=2)
        return self.head(quarters.flatten(1))


class TinyC3D(nn.Module):
    """Gives class probabilities, as the C3D of UCF-101 does."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 101)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean(dim=[2, 3, 4]) / 16).softmax(1)


def save_network(module: nn.Module, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(file))


def write_clip(
    file: Path, *, frames: int = 12, fps: float = 8, seed: int = 0, size: tuple[int, int] = (16, 16)
) -> None:
    """Frame i is about 20 * i + 10 everywhere, with a little noise that the seed draws."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    shade = (20 * np.arange(frames) + 10)[:, None, None, None]
    pixels = (shade + rng.integers(-3, 4, (1, 1, 1, 3)) + np.zeros((frames, *size, 3))).clip(0, 255).astype(np.uint8)
    Video(frames=pixels, fps=fps).save(file.with_suffix(".mkv"), overwrite=True)
    file.with_suffix(".mkv").rename(file)  # the content tells the format, as the official names end in .avi or .mp4


def ucf101(folder: Path) -> Path:
    """Ten videos of three classes in train split 1, of which one is damaged and one too short."""
    lines = []
    for label, count in CLASSES.items():
        for i in range(count):
            name = f"{label}/v_{label}_g01_c{i + 1:02d}.avi"
            write_clip(folder / "UCF-101" / name, seed=len(lines), frames=3 if name.startswith("YoYo") and i else 12)
            lines.append(f"{name} {list(CLASSES).index(label) + 1}")
    (folder / "UCF-101" / "Archery" / "v_Archery_g01_c02.avi").write_bytes(b"RIFF, and nothing more")
    lists = folder / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_text("\r\n".join(lines) + "\r\n")
    (lists / "testlist01.txt").write_text("Archery/v_Archery_g01_c01.avi\nBiking/v_Biking_g01_c01.avi\n")
    return folder


def msrvtt(folder: Path, count: int = 4) -> Path:
    """A test split of a few videos with three captions each, the last video missing."""
    names = [f"video{7010 + i}" for i in range(count)]
    for i, name in enumerate(names[:-1]):
        write_clip(folder / "TestVideo" / f"{name}.mp4", seed=i)
    table = {
        "info": {"contributor": "Microsoft Research"},
        "videos": [{"video_id": name, "split": "test", "category": 9, "id": 7010 + i} for i, name in enumerate(names)]
        + [{"video_id": "video0", "split": "train", "category": 1, "id": 0}],
        "sentences": [
            {"video_id": name, "sen_id": 3 * i + k, "caption": f"caption {k} of {name}"}
            for i, name in enumerate([*names, "video0"])
            for k in (2, 0, 1)
        ],
    }
    (folder / "test_videodatainfo.json").write_text(json.dumps(table))
    return folder


def small_protocol(**changes: object) -> BenchmarkProtocol:
    """A protocol for what `ucf101` writes and for 5-frame videos."""
    fields = {
        "name": "small",
        "dataset": "ucf101",
        "split": "train01",
        "videos": 4,
        "frames": 5,
        "height": 16,
        "width": 16,
        "resize": "crop",
        "prompts": "class-distribution",
        "prompt_file": "ucf101_prompts.json",
        "metrics": (Metric(name="fvd", network="i3d-stylegan-v"), Metric(name="kvd", network="i3d-stylegan-v")),
    }
    return BenchmarkProtocol(**{**fields, **changes})  # type: ignore[arg-type]
