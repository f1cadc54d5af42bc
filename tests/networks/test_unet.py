"""The pixel UNet: published outputs, shapes, caches, files, and what training asks of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from show1.networks import UNet3DConditionModel
from show1.networks.attention import TemporalTransformer
from show1.networks.layers import PlaceEmbedding, TemporalConvLayer, from_patches, to_patches
from tests.networks.tiny_unet import DIFFUSION, FAMILIES, SIMPLE, build, inputs, randomize, run

EMBEDDINGS = {"embed_frames": True, "embed_places": True}


# one network, called in several ways; runs of the published pixel networks are in `tests/stages/test_golden.py`


def called() -> tuple[UNet3DConditionModel, dict[str, torch.Tensor], torch.Tensor]:
    """A network of the latent family, arguments of a call, and what it gives."""
    model = build(DIFFUSION)
    arguments = inputs(model)
    return model, arguments, run(model, arguments)


def test_output_does_not_depend_on_the_memory_layout() -> None:
    model, arguments, output = called()
    arguments["sample"] = arguments["sample"].contiguous(memory_format=torch.channels_last_3d)
    assert_close(run(model, arguments), output, atol=1e-4, rtol=0)
    # channels last inside, as on a GPU
    layouts: list[bool] = []
    model.conv_in.register_forward_pre_hook(lambda _, x: x[0].contiguous(memory_format=torch.channels_last))
    model.up_blocks[1].register_forward_pre_hook(
        lambda _, x: layouts.append(x[0].is_contiguous(memory_format=torch.channels_last))
    )
    assert_close(run(model, arguments), output, atol=1e-4, rtol=0)
    assert layouts == [True]


def test_cached_text_gives_the_same_output() -> None:
    model, arguments, output = called()
    with torch.no_grad():
        cache = model.encode_text(arguments.pop("encoder_hidden_states"))
    assert_close(run(model, {**arguments, "text_cache": cache}), output, atol=1e-4, rtol=0)


def test_the_published_order_changes_the_rounding_alone() -> None:
    model, arguments, fast = called()
    model.use_published_order(True)
    published = run(model, arguments)
    assert_close(published, fast, atol=1e-5, rtol=0)
    assert not torch.equal(published, fast)
    model.use_published_order(False)
    assert torch.equal(run(model, arguments), fast)


# shapes


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("frames", "size"), [(1, (1, 1)), (1, (9, 6)), (2, (5, 7)), (5, (4, 13))])
def test_any_size_and_any_number_of_frames(family: str, frames: int, size: tuple[int, int]) -> None:
    model = build(FAMILIES[family])
    out = run(model, inputs(model, batch=1, frames=frames, size=size))
    assert out.shape == (1, model.config.out_channels, frames, *size)
    assert out.isfinite().all()


@pytest.mark.parametrize("changes", [{}, {"only_cross_attention": True, "class_embed_type": "timestep"}])
@pytest.mark.parametrize("family", FAMILIES)
def test_batch_of_prompts_equals_single_prompts(family: str, changes: dict[str, Any]) -> None:
    model = build(FAMILIES[family], **changes)
    arguments = inputs(model, batch=3)
    together = run(model, arguments)
    alone = [run(model, {key: value[i : i + 1] for key, value in arguments.items()}) for i in range(3)]
    assert_close(together, torch.cat(alone))
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cache_of_some_rows_is_the_cache_of_their_text(family: str) -> None:
    model = build(FAMILIES[family])
    arguments = inputs(model, batch=3)
    whole = run(model, arguments)
    rows = {key: value[1:3] for key, value in arguments.items()}
    with torch.no_grad():
        cache = model.encode_text(rows.pop("encoder_hidden_states"))
    assert_close(run(model, {**rows, "text_cache": cache}), whole[1:3])


def test_one_timestep_for_the_whole_batch() -> None:
    model = build(SIMPLE, class_embed_type="timestep")
    arguments = inputs(model) | {"timestep": torch.tensor([7, 7]), "class_labels": torch.tensor([3, 3])}
    expected = run(model, arguments)
    for timestep, label in [(7, 3), (torch.tensor(7), torch.tensor([3]))]:
        assert_close(run(model, {**arguments, "timestep": timestep, "class_labels": label}), expected)


def test_tuple_output() -> None:
    model = build(DIFFUSION)
    arguments = inputs(model)
    with torch.no_grad():
        out = model(**arguments, return_dict=False)
    assert isinstance(out, tuple) and len(out) == 1
    assert_close(out[0], run(model, arguments))


def test_wrong_calls_are_refused() -> None:
    model = build(SIMPLE, class_embed_type="timestep")
    arguments = inputs(model)
    for changes, message in [
        ({"sample": arguments["sample"][:, :2]}, r"sample must be \(B, 3, F, H, W\), got \(2, 2, 3, 8, 12\)"),
        ({"sample": arguments["sample"][:, :, 0]}, "sample must be"),
        ({"encoder_hidden_states": None}, "text_cache"),
        ({"class_labels": None}, "class_labels"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(model, {**arguments, **changes})


# patches


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (1, 2)])
def test_patches_and_back(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    patches = to_patches(x, 4)
    assert patches.shape == (2, 48, -(-size[0] // 4), -(-size[1] // 4))
    assert_close(from_patches(patches, 4, size), x, atol=0, rtol=0)


def test_a_network_on_patches() -> None:
    model = build(SIMPLE, patch_size=2)
    assert model.conv_in.weight.shape[1] == 3 * 4 and model.conv_out.weight.shape[0] == 6 * 4
    arguments = inputs(model, size=(11, 14))
    out = run(model, arguments)
    assert out.shape == (2, 6, 3, 11, 14)
    # the same network on patches that somebody else made
    twin = build(SIMPLE, in_channels=12, out_channels=24)
    twin.load_state_dict(model.state_dict())
    frames = arguments["sample"].transpose(1, 2).flatten(0, 1)
    patches = to_patches(frames, 2).unflatten(0, (2, 3)).transpose(1, 2)
    made = run(twin, {**arguments, "sample": patches}).transpose(1, 2).flatten(0, 1)
    assert_close(out, from_patches(made, 2, (11, 14)).unflatten(0, (2, 3)).transpose(1, 2))


# training


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_gives_equal_gradients(family: str) -> None:
    model = build(FAMILIES[family]).train()  # with dropout
    arguments = inputs(model)

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(3)
        model(**arguments).sample.square().mean().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters()}

    plain = gradients()
    model.enable_gradient_checkpointing()
    calls = count_calls(model.mid_block.resnets[0])
    again = gradients()
    assert calls == [1, 1]  # forward, and once more in the backward pass
    assert set(plain) == set(again)
    for name in plain:
        assert_close(again[name], plain[name], msg=name)


def count_calls(module: torch.nn.Module) -> list[int]:
    calls: list[int] = []
    module.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("embeddings", [{}, EMBEDDINGS])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_video_network_is_the_image_network_on_every_frame(family: str, embeddings: dict[str, bool]) -> None:
    image = build(FAMILIES[family], temporal=False, **embeddings)
    video = UNet3DConditionModel(**FAMILIES[family], **embeddings).eval()
    missing, unexpected = video.load_state_dict(image.state_dict(), strict=False)
    assert not unexpected and set(missing) == set(video.temporal_parameters())
    arguments = inputs(video, batch=2, frames=3)
    singles = [run(image, arguments | {"sample": arguments["sample"][:, :, i : i + 1]}) for i in range(3)]
    assert_close(run(video, arguments), torch.cat(singles, dim=2))
    assert_close(run(image, arguments), torch.cat(singles, dim=2))


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_see_each_other(family: str) -> None:
    model = build(FAMILIES[family])
    arguments = inputs(model, batch=1)
    before = run(model, arguments)
    arguments["sample"][:, :, 0] += 1
    assert (run(model, arguments) - before)[:, :, -1].abs().max() > 1e-3


def test_frames_know_their_place_with_a_frame_embedding() -> None:
    model = build(SIMPLE, embed_frames=True)
    arguments = inputs(model, batch=2, frames=5)
    whole = run(model, arguments)
    rows = [run(model, {k: v[i : i + 1] for k, v in arguments.items()}) for i in range(2)]
    assert_close(whole, torch.cat(rows))

    layer = model.frame_embedding
    temb = torch.randn(2, layer.embedding.linear_2.out_features)
    nine, three = layer(temb, 9).unflatten(0, (2, 9)), layer(temb, 3).unflatten(0, (2, 3))
    assert_close(nine[:, ::4], three)  # the place is a share of the clip
    assert (nine[:, 1:] - nine[:, :-1]).abs().amax(-1).min() > 1e-3
    assert_close(layer(temb, 1), three[:, 0])


def test_positions_know_their_place_with_a_place_embedding() -> None:
    layer = PlaceEmbedding(32)
    x = torch.randn(2, 32, 9, 6)
    assert_close(layer(x), x, atol=0, rtol=0)  # a fresh one is the identity
    randomize(layer)
    added = (layer(x) - x)[0]
    assert_close(layer(x) - x, added.expand(2, -1, -1, -1))
    assert torch.cdist(added.flatten(1).T, added.flatten(1).T).add(torch.eye(54) * 9).min() > 0.1  # no two alike
    assert_close((layer(torch.zeros(1, 32, 3, 18)))[0, :, :, 1::3], added[:, 1::3])  # the place is a share of the frame


def test_a_place_embedding_tells_even_frames_of_one_colour_apart() -> None:
    places, blind = (build(SIMPLE, temporal=False, embed_places=value) for value in (True, False))
    arguments = inputs(places, batch=1, frames=1)
    arguments["sample"] = torch.zeros(1, 3, 1, 80, 80)
    middle = [run(model, arguments)[0, :, 0, 36:44:4, 36:44:4].flatten(1) for model in (places, blind)]
    spread = [(out - out.mean(1, keepdim=True)).abs().max() for out in middle]
    assert spread[0] > 10 * spread[1]


def test_temporal_parameters_are_what_inflation_adds() -> None:
    video, image = build(SIMPLE, **EMBEDDINGS), build(SIMPLE, temporal=False, embed_places=True)
    assert set(video.temporal_parameters()) == set(dict(video.named_parameters())) - set(dict(image.named_parameters()))
    assert not image.temporal_parameters()


@pytest.mark.parametrize("channels_last", [False, True])
def test_temporal_layers_keep_the_layout(channels_last: bool) -> None:
    x = torch.randn(6, 32, 5, 4)
    for layer in (TemporalConvLayer(32), TemporalTransformer(32, heads=4, head_dim=8, groups=8)):
        randomize(layer)
        expected = layer.eval()(x, 3)
        assert not torch.allclose(expected, x)
        if channels_last:
            out = layer(x.contiguous(memory_format=torch.channels_last), 3)
            assert out.is_contiguous(memory_format=torch.channels_last)
            assert_close(out, expected)
        else:
            assert expected.is_contiguous()


def test_temporal_convolution_is_a_convolution_over_frames() -> None:
    layer = TemporalConvLayer(32)
    randomize(layer)
    x = torch.randn(2 * 5, 32, 3, 4)
    video = x.unflatten(0, (2, 5)).transpose(1, 2)  # (B, C, F, H, W)
    expected = video
    for stack in layer.eval().children():
        expected = stack(expected)
    assert_close(layer(x, 5), (video + expected).transpose(1, 2).flatten(0, 1))


# files


def test_config_and_weights_come_back_from_files(tmp_path: Path) -> None:
    model = build(SIMPLE, temporal_head_dim=8, patch_size=2, class_embed_type="timestep", **EMBEDDINGS)
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    again = UNet3DConditionModel.from_pretrained(tmp_path).eval()
    assert {k: v for k, v in again.config.items() if k[0] != "_"} == {
        k: v for k, v in model.config.items() if k[0] != "_"
    }
    for parameter in again.parameters():
        # a file's weights lie unaligned in memory, and some kernels round by that
        parameter.data = parameter.data.clone()
    arguments = inputs(model)
    assert_close(run(again, arguments), run(model, arguments), atol=0, rtol=0)


def test_variant_and_dtype(tmp_path: Path) -> None:
    model = build(DIFFUSION).to(torch.float16)
    model.save_pretrained(tmp_path, variant="fp16")
    assert [file.name for file in tmp_path.glob("*.safetensors")] == ["diffusion_pytorch_model.fp16.safetensors"]
    again = UNet3DConditionModel.from_pretrained(tmp_path, variant="fp16", torch_dtype=torch.bfloat16)
    assert again.dtype == torch.bfloat16
    for name, parameter in model.named_parameters():
        assert_close(again.get_parameter(name), parameter.to(torch.bfloat16), atol=0, rtol=0)


def test_bfloat16_is_close_to_float32() -> None:
    model = build(SIMPLE)
    arguments = inputs(model)
    expected = run(model, arguments)
    low = {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in arguments.items()}
    out = run(model.to(torch.bfloat16), low)
    assert out.dtype == torch.bfloat16
    assert (out.float() - expected).square().mean() < 1e-3 * expected.square().mean()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"down_block_types": ["DownBlock3D", "DownBlock3D", "MysteryBlock3D"]}, "down_block_types.*MysteryBlock3D"),
        ({"up_block_types": ["UpBlock3D", "UpBlock3D", "MysteryBlock3D"]}, "up_block_types.*MysteryBlock3D"),
        ({"mid_block_type": "UNetMidBlock3D"}, "mid_block_type.*UNetMidBlock3D"),
        ({"up_block_types": ["UpBlock3D", "UpBlock3D"]}, "equal lengths"),
        ({"layers_per_block": [1, 1]}, "layers_per_block must be one value or 3"),
        ({"dual_cross_attention": True}, "dual_cross_attention"),
        ({"class_embed_type": "projection"}, "class_embed_type"),
        ({"addition_embed_type": "text_image"}, "addition_embed_type"),
        ({"encoder_hid_dim_type": "image_proj"}, "encoder_hid_dim_type"),
        ({"encoder_hid_dim": None}, "encoder_hid_dim must be a number"),
        ({"num_class_embeds": 10}, "num_class_embeds"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type"),
        ({"class_embeddings_concat": True}, "class_embeddings_concat"),
        ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift"),
        ({"cross_attention_norm": "batch_norm"}, "cross_attention_norm"),
        ({"norm_num_groups": None}, "norm_num_groups"),
    ],
)
def test_unknown_configs_are_refused(changes: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        UNet3DConditionModel(**{**SIMPLE, **changes})


# published sizes

BASE: dict[str, Any] = {
    **SIMPLE,
    "down_block_types": ["ResnetDownsampleBlock3D"] + ["SimpleCrossAttnDownBlock3D"] * 3,
    "up_block_types": ["SimpleCrossAttnUpBlock3D"] * 3 + ["ResnetUpsampleBlock3D"],
    "block_out_channels": [320, 640, 960, 1280],
    "layers_per_block": 3,
    "cross_attention_dim": 1280,
    "encoder_hid_dim": 4096,
    "attention_head_dim": 64,
    "addition_embed_type_num_heads": 64,
    "norm_num_groups": 32,
}
SR1: dict[str, Any] = {
    **BASE,
    "in_channels": 6,
    "down_block_types": ["ResnetDownsampleBlock3D"] * 3 + ["SimpleCrossAttnDownBlock3D"] * 2,
    "up_block_types": ["SimpleCrossAttnUpBlock3D"] * 2 + ["ResnetUpsampleBlock3D"] * 3,
    "block_out_channels": [128, 256, 512, 768, 768],
    "layers_per_block": [2, 2, 3, 4, 2],
    "cross_attention_dim": 768,
    "class_embed_type": "timestep",
    "resnet_skip_time_act": True,
}


@pytest.mark.parametrize(
    ("config", "billions"), [(BASE, 1.727), (BASE | {"in_channels": 7}, 1.727), (SR1, 0.783)], ids=["base", "mid", "sr"]
)
def test_published_sizes(config: dict[str, Any], billions: float) -> None:
    with torch.device("meta"):
        model = UNet3DConditionModel(**config)
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, abs=0.0005)


# compilation


class Recorder:
    """Remembers the arguments of a block's call."""

    def __init__(self, block: torch.nn.Module) -> None:
        self.arguments: tuple[Any, ...] = ()
        self._handle = block.register_forward_pre_hook(self._keep)

    def _keep(self, _: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments
        self._handle.remove()


@pytest.mark.parametrize(
    ("family", "part"),
    [("simple", "down_blocks.1"), ("simple", "mid_block"), ("simple", "up_blocks.1"), ("diffusion", "up_blocks.1")],
)
def test_a_block_compiles_without_graph_breaks(family: str, part: str) -> None:
    model = build(FAMILIES[family])
    block = model.get_submodule(part)
    recorder = Recorder(block)
    run(model, inputs(model, batch=1, size=(6, 6)))
    torch._dynamo.reset()
    with torch.no_grad():
        expected = block(*recorder.arguments)
        out = torch.compile(block, fullgraph=True, backend="eager")(*recorder.arguments)
    assert_close(out, expected)
