"""Adapter files, and what they do to a network."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from show1.adapters.adapter import Adapter, check_shapes, sum_deltas, unet_hashes, unet_sha256
from show1.adapters.lora import DIFFUSERS_KEY
from show1.checkpoints.loading import load_unet
from show1.errors import CheckpointError, InputError, OutputError
from show1.networks import UNet3DConditionModel
from tests.networks.tiny_unet import FAMILIES, build, inputs, run

TARGETS = r".*\.(to_q|to_v|proj_out|resnets\.\d+\.conv1)"


def adapter(**values: Any) -> Adapter:
    known: dict[str, Any] = {
        "stage": "keyframes",
        "kind": "motion",
        "method": "lora",
        "base_name": "tiny",
        "base_sha256": "ab" * 32,
        "prompt": "a cat walks",
        "tensors": {"m.lora_A.weight": torch.ones(2, 3), "m.lora_B.weight": torch.ones(5, 2)},
    }
    return Adapter(**{**known, **values})


def changed(
    model: UNet3DConditionModel, folder: Path, *adapters: tuple[Adapter, float], dtype: torch.dtype = torch.float32
) -> UNet3DConditionModel:
    """The network as it is loaded with adapters and their weights."""
    model.save_pretrained(folder)
    return load_unet(folder, dtype=dtype, device="cpu", deltas=sum_deltas(adapters))


def injected(family: str) -> tuple[UNet3DConditionModel, UNet3DConditionModel, dict[str, Tensor]]:
    """A network, the same with peft's LoRA in it (of random weights), and the LoRA."""
    from peft import LoraConfig, inject_adapter_in_model
    from peft.utils import get_peft_model_state_dict

    plain = build(FAMILIES[family])
    config = LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS)
    model = inject_adapter_in_model(config, copy.deepcopy(plain))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.2, generator=generator)
    model.peft_config = {"default": config}
    return plain, model.eval(), get_peft_model_state_dict(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_equals_that_of_peft(tmp_path: Path, family: str) -> None:
    model, reference, tensors = injected(family)
    assert any("temp_" in name for name in tensors) and any(t.ndim == 4 for t in tensors.values())
    arguments = inputs(model)
    plain = run(model, arguments)
    model = changed(model, tmp_path, (adapter(tensors=tensors, lora_alpha=6.0), 1.0))
    expected = run(reference, arguments)
    assert (expected - plain).abs().max() > 1e-2
    torch.testing.assert_close(run(model, arguments), expected, rtol=1e-5, atol=1e-5)


def test_only_the_named_parameters_change_and_by_the_sum(tmp_path: Path) -> None:
    model = build(FAMILIES["simple"])
    before = copy.deepcopy(model.state_dict())
    name = next(n for n in before if n.endswith("to_q.weight"))
    module = name.removesuffix(".weight")
    out, inside = before[name].shape
    lora = {f"{module}.lora_A.weight": torch.randn(2, inside), f"{module}.lora_B.weight": torch.randn(out, 2)}
    diff = {
        f"{name}.diff": torch.randn(out, inside).bfloat16(),
        "conv_in.bias.diff": torch.ones_like(model.conv_in.bias),
    }
    adapters = [(adapter(tensors=lora, lora_alpha=4.0), 0.5), (adapter(tensors=diff), -2.0)]
    after = changed(model, tmp_path, *adapters).state_dict()
    assert {n for n in after if not torch.equal(after[n], before[n])} == {name, "conv_in.bias"}
    product = lora[f"{module}.lora_B.weight"] @ lora[f"{module}.lora_A.weight"]
    torch.testing.assert_close(after[name], before[name] + product - 2 * diff[f"{name}.diff"].float())
    torch.testing.assert_close(after["conv_in.bias"], before["conv_in.bias"] - 2)


def test_the_sum_is_cast_once(tmp_path: Path) -> None:
    model = build(FAMILIES["simple"]).bfloat16()
    bias = model.conv_in.bias
    bias.data[:] = 1
    small = adapter(tensors={"conv_in.bias.diff": torch.full_like(bias, 2**-9 * 1.5)})  # half a step is 2^-9
    twice = changed(model, tmp_path, (small, 1.0), (dataclasses.replace(small), 1.0), dtype=torch.bfloat16)
    assert (twice.conv_in.bias == 1 + 2**-7).all()  # 1 + 3 * 2^-9 rounds up; cast twice it would be 1 + 2^-6
    assert (changed(model, tmp_path, (small, 0.0), dtype=torch.bfloat16).conv_in.bias == 1).all()


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = adapter(
        settings={"steps": 400, "method": {"rank": 4}, "text": "Zürich"},
        lora_alpha=2.5,
        start_noise=torch.randn(2, 3, 4, 5, 6),
        noise_weight=0.3,
    )
    file = made.save(tmp_path / "walk.safetensors")
    read = Adapter.load(file)
    assert read.describe() == made.describe()
    assert read.start_noise is not None and made.start_noise is not None
    assert torch.equal(read.start_noise, made.start_noise)
    assert read.tensors.keys() == made.tensors.keys()
    assert all(torch.equal(read.tensors[n], made.tensors[n]) for n in made.tensors)
    again = made.save(tmp_path / "again.safetensors")
    assert again.read_bytes() == file.read_bytes()  # metadata in the same order
    with pytest.raises(OutputError, match="exists already"):
        made.save(file)
    made.save(file, overwrite=True)
    with pytest.raises(InputError, match=r"\*\.safetensors"):
        made.save(tmp_path / "walk.pt")


@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
def test_diffusers_reads_our_lora(tmp_path: Path) -> None:
    from diffusers.loaders import PeftAdapterMixin, StableDiffusionLoraLoaderMixin

    class Loadable(PeftAdapterMixin, UNet3DConditionModel):  # type: ignore[misc]
        """As diffusers' networks are."""

    model, _, tensors = injected("simple")
    fewer = next(n for n in tensors if n.endswith("lora_A.weight"))  # a module of another rank
    tensors[fewer] = tensors[fewer][:3].contiguous()
    tensors[fewer.replace("lora_A", "lora_B")] = tensors[fewer.replace("lora_A", "lora_B")][:, :3].contiguous()
    made = adapter(tensors=tensors, lora_alpha=6.0, start_noise=torch.randn(1, 3, 2, 4, 4), noise_weight=0.5)
    made.save(tmp_path / "walk.safetensors")

    state, alphas, metadata = StableDiffusionLoraLoaderMixin.lora_state_dict(
        str(tmp_path), weight_name="walk.safetensors", return_lora_metadata=True
    )
    assert all("lora" in name for name in state)  # what `load_lora_weights` asks for
    loadable = Loadable(**dict(model.config)).eval()
    loadable.load_state_dict(model.state_dict())
    StableDiffusionLoraLoaderMixin.load_lora_into_unet(state, alphas, loadable, metadata=metadata)
    arguments = inputs(model)
    model = changed(model, tmp_path / "base", (made, 1.0))
    torch.testing.assert_close(run(loadable, arguments), run(model, arguments), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
def test_files_of_diffusers_and_peft_are_read(tmp_path: Path) -> None:
    from diffusers.loaders import PeftAdapterMixin

    plain, reference, tensors = injected("simple")
    PeftAdapterMixin.save_lora_adapter(reference, tmp_path, weight_name="theirs.safetensors")
    save_file(
        {f"base_model.model.{n}": t for n, t in tensors.items()}, tmp_path / "adapter_model.safetensors"
    )  # as peft's save_pretrained
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 6, "alpha_pattern": {}}))
    arguments = inputs(reference)
    expected = run(reference, arguments)
    for name in ("theirs.safetensors", "adapter_model.safetensors"):
        with pytest.raises(InputError, match="name the stage"):
            Adapter.load(tmp_path / name)
        theirs = Adapter.load(tmp_path / name, stage="keyframes")
        model = changed(plain, tmp_path / "base", (theirs, 1.0))
        torch.testing.assert_close(run(model, arguments), expected, rtol=1e-5, atol=1e-5)


def test_names_and_scales_of_other_programs(tmp_path: Path) -> None:
    down, up = torch.randn(2, 3), torch.randn(4, 2)
    product = up @ down
    files: list[tuple[dict[str, Tensor], float]] = [
        ({"unet.m.lora_A.weight": down, "unet.m.lora_B.weight": up}, 1.0),
        ({"m.lora_A.default.weight": down, "m.lora_B.default.weight": up}, 1.0),
        ({"unet.m.lora.down.weight": down, "unet.m.lora.up.weight": up}, 1.0),
        ({"m.lora_down.weight": down, "m.lora_up.weight": up, "m.alpha": torch.tensor(8.0)}, 4.0),
    ]
    for tensors, scale in files:
        save_file(tensors, tmp_path / "a.safetensors")
        deltas = Adapter.load(tmp_path / "a.safetensors", stage="translation").deltas()
        torch.testing.assert_close(deltas, {"m.weight": product * scale})
    for config, scale in (
        ({"unet.lora_alpha": 6}, 3.0),
        ({"unet.lora_alpha": 6, "unet.alpha_pattern": {"^m": 4}}, 2.0),
    ):
        save_file(files[0][0], tmp_path / "a.safetensors", {DIFFUSERS_KEY: json.dumps(config)})
        deltas = Adapter.load(tmp_path / "a.safetensors", stage="translation").deltas()
        torch.testing.assert_close(deltas, {"m.weight": product * scale})
    for damaged in (
        "{",
        json.dumps({"unet.lora_alpha": "x"}),
        json.dumps({"unet.alpha_pattern": {"m": "x"}}),
        "[" * 10**5,
        json.dumps({"unet.alpha_pattern": [4]}),
    ):
        save_file(files[0][0], tmp_path / "a.safetensors", {DIFFUSERS_KEY: damaged})
        with pytest.raises(CheckpointError, match="its LoRA config is damaged"):
            Adapter.load(tmp_path / "a.safetensors", stage="translation")
    for name, said in (
        ("lora_unet_m.whatever", "not part of a UNet's LoRA"),
        ("text_encoder.m.lora_A.weight", "changes only a text encoder"),
        ("unet.m.lora_magnitude_vector", "no LoRA but DoRA"),
        ("base_model.model.m.lora_magnitude_vector.default.weight", "no LoRA but DoRA"),
        ("lora_unet_m.dora_scale", "no LoRA but DoRA"),
        ("lora_unet_m.lokr_w1_a", "no LoRA but LoKr"),
        ("lora_unet_m.hada_w2_b", "no LoRA but LoHa"),
        ("base_model.model.m.oft_R.weight", "no LoRA but OFT"),
        ("lora_unet_m.lora_mid.weight", "no LoRA but LoCon"),
        ("diffusion_model.m.diff", "no LoRA but a difference"),
    ):
        save_file({name: down}, tmp_path / "a.safetensors")
        with pytest.raises(CheckpointError, match=said):
            Adapter.load(tmp_path / "a.safetensors", stage="keyframes")


def test_kohya_s_and_comfyui_s_names_are_those_of_the_network(tmp_path: Path, caplog: Any) -> None:
    down, up = torch.randn(2, 3), torch.randn(4, 2)
    modules = {"down_blocks.0.attentions.1.to_q", "down_blocks.0.attentions_1.to_k", "mid_block.proj_in"}
    module = "down_blocks.0.attentions.1.to_q"
    expected = {f"{module}.weight": up @ down}
    flat = "lora_unet_down_blocks_0_attentions_1_to_q"
    for before, ends in (
        (flat, ("lora_down", "lora_up")),
        (f"diffusion_model.{module}", ("lora_A", "lora_B")),
        (f"transformer.{module}", ("lora_A", "lora_B")),
        (f"base_model.model.{module}", ("lora_A", "lora_B")),
    ):
        tensors = {
            f"{before}.{ends[0]}.weight": down,
            f"{before}.{ends[1]}.weight": up,
            f"{before}.alpha": torch.tensor(2.0),
        }
        save_file(tensors, tmp_path / "a.safetensors")
        deltas = Adapter.load(tmp_path / "a.safetensors", stage="translation", modules=modules).deltas()
        torch.testing.assert_close(deltas, expected)
    text = {
        f"lora_te_text_model_encoder_layers_0_q_proj.{end}.weight": torch.ones(2, 2) for end in ("lora_down", "lora_up")
    }
    save_file({**tensors, **text}, tmp_path / "a.safetensors")
    assert "text encoder" not in caplog.text
    Adapter.load(tmp_path / "a.safetensors", stage="translation", modules=modules)
    assert "also changes a text encoder; that part (2 tensors) is left out" in caplog.text
    save_file({"lora_unet_input_blocks_4_1.lora_down.weight": down}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="the network has no module of that name"):
        Adapter.load(tmp_path / "a.safetensors", stage="translation", modules=modules)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16])
def test_numbers_of_few_bits_are_read_as_they_are(tmp_path: Path, dtype: torch.dtype) -> None:
    down, up = torch.tensor([[0.5, 2.0]]).to(dtype), torch.tensor([[4.0], [-1.0]]).to(dtype)
    save_file({"unet.m.lora_A.weight": down, "unet.m.lora_B.weight": up}, tmp_path / "a.safetensors")
    (delta,) = Adapter.load(tmp_path / "a.safetensors", stage="keyframes").deltas().values()
    assert delta.dtype == torch.float32 and delta.tolist() == [[2.0, 8.0], [-0.5, -2.0]]
    save_file(
        {"unet.m.lora_A.weight": down, "unet.m.lora_B.weight": (up.float() * float("nan")).to(dtype)},
        tmp_path / "a.safetensors",
    )
    with pytest.raises(CheckpointError, match="not finite"):
        Adapter.load(tmp_path / "a.safetensors", stage="keyframes")


def test_patterns_are_names_and_no_regular_expressions(tmp_path: Path) -> None:
    down, up = torch.ones(2, 3), torch.ones(4, 2)
    modules = ("a.to_q", "b.to_q", "b.xto_q", "to_q", "aXto_q")

    def scales(pattern: str) -> list[str]:
        """The modules that a pattern is about."""
        tensors = {f"unet.{m}.lora_{end}.weight": t.clone() for m in modules for end, t in (("A", down), ("B", up))}
        config = {"unet.lora_alpha": 2, "unet.alpha_pattern": {pattern: 4}}
        save_file(tensors, tmp_path / "a.safetensors", {DIFFUSERS_KEY: json.dumps(config)})
        deltas = Adapter.load(tmp_path / "a.safetensors", stage="keyframes").deltas()
        return [m for m in modules if float(deltas[f"{m}.weight"][0, 0]) == 4.0]

    assert scales("to_q") == ["a.to_q", "b.to_q", "to_q"]
    assert scales("^to_q") == scales("^to_q$") == ["to_q"]
    assert scales("a.to_q") == scales(r"a\.to_q") == scales("^a.to_q") == ["a.to_q"]
    assert scales("q") == []
    for pattern in ("(a+)+b", ".*to_q", "to_[qk]", "to_q|to_k", "a{9}", "\\w"):
        with pytest.raises(CheckpointError, match="a regular expression"):
            scales(pattern)


def test_damaged_files(tmp_path: Path) -> None:
    file = adapter().save(tmp_path / "walk.safetensors")
    whole = file.read_bytes()
    with pytest.raises(InputError, match="there is no adapter"):
        Adapter.load(tmp_path / "other.safetensors")
    for data in (whole[:-3], whole[:20], b"", b"no adapter at all"):
        file.write_bytes(data)
        with pytest.raises(CheckpointError, match="truncated, corrupt"):
            Adapter.load(file)
    file.write_bytes(whole)
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    for damaged, message in (
        ("no JSON", "header is damaged"),
        (json.dumps({"format": "show1-adapter-9"}), "update show1"),
        (json.dumps({"format": "show1-adapter-1", "stage": "keyframes"}), "header is damaged"),
        (header["show1"].replace("keyframes", "keyframe"), "stage must be one of"),
    ):
        save_file(load_file(file), tmp_path / "a.safetensors", {**header, "show1": damaged})
        with pytest.raises(CheckpointError, match=message):
            Adapter.load(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="of the stage 'keyframes', not of 'translation'"):
        Adapter.load(file, stage="translation")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stage": "text"}, "stage must be one of keyframes"),
        ({"kind": "colour"}, "kind must be one of"),
        ({"tensors": {}}, "no tensors"),
        ({"tensors": {"m.weight": torch.ones(1)}}, "are named"),
        ({"tensors": {"m.lora_A.weight": torch.ones(1, 1)}}, "without m.lora_B.weight"),
        ({"tensors": {"m.lora_A.weight": torch.ones(1, 1), "m.lora_B.weight": torch.ones(1, 2)}}, "do not form a pair"),
        ({"tensors": {"m.diff": torch.tensor([float("nan")])}}, "not finite"),
        ({"start_noise": torch.ones(3, 4, 5, 6)}, r"must be \(N, 3, F, H, W\)"),
        ({"noise_weight": 0.5}, "no start noise"),
        ({"noise_weight": 1.5, "start_noise": torch.ones(1, 3, 4, 5, 6)}, "from 0 to 1"),
        ({"settings": {"x": {1, 2}}}, "plain JSON"),
        ({"lora_alpha": "x"}, "lora_alpha must be a number"),
        ({"lora_alpha": float("nan")}, "lora_alpha must be a number"),
        ({"noise_weight": "1"}, "noise_weight must be a number"),
        ({"prompt": ["a"]}, "prompt must be a text"),
        ({"settings": [1]}, "settings must be a mapping"),
        ({"start_noise": torch.full((1, 3, 4, 5, 6), float("nan"))}, "finite numbers"),
    ],
)
def test_contradictions(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        adapter(**values)


def test_shapes_are_checked_by_name() -> None:
    made = adapter()
    check_shapes(made, {"m.weight": (5, 3), "other": (1,)}, "the network")
    with pytest.raises(CheckpointError, match=r"m.weight of shape \[5, 3\], in the network it has \[3, 5\]"):
        check_shapes(made, {"m.weight": (3, 5)}, "the network")
    with pytest.raises(CheckpointError, match="which the network does not have"):
        check_shapes(made, {"n.weight": (5, 3)}, "the network")


def test_the_hash_of_a_network_is_that_of_its_weights(tmp_path: Path) -> None:
    plain, half = (
        tmp_path / "diffusion_pytorch_model.safetensors",
        tmp_path / "diffusion_pytorch_model.fp16.safetensors",
    )
    save_file({"x": torch.ones(3)}, plain)
    save_file({"x": torch.ones(3).half()}, half)
    assert unet_sha256(tmp_path) != unet_sha256(tmp_path, "fp16")
    assert set(unet_hashes(tmp_path)) == {unet_sha256(tmp_path), unet_sha256(tmp_path, "fp16")}
    plain.unlink()
    for i in (1, 2):
        save_file({f"x{i}": torch.ones(i)}, tmp_path / f"diffusion_pytorch_model-0000{i}-of-00002.safetensors")
    before = unet_sha256(tmp_path)
    save_file({"x2": torch.zeros(2)}, tmp_path / "diffusion_pytorch_model-00002-of-00002.safetensors")
    assert unet_sha256(tmp_path) != before
