import pytest
import torch

from show1.config import FirstFrameSettings, SuperResolutionSettings
from show1.diffusion import IndependentSeeds, PublishedSeeds
from show1.errors import InputError
from show1.stages import PromptEmbeddings, load_stage

SETTINGS = FirstFrameSettings(num_inference_steps=2, guidance_scale=4.0)


@pytest.fixture(scope="module")
def model(published):
    return load(published).first_frame_model


def load(published):
    parts = {"first_frame": published / "IF-II-L-v1.0"}
    return load_stage("super_resolution", published / "show-1-sr1", part_folders=parts)


@pytest.fixture(scope="module")
def prompts(model):
    generator = torch.Generator().manual_seed(0)
    shape = (2, 7, model.unet.config.encoder_hid_dim)
    positive, negative = (torch.randn(shape, generator=generator) for _ in range(2))
    return PromptEmbeddings(prompt_embeds=positive, negative_prompt_embeds=negative)


def test_images_are_upscaled_by_deepfloyd(model, prompts):
    frame = torch.rand(2, 3, 8, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    steps = []
    images = model(
        frame,
        prompts,
        size=(16, 32),
        settings=SETTINGS,
        generators=IndependentSeeds([1, 2]).generators("first_frame", 0),
        on_step=lambda done, total, samples: steps.append((done, total, tuple(samples.shape))),
    )
    assert images.shape == (2, 3, 16, 32) and images.abs().max() <= 1
    assert steps == [(1, 2, (2, 3, 1, 16, 32)), (2, 2, (2, 3, 1, 16, 32))]
    single = model(
        frame[1:],
        PromptEmbeddings(
            prompt_embeds=prompts.prompt_embeds[1:], negative_prompt_embeds=prompts.negative_prompt_embeds[1:]
        ),
        size=(16, 32),
        settings=SETTINGS,
        generators=IndependentSeeds([2]).generators("first_frame", 0),
    )
    torch.testing.assert_close(images[1:], single, atol=1e-3, rtol=1e-3)


def test_super_resolution_is_led_by_it(published, prompts):
    stage = load(published)
    settings = SuperResolutionSettings(
        num_inference_steps=2, guidance_scale=2.0, height=16, width=32, window=3, stride=2, first_frame=SETTINGS
    )
    video = torch.rand(2, 3, 4, 8, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    out = stage(video, prompts, seeds=PublishedSeeds(345), settings=settings)
    assert out.shape == (2, 3, 4, 16, 32) and out.isfinite().all()


@pytest.mark.parametrize("scheduler", ["dpmsolver++", "unipc", "ddim", "ddpm"])
def test_any_sampler_leaves_out_the_learned_variance(model, prompts, scheduler):
    frame = torch.zeros(2, 3, 8, 16)
    settings = FirstFrameSettings(num_inference_steps=2, guidance_scale=4.0, scheduler=scheduler)
    generators = IndependentSeeds([1, 2]).generators("first_frame", 0)
    images = model(frame, prompts, size=(16, 32), settings=settings, generators=generators)
    assert images.shape == (2, 3, 16, 32) and bool(images.isfinite().all())


def test_errors_of_a_callback_stay_as_they_are(published, prompts):
    def stop(*_):
        raise ValueError("enough")

    generators = IndependentSeeds([1, 2]).generators("first_frame", 0)
    with pytest.raises(ValueError, match="^enough$"):
        load(published).first_frame_model(
            torch.zeros(2, 3, 8, 16), prompts, size=(16, 32), settings=SETTINGS, generators=generators, on_step=stop
        )


def test_a_noise_level_that_the_part_does_not_have(published, prompts):
    model = load(published).first_frame_model
    model.noising_config = {**model.noising_config, "num_train_timesteps": 100}
    with pytest.raises(InputError, match=r"first_frame\.noise_level is \d+, but .* has only 100 timesteps"):
        model(
            torch.zeros(2, 3, 8, 16),
            prompts,
            size=(16, 32),
            settings=SETTINGS,
            generators=IndependentSeeds([1, 2]).generators("first_frame", 0),
        )
