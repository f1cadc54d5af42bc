import dataclasses

import pytest
import torch

from show1.config import KeyframesSettings
from show1.diffusion import IndependentSeeds
from show1.errors import Cancelled, InputError
from show1.stages import KeyframesStage, load_stage
from show1.stages.keyframes import StartNoise, blend
from tests.stages.tiny_stage import ANCESTRAL, SCHEDULER, TinyUNet, one, two_prompts

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
    made = load_stage("keyframes", published / "show-1-base", dtype=torch.bfloat16)
    assert isinstance(made, KeyframesStage) and made.scheduler_config["thresholding"]
    assert made.unet.dtype == torch.bfloat16 and not made.unet.training


def start_noise(weight, clips=1, frames=3):
    generator = torch.Generator().manual_seed(3)
    return StartNoise(noise=torch.randn(clips, 3, frames, 8, 12, generator=generator), weight=weight)


def test_start_noise_is_blended_by_variance():
    fresh = torch.randn(2, 3, 3, 8, 12, generator=torch.Generator().manual_seed(4))
    first, second = start_noise(0.36), start_noise(0.28)
    generators = IndependentSeeds([5, 9]).generators("keyframes/start_noise", 0)
    torch.testing.assert_close(blend(fresh, [first], generators), 0.8 * fresh + 0.6 * first.noise)
    both = blend(fresh, [first, second], generators)
    torch.testing.assert_close(both, 0.6 * fresh + 0.6 * first.noise + 0.28**0.5 * second.noise)
    torch.testing.assert_close(blend(fresh, [start_noise(1.0)], generators), first.noise.expand(2, -1, -1, -1, -1))


def test_each_sample_takes_one_of_the_clips_by_its_own_seed():
    fresh, given = torch.zeros(16, 3, 3, 8, 12), start_noise(1.0, clips=3)

    def chosen(seeds):
        noise = blend(fresh[: len(seeds)], [given], IndependentSeeds(seeds).generators("keyframes/start_noise", 0))
        return [next(i for i, clip in enumerate(given.noise) if clip.equal(sample)) for sample in noise]

    together = chosen(range(16))
    assert set(together) == {0, 1, 2}
    assert together == [chosen([seed])[0] for seed in range(16)]


def test_start_noise_reaches_the_network_where_it_fits(caplog):
    prompts, seeds = one(two_prompts(), 0), IndependentSeeds([5])
    plain = stage(SCHEDULER)(None, prompts, seeds=seeds, settings=SETTINGS)
    given = KeyframesStage(TinyUNet(3), SCHEDULER, start_noise=[start_noise(0.5)])
    assert (given(None, prompts, seeds=seeds, settings=SETTINGS) - plain).abs().max() > 1e-2
    assert not caplog.records
    other = KeyframesStage(TinyUNet(3), SCHEDULER, start_noise=[start_noise(0.5, frames=2)])
    assert other(None, prompts, seeds=seeds, settings=SETTINGS).equal(plain)
    assert "for 2x8x12 (frames x height x width), but the keyframes have 3x8x12" in caplog.text
    twice = KeyframesStage(TinyUNet(3), SCHEDULER, start_noise=[start_noise(0.6), start_noise(0.6)])
    with pytest.raises(InputError, match="add up to 1.2"):
        twice(None, prompts, seeds=seeds, settings=SETTINGS)


def test_many_keyframes_are_guided_in_two_calls():
    made = stage(SCHEDULER)
    settings = dataclasses.replace(SETTINGS, num_frames=49, num_inference_steps=1, guidance_scale=2.0)
    many = made(None, one(two_prompts(), 0), seeds=IndependentSeeds([5]), settings=settings)
    assert [len(x) for x, _ in made.unet.calls] == [1, 1]
    few = stage(SCHEDULER)
    fewer = few(
        None, one(two_prompts(), 0), seeds=IndependentSeeds([5]), settings=dataclasses.replace(settings, num_frames=48)
    )
    assert [len(x) for x, _ in few.unet.calls] == [2]
    assert many.shape[2] == 49 and fewer.shape[2] == 48
