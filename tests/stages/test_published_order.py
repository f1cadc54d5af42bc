"""With the published run's numerics, and only then, networks compute in the published order."""

import pytest

from show1.config import InterpolationSettings, KeyframesSettings, SuperResolutionSettings
from show1.diffusion import IndependentSeeds, PublishedSeeds
from show1.stages import InterpolationStage, KeyframesStage, SuperResolutionStage
from tests.stages.tiny_stage import SCHEDULER, TinyUNet, clip, one, two_prompts

STEPS = {"num_inference_steps": 2, "guidance_scale": 2.0}
SIZE = {"height": 16, "width": 24}
STAGES = {
    "keyframes": (KeyframesStage, 3, KeyframesSettings(**STEPS, **SIZE, num_frames=3), None, 1),
    "interpolation": (InterpolationStage, 7, InterpolationSettings(**STEPS), clip(1, 3), 1),
    # the first frame, then two windows
    "super_resolution": (
        SuperResolutionStage,
        6,
        SuperResolutionSettings(**STEPS, **SIZE, window=4, stride=3, first_frame=None),
        clip(1, 7),
        3,
    ),
}


@pytest.mark.parametrize("name", STAGES)
def test_the_order_is_the_published_one_for_published_numerics_alone(name):
    stage_class, channels, settings, video, runs = STAGES[name]
    stage = stage_class(TinyUNet(channels), SCHEDULER)
    prompts = one(two_prompts(), 0)
    for seeds in (IndependentSeeds([5]), PublishedSeeds(5)):
        stage(video, prompts, seeds=seeds, settings=settings)
    assert stage.unet.orders == []
    stage(video, prompts, seeds=PublishedSeeds(5), settings=settings, numerics="published")
    assert stage.unet.orders == [True, False] * runs
