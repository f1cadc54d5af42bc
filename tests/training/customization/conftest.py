"""A small random cascade and a clip of a moving square."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from show1.checkpoints.convert import save_cascade
from show1.checkpoints.locate import resolve
from show1.video import Video
from tests.published_layout import build_published, small_settings


@pytest.fixture(scope="session")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cascade folder: 5 frames from 3 keyframes of 8x16. Not to be changed."""
    folder = tmp_path_factory.mktemp("customization")
    found = resolve(build_published(folder / "published", first_frame=False))
    settings = small_settings().replace(
        keyframes={"num_inference_steps": 2},
        interpolation={"factor": 2},
        super_resolution={"first_frame": None, "window": 3, "stride": 2},
        translation={"num_inference_steps": 2},
    )
    return save_cascade(replace(found, settings=settings), folder / "tiny")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine frames of 24x48: a bright square that goes right."""
    video = torch.full((3, 9, 24, 48), -0.5)
    for frame in range(9):
        video[:, frame, 8:16, 4 * frame : 4 * frame + 8] = torch.tensor([1.0, 0.5, -1.0])[:, None, None]
    return Video.from_tensor(video, fps=8.0).save(tmp_path_factory.mktemp("clip") / "square.mkv")
