"""Adapters in the pipeline: what they change, and that they can be taken out, fused, saved and recorded."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from show1.adapters.adapter import Adapter, unet_sha256
from show1.checkpoints.weight_files import find_weights, read_shapes
from show1.config import StageName
from show1.errors import CheckpointError, InputError, RunError
from show1.generation.arguments import make_request
from show1.generation.pipeline import Show1Pipeline
from show1.generation.run import Run
from show1.stages import PromptEmbeddings
from show1.stages.networks import PixelNetwork
from tests.published_layout import small_changes
from tests.tiny_adapters import random_adapter

PROMPT = "a panda spins over the snow"


@pytest.fixture
def pipe(published: Path) -> Show1Pipeline:
    return load(published)


def load(model: Any, **options: Any) -> Show1Pipeline:
    return Show1Pipeline.from_pretrained(model, stages=["keyframes", "interpolation"], device="cpu", **options)


def unet_hash(pipe: Show1Pipeline, stage: StageName) -> str:
    return unet_sha256(pipe.cascade.parts[stage].path / "unet")


def keyframes(pipe: Show1Pipeline, **options: Any) -> Tensor:
    changes = small_changes()
    out: Tensor = pipe(PROMPT, **{"seed": 1, "settings": changes, "until": "keyframes", "output_type": "pt", **options})
    return out


@pytest.fixture
def files(pipe: Show1Pipeline, tmp_path: Path) -> dict[str, Path]:
    made = {
        "walk": random_adapter(pipe),
        "jump": random_adapter(pipe, lora=False, seed=1),
        "fill": random_adapter(pipe, stage="interpolation", seed=2),
    }
    return {name: adapter.save(tmp_path / f"{name}.safetensors") for name, adapter in made.items()}


def test_a_plan_counts_the_weights_that_details_have_beside(pipe: Show1Pipeline, files: dict[str, Path]) -> None:
    request = make_request(PROMPT, model=pipe, settings=small_changes())

    def weights() -> int:
        return pipe.needs(request)["keyframes"].weights

    plain = weights()
    pipe.adapters.load(files["fill"], detail_weight=0.5)  # of another stage
    pipe.adapters.load(files["walk"])
    assert weights() == plain
    pipe.adapters.set_weight("walk", 0.0, 0.5)
    pipe.adapters.load(files["jump"], weight=0.5)  # of the same weights
    with pipe.resident("keyframes") as stage:
        details: Any = stage.details  # type: ignore[attr-defined]
    assert weights() == plain + sum(tensor.nbytes for tensor in details.values()) > plain
    pipe.adapters.set_weight("walk", 0.5)
    assert weights() == plain


def test_loaded_weighted_and_taken_out_again(pipe: Show1Pipeline, files: dict[str, Path]) -> None:
    plain = keyframes(pipe)
    assert pipe.adapters.load(files["walk"]) == "walk"
    whole = keyframes(pipe)
    assert (whole - plain).abs().max() > 1e-2
    pipe.adapters.set_weight("walk", 0.5)
    assert not torch.equal(keyframes(pipe), whole)
    pipe.adapters.set_weight("walk", 0)
    assert torch.equal(keyframes(pipe), plain)
    assert pipe.model_record == load(pipe.cascade.model).model_record
    pipe.adapters.set_weight("walk", 1)
    assert torch.equal(keyframes(pipe), whole)
    pipe.adapters.unload("walk")
    assert len(pipe.adapters) == 0
    assert torch.equal(keyframes(pipe), plain)


def test_two_add_up_whatever_the_order(pipe: Show1Pipeline, files: dict[str, Path], tmp_path: Path) -> None:
    walk, jump = Adapter.load(files["walk"]), Adapter.load(files["jump"])
    deltas, others = walk.deltas(), jump.deltas()
    assert deltas.keys() == others.keys()
    both = dataclasses.replace(
        jump, tensors={f"{name}.diff": 0.7 * deltas[name] - 0.4 * others[name] for name in deltas}, lora_alpha=None
    )
    pipe.adapters.load(both.save(tmp_path / "both.safetensors"))
    expected = keyframes(pipe)
    pipe.adapters.unload()
    pipe.adapters.load(files["jump"], "j", -0.4)
    pipe.adapters.load(files["walk"], weight=0.7)
    assert [(a.record.name, a.record.weight) for a in pipe.adapters] == [("j", -0.4), ("walk", 0.7)]
    torch.testing.assert_close(keyframes(pipe), expected, rtol=1e-4, atol=1e-4)


def test_fused_twice_is_fused_once_and_saved(pipe: Show1Pipeline, files: dict[str, Path], tmp_path: Path) -> None:
    pipe.adapters.load(files["walk"], weight=0.8)
    pipe.adapters.load(files["jump"], weight=0.3)
    expected = keyframes(pipe)
    pipe.adapters.fuse()
    pipe.free()
    assert torch.equal(keyframes(pipe), expected)
    pipe.adapters.fuse()
    pipe.free()
    assert torch.equal(keyframes(pipe), expected)
    for change in (lambda: pipe.adapters.unload("walk"), lambda: pipe.adapters.set_weight("walk", 0.1)):
        with pytest.raises(InputError, match="fused"):
            change()
    pipe.adapters.load(files["fill"])  # not fused, so not saved
    saved = load(pipe.save_pretrained(tmp_path / "fused"))
    assert len(saved.adapters) == 0
    assert torch.equal(keyframes(saved), expected)
    assert unet_hash(saved, "keyframes") != unet_hash(pipe, "keyframes")
    assert unet_hash(saved, "interpolation") == unet_hash(pipe, "interpolation")
    pipe.adapters.unload()
    assert [a.record.name for a in pipe.adapters] == ["walk", "jump"]


class Switched:
    """Two networks, one for timesteps from 400 on, one for those below."""

    def __init__(self, high: Any, low: Any) -> None:
        self.networks = [PixelNetwork(unet) for unet in (high, low)]

    def encode_text(self, prompt_embeds: Tensor) -> Any:
        return [network.encode_text(prompt_embeds) for network in self.networks]

    def __call__(self, sample: Tensor, timestep: Tensor, text: Any) -> Tensor:
        index = int(timestep < 400)
        return self.networks[index](sample, timestep, text[index])


def loaded_stage(pipe: Show1Pipeline, file: Path, weight: float, detail_weight: float | None = None) -> Any:
    """The keyframes' stage with an adapter, in float32 on the CPU."""
    other = Show1Pipeline(pipe.cascade, device=pipe.device, dtype=pipe.dtype, memory="high")
    other.adapters.load(file, weight=weight, detail_weight=detail_weight)
    with other.resident("keyframes") as stage:
        return stage


@pytest.mark.parametrize("weights", [(0.9, 0.4), (0.0, 0.5), (1.0, 0.0)])
def test_another_weight_in_details(
    pipe: Show1Pipeline, published: Path, tmp_path: Path, weights: tuple[float, float]
) -> None:
    """Its stage computes what two networks do, one a weight; what they make of the text is of each weight as well."""
    walk = random_adapter(pipe)
    text = torch.randn(read_shape(pipe, "encoder_hid_proj.weight"), generator=torch.Generator().manual_seed(4))
    walk = dataclasses.replace(walk, tensors=walk.tensors | {"encoder_hid_proj.weight.diff": 0.3 * text})
    file = walk.save(tmp_path / "walk.safetensors")
    stage = loaded_stage(pipe, file, *weights)
    high, low = (loaded_stage(pipe, file, weight).unet for weight in weights)
    settings = pipe.settings.replace(**small_changes()).keyframes
    embeds = torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(5))
    noise = torch.randn(1, 3, 3, 8, 8, generator=torch.Generator().manual_seed(6))

    def denoised(network: Any) -> Tensor:
        generators = [torch.Generator().manual_seed(7)]
        prompts = PromptEmbeddings(prompt_embeds=embeds, negative_prompt_embeds=0 * embeds)
        return stage.denoise(network, noise, prompts, settings=settings, generators=generators)

    mixed = [denoised(PixelNetwork(stage.unet)) for _ in range(2)]  # the second begins with the first weight again
    stage.detail_weights = None
    expected = denoised(Switched(high, low))
    assert torch.equal(mixed[0], expected) and torch.equal(mixed[1], expected)
    for single in (high, low):
        assert not torch.equal(denoised(Switched(single, single)), expected)


def test_the_weight_in_details_is_set_recorded_and_not_fused(
    pipe: Show1Pipeline, published: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    pipe.adapters.load(files["walk"], weight=0.9)
    one = keyframes(pipe)
    identity = pipe.model_record
    pipe.adapters.set_weight("walk", 0.9, 0.4)
    video = keyframes(pipe, run=tmp_path / "run", output_type="video")
    assert pipe.model_record.sha256 != identity.sha256
    with pytest.raises(InputError, match=r"'walk' has the weight 0.9, and 0.4 in details.*set_weight"):
        pipe.adapters.fuse()
    again = load(published)
    again.adapters.load_recorded(Run.open(tmp_path / "run").adapters)
    assert again.model_record == pipe.model_record
    assert (again.resume(tmp_path / "run")[0].frames == video.frames).all()  # type: ignore[attr-defined]
    again.adapters.set_weight("walk", 0.9)
    assert torch.equal(keyframes(again), one)
    with pytest.raises(RunError, match=r"walk \(weight 0.9, in details 0.4.*walk \(weight 0.9, /"):
        again.resume(tmp_path / "run")
    saved = identity.to_dict()["adapters"]
    older = [{k: v for k, v in record.items() if k != "detail_weight"} for record in saved]
    again.adapters.unload()
    again.adapters.load_recorded(older)
    assert again.model_record == identity


def read_shape(pipe: Show1Pipeline, name: str) -> tuple[int, ...]:
    (file,) = find_weights(pipe.cascade.parts["keyframes"].path / "unet")
    return read_shapes(file)[name]


def test_memory_policies_agree_and_only_the_stage_is_read_again(published: Path, files: dict[str, Path]) -> None:
    high, low = load(published, memory="high"), load(published, memory="low")
    options: dict[str, Any] = {"until": "interpolation"}
    plain = keyframes(high, **options)
    assert {"keyframes", "interpolation"} <= set(high.loaded)
    for pipe in (high, low):
        pipe.adapters.load(files["fill"])
        pipe.adapters.load(files["jump"], weight=0.5)
    assert not {"keyframes", "interpolation"} & set(high.loaded)
    video = keyframes(high, **options)
    assert not torch.equal(video, plain)
    assert torch.equal(keyframes(low, **options), video)
    high.adapters.unload("fill")
    assert "keyframes" in high.loaded and "interpolation" not in high.loaded


def test_start_noise_is_blended_for_its_size_alone(
    pipe: Show1Pipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"height": 16, "width": 24, "num_frames": 3, "num_inference_steps": 2}
    options: dict[str, Any] = {"settings": {"keyframes": settings}}
    noise = torch.randn(1, 3, 3, 16, 24, generator=torch.Generator().manual_seed(9))
    adapter = random_adapter(pipe, start_noise=noise, noise_weight=1.0)
    file = adapter.save(tmp_path / "walk.safetensors")
    plain = random_adapter(pipe).save(tmp_path / "plain.safetensors")
    pipe.adapters.load(plain)
    without = keyframes(pipe, **options)
    pipe.adapters.unload()
    pipe.adapters.load(file, noise_weight=0.0)
    assert torch.equal(keyframes(pipe, **options), without)
    pipe.adapters.unload()
    pipe.adapters.load(file)
    assert next(iter(pipe.adapters)).record.noise_weight == 1.0
    first, second = (keyframes(pipe, seed=seed, **{**options, "settings": {"keyframes": settings}}) for seed in (1, 2))
    assert not torch.equal(first, without)
    assert (first - second).abs().max() < (first - without).abs().max()  # all of the start noise is the adapter's
    settings["num_frames"] = 4
    pipe.adapters.unload()
    pipe.adapters.load(plain)
    longer = keyframes(pipe, **options)
    pipe.adapters.unload()
    pipe.adapters.load(file)
    assert torch.equal(keyframes(pipe, **options), longer)
    assert "3x16x24 (frames x height x width), but the keyframes have 4x16x24: it is not used" in caplog.text
    pipe.adapters.set_weight("walk", 0)
    keyframes(pipe, **options)


def test_trigger_words_are_no_cause_for_a_warning(tmp_path: Path) -> None:
    pipe = Show1Pipeline.from_pretrained("mini", stages=["keyframes"], device="cpu")
    prompt = "a fox zigzags over the snow, gleaming"
    assert "'zigzags', 'gleaming'" in pipe.prompt_warnings(prompt)[0]
    adapter = random_adapter(pipe, prompt="a panda zigzags, over the sea")
    pipe.adapters.load(adapter.save(tmp_path / "zigzag.safetensors"))
    (warning,) = pipe.prompt_warnings(prompt)
    assert "'gleaming'" in warning and "zigzags" not in warning
    pipe.adapters.unload()
    spoken = random_adapter(pipe, prompt="A panda zigzags.").save(tmp_path / "spoken.safetensors")
    pipe.adapters.load(spoken)
    (warning,) = pipe.prompt_warnings(prompt)
    assert "zigzags" not in warning
    pipe.adapters.set_weight("spoken", 0.0)
    assert "'zigzags', 'gleaming'" in pipe.prompt_warnings(prompt)[0]


def test_what_cannot_be_used(pipe: Show1Pipeline, files: dict[str, Path], tmp_path: Path, published: Path) -> None:
    pipe.adapters.load(files["walk"])
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (InputError, "loaded already as 'walk'", {"path": files["walk"]}),
        (InputError, "'walk' is loaded already", {"path": files["jump"], "name": "walk"}),
        (InputError, "must not be empty", {"path": files["jump"], "name": ""}),
        (InputError, "finite number", {"path": files["jump"], "weight": float("nan")}),
        (InputError, "detail_weight must be a finite", {"path": files["jump"], "detail_weight": float("inf")}),
        (InputError, "weight must be a finite number", {"path": files["jump"], "weight": None}),
        (InputError, "an adapter's name must be a text, got 5", {"path": files["jump"], "name": 5}),
        (InputError, "noise_weight must be from 0 to 1, got '0.5'", {"path": files["jump"], "noise_weight": "0.5"}),
        (InputError, "no start noise", {"path": files["jump"], "noise_weight": 0.5}),
        (InputError, "there is no adapter", {"path": tmp_path / "none.safetensors"}),
    ]
    other = random_adapter(pipe, base_sha256="0" * 64, base_name="other").save(tmp_path / "other.safetensors")
    cases.append((CheckpointError, "made for the keyframes network of 'other'", {"path": other}))
    shape = random_adapter(pipe, tensors={"conv_in.weight.diff": torch.ones(2, 2)}).save(tmp_path / "s.safetensors")
    cases.append((CheckpointError, r"conv_in.weight of shape \[2, 2\]", {"path": shape}))
    for kind, message, arguments in cases:
        with pytest.raises(kind, match=message):
            pipe.adapters.load(**arguments)
    for change in (pipe.adapters.unload, lambda name: pipe.adapters.set_weight(name, 1)):
        with pytest.raises(InputError, match="no adapter 'jmp' is loaded; the loaded ones are walk"):
            change("jmp")
    with pytest.raises(InputError, match="weight must be a finite number .*got None"):
        pipe.adapters.set_weight("walk", None)  # type: ignore[arg-type]
    assert [a.record.name for a in pipe.adapters] == ["walk"]
    alone = Show1Pipeline.from_pretrained(published, stages=["keyframes"], device="cpu")
    with pytest.raises(InputError, match="for the stage 'interpolation'"):
        alone.adapters.load(files["fill"])


def test_a_second_file_of_that_name_gets_a_number(pipe: Show1Pipeline, files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    shutil.copy(files["jump"], tmp_path / "more" / "walk.safetensors")
    assert pipe.adapters.load(files["walk"]) == "walk"
    assert pipe.adapters.load(tmp_path / "more" / "walk.safetensors") == "walk-2"


def test_runs_and_videos_name_their_adapters(
    pipe: Show1Pipeline, published: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    pipe.adapters.load(files["walk"], weight=0.7)
    pipe.adapters.load(files["fill"], "between")
    video = keyframes(pipe, run=tmp_path / "run", output_type="video")
    recorded = video.metadata["model"]["adapters"]  # type: ignore[attr-defined]
    assert recorded == [record.model_dump() for record in Run.open(tmp_path / "run").adapters]
    assert [(a["name"], a["weight"], a["path"]) for a in recorded] == [
        ("walk", 0.7, str(files["walk"])),
        ("between", 1.0, str(files["fill"])),
    ]
    plain = load(published)
    with pytest.raises(RunError, match="was made with the adapters walk .*but now there is no adapter"):
        plain.resume(tmp_path / "run")
    plain.adapters.load_recorded(recorded)
    assert plain.model_record == pipe.model_record
    (again,) = plain.resume(tmp_path / "run")
    assert (again.frames == video.frames).all()  # type: ignore[attr-defined]
    plain.adapters.unload("between")  # of a stage that the run does not have
    plain.resume(tmp_path / "run")
    plain.adapters.set_weight("walk", 0.6)
    with pytest.raises(RunError, match="weight 0.6"):
        plain.resume(tmp_path / "run")

    files["walk"].rename(tmp_path / "moved.safetensors")
    with pytest.raises(InputError, match="'walk' is no longer at"):
        load(published).adapters.load_recorded(recorded)
    shutil.copy(files["jump"], files["walk"])
    with pytest.raises(InputError, match="has changed since the adapter 'walk' was used"):
        load(published).adapters.load_recorded(recorded)
    with pytest.raises(InputError, match="damaged"):
        load(published).adapters.load_recorded([{"name": "walk"}])


def test_lora_by_the_names_of_kohya_s_tools_and_in_float8(pipe: Show1Pipeline, tmp_path: Path) -> None:
    made = random_adapter(pipe, lora_alpha=None)
    tensors = {f"unet.{name}": t.to(torch.float8_e4m3fn) for name, t in made.tensors.items()}
    save_file(tensors, tmp_path / "plain.safetensors")
    flat = {}
    for name, tensor in tensors.items():
        module, end = name.removeprefix("unet.").split(".lora_")
        flat[f"lora_unet_{module.replace('.', '_')}.lora_{'down' if end[0] == 'A' else 'up'}.weight"] = tensor
    save_file({**flat, "lora_te_x.lora_down.weight": torch.ones(1, 1)}, tmp_path / "kohya.safetensors")
    pipe.adapters.load(tmp_path / "plain.safetensors", stage="keyframes")
    expected = keyframes(pipe)
    pipe.adapters.unload()
    pipe.adapters.load(tmp_path / "kohya.safetensors", stage="keyframes")
    assert torch.equal(keyframes(pipe), expected)
