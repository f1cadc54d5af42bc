"""Rows of network calls that helpers compute. Here the helpers live in this process, but what they get is pickled."""

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from show1.config import KeyframesSettings, SuperResolutionSettings
from show1.diffusion import IndependentSeeds
from show1.stages import KeyframesStage, SuperResolutionStage
from show1.stages.helping import NetworkWorker
from show1.stages.networks import LatentNetwork, PixelNetwork
from tests.stages.tiny_stage import SCHEDULER, TinyUNet, two_prompts

SEEDS = IndependentSeeds([5, 9])


class Here:
    """As `show1.runtime.processes.Helpers`, without processes."""

    def __init__(self, stages: Sequence[Any]) -> None:
        self.count = len(stages)
        self.rows: list[list[int]] = []
        self.workers = [NetworkWorker() for _ in stages]
        for worker, stage in zip(self.workers, stages, strict=True):
            worker._stages[stage.name] = stage

    def ask(self, task: str, arguments: Sequence[Any], meanwhile: Callable[[], Any]) -> tuple[Any, list[Any]]:
        given = [None if words is None else pickle.loads(pickle.dumps(words)) for words in arguments]
        if task == "predict":
            self.rows.append([0 if words is None else len(words[1]) for words in given])
        pairs = zip(self.workers, given, strict=True)
        answers = [None if words is None else getattr(worker, task)(*words) for worker, words in pairs]
        return meanwhile(), answers


@pytest.mark.parametrize(("helpers", "rows"), [(1, [2]), (2, [1, 1]), (5, [1, 1, 1, 0, 0])])
def test_keyframes_are_the_same_however_many_help(helpers: int, rows: list[int]) -> None:
    settings = KeyframesSettings(num_inference_steps=4, guidance_scale=3.0, num_frames=3, height=8, width=12)
    expected = KeyframesStage(TinyUNet(3), SCHEDULER)(None, two_prompts(), seeds=SEEDS, settings=settings)
    stage = KeyframesStage(TinyUNet(3), SCHEDULER)
    stage.helpers = here = Here([KeyframesStage(TinyUNet(3), SCHEDULER) for _ in range(helpers)])  # type: ignore[assignment]
    made = stage(None, two_prompts(), seeds=SEEDS, settings=settings)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    assert here.rows == [rows] * 4
    assert [len(sample) for sample, _ in stage.unet.calls] == [4 - sum(rows)] * 4


def test_helpers_get_the_noise_level_and_the_details() -> None:
    size = {"height": 16, "width": 24, "window": 3, "stride": 2, "noise_level": 17}
    settings = SuperResolutionSettings(num_inference_steps=4, guidance_scale=2.0, first_frame=None, **size)
    low = torch.rand(2, 3, 5, 8, 12, generator=torch.Generator().manual_seed(2)) * 2 - 1
    details = {"conv.bias": torch.linspace(-1, 1, 6)}

    def make() -> Any:
        return SuperResolutionStage(TinyUNet(6), SCHEDULER, details=details)

    expected = make()(low, two_prompts(), seeds=SEEDS, settings=settings)
    stage, helper = make(), make()
    stage.helpers = Here([helper])
    torch.testing.assert_close(
        stage(low, two_prompts(), seeds=SEEDS, settings=settings), expected, rtol=1e-5, atol=1e-5
    )
    assert len(helper.unet.calls) == len(stage.unet.calls)
    assert all(labels.tolist() == [17, 17] for _, labels in helper.unet.calls)


def test_published_numerics_need_no_help() -> None:
    settings = KeyframesSettings(num_inference_steps=2, guidance_scale=3.0, num_frames=3, height=8, width=12)
    stage = KeyframesStage(TinyUNet(3), SCHEDULER)
    stage.helpers = here = Here([KeyframesStage(TinyUNet(3), SCHEDULER)])  # type: ignore[assignment]
    stage(None, two_prompts(), seeds=SEEDS, settings=settings, numerics="published")
    assert here.rows == []


def test_a_network_keeps_its_settings_with_another_module() -> None:
    first, second = TinyUNet(3), TinyUNet(6)
    assert vars(PixelNetwork(first, noise_level=7).on(second)) == vars(PixelNetwork(second, noise_level=7))
    given = {"window": 9, "overlap": 2}
    assert vars(LatentNetwork(first, **given).on(second)) == vars(LatentNetwork(second, **given))
