"""Every task: its loss, what it trains, its samples, and the folder that the public stages load."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch.testing import assert_close

from show1.checkpoints.loading import load_vae
from show1.config import (
    InterpolationSettings,
    KeyframesSettings,
    StageName,
    SuperResolutionSettings,
    TranslationSettings,
)
from show1.data.clips import Vocabulary
from show1.diffusion import IndependentSeeds, target
from show1.errors import InputError
from show1.networks import UNet3DConditionModel
from show1.networks.latent_unet import TrainingAttention
from show1.sprites.caption_reader import parse_caption, read_caption
from show1.sprites.captions import TILTED, TURNED
from show1.sprites.options import TextOptions
from show1.sprites.world import MOTIONS, SUBJECTS
from show1.stages import (
    PromptEmbeddings,
    load_stage,
)
from show1.stages.translation import encode
from show1.text.encoder import PromptEncoder
from show1.text.words import split_words, word_tokenizer
from show1.training import TASKS, TrainingConfig, networks
from show1.training.batches import clip_batches
from show1.training.corruption import corrupted_share
from show1.training.objective import prediction_loss
from show1.training.presets import PRESETS, preset
from show1.training.tasks import super_resolution
from show1.training.tasks.base import Batch, Task
from show1.training.tasks.text_conditioner import TextConditioner
from show1.training.tasks.translation import TranslationTask
from tests.training import tiny_training
from tests.training.tiny_training import INPUTS, Exports, clips, config, made

NAMES = tuple(kind.task for kind in (TextOptions, *TASKS))


def asked(task: str, exports: Exports, **options: Any) -> TrainingConfig:
    return config(task, Path("unused"), **{**exports.inputs(task), **options})


def build(task: str, exports: Exports, **options: Any) -> Task:
    return made(asked(task, exports, **options))


def first_batch(config: TrainingConfig) -> Batch:
    return next(clip_batches(clips(config), config.options.view(), config.loop, rank=0, world=1, start=0))


def build_with_batch(task: str, exports: Exports, **options: Any) -> tuple[Any, Batch]:
    config = asked(task, exports, **options)
    return made(config), first_batch(config)


def test_every_task_has_a_test() -> None:
    assert set(NAMES) == set(INPUTS)


class Seen:
    """What a task's network saw and predicted in its first call."""

    def __init__(self, task: Any, batch: Batch, seed: int = 1) -> None:
        calls: list[Any] = []
        hook = task.unet.register_forward_hook(
            lambda _, arguments, kwargs, output: calls.append((arguments, kwargs, output)), with_kwargs=True
        )
        torch.manual_seed(seed)
        self.loss = task(batch)["loss"].detach()
        hook.remove()
        (self.sample, self.t), kwargs, output = calls[0]
        self.predicted = output[0].detach()
        self.noise_level = kwargs.get("class_labels")

    def noise(self, task: Any, x0: torch.Tensor) -> torch.Tensor:
        """The noise in the sample, if these are the clean ones."""
        a = task.alphas_cumprod[self.t].view(-1, 1, 1, 1, 1)
        return (self.sample[:, : x0.shape[1]] - a.sqrt() * x0) / (1 - a).sqrt()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_all_that_is_trained_and_nothing_else(name: str, exports: Exports) -> None:
    task, batch = build_with_batch(name, exports)
    torch.manual_seed(1)
    losses = task(batch)
    assert losses["loss"].ndim == 0 and losses["loss"].isfinite()
    losses["loss"].backward()
    for parameter_name, parameter in task.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name
    trained = {n.split(".")[0] for n, p in task.named_parameters() if p.requires_grad}
    expected = {"text": {"text", "heads"}, "vae": {"vae"}, "tiny_vae": {"vae"}, "keyframes": {"unet", "text"}}
    assert trained == expected.get(name, {"unet"})
    # those that nothing brought learn at the full rate
    new = {n for n, p in task.named_parameters() if p.requires_grad and n in task.new_parameters()}
    if name in ("keyframes", "super_resolution"):
        assert new == {f"unet.{n}" for n in task.unet.temporal_parameters()}
    elif name == "interpolation":
        assert new == {f"unet.{n}" for n in task.unet.temporal_parameters()} | {
            "unet.conv_in.weight",
            "unet.conv_in.bias",
        }
    elif name == "translation":
        assert new and all("temp_" in n or "transformer_in" in n for n in new)
        assert not any("temp_" in n for n in set(dict(task.named_parameters())) - new)
    else:
        assert new == {n for n, p in task.named_parameters() if p.requires_grad}


def test_clips_of_one_scene_differ_only_in_their_motion(exports: Exports) -> None:
    task, batch = build_with_batch("keyframes", exports, batch_size=4, data="sprites:motions_per_scene=2")
    scenes = [parse_caption(caption) for caption in batch["caption"]]
    for one, other in (scenes[:2], scenes[2:]):
        assert one[0::2] == other[0::2] and one[1] != other[1]  # subject and background; motion
    seen = Seen(task, batch)
    noise = seen.noise(task, batch["video"])
    assert seen.t[0] == seen.t[1] and seen.t[2] == seen.t[3]
    assert_close(noise[0::2], noise[1::2], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(noise[0], noise[2], atol=0.1)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("keyframe_images", {"batch_size": 2}, "shows scenes in several motions, which is only for keyframes"),
        ("keyframes", {"batch_size": 3}, "batch_size / accumulate must be a multiple of the 2 motions per scene"),
    ],
)
def test_clips_of_one_scene_are_for_whole_batches_of_keyframes(
    task: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        tiny_training.run(config(task, tmp_path, data="sprites:motions_per_scene=2", **options))


@pytest.mark.parametrize("name", ["keyframes", "translation"])
def test_errors_may_be_absolute(name: str, exports: Exports) -> None:
    task, batch = build_with_batch(name, exports, loss="absolute")
    torch.manual_seed(1)
    x0 = task.encode(batch["video"]) if name == "translation" else batch["video"]  # the first that is drawn
    seen = Seen(task, batch)
    wanted = target(x0, seen.noise(task, x0), seen.t, task.alphas_cumprod, task.prediction)
    assert_close(seen.loss, (seen.predicted - wanted).abs().mean(), rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="loss must be one of squared, absolute, got 'huber'"):
        build(name, exports, loss="huber")


def test_scenes_follow_the_seed_and_the_share_of_spins(exports: Exports) -> None:
    spinning, first, second = (
        first_batch(asked("keyframes", exports, batch_size=8, data=f"sprites:spins={spins}", seed=seed))["caption"]
        for spins, seed in ((1.0, 0), (0.0, 0), (0.0, 1))
    )
    motions = [{parse_caption(caption)[1] for caption in captions} for captions in (spinning, first, second)]
    assert motions[0] == {MOTIONS.index("spins")}
    assert MOTIONS.index("spins") not in motions[1] | motions[2]
    assert first != second


def test_scenes_follow_the_share_of_tilts(exports: Exports) -> None:
    tilted, upright = (
        first_batch(asked("keyframes", exports, batch_size=8, data=f"sprites:spins=0,tilts={share}"))["caption"]
        for share in (1.0, 0.0)
    )
    said = {TILTED, *TURNED}
    assert all(said & set(caption.split()) for caption in tilted)
    assert not any(said & set(caption.split()) for caption in upright)


def test_scenes_follow_the_shares_of_subjects(exports: Exports) -> None:
    shares = "spins=0,subject_share=bicycle:0.6,subject_share=fish:0.4"
    captions = first_batch(asked("keyframes", exports, batch_size=16, data=f"sprites:{shares}"))["caption"]
    subjects = [SUBJECTS[parse_caption(caption)[0]] for caption in captions]
    assert set(subjects) == {"bicycle", "fish"} and subjects.count("bicycle") > subjects.count("fish")
    # spins of a fish are held out: others are shown instead
    data = "sprites:spins=1,subject_share=fish:1"
    spins = first_batch(asked("keyframes", exports, batch_size=8, data=data))["caption"]
    assert {MOTIONS[parse_caption(caption)[1]] for caption in spins} == {"spins"}
    assert not any("fish" in caption for caption in spins)


def test_groups_bring_their_words(exports: Exports) -> None:
    plain = build("keyframes", exports)
    task, batch = build_with_batch("keyframes", exports, batch_size=8, data="sprites:groups=1")
    captions = batch["caption"]
    unknown = plain.text.tokenizer.unk_token_id
    assert any(unknown in plain.text.tokenizer(caption).input_ids for caption in captions)
    assert not any(unknown in task.text.tokenizer(caption).input_ids for caption in captions)
    # a plural begins near its singular
    rows = task.text.text_encoder.get_input_embeddings().weight
    ids = task.text.tokenizer.convert_tokens_to_ids(["panda", "pandas", "foxes"])
    near, far = (torch.nn.functional.cosine_similarity(rows[ids[0]], rows[i], dim=0) for i in ids[1:])
    assert near > 0.75 > far


def test_an_encoder_learns_words_that_it_does_not_know(tmp_path: Path) -> None:
    export_text(tmp_path, width=32)  # knows "a" and "panda" alone
    text = TextConditioner.from_folder(tmp_path)
    known, unknown = "a panda a", "a tilted bus"
    with torch.no_grad():
        before, vague = text([known]), text([unknown])
        text.add_words(Vocabulary(words=("panda", "tilted", "bus")))
        assert torch.equal(text([known]), before)
        assert not torch.equal(text([unknown]), vague) and not torch.equal(text(["a bus tilted"]), text([unknown]))
        text.save(tmp_path / "more")
        again = TextConditioner.from_folder(tmp_path / "more")
        again.add_words(Vocabulary(words=("panda", "tilted", "bus")))
        assert torch.equal(again(["A Tilted bus"]), text([unknown])) and len(again.tokenizer) == len(text.tokenizer)
    # the same words get the same weights wherever they are added
    other = TextConditioner.from_folder(tmp_path)
    other.add_words(Vocabulary(words=("bus", "tilted")))
    with torch.no_grad():
        assert torch.equal(other([unknown]), text([unknown]))


@pytest.mark.parametrize("name", NAMES)
def test_samples(name: str, exports: Exports) -> None:
    task, batch = build_with_batch(name, exports)
    task.eval()
    with torch.no_grad():
        samples = task.preview(batch)
    assert len(samples) == {"text": 0, "keyframe_images": 2, "keyframes": 2, "interpolation": 2}.get(name, 4)
    for i, (caption, video) in enumerate(samples):
        assert video.shape == batch["video"].shape[1:] or name == "translation"
        assert video.shape[0] == 3 and video.isfinite().all()
        names = {2: ("",), 4: ("output", "original" if name.startswith("translation") else "input")}[len(samples)]
        assert caption.startswith(names[(i + 1) % len(names)])
        assert caption.endswith(batch["caption"][i * 2 // len(samples)])


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parts_are_in_evaluation_mode(name: str, exports: Exports) -> None:
    task = build(name, exports).train()
    learning = {part: any(w.requires_grad for w in module.parameters()) for part, module in task.named_children()}
    assert any(learning.values()) and task.training
    for part, module in task.named_children():
        assert learning[part] or not any(each.training for each in module.modules()), part
        assert not learning[part] or module.training, part


def test_latent_networks_learn_with_attention_that_is_fast_backwards(exports: Exports) -> None:
    for name in ("translation_images", "translation"):
        processors = build(name, exports).unet.attn_processors.values()
        assert processors and all(isinstance(each, TrainingAttention) for each in processors)


def test_prompt_dropout(exports: Exports) -> None:
    captions = ["a panda spins over the snow"] * 400
    task = build("keyframe_images", exports, prompt_dropout=0.25)
    with torch.no_grad():
        torch.manual_seed(0)
        states = task.encode_captions(captions)
        empty, full = task.text(["", captions[0]])
    is_empty = (states - empty).flatten(1).abs().amax(1) < 1e-5
    is_full = (states - full).flatten(1).abs().amax(1) < 1e-5
    assert (is_empty ^ is_full).all()
    assert 0.2 < is_empty.float().mean() < 0.3


def test_timesteps_stay_within_the_maximum(exports: Exports) -> None:
    task, batch = build_with_batch("translation_images", exports, max_timestep=3)
    drawn = [Seen(task, batch, seed).t for seed in range(10)]
    assert set(torch.cat(drawn).tolist()) == {0, 1, 2, 3}


def test_sizes_of_the_users_choice(exports: Exports) -> None:
    batch = first_batch(asked("super_resolution", exports, size=[24, 40], low_size=[12, 20]))
    assert batch["video"].shape[-2:] == (24, 40) and batch["low"].shape[-2:] == (12, 20)
    assert first_batch(asked("keyframes", exports, size=[16, 24]))["video"].shape == (2, 3, 3, 16, 24)
    with pytest.raises(InputError, match="unknown training option 'low_size'; the options of keyframes"):
        build("keyframes", exports, low_size=[8, 8])


def test_translation_can_learn_from_crops(exports: Exports) -> None:
    task, batch = build_with_batch("translation", exports, crop=[16, 24])
    assert Seen(task, batch).sample.shape[2:] == (3, 2, 3)  # frames, and eighths of the crop


def test_translation_can_learn_to_repair(exports: Exports) -> None:
    """The network sees corrupted clips with noise; what it should find are the clean ones."""
    levels = {"timestep_logit": [-1.9, 0.001], "max_timestep": 999}  # just above those where a corruption counts
    spread = {}
    for share in (0.0, 1.0):
        task, batch = build_with_batch("translation", exports, corruption=share, **levels)
        assert isinstance(task, TranslationTask)
        task.vae.register_to_config(scaling_factor=100.0)  # of latents that differ by more than the noise
        torch.manual_seed(1)
        x0 = task.encode(batch["video"])  # the first that is drawn
        seen = Seen(task, batch)
        noise = seen.noise(task, x0)
        spread[share] = float(noise.std())
        wanted = target(x0, noise, seen.t, task.alphas_cumprod, task.prediction)
        assert_close(seen.loss, (seen.predicted - wanted).square().mean(), rtol=1e-3, atol=1e-3)
    assert 0.8 < spread[0.0] < 1.2 and spread[1.0] > 2


def test_any_number_of_clips_may_be_corrupted(exports: Exports) -> None:
    task, batch = build_with_batch("translation", exports, corruption=0.5, prompt_dropout=0.0)
    assert all(torch.isfinite(Seen(task, batch, seed).loss) for seed in range(8))


def test_corrupted_clips_are_on_the_device_of_the_others() -> None:
    with torch.device("meta"):  # as strict as a GPU
        frames = torch.zeros(2, 3, 2, 8, 8)
    assert corrupted_share(frames, 1.0).device.type == "meta"


@pytest.mark.parametrize("name", ["interpolation", "super_resolution_images", "super_resolution"])
def test_stages_after_the_keyframes_can_learn_to_repair(
    name: str, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The condition is corrupted; what the network should find is clean."""
    monkeypatch.setattr(super_resolution, "SINGLE_FRAMES", 0.0)
    level = {} if name == "interpolation" else {"noise_level": [0, 0]}
    shown = {}
    for share in (0.0, 1.0):
        task, batch = build_with_batch(name, exports, corruption=share, **level)
        x0, seen = batch["video"], Seen(task, batch)
        wanted = target(x0, seen.noise(task, x0), seen.t, task.alphas_cumprod, task.prediction)
        assert_close(seen.loss, (seen.predicted - wanted).square().mean(), rtol=1e-3, atol=1e-3)
        shown[share] = seen.sample[:, 3:6]
        if name == "super_resolution":  # the first frame is the clean one
            assert_close(shown[share][:, :, 0], x0[:, :, 0])
            shown[share] = shown[share][:, :, 1:]
    if name == "interpolation":
        assert_close(shown[0.0][:, :, [0, -1]], batch["video"][:, :, [0, -1]])
    for clean, corrupt in zip(shown[0.0].flatten(1), shown[1.0].flatten(1), strict=True):
        assert 0.7 < F.cosine_similarity(clean, corrupt, dim=0) and (clean - corrupt).abs().mean() > 0.02


def test_corruption_is_for_stages_that_repair(exports: Exports) -> None:
    with pytest.raises(InputError, match="unknown training option 'corruption'; the options of keyframes"):
        build("keyframes", exports, corruption=0.5)
    with pytest.raises(InputError, match="corruption must be from 0 to 1, got 2"):
        build("translation", exports, corruption=2)


def test_super_resolution_sees_a_clean_first_frame_and_noised_others(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, batch = build_with_batch("super_resolution", exports, noise_level=[150, 150])
    monkeypatch.setattr(super_resolution, "SINGLE_FRAMES", 0.0)
    seen = Seen(task, batch)
    assert_close(seen.sample[:, 3:, 0], batch["video"][:, :, 0])
    assert seen.noise_level.tolist() == [150, 150]
    monkeypatch.setattr(super_resolution, "SINGLE_FRAMES", 1.0)
    seen = Seen(task, batch)
    assert seen.sample.shape == (2 * 3, 6, 1, 16, 16) and seen.noise_level.tolist() == [150] * 6


def test_learned_variance(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    keyframes = {**tiny_training.NETWORKS["keyframes"], "out_channels": 6}
    monkeypatch.setitem(PRESETS["tiny"].networks, "keyframes", keyframes)
    task, batch = build_with_batch("keyframe_images", exports)
    torch.manual_seed(1)
    loss = task(batch)["loss"]
    loss.backward()
    weight = task.unet.conv_out.weight
    assert weight.shape[0] == 6 and weight.grad.flatten(1).any(1).all()
    assert loss.isfinite()
    with torch.no_grad():
        samples = task.eval().preview(batch)
    assert samples[0][1].shape == (3, 1, 8, 8)


def test_min_snr_changes_the_loss(exports: Exports) -> None:
    losses = []
    for gamma in (None, 5.0):
        losses.append(float(Seen(*build_with_batch("keyframe_images", exports, min_snr_gamma=gamma)).loss))
    assert 0 < losses[1] < losses[0]


def test_prediction_type_of_the_start_wins(exports: Exports) -> None:
    task = build("keyframes", exports, prediction_type="epsilon")
    assert task.prediction == task.scheduler_config["prediction_type"] == "v_prediction"
    assert build("keyframe_images", exports, prediction_type="epsilon").prediction == "epsilon"


# networks from others


def unet_of(export: Path) -> UNet3DConditionModel:
    return UNet3DConditionModel.from_pretrained(export / "unet").eval()


def test_inflation_starts_as_the_image_network(exports: Exports) -> None:
    image = unet_of(exports["keyframe_images"])
    video = networks.adapt_pixel_unet(image, temporal=True).eval()
    assert video.temporal_parameters() and not image.temporal_parameters()
    x, text = torch.randn(1, 3, 4, 8, 8), torch.randn(1, 5, 32)
    with torch.no_grad():
        frames = [image(x[:, :, i : i + 1], 10, text).sample for i in range(4)]
        assert_close(video(x, 10, text).sample, torch.cat(frames, dim=2))


def scrambled(network: UNet3DConditionModel, names: Iterable[str]) -> UNet3DConditionModel:
    """The network with other numbers in some of its parameters."""
    own = dict(network.named_parameters())
    with torch.no_grad():
        for name in names:
            own[name].copy_(torch.randn(own[name].shape) * 0.1)
    return network


def test_a_video_network_goes_on_with_single_frames_and_gets_its_layers_over_frames_back(exports: Exports) -> None:
    image = unet_of(exports["keyframe_images"])
    video = networks.adapt_pixel_unet(image, temporal=True).eval()
    over_frames = set(video.temporal_parameters())
    scrambled(video, over_frames)
    single = networks.adapt_pixel_unet(video, temporal=False).eval()
    assert not single.temporal_parameters()
    x, text = torch.randn(1, 3, 1, 8, 8), torch.randn(1, 5, 32)
    with torch.no_grad():
        assert_close(single(x, 10, text).sample, image(x, 10, text).sample)
    scrambled(single, dict(single.named_parameters()))  # as if it had learned
    again = networks.adapt_pixel_unet(single, temporal=True).eval()
    assert set(networks.take_temporal_layers(again, video)) == over_frames
    wanted = {**single.state_dict(), **{name: video.state_dict()[name] for name in over_frames}}
    assert {name: torch.equal(value, wanted[name]) for name, value in again.state_dict().items()} == dict.fromkeys(
        wanted, True
    )
    with pytest.raises(InputError, match="temporal_init: its layers over frames do not fit"):
        networks.take_temporal_layers(again, single)


def test_keyframes_take_layers_over_frames_of_another_folder(exports: Exports, tmp_path: Path) -> None:
    video = unet_of(exports["keyframes"])
    scrambled(video, video.temporal_parameters()).save_pretrained(tmp_path / "unet")
    task = build("keyframes", exports, init=str(exports["keyframe_images"]), temporal_init=str(tmp_path))
    got, image = task.unet.state_dict(), unet_of(exports["keyframe_images"]).state_dict()
    assert all(torch.equal(got[name], value) for name, value in video.temporal_parameters().items())
    assert all(torch.equal(got[name], value) for name, value in image.items())
    with pytest.raises(InputError, match="temporal_init: name the network that gets these layers, too"):
        build("keyframes", exports, init=None, temporal_init=str(tmp_path))


@pytest.mark.parametrize("patch_size", [1, 2])
def test_new_input_channels_change_nothing_at_first(patch_size: int) -> None:
    torch.manual_seed(0)
    source = UNet3DConditionModel(**tiny_training.NETWORKS["keyframes"], patch_size=patch_size).eval()
    wide = networks.adapt_pixel_unet(source, in_channels=7).eval()
    assert wide.config.in_channels == 7
    x, text = torch.randn(1, 3, 2, 8, 8), torch.randn(1, 5, 32)
    with torch.no_grad():
        expected = source(x, 10, text).sample
        assert_close(wide(torch.cat([x, 9 * torch.randn(1, 4, 2, 8, 8)], 1), 10, text).sample, expected)


@pytest.mark.parametrize(
    "name, source",
    [
        ("interpolation", None),
        ("interpolation", "keyframes"),
        ("interpolation", "interpolation"),
        ("super_resolution_images", None),
        ("super_resolution", "super_resolution_images"),
        ("super_resolution", None),
        ("super_resolution", "super_resolution"),
    ],
)
def test_networks_that_add_their_condition_begin_with_it(
    name: str, source: str | None, exports: Exports, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = {"add_condition": True, "prediction_type": "sample", "text": str(exports["text"])}
    monkeypatch.setattr(super_resolution, "SINGLE_FRAMES", 0.0)
    task, batch = build_with_batch(name, exports, **options, init=str(exports[source]) if source else None)
    seen = Seen(task.eval(), batch)
    assert_close(seen.predicted, seen.sample[:, 3:6], atol=0, rtol=0)
    assert_close(seen.loss, (seen.predicted - batch["video"]).square().mean())  # what is predicted is the clean video
    task.export(tmp_path)
    again = build(name, exports, **options, init=str(tmp_path))
    for (key, a), (_, b) in zip(task.unet.named_parameters(), again.unet.named_parameters(), strict=True):
        assert torch.equal(a, b), key
    assert json.loads((tmp_path / "scheduler" / "scheduler_config.json").read_text())["prediction_type"] == "sample"


def test_a_condition_is_added_where_there_is_one(exports: Exports) -> None:
    with pytest.raises(InputError, match="unknown training option 'add_condition'; the options of keyframes"):
        build("keyframes", exports, add_condition=True, prediction_type="sample")
    with pytest.raises(InputError, match="add_condition needs prediction_type sample, got v_prediction"):
        build("super_resolution", exports, add_condition=True)
    with pytest.raises(ValueError, match="add_condition needs 6 in_channels or more"):
        UNet3DConditionModel(**tiny_training.NETWORKS["keyframes"], add_condition=True)


def test_new_place_embeddings_change_nothing_at_first() -> None:
    source = UNet3DConditionModel(**tiny_training.NETWORKS["keyframes"] | {"embed_places": False}).eval()
    told = networks.adapt_pixel_unet(source, embed_places=True).eval()
    assert told.place_embeddings is not None and source.place_embeddings is None
    x, text = torch.randn(1, 3, 2, 8, 8), torch.randn(1, 5, 32)
    with torch.no_grad():
        assert_close(told(x, 10, text).sample, source(x, 10, text).sample)


def test_a_network_of_other_layers_is_refused(exports: Exports) -> None:
    with pytest.raises(
        InputError, match=r"init: the network cannot be converted to one with .*, \S+, \S+ and \d+ more$"
    ):
        networks.adapt_pixel_unet(unet_of(exports["keyframe_images"]), layers_per_block=2)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "keyframes",
            {"init": "interpolation", "text": "text"},
            "init: .* of another stage .in_channels 7, keyframes needs 3",
        ),
        ("super_resolution", {"init": "keyframes", "text": "text"}, "in_channels 3, super_resolution needs 6"),
        ("interpolation", {"init": "super_resolution", "text": "text"}, "of another stage"),
        ("keyframes", {"text": "wide"}, "text: its states have 48 channels, but the network of .* reads 32"),
    ],
)
def test_folders_that_do_not_fit(
    name: str, changes: dict[str, str], message: str, exports: Exports, tmp_path: Path
) -> None:
    export_text(tmp_path / "wide", width=48)
    folders = {key: str(tmp_path / "wide" if value == "wide" else exports[value]) for key, value in changes.items()}
    with pytest.raises(InputError, match=message):
        build(name, exports, **folders)


def test_a_fresh_network_takes_the_latents_of_any_autoencoder() -> None:
    unet: Any = networks.fresh_latent_unet(preset("mini").network("translation"), 32, 4)
    assert unet.config.in_channels == unet.config.out_channels == 4


def test_unknown_preset() -> None:
    with pytest.raises(InputError, match="unknown preset 'huge'; the presets are mini, mini-fast, show-1, tiny"):
        preset("huge")


def test_words_of_the_tokenizer() -> None:
    tokenizer = word_tokenizer(["a", "panda", "spins"], 24)
    ids = tokenizer("A panda, dances; SPINS!", padding="max_length", truncation=True).input_ids
    assert tokenizer.convert_ids_to_tokens(ids)[:6] == ["a", "panda", "<unk>", "spins", "</s>", "<pad>"]
    assert len(ids) == 24
    assert tokenizer("panda " * 60, truncation=True).input_ids[-1] == tokenizer.eos_token_id


# exports


def prompts(exports: Exports, name: str) -> PromptEmbeddings:
    encoder = PromptEncoder(exports[name], dtype=torch.float32, device="cpu")
    states = encoder.encode(["a panda spins over the snow", ""], 24)
    return PromptEmbeddings(prompt_embeds=states[:1], negative_prompt_embeds=states[1:])


EXPORTED = [
    "keyframe_images",
    "keyframes",
    "interpolation",
    "super_resolution_images",
    "super_resolution",
    "translation",
]


@pytest.mark.parametrize("name", EXPORTED)
def test_the_public_stage_runs_the_export(name: str, exports: Exports) -> None:
    shape = {"num_inference_steps": 2, "guidance_scale": 2.0}
    sized = {"height": 16, "width": 16, **shape}
    stages: dict[str, tuple[StageName, Any, tuple[int, ...] | None]] = {
        "keyframe_images": ("keyframes", KeyframesSettings(num_frames=1, **sized), None),
        "keyframes": ("keyframes", KeyframesSettings(num_frames=3, **sized), None),
        "interpolation": ("interpolation", InterpolationSettings(factor=4, **shape), (1, 3, 2, 16, 16)),
        "super_resolution_images": ("super_resolution", SuperResolutionSettings(**sized), (1, 3, 1, 8, 8)),
        "super_resolution": ("super_resolution", SuperResolutionSettings(**sized), (1, 3, 3, 8, 8)),
        "translation": ("translation", TranslationSettings(**sized), (1, 3, 3, 8, 8)),
    }
    stage_name, settings, video = stages[name]
    stage = load_stage(stage_name, exports[name])
    text = prompts(exports, name if name in ("keyframe_images", "keyframes", "translation") else "keyframes")
    given = None if video is None else torch.rand(video) * 2 - 1
    made = stage(given, text, seeds=IndependentSeeds([1]), settings=settings)
    assert made.shape[:2] == (1, 3) and made.isfinite().all()


def test_the_export_is_what_was_trained(exports: Exports) -> None:
    export = exports["keyframes"]
    assert json.loads((export / "training.json").read_text()) == {"task": "keyframes", "step": 2}
    scheduler = json.loads((export / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "v_prediction" and scheduler["beta_schedule"] == "squaredcos_cap_v2"
    assert unet_of(export).config.temporal and not unet_of(exports["keyframe_images"]).config.temporal
    assert unet_of(exports["interpolation"]).config.in_channels == 7
    assert not (exports["interpolation"] / "text_encoder").exists()
    vae = json.loads((exports["vae"] / "vae" / "config.json").read_text())
    assert vae["scaling_factor"] not in (1.0, 0.18215)  # measured on clips
    tiny = json.loads((exports["tiny_vae"] / "vae" / "config.json").read_text())
    assert tiny["_class_name"] == "AutoencoderTiny" and tiny["latent_channels"] == vae["latent_channels"]
    assert tiny["scaling_factor"] == 1.0  # its latents are scaled already


def test_a_tiny_autoencoder_learns_the_latents_and_images_of_another(exports: Exports) -> None:
    task, batch = build_with_batch("tiny_vae", exports, batch_size=4)
    task.CROP, task.CROPS = 32, 1  # whole images
    optimizer = torch.optim.AdamW(task.vae.parameters(), lr=3e-3)
    before = {name: value.clone() for name, value in task.teacher.state_dict().items()}
    torch.manual_seed(0)
    found = []
    for _ in range(40):
        losses = task.train()(batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        found.append({name: float(value.detach()) for name, value in losses.items()})
    assert not task.teacher.training
    assert all(torch.equal(value, before[name]) for name, value in task.teacher.state_dict().items())
    assert found[-1]["latents"] < 0.8 * found[0]["latents"] and found[-1]["l1"] < 0.8 * found[0]["l1"]
    images = batch["video"][:, :, 0]
    wanted = encode(task.teacher, images, draw=None)
    with torch.no_grad():
        off = (encode(task.vae, images, draw=None) - wanted).square().mean()
        assert off < 0.5 * found[0]["latents"]
        [made, shown] = task.restore(batch)
    assert_close(shown[:, :, 0], images)
    assert made.shape == shown.shape and made.isfinite().all()


def test_autoencoders_start_from_what_fits(exports: Exports, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="init: .* holds an AutoencoderTiny; this task trains an AutoencoderKL"):
        build("vae", exports, init=str(exports["tiny_vae"]))
    with pytest.raises(InputError, match="init: .* holds an AutoencoderKL; this task trains an AutoencoderTiny"):
        build("tiny_vae", exports, init=str(exports["vae"]))
    with pytest.raises(InputError, match="vae: name the folder, or the model, whose autoencoder is distilled"):
        build("tiny_vae", exports, vae=None)
    # latents of a teacher with three levels are larger than those of the tiny autoencoder
    coarse = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
    )
    coarse.save_pretrained(tmp_path / "coarse/vae")
    with pytest.raises(InputError, match="has latents of 4 channels, 4 times smaller than its images"):
        build("tiny_vae", exports, vae=str(tmp_path / "coarse"))
    # a student of scaled latents has no factor of its own
    shutil.copytree(exports["tiny_vae"], tmp_path / "scaled")
    config = tmp_path / "scaled/vae/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "scaling_factor": 0.5}))
    assert build("tiny_vae", exports, init=str(tmp_path / "scaled")).vae.config.scaling_factor == 1.0
    again = build("tiny_vae", exports, init=str(exports["tiny_vae"]))
    saved = load_vae(exports["tiny_vae"] / "vae", dtype=torch.float32, device="cpu")
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in again.vae.state_dict().items())


def test_loss_of_the_task_is_the_objective(exports: Exports) -> None:
    """With what the network saw and gave, the objective gives the loss of the task."""
    task, batch = build_with_batch("interpolation", exports, prompt_dropout=0.0)
    seen, video = Seen(task, batch), batch["video"]
    sample, noise = seen.sample, seen.noise(task, video)
    expected = prediction_loss(seen.predicted, video, noise, seen.t, task.alphas_cumprod, prediction="v_prediction")
    assert_close(seen.loss, expected, rtol=1e-3, atol=1e-5)
    # channels: noisy video, condition, mask of the frames that are known
    assert_close(sample[:, 3:6, [0, -1]], video[:, :, [0, -1]])
    assert sample[:, 6].amin(dim=(0, 2, 3)).tolist() == sample[:, 6].amax(dim=(0, 2, 3)).tolist() == [1, 0, 0, 0, 1]


# text of other kinds


def test_words_of_ones_own_captions(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "captions.jsonl").write_text('{"file": "a.mp4", "caption": "Zwei Wölfe, im Schnee"}\n')
    task = made(config("keyframe_images", Path("unused"), data=str(tmp_path)))
    ids = task.text.tokenizer("wölfe im wald").input_ids
    assert task.text.tokenizer.convert_ids_to_tokens(ids) == ["wölfe", "im", "<unk>", "</s>"]


@pytest.mark.parametrize("text", ["एक कुत्ता समुद्र तट पर दौड़ता है", "நாய் ஓடுகிறது", "كَلْبٌ يَجْرِي", "İstanbul'da bir kedi"])
def test_words_of_any_script(text: str) -> None:
    tokenizer = word_tokenizer(sorted(set(split_words(text))), 24)
    assert "<unk>" not in tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)


@pytest.mark.parametrize("name", ["keyframe_images", "super_resolution", "translation_images"])
def test_any_width_of_the_text_encoder(name: str, exports: Exports, tmp_path: Path) -> None:
    export_text(tmp_path, width=48)
    task, batch = build_with_batch(name, exports, text=str(tmp_path), init=None)
    assert task.text.tokenize(["a panda"]).input_ids.shape == (1, 77)
    assert task(batch)["loss"].isfinite()


def export_text(folder: Path, width: int) -> None:
    """A T5 encoder whose tokenizer knows no length."""
    from transformers import T5Config, T5EncoderModel

    tokenizer = word_tokenizer(["a", "panda"], 24)
    tokenizer.model_max_length = int(1e30)
    tokenizer.save_pretrained(folder / "tokenizer")
    t5 = T5Config(d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=len(tokenizer))
    T5EncoderModel(t5).save_pretrained(folder / "text_encoder")


def test_a_text_encoder_that_learns_on_keeps_the_states_of_ordinary_captions(exports: Exports) -> None:
    first, batch = build_with_batch("text", exports)
    assert "moved" not in first(batch)
    data = "sprites:groups=0.5,tilts=0.3"
    task, batch = build_with_batch("text", exports, init=str(exports["text"]), data=data, batch_size=16)
    values = task(batch)
    assert values["moved"].item() < 1e-9  # new words leave it as it is
    with torch.no_grad():
        for parameter in task.text.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    values = task(batch)
    assert 0 < values["moved"].item() and 0 <= values["accuracy"].item() <= 1
    values["loss"].backward()
    assert not any(p.requires_grad for p in task.before.parameters())
    unordinary = [each for each in batch["caption"] if not read_caption(each).ordinary]
    assert 0 < len(unordinary) < 16 and task({"caption": unordinary})["moved"].item() == 0
