"""The translation by pipelines of diffusers, on tiny random ones."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import CogVideoXVideoToVideoPipeline, LTXPipeline, WanVideoToVideoPipeline

from show1.config import TranslationSettings
from show1.diffusion import IndependentSeeds, randn
from show1.diffusion.levels import beta_level
from show1.errors import Cancelled
from show1.experts import DiffusersExpert
from show1.experts.cogvideox import CogVideoX
from show1.experts.hunyuan import HunyuanVideo
from show1.experts.ltx import LTX, LTX2
from show1.experts.placing import exceeds_memory, offload
from show1.experts.wan import FastWan, Wan
from tests.experts.tiny_experts import (
    clip,
    cogvideox_15_parts,
    cogvideox_parts,
    embeddings,
    hunyuan_parts,
    ltx2_parts,
    ltx_parts,
    one_of,
    wan_parts,
)

SETTINGS = TranslationSettings(num_inference_steps=4, guidance_scale=3.0, height=16, width=16, level=0.7)
FAMILIES = {
    "wan": (Wan, wan_parts),
    "fastwan": (FastWan, wan_parts),
    "cogvideox": (CogVideoX, cogvideox_parts),
    "cogvideox-1.5": (CogVideoX, cogvideox_15_parts),
    "ltx": (LTX, ltx_parts),
    "ltx-2": (LTX2, ltx2_parts),
    "hunyuan": (HunyuanVideo, hunyuan_parts),
}


def make(name: str, dtype: torch.dtype = torch.float32) -> DiffusersExpert:
    family, parts = FAMILIES[name]
    needed = inspect.signature(family().pipeline_class.__init__).parameters
    absent = {key: None for key, p in needed.items() if p.default is p.empty and key != "self"}
    pipe = family().build({**absent, **parts()}, {})
    pipe.set_progress_bar_config(disable=True)
    for component, network in pipe.components.items():
        if isinstance(network, torch.nn.Module) and component not in family.float32:
            network.to(dtype)

    def load(weights: str) -> object:
        if weights == "fp8":
            pipe.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
        return pipe

    return DiffusersExpert(load, family())


@pytest.fixture(scope="module", params=FAMILIES)
def expert(request: pytest.FixtureRequest) -> DiffusersExpert:
    return make(request.param)


def run(expert: DiffusersExpert, video: torch.Tensor, seeds: list[int], settings=SETTINGS, **options) -> torch.Tensor:
    return expert(
        video, embeddings(len(video), family=expert.family), seeds=IndependentSeeds(seeds), settings=settings, **options
    )


def noise_like(expert: DiffusersExpert, latents: torch.Tensor, seed: int) -> torch.Tensor:
    return randn(latents.shape, IndependentSeeds([seed]).generators("translation", 0))


def test_wan_agrees_with_diffusers_own_video_to_video(monkeypatch):
    expert = make("wan")
    pipe = WanVideoToVideoPipeline(tokenizer=None, text_encoder=None, **wan_parts())
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler.set_timesteps(10)
    level = float(pipe.scheduler.sigmas[10 - int(10 * 0.6)])  # where strength 0.6 of 10 steps begins
    text, video, seed = embeddings(), clip(), 5
    noises = []

    def noise(shape, **options):
        noises.append(randn(shape, IndependentSeeds([seed]).generators("translation", 0)))
        return noises[-1]

    monkeypatch.setattr("diffusers.pipelines.wan.pipeline_wan_video2video.randn_tensor", noise)
    theirs = pipe(
        video=[frame for frame in ((video[0].permute(1, 2, 3, 0) + 1) / 2).numpy()],
        prompt_embeds=text.prompt_embeds,
        negative_prompt_embeds=text.negative_prompt_embeds,
        height=16,
        width=16,
        strength=0.6,
        num_inference_steps=10,
        guidance_scale=3.0,
        output_type="np",
    ).frames[0]
    settings = replace(SETTINGS, num_inference_steps=10, level=level)
    ours = run(expert, video, [seed], settings)[0].permute(1, 2, 3, 0) / 2 + 0.5
    assert len(noises) == 1 and theirs.shape == (9, 16, 16, 3) and theirs.std() > 0.01
    np.testing.assert_allclose(ours.clamp(0, 1).numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_cogvideox_agrees_with_diffusers_own_video_to_video(monkeypatch, guidance):
    expert = make("cogvideox")
    pipe = CogVideoXVideoToVideoPipeline(tokenizer=None, text_encoder=None, **cogvideox_parts())
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler.set_timesteps(10)
    first = int(pipe.scheduler.timesteps[10 - int(10 * 0.6)])
    level = float(beta_level(pipe.scheduler.alphas_cumprod)[first])
    module = "diffusers.pipelines.cogvideo.pipeline_cogvideox_video2video"
    draw = lambda shape, **_: randn(shape, IndependentSeeds([5]).generators("translation", 0))  # noqa: E731
    monkeypatch.setattr(f"{module}.randn_tensor", draw)
    monkeypatch.setattr(f"{module}.retrieve_latents", lambda out, *_: out.latent_dist.mode())
    text, video = embeddings(), clip()
    theirs = pipe(
        video=[frame for frame in ((video[0].permute(1, 2, 3, 0) + 1) / 2).numpy()],
        prompt_embeds=text.prompt_embeds,
        negative_prompt_embeds=text.negative_prompt_embeds,
        height=16,
        width=16,
        strength=0.6,
        num_inference_steps=10,
        guidance_scale=guidance,
        output_type="np",
    ).frames[0]
    settings = replace(SETTINGS, num_inference_steps=10, level=level, guidance_scale=guidance)
    ours = run(expert, video, [5], settings)[0].permute(1, 2, 3, 0) / 2 + 0.5
    assert theirs.shape == (9, 16, 16, 3) and theirs.std() > 0.01
    np.testing.assert_allclose(ours.clamp(0, 1).numpy(), theirs, atol=1e-5)


def test_ltx_from_pure_noise_agrees_with_diffusers_own_text_to_video(monkeypatch):
    """Also in the noise that its decoder removes."""
    expert = make("ltx")
    pipe = LTXPipeline(tokenizer=None, text_encoder=None, **ltx_parts())
    pipe.set_progress_bar_config(disable=True)
    for each in (pipe, expert.pipe):  # as of real weights; those of new ones change nothing
        each.vae.latents_mean, each.vae.latents_std = torch.full((8,), 0.5), torch.full((8,), 3.0)
    generators = IndependentSeeds([5]).generators("translation", 0)
    monkeypatch.setattr(
        "diffusers.pipelines.ltx.pipeline_ltx.randn_tensor", lambda shape, **_: randn(shape, generators)
    )
    text = embeddings(family=LTX)
    masks = {name: mask.long() for name, mask in text.extra.items()}
    theirs = pipe(
        prompt_embeds=text.prompt_embeds,
        negative_prompt_embeds=text.negative_prompt_embeds,
        **masks,
        height=32,
        width=32,
        num_frames=9,
        frame_rate=24,
        num_inference_steps=4,
        guidance_scale=3.0,
        decode_timestep=0.05,
        decode_noise_scale=0.025,
        output_type="np",
    ).frames[0]
    ours = run(expert, clip(height=32, width=32), [5], replace(SETTINGS, height=32, width=32, level=1.0))
    assert theirs.std() > 0.01
    np.testing.assert_allclose((ours[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1).numpy(), theirs, atol=1e-5)


def test_a_distilled_network_finds_the_video_and_gets_new_noise_at_its_own_levels():
    expert, video, text = make("fastwan"), clip(), embeddings()
    ours = run(expert, video, [5], replace(SETTINGS, level=0.9, guidance_scale=1.0, num_inference_steps=3))
    family, pipe = expert.family, expert.pipe
    generators = IndependentSeeds([5]).generators("translation", 0)
    with torch.no_grad():
        clean = family.encode(pipe, _whole(expert, video))
        for level in (0.9, 0.757, 0.522):
            x = (1 - level) * clean + level * randn(clean.shape, generators)
            time = torch.tensor([1000 * level])
            velocity = pipe.transformer(x, time, text.prompt_embeds, return_dict=False)[0]
            clean = x - level * velocity
        theirs = family.decode(pipe, clean, generators)[:, :, :9]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("weights", ["plain", "fp8"])
def test_every_family_works_in_bfloat16(name, weights):
    expert = make(name, torch.bfloat16)
    text = embeddings(1, family=expert.family)
    half = replace(
        text,
        prompt_embeds=text.prompt_embeds.bfloat16(),
        negative_prompt_embeds=text.negative_prompt_embeds.bfloat16(),
        extra={key: states if key.endswith("mask") else states.bfloat16() for key, states in text.extra.items()},
    )
    settings = replace(SETTINGS, num_inference_steps=2, weights=weights)
    out = expert(clip(), half, seeds=IndependentSeeds([0]), settings=settings)
    assert out.shape == (1, 3, 9, 16, 16) and out.dtype == torch.float32 and bool(out.isfinite().all())


@pytest.mark.parametrize("frames", [1, 8, 29, 30, 57])
def test_as_many_frames_come_out_as_went_in(expert, frames):
    settings = replace(SETTINGS, num_inference_steps=2)
    out = run(expert, clip(frames=frames), [0], settings)
    assert out.shape == (1, 3, frames, 16, 16) and bool(out.isfinite().all())


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 8, 29, 30])
def test_the_autoencoder_gives_back_the_frames_that_it_got(expert, frames):
    """CogVideoX's does so only for an odd number of latent frames: of 29 frames it makes 8, and of these 32."""
    whole, generators = _whole(expert, clip(frames=frames)), [torch.Generator()]
    assert expert.family.decode(expert.pipe, expert.family.encode(expert.pipe, whole), generators).shape == whole.shape


def _whole(expert: DiffusersExpert, video: torch.Tensor) -> torch.Tensor:
    from show1.experts.frames import padded

    multiple = expert.family.frame_multiple(expert.pipe)
    return padded(video, frame_multiple=multiple, size_multiple=expert.family.size_multiple(expert.pipe))


def test_odd_sizes_are_padded_and_cropped(expert):
    out = run(expert, clip(height=9, width=14), [0], replace(SETTINGS, height=18, width=27))
    assert out.shape == (1, 3, 9, 18, 27)


@pytest.mark.parametrize("max_batch", [None, 1, 2])
def test_a_batch_equals_its_samples(expert, max_batch):
    video, text = clip(3, frames=5), embeddings(3, family=expert.family)
    settings = replace(SETTINGS, max_batch=max_batch, num_inference_steps=2)
    together = expert(video, text, seeds=IndependentSeeds([1, 2, 3]), settings=settings)
    for i in range(3):
        one = one_of(text, i)
        alone = expert(video[i : i + 1], one, seeds=IndependentSeeds([i + 1]), settings=settings)
        torch.testing.assert_close(together[i : i + 1], alone, atol=2e-5, rtol=0)


def test_the_same_seed_gives_the_same_video_and_another_one_does_not(expert):
    first, again, other = (run(expert, clip(), [seed]) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_less_noise_keeps_more_of_the_video(expert, monkeypatch):
    monkeypatch.setattr(expert.family, "decode_noise_scale", 0.0, raising=False)
    family, pipe = expert.family, expert.pipe
    video = clip(frames=9)
    with torch.no_grad():
        coded = family.decode(pipe, family.encode(pipe, _whole(expert, video)), [torch.Generator()])[..., :16, :16]
    distances = [
        float((run(expert, video, [0], replace(SETTINGS, level=level, num_inference_steps=20)) - coded).square().mean())
        for level in (0.001, 0.5, 1.0)
    ]
    assert distances[0] < 0.1 * min(distances[1:])


def test_progress_and_cancelling(expert):
    seen: list[tuple[int, int]] = []
    run(expert, clip(2, frames=5), [0, 1], replace(SETTINGS, max_batch=1), on_step=lambda i, n, x: seen.append((i, n)))
    total = seen[0][1]
    assert seen == [(i + 1, total) for i in range(total)] and total % 2 == 0

    def stop(done: int, total: int, latents: torch.Tensor) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        run(expert, clip(), [0], on_step=stop)
    assert torch.equal(run(expert, clip(), [3]), run(expert, clip(), [3]))  # it is usable again


def test_the_schedule_begins_exactly_at_the_level():
    expert = make("wan")
    levels: list[float] = []

    def note(done: int, total: int, latents: torch.Tensor) -> None:
        levels.append(float(expert.pipe.scheduler.sigmas[0]))

    run(expert, clip(frames=5), [0], replace(SETTINGS, level=0.613, num_inference_steps=7), on_step=note)
    assert levels[0] == pytest.approx(0.613, abs=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_offloaded_layers_compute_the_same(name):
    expert = make(name)
    resident = run(expert, clip(), [0])
    offload(expert.pipe, torch.device("cpu"))
    assert torch.equal(run(expert, clip(), [0]), resident)


def test_a_card_that_the_weights_would_fill_gets_them_layer_by_layer(monkeypatch):
    monkeypatch.setattr("show1.experts.placing.free_memory", lambda device: 1000)
    card = torch.device("cuda")
    assert exceeds_memory(card, 701) and not exceeds_memory(card, 699)
    assert not exceeds_memory(torch.device("cpu"), 10**15)
