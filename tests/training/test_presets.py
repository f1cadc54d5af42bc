"""The presets: parameters of the published networks, counted without memory for them."""

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers import UNet3DConditionModel as LatentUNet

from scripts import train_mini
from show1.errors import InputError
from show1.networks import UNet3DConditionModel
from show1.options import Options
from show1.sprites.options import TextOptions
from show1.training import TASKS, LoopOptions, TrainingConfig
from show1.training.options import names_of
from show1.training.presets import PRESETS, preset

CLASSES = {"translation": LatentUNet, "vae": AutoencoderKL}

PUBLISHED = {
    "keyframes": 1.727e9,
    "interpolation": 1.727e9,
    "super_resolution": 0.783e9,
    "translation": 1.411e9,
    "vae": 0.084e9,
}


@pytest.mark.parametrize("part", PUBLISHED)
def test_published_networks_have_the_published_number_of_parameters(part: str) -> None:
    with torch.device("meta"):
        network = CLASSES.get(part, UNet3DConditionModel)(**preset("show-1").network(part))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(PUBLISHED[part], rel=0.01)


def test_sizes() -> None:
    seen = {
        name: [(v.window or v.num_frames, v.height, v.width, v.low) for v in PRESETS[name].views.values()]
        for name in ("mini", "show-1")
    }
    assert seen["mini"][1:3] == [(8, 20, 32, None), (5, 20, 32, None)]
    assert seen["show-1"][1:5] == [
        (8, 40, 64, None),
        (5, 40, 64, None),
        (1, 160, 256, (40, 64)),
        (8, 160, 256, (40, 64)),
    ]
    assert seen["show-1"][-1] == (29, 320, 576, None) and seen["mini"][-1] == (29, 160, 256, None)
    assert {kind.task for kind in TASKS} == set(PRESETS["mini"].views) == set(PRESETS["show-1"].views)


def test_the_published_text_encoder_is_not_made_from_scratch() -> None:
    with pytest.raises(InputError, match="this preset has no text network; name a folder that holds one .--text."):
        preset("show-1").network("text")


def test_options_of_tasks_and_of_the_loop_have_names_of_their_own() -> None:
    for kind in (TextOptions, *TASKS):
        assert issubclass(kind, Options) and dataclasses.is_dataclass(kind)
        assert not set(names_of(kind)) & {"task", "data", *names_of(LoopOptions)}


def test_every_run_of_the_recipe_has_options_that_are_known() -> None:
    runs = list(train_mini.RECIPE)
    for number, run in enumerate(runs):
        config = TrainingConfig.from_dict(train_mini.options(run, Path("runs"), None), [TextOptions, *TASKS])
        starts = {Path(folder).parts[-2] for folder in config.options.folders().values()}
        assert starts <= set(runs[:number]), run  # what has been trained by then
