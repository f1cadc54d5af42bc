import dataclasses

import pytest
import torch
from diffusers import AutoencoderTiny, VideoToVideoSDPipeline

from show1.config import TranslationSettings
from show1.diffusion import IndependentSeeds, PublishedSeeds, build_scheduler
from show1.runtime.tracing import LiveTensors
from show1.stages import PromptEmbeddings, TranslationStage, load_stage
from show1.stages.translation import decode, encode

SETTINGS = TranslationSettings(num_inference_steps=6, guidance_scale=5.0, height=16, width=24, max_timestep=1000)


@pytest.fixture(scope="module")
def stage(published):
    return load_stage("translation", published / "show-1-sr2")


@pytest.fixture(scope="module")
def prompts(stage):
    generator = torch.Generator().manual_seed(0)
    shape = (2, 7, stage.unet.config.cross_attention_dim)
    positive, negative = (torch.randn(shape, generator=generator) for _ in range(2))
    return PromptEmbeddings(prompt_embeds=positive, negative_prompt_embeds=negative)


def one(prompts, i):
    return PromptEmbeddings(
        prompt_embeds=prompts.prompt_embeds[i : i + 1],
        negative_prompt_embeds=prompts.negative_prompt_embeds[i : i + 1],
    )


def clip(batch, frames=3, height=16, width=24):
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    ("strength", "guidance_scale", "scheduler"),
    [
        (0.8, 15.0, "checkpoint"),
        (0.5, 5.0, "ddim"),
        (1.0, 5.0, "ddpm"),
        (0.34, 1.0, "unipc"),
    ],
)
def test_agrees_with_diffusers_pipeline(stage, prompts, strength, guidance_scale, scheduler):
    settings = dataclasses.replace(SETTINGS, strength=strength, guidance_scale=guidance_scale, scheduler=scheduler)
    ours = stage(clip(1), one(prompts, 0), seeds=PublishedSeeds(345), settings=settings)
    pipeline = VideoToVideoSDPipeline(
        vae=stage.vae,
        text_encoder=None,
        tokenizer=None,
        unet=stage.unet,
        scheduler=build_scheduler(stage.scheduler_config, scheduler),
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        video=(clip(1).transpose(1, 2) + 1) / 2,
        prompt_embeds=prompts.prompt_embeds[:1],
        negative_prompt_embeds=prompts.negative_prompt_embeds[:1],
        strength=strength,
        guidance_scale=guidance_scale,
        num_inference_steps=6,
        generator=torch.Generator().manual_seed(345),
        output_type="pt",
    ).frames.transpose(1, 2)
    torch.testing.assert_close((ours / 2 + 0.5).clamp(0, 1), theirs, atol=1e-3, rtol=0)
    assert theirs.std() > 0.01


def test_a_batch_equals_the_singles(stage, prompts):
    video = clip(2, height=8, width=12)
    both = stage(video, prompts, seeds=IndependentSeeds([5, 9]), settings=SETTINGS)
    assert both.shape == (2, 3, 3, 16, 24)
    limited = dataclasses.replace(SETTINGS, max_batch=1)
    split = stage(video, prompts, seeds=IndependentSeeds([5, 9]), settings=limited)
    torch.testing.assert_close(split, both, atol=1e-4, rtol=1e-4)
    for i, seed in enumerate((5, 9)):
        single = stage(video[i : i + 1], one(prompts, i), seeds=IndependentSeeds([seed]), settings=SETTINGS)
        torch.testing.assert_close(both[i : i + 1], single, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_the_expert_never_sees_noise_above_its_highest_level(stage, prompts, strength, monkeypatch):
    seen = []
    forward = stage.unet.forward

    def spy(sample, timestep, *args, **kwargs):
        seen.append(int(timestep))
        return forward(sample, timestep, *args, **kwargs)

    monkeypatch.setattr(stage.unet, "forward", spy)
    settings = dataclasses.replace(SETTINGS, strength=strength, max_timestep=700)
    steps = []
    stage(
        clip(1),
        one(prompts, 0),
        seeds=IndependentSeeds([5]),
        settings=settings,
        on_step=lambda done, total, _: steps.append((done, total)),
    )
    assert max(seen) <= 700 and seen == sorted(seen, reverse=True)
    assert steps[-1] == (len(seen), len(seen))


@torch.no_grad()
def test_latents_are_drawn_around_the_mean_of_the_posterior(stage):
    frames = clip(1)[0].transpose(0, 1)
    mean = encode(stage.vae, frames, draw=None)
    posterior = stage.vae.encode(frames).latent_dist
    torch.testing.assert_close(mean, posterior.mean * stage.vae.config.scaling_factor)
    drawn = encode(stage.vae, frames, draw=torch.ones, frames_per_slice=2)
    expected = (posterior.mean + posterior.std) * stage.vae.config.scaling_factor
    torch.testing.assert_close(drawn, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_autoencoder_computes_in_channels_last(stage):
    layouts = []
    hooks = [
        part.register_forward_pre_hook(
            lambda _, inputs: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
        for part in (stage.vae.encoder.conv_in, stage.vae.decoder.conv_in)
    ]
    latents = encode(stage.vae, clip(1)[0].transpose(0, 1), draw=None)
    list(decode(stage.vae, latents))
    for hook in hooks:
        hook.remove()
    assert len(layouts) == 4 and all(layouts)  # three frames at once, and each of them


def test_a_tiny_autoencoder_takes_the_place_of_another(stage, prompts):
    """The network sees the same noise in its latents, which it gives scaled already and without a posterior."""
    torch.manual_seed(3)
    tiny = AutoencoderTiny(
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(0, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 0),
    ).eval()
    frames = torch.rand(3, 3, 16, 16) * 2 - 1
    drawn = []

    def draw(shape):
        drawn.append(shape)
        return torch.ones(shape)

    with torch.no_grad():
        expected = tiny.encode(frames).latents
        torch.testing.assert_close(encode(tiny, frames, draw=None), expected)
        torch.testing.assert_close(encode(tiny, frames, draw=draw, frames_per_slice=2), expected)
        assert drawn == [expected.shape]
        made = torch.stack(list(decode(tiny, expected)))
        torch.testing.assert_close(made, tiny.decode(expected).sample)
    quick = TranslationStage(stage.unet, tiny, stage.scheduler_config)
    settings = TranslationSettings(num_inference_steps=2, height=32, width=32, guidance_scale=1.0)
    out = quick(clip(1), one(prompts, 0), seeds=IndependentSeeds([1]), settings=settings)
    assert out.shape == (1, 3, 3, 32, 32) and out.isfinite().all()


def test_a_long_video_is_seen_in_windows(stage, prompts, monkeypatch):
    seen = []
    monkeypatch.setattr(
        stage.unet,
        "forward",
        lambda sample, *args, **options: seen.append(sample.shape[2]) or (sample.tanh() + 0.1,),
    )
    whole = dataclasses.replace(SETTINGS, num_inference_steps=2, strength=1.0, window=100)
    video, seeds = clip(1, frames=41), IndependentSeeds([3])
    expected = stage(video, one(prompts, 0), seeds=seeds, settings=whole)
    assert set(seen) == {41}
    seen.clear()
    split = stage(video, one(prompts, 0), seeds=seeds, settings=dataclasses.replace(whole, window=None))
    assert set(seen) == {32}
    # a network that looks at single frames sees no difference
    torch.testing.assert_close(split, expected, atol=1e-5, rtol=0)


def test_windows_are_of_the_length_that_is_asked_for(stage, prompts):
    settings = dataclasses.replace(SETTINGS, num_inference_steps=2)
    video, seeds = clip(1, frames=11), IndependentSeeds([3])
    whole = stage(video, one(prompts, 0), seeds=seeds, settings=settings)
    asked = dataclasses.replace(settings, window=11, overlap=2)
    assert torch.equal(stage(video, one(prompts, 0), seeds=seeds, settings=asked), whole)
    split = stage(video, one(prompts, 0), seeds=seeds, settings=dataclasses.replace(asked, window=6))
    assert split.shape == whole.shape and not torch.equal(split, whole)


def test_a_longer_video_takes_little_memory_beside_itself(stage, prompts):
    settings = dataclasses.replace(SETTINGS, height=64, width=96, window=8, overlap=2, num_inference_steps=2)

    def peak(frames):
        low = clip(1, frames=frames)
        with LiveTensors([*stage.unet.parameters(), *stage.vae.parameters(), low]) as counted:
            out = stage(low, one(prompts, 0), seeds=IndependentSeeds([1]), settings=settings)
        return counted.peak, out.nbytes

    (short, small), (long, large) = peak(10), peak(74)
    assert long - short < 1.3 * (large - small)
