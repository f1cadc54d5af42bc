"""Deep features that are reused between steps are those of the last whole step."""

import pytest
import torch
from torch import Tensor

from benchmarks.deep_features import DeepFeatures, share
from show1.networks import UNet3DConditionModel
from show1.training.presets import preset

SIZE = (2, 8, 8)


@pytest.fixture
def unet() -> UNet3DConditionModel:
    torch.manual_seed(0)
    unet = UNet3DConditionModel(**preset("mini").network("keyframes")).eval()
    for parameter in unet.parameters():  # the last layers begin at 0
        torch.nn.init.normal_(parameter, std=0.1)
    return unet


def call(unet: UNet3DConditionModel, timestep: float, *, brightness: float = 0.5, rows: int = 1) -> Tensor:
    video = torch.full((rows, 3, *SIZE), brightness)
    text = torch.ones(rows, 4, unet.config.encoder_hid_dim)
    with torch.no_grad():
        out: Tensor = unet(video, timestep, text).sample
    return out


def test_a_step_between_takes_the_deep_features_of_the_last_whole_one(unet: UNet3DConditionModel) -> None:
    plain = {timestep: call(unet, timestep) for timestep in (900.0, 800.0, 700.0)}
    with DeepFeatures(2):
        reused = {timestep: call(unet, timestep) for timestep in (900.0, 800.0, 700.0)}
        again = call(unet, 900.0)  # another video begins
    assert torch.equal(reused[900.0], plain[900.0]) and torch.equal(reused[700.0], plain[700.0])
    assert not torch.allclose(reused[800.0], plain[800.0])
    assert torch.equal(again, plain[900.0])
    assert torch.equal(call(unet, 800.0), plain[800.0])  # nothing is left behind


def test_with_the_same_input_the_first_level_alone_gives_the_whole_output(unet: UNet3DConditionModel) -> None:
    with DeepFeatures(2):
        whole = call(unet, 500.0)
        # only the timestep differs, by less than a network in float32 can tell
        assert torch.allclose(call(unet, 500.0 - 1e-4), whole, atol=1e-3)
        assert not torch.allclose(call(unet, 500.0 - 2e-4, brightness=-0.5), whole, atol=1e-3)


def test_each_call_of_a_step_has_features_of_its_own(unet: UNet3DConditionModel) -> None:
    plain = {(t, b): call(unet, t, brightness=b) for t in (900.0, 899.9999) for b in (0.5, -0.5)}
    unguided = call(unet, 600.0, rows=2)
    with DeepFeatures(2):
        reused = {(t, b): call(unet, t, brightness=b) for t in (900.0, 899.9999) for b in (0.5, -0.5)}
        call(unet, 700.0)
        # guidance has ended: another number of rows has no features yet
        assert torch.equal(call(unet, 600.0, rows=2), unguided)
    assert not torch.allclose(plain[899.9999, 0.5], plain[899.9999, -0.5], atol=1e-3)
    for key, out in reused.items():
        assert torch.allclose(out, plain[key], atol=1e-3), key


def test_the_first_level_takes_a_small_share_of_the_operations(unet: UNet3DConditionModel) -> None:
    assert 0.05 < share(unet, (8, 20, 32)) < 0.3
