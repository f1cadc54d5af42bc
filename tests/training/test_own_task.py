"""A task of one's own: a class with a loss, and its options, trained by the same loop as the stages."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from show1.data.clips import ClipSource, ClipView
from show1.errors import InputError
from show1.sprites.clips import SpriteClips
from show1.training import LoopOptions, train
from show1.training.options import TaskOptions
from show1.training.tasks.base import Batch, Sample, Task


@dataclass(frozen=True, kw_only=True)
class BrightnessOptions(TaskOptions):
    """Options of a task that no preset knows."""

    task: ClassVar[str] = "brightness"
    implementation: ClassVar[str] = f"{__name__}:BrightnessTask"

    def view(self) -> ClipView:
        return ClipView(num_frames=1, height=8, width=8)


class BrightnessTask(Task):
    """Learns the mean value of the clips."""

    def __init__(self, options: TaskOptions, source: ClipSource) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.full((), 5.0))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": (batch["video"].mean() - self.mean).square()}

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"mean": self.mean.detach().clone()}, folder / "mean.safetensors")

    def preview(self, batch: Batch) -> list[Sample]:
        return []


def test_a_task_of_ones_own_is_trained(tmp_path: Path) -> None:
    loop = LoopOptions(out=str(tmp_path / "run"), steps=40, batch_size=2, learning_rate=0.5, warmup_steps=1)
    export = train(BrightnessOptions(), loop, SpriteClips.from_spec("sprites", 0))
    assert abs(float(load_file(export / "mean.safetensors")["mean"])) < 1.5


def test_options_without_a_view_say_so(tmp_path: Path) -> None:
    class Unseen(BrightnessOptions):
        task: ClassVar[str] = "unseen"
        view = TaskOptions.view

    with pytest.raises(InputError, match="what the task 'unseen' sees of a clip; let the options"):
        train(Unseen(), LoopOptions(out=str(tmp_path / "run"), steps=1), SpriteClips.from_spec("sprites", 0))
