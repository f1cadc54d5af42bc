import dataclasses

import pytest
import torch

from show1.config import InterpolationSettings
from show1.diffusion import IndependentSeeds, PublishedSeeds
from show1.errors import InputError
from show1.stages import InterpolationStage
from show1.stages.interpolation import inputs
from tests.stages.tiny_stage import ANCESTRAL, SCHEDULER, TinyUNet, clip, one, two_prompts

SETTINGS = InterpolationSettings(num_inference_steps=3, guidance_scale=2.0)


def stage(scheduler=SCHEDULER):
    return InterpolationStage(TinyUNet(7), scheduler)


def test_condition_is_the_blend_of_neighbours_and_a_mask_of_keyframes():
    keyframes = clip(2, 3)
    made = inputs(keyframes, 4)
    assert made.shape == (4, 4, 5, 8, 12)  # two segments of two prompts
    first, second, third = keyframes.unbind(2)
    torch.testing.assert_close(made[:2, :3, 0], first)
    torch.testing.assert_close(made[:2, :3, 1], 0.75 * first + 0.25 * second)
    torch.testing.assert_close(made[2:, :3, 0], second)
    torch.testing.assert_close(made[2:, :3, 4], third)
    assert made[:, 3].amax((2, 3)).tolist() == [[1, 0, 0, 0, 1]] * 4


@pytest.mark.parametrize(("num_keyframes", "factor", "frames"), [(1, 4, 1), (2, 4, 5), (4, 4, 13), (3, 2, 5)])
def test_lengths(num_keyframes, factor, frames):
    settings = dataclasses.replace(SETTINGS, factor=factor)
    video = clip(1, num_keyframes)
    out = stage()(video, one(two_prompts(), 0), seeds=IndependentSeeds([5]), settings=settings)
    assert out.shape == (1, 3, frames, 8, 12)
    if num_keyframes == 1:
        assert torch.equal(out, video)


@pytest.mark.parametrize("scheduler", [SCHEDULER, ANCESTRAL])
def test_segments_in_one_batch_equal_segments_one_by_one(scheduler):
    prompts, keyframes = one(two_prompts(), 0), clip(1, 4)
    run = {"seeds": PublishedSeeds(345), "settings": SETTINGS}
    made = stage(scheduler)
    batched = made(keyframes, prompts, **run)
    assert [len(x) for x, _ in made.unet.calls] == [6, 6, 6]
    for k in range(3):
        alone = stage(scheduler)(keyframes[:, :, k : k + 2], prompts, **run)
        # a shared keyframe is the later segment's
        stop = 5 if k == 2 else 4
        torch.testing.assert_close(batched[:, :, 4 * k : 4 * k + stop], alone[:, :, :stop], atol=1e-5, rtol=1e-5)


def test_keyframes_may_stay_as_they_are():
    keyframes = clip(2, 3)
    run = {"seeds": IndependentSeeds([5, 9])}
    published = stage()(keyframes, two_prompts(), settings=SETTINGS, **run)
    kept = stage()(keyframes, two_prompts(), settings=dataclasses.replace(SETTINGS, keep_keyframes=True), **run)
    assert torch.equal(kept[:, :, ::4], keyframes) and not torch.equal(published[:, :, ::4], keyframes)
    between = [f for f in range(9) if f % 4]
    assert torch.equal(kept[:, :, between], published[:, :, between])


@pytest.mark.parametrize("max_batch", [1, 2, 5])
def test_batches_and_their_limit_change_nothing(max_batch):
    prompts, keyframes = two_prompts(), clip(2, 4)
    both = stage()(keyframes, prompts, seeds=IndependentSeeds([5, 9]), settings=SETTINGS)
    limited = dataclasses.replace(SETTINGS, max_batch=max_batch)
    split = stage()(keyframes, prompts, seeds=IndependentSeeds([5, 9]), settings=limited)
    torch.testing.assert_close(split, both, atol=1e-5, rtol=1e-5)
    single = stage()(keyframes[1:], one(prompts, 1), seeds=IndependentSeeds([9]), settings=limited)
    torch.testing.assert_close(single, both[1:], atol=1e-5, rtol=1e-5)


def test_long_videos_take_no_larger_calls():
    prompts, keyframes = two_prompts(), clip(2, 12)
    settings, seeds = dataclasses.replace(SETTINGS, num_inference_steps=1), IndependentSeeds([5, 9])
    made = stage()
    long = made(keyframes, prompts, seeds=seeds, settings=settings)
    assert [len(x) for x, _ in made.unet.calls] == [2 * 2 * 8, 2 * 2 * 3]  # guidance, prompts, segments
    at_once = stage()(keyframes, prompts, seeds=seeds, settings=dataclasses.replace(settings, max_batch=100))
    torch.testing.assert_close(long, at_once, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("video", [None, clip(1, 3), clip(2, 3)[:, :1], clip(2, 3)[0]])
def test_a_video_that_does_not_fit_is_refused(video):
    with pytest.raises(InputError, match="interpolation"):
        stage()(video, two_prompts(), seeds=IndependentSeeds([5, 9]), settings=SETTINGS)
