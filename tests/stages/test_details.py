"""A network with other weights at low noise levels: which it computes with, and that it has its own again."""

import pytest
import torch

from show1.config import KeyframesSettings
from show1.diffusion import IndependentSeeds
from show1.errors import Cancelled
from show1.stages import KeyframesStage
from show1.stages.details import DETAILS_BELOW, DetailNetwork, replaced_weights
from show1.stages.networks import PixelNetwork
from tests.stages.tiny_stage import SCHEDULER, TinyUNet, one, two_prompts

SETTINGS = KeyframesSettings(num_inference_steps=5, guidance_scale=2.0, num_frames=2, height=8, width=12)
SAMPLE = torch.randn(2, 3, 2, 8, 12, generator=torch.Generator().manual_seed(0))


def other_weights():
    """Another bias of the convolution, and other weights for the text."""
    return {"conv.bias": torch.full((6,), 0.3), "text.weight": torch.full((6, 5), 0.1)}


def with_weights(weights):
    unet = TinyUNet(3)
    unet.load_state_dict(weights, strict=False)
    return unet.eval()


@pytest.mark.parametrize(("timestep", "low"), [(900, False), (400, False), (399, True), (0, True)])
@torch.no_grad()
def test_the_weights_follow_the_noise_level(timestep, low):
    assert DETAILS_BELOW == 0.4
    unet, t, embeds = with_weights({}), torch.tensor(timestep), two_prompts().prompt_embeds
    network = DetailNetwork(PixelNetwork(unet), unet, other_weights(), num_train_timesteps=1000)
    expected = PixelNetwork(with_weights(other_weights() if low else {}))
    assert network(SAMPLE, t, network.encode_text(embeds)).equal(expected(SAMPLE, t, expected.encode_text(embeds)))
    assert all(p.equal(q) for p, q in zip(unet.parameters(), with_weights({}).parameters(), strict=True))


def test_a_run_that_is_stopped_among_details_leaves_the_networks_own_weights():
    def stop(done, total, samples):
        if done == total - 1:
            raise Cancelled("enough")

    stage = KeyframesStage(with_weights({}), SCHEDULER, details=other_weights())
    with pytest.raises(Cancelled):
        stage(None, one(two_prompts(), 0), seeds=IndependentSeeds([5]), settings=SETTINGS, on_step=stop)
    assert all(p.equal(q) for p, q in zip(stage.unet.parameters(), with_weights({}).parameters(), strict=True))


def test_replaced_weights_are_put_back_after_an_error():
    unet = with_weights({})
    with pytest.raises(ValueError, match="inside"), replaced_weights(unet, other_weights()):
        assert unet.conv.bias.unique().tolist() == [pytest.approx(0.3)]
        raise ValueError("inside")
    assert unet.conv.bias.equal(with_weights({}).conv.bias)
