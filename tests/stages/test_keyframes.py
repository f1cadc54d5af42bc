import dataclasses

import pytest
import torch
from tiny_stage import ANCESTRAL, SCHEDULER, TinyUNet, one, two_prompts

from show1.config import KeyframesSettings
from show1.diffusion import IndependentSeeds
from show1.errors import Cancelled
from show1.stages import KeyframesStage

SETTINGS = KeyframesSettings(num_inference_steps=4, guidance_scale=3.0, num_frames=3, height=8, width=12)


def stage(scheduler):
    return KeyframesStage(TinyUNet(3), scheduler)


@pytest.mark.parametrize("scheduler", [SCHEDULER, ANCESTRAL])
@pytest.mark.parametrize("max_batch", [None, 1])
def test_a_batch_equals_the_singles(scheduler, max_batch):
    prompts, settings = two_prompts(), dataclasses.replace(SETTINGS, max_batch=max_batch)
    both = stage(scheduler)(None, prompts, seeds=IndependentSeeds([5, 9]), settings=settings)
    assert both.shape == (2, 3, 3, 8, 12) and both.dtype == torch.float32
    for i, seed in enumerate((5, 9)):
        single = stage(scheduler)(None, one(prompts, i), seeds=IndependentSeeds([seed]), settings=SETTINGS)
        torch.testing.assert_close(both[i : i + 1], single, atol=1e-5, rtol=1e-5)


def test_seed_prompt_and_scale_matter():
    def go(prompts, seed=5, **changes):
        settings = dataclasses.replace(SETTINGS, **changes)
        return stage(SCHEDULER)(None, prompts, seeds=IndependentSeeds([seed]), settings=settings)

    first, second = (one(two_prompts(), i) for i in (0, 1))
    base = go(first)
    assert torch.equal(base, go(first))
    for other in (go(second), go(first, seed=6), go(first, guidance_scale=1.0), go(first, scheduler="ddim")):
        assert (base - other).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["dpmsolver++", "unipc", "ddim", "ddpm"])
def test_samplers_can_be_swapped(name):
    settings = dataclasses.replace(SETTINGS, scheduler=name)
    out = stage(SCHEDULER)(None, two_prompts(), seeds=IndependentSeeds([5, 9]), settings=settings)
    assert out.isfinite().all() and out.abs().max() < 1.6


def test_guidance_off_halves_the_batch():
    made = stage(SCHEDULER)
    settings = dataclasses.replace(SETTINGS, guidance_scale=1.0)
    made(None, two_prompts(), seeds=IndependentSeeds([5, 9]), settings=settings)
    assert [len(x) for x, _ in made.unet.calls] == [2, 2, 2, 2]


def test_cancellation_stops_at_the_next_step_and_the_network_keeps_its_mode():
    made = stage(SCHEDULER)
    made.unet.train()
    steps = []

    def on_step(done, total, samples):
        assert not made.unet.training  # dropout is off
        steps.append((done, total))
        if done == 2:
            raise Cancelled("stopped by the user")

    with pytest.raises(Cancelled):
        made(None, one(two_prompts(), 0), seeds=IndependentSeeds([5]), settings=SETTINGS, on_step=on_step)
    assert steps == [(1, 4), (2, 4)] and len(made.unet.calls) == 2
    assert made.unet.training


def test_loads_from_a_folder_of_the_published_layout(published):
    made = KeyframesStage.from_folder(published / "show-1-base", dtype=torch.bfloat16)
    assert made.scheduler_config["thresholding"] and made.modules() == {"unet": made.unet}
    assert made.unet.dtype == torch.bfloat16 and not made.unet.training
