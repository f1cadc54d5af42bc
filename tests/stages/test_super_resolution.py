import dataclasses

import pytest
import torch

from show1.config import FirstFrameSettings, SuperResolutionSettings
from show1.diffusion import IndependentSeeds
from show1.stages import SuperResolutionStage, load_stage
from show1.stages.super_resolution import inputs, noising_alphas, upsample
from tests.stages.tiny_stage import ANCESTRAL, SCHEDULER, TinyUNet, clip, one, two_prompts

FIRST = FirstFrameSettings(num_inference_steps=5, guidance_scale=2.0)
SETTINGS = SuperResolutionSettings(
    num_inference_steps=2, guidance_scale=2.0, height=16, width=24, window=4, stride=3, first_frame=FIRST
)


class FakeFirstFrame:
    def __init__(self):
        self.calls = 0

    def modules(self):
        return {"first_frame_unet": torch.nn.Identity()}

    def __call__(self, frame, prompts, *, size, settings, generators, on_step=None):
        self.calls += 1
        for i in range(settings.num_inference_steps):
            if on_step is not None:
                on_step(i + 1, settings.num_inference_steps, frame[:, :, None])
        return torch.full((len(frame), 3, *size), 0.25)


def stage(scheduler=SCHEDULER, first_frame=None):
    return SuperResolutionStage(TinyUNet(6), scheduler, first_frame=first_frame)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 6, 7, 9, 13])
def test_every_length_is_covered_and_windows_are_led_by_what_is_there(num_frames):
    video = clip(1, num_frames)
    made, written = stage(), []
    prompts, seeds = one(two_prompts(), 0), IndependentSeeds([5])
    out = made(video, prompts, seeds=seeds, settings=SETTINGS, on_step=lambda *step: written.append(step[2].clone()))
    assert out.shape == (1, 3, num_frames, 16, 24)
    assert (out.abs().amax((0, 1, 3, 4)) > 0).all()  # no frame is left black
    inputs = [x[0, 3:] for x, _ in made.unet.calls[2::2]]  # of the windows, without the first frame's run
    starts = {1: [], 2: [0], 3: [0], 4: [0], 5: [0, 1], 6: [0, 2], 7: [0, 3], 9: [0, 3, 5], 13: [0, 3, 6, 9]}[
        num_frames
    ]
    assert len(inputs) == len(starts)
    known = written[1][0]  # the first frame, by the network on one frame
    for k, (start, x) in enumerate(zip(starts, inputs, strict=True)):
        lead = known[:, start - starts[k - 1]] if k else known[:, 0]
        torch.testing.assert_close(x[:, 0], lead)
        known = written[2 * k + 3][0]
        stop = starts[k + 1] if k + 1 < len(starts) else num_frames  # shared frames are the later window's
        torch.testing.assert_close(out[0, :, start:stop], known[:, : stop - start])


def test_condition_is_noised_to_the_level_that_the_network_is_told():
    made = stage()
    made(clip(1, 4), one(two_prompts(), 0), seeds=IndependentSeeds([5]), settings=SETTINGS)
    sample, labels = made.unet.calls[-1]
    assert labels.tolist() == [250, 250]
    alpha = made.scheduler(SETTINGS).alphas_cumprod[250]
    noise = sample[0, 3:, 1:] - alpha.sqrt() * upsample(clip(1, 4), 16, 24)[0, :, 1:]
    assert noise.std() == pytest.approx(float((1 - alpha).sqrt()), rel=0.1)


def test_upsampling_keeps_the_corners():
    video = clip(2, 3)
    large = upsample(video, 15, 23)
    for row in (0, -1):
        for column in (0, -1):
            torch.testing.assert_close(large[..., row, column], video[..., row, column])


def test_first_frame_is_the_model_s_or_the_network_s():
    prompts, run = one(two_prompts(), 0), {"seeds": IndependentSeeds([5]), "settings": SETTINGS}
    model = FakeFirstFrame()
    made = stage(first_frame=model)
    made(clip(1, 4), prompts, **run)
    assert model.calls == 1 and len(made.unet.calls) == 2
    assert (made.unet.calls[0][0][:, 3:, 0] == 0.25).all()

    own = dataclasses.replace(SETTINGS, first_frame=None)
    made(clip(1, 4), prompts, seeds=IndependentSeeds([5]), settings=own)
    assert model.calls == 1


@pytest.mark.parametrize("scheduler", [SCHEDULER, ANCESTRAL])
def test_a_batch_equals_the_singles(scheduler):
    prompts, video = two_prompts(), clip(2, 6)
    both = stage(scheduler)(video, prompts, seeds=IndependentSeeds([5, 9]), settings=SETTINGS)
    limited = dataclasses.replace(SETTINGS, max_batch=1)
    split = stage(scheduler)(video, prompts, seeds=IndependentSeeds([5, 9]), settings=limited)
    torch.testing.assert_close(split, both, atol=1e-5, rtol=1e-5)
    for i, seed in enumerate((5, 9)):
        single = stage(scheduler)(video[i : i + 1], one(prompts, i), seeds=IndependentSeeds([seed]), settings=SETTINGS)
        torch.testing.assert_close(both[i : i + 1], single, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("model", "total"), [(None, 6), (FakeFirstFrame(), 9)])
def test_progress_counts_all_windows(model, total):
    steps = []
    stage(first_frame=model)(
        clip(1, 6),
        one(two_prompts(), 0),
        seeds=IndependentSeeds([5]),
        settings=SETTINGS,
        on_step=lambda done, of, _: steps.append((done, of)),
    )
    assert steps == [(i + 1, total) for i in range(total)]


def test_loads_from_a_folder_of_the_published_layout(published):
    made = load_stage("super_resolution", published / "show-1-sr1")
    assert made.unet.config.in_channels == 6 and made.noising_config["beta_schedule"] == "squaredcos_cap_v2"


def test_the_condition_is_noised_to_its_level_behind_the_clean_frame():
    large = upsample(clip(2, 4), 16, 24)
    noise = torch.randn(large.shape, generator=torch.Generator().manual_seed(3))
    levels, alphas = torch.tensor([0, 250]), noising_alphas()
    given = {"noise": noise, "noise_level": levels, "alphas_cumprod": alphas}
    noised = inputs(large, **given)
    for i, level in enumerate(levels):
        expected = alphas[level].sqrt() * large[i] + (1 - alphas[level]).sqrt() * noise[i]
        torch.testing.assert_close(noised[i], expected)
    clean = torch.full((2, 3, 1, 16, 24), 0.5)
    led = inputs(large, **given, clean=clean)
    assert led[:, :, :1].equal(clean) and led[:, :, 1:].equal(noised[:, :, 1:])
