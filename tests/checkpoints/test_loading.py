"""Loading from the published layout, and one clear error for each thing that can be wrong with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from show1.checkpoints.convert import convert_to_safetensors
from show1.checkpoints.hub import select_files
from show1.checkpoints.loading import load_unet, load_vae, read_scheduler_config
from show1.checkpoints.locate import resolve
from show1.checkpoints.weight_files import pack_int8, pick_weights
from show1.errors import CheckpointError, GatedModelError, InputError, ModelNotFoundError, OutputError
from show1.generation.pipeline import Show1Pipeline
from show1.generation.verify import verify
from show1.networks import UNet3DConditionModel
from tests.published_layout import PIXEL_CONFIG, build_published, save_random

UNET = Path("show-1-base/unet")
WEIGHTS = UNET / "diffusion_pytorch_model.safetensors"
CPU: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    """A copy of the published folder to spoil."""
    return Path(shutil.copytree(published, tmp_path / "models"))


def test_a_network_is_loaded_as_diffusers_does(published: Path) -> None:
    ours = load_unet(published / UNET, **CPU)
    theirs = UNet3DConditionModel.from_pretrained(published / UNET)
    assert not ours.training
    for (name, a), (other, b) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(a, b)


def test_no_weight_is_made_up_where_a_file_lacks_it(copy: Path) -> None:
    state = load_file(copy / WEIGHTS)
    del state["conv_in.weight"]
    save_file(state, copy / WEIGHTS)
    for load in (lambda folder: load_unet(folder, **CPU), UNet3DConditionModel.from_pretrained):
        with pytest.raises(CheckpointError, match="lacks conv_in.weight"):
            load(copy / UNET)


def test_dtype_is_asked_for_not_the_file_s(published: Path) -> None:
    assert {p.dtype for p in load_unet(published / UNET, dtype=torch.bfloat16, device="cpu").parameters()} == {
        torch.bfloat16
    }


def test_weights_kept_as_int8_are_read_to_half_a_step(copy: Path) -> None:
    expected = load_unet(copy / UNET, **CPU).state_dict()
    packed = pack_int8(load_file(copy / WEIGHTS), min_size=1000)
    kept = [name.removesuffix(".int8") for name in packed if name.endswith(".int8")]
    assert "conv_out.bias" not in kept and len(kept) > 20
    before = (copy / WEIGHTS).stat().st_size
    save_file(packed, copy / WEIGHTS)
    assert (copy / WEIGHTS).stat().st_size < 0.5 * before
    for name, weight in load_unet(copy / UNET, **CPU).state_dict().items():
        step = packed[f"{name}.int8_scale"].view(-1, *[1] * (weight.ndim - 1)) if name in kept else 0
        assert bool(((weight - expected[name]).abs() <= 0.5001 * step).all()), name

    with pytest.raises(CheckpointError, match="packed as int8, .* use show1.checkpoints.loading.load_unet"):
        UNet3DConditionModel.from_pretrained(copy / UNET)

    del packed[f"{kept[0]}.int8_scale"]
    save_file(packed, copy / WEIGHTS)
    with pytest.raises(CheckpointError, match=rf"{kept[0]}.int8 without its scales; delete it and download it again"):
        load_unet(copy / UNET, **CPU)


def test_shards_and_variants_load_alike(published: Path, tmp_path: Path) -> None:
    model = UNet3DConditionModel.from_pretrained(published / UNET)
    model.save_pretrained(tmp_path / "shards", max_shard_size="300KB")
    model.half().save_pretrained(tmp_path / "half", variant="fp16", max_shard_size="300KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    expected = load_unet(published / UNET, **CPU).state_dict()
    sharded = load_unet(tmp_path / "shards", **CPU).state_dict()
    half = load_unet(tmp_path / "half", variant="fp16", **CPU).state_dict()
    assert all(torch.equal(expected[k], sharded[k]) for k in expected)
    assert all(torch.equal(expected[k].half().float(), half[k]) for k in expected)


def test_a_lacking_shard_is_named(published: Path, tmp_path: Path) -> None:
    UNet3DConditionModel.from_pretrained(published / UNET).save_pretrained(tmp_path / "u", max_shard_size="300KB")
    lost = sorted((tmp_path / "u").glob("*.safetensors"))[-1]
    lost.unlink()
    with pytest.raises(CheckpointError, match=f"{lost.name} is missing"):
        load_unet(tmp_path / "u", **CPU)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [(None, "diffusion_pytorch_model.safetensors"), ("fp16", "diffusion_pytorch_model.fp16.safetensors")],
)
def test_weights_are_chosen(variant: str | None, expected: str) -> None:
    stem = "diffusion_pytorch_model"
    names = [f"{stem}.bin", f"{stem}.safetensors", f"{stem}.fp16.safetensors", f"{stem}.fp16.bin", "config.json"]
    assert pick_weights(names, variant) == [expected]
    assert pick_weights([f"{stem}.bin", f"{stem}.fp16.safetensors"]) == [f"{stem}.fp16.safetensors"]
    assert pick_weights(["pytorch_model.bin"]) == ["pytorch_model.bin"]
    assert pick_weights(["model-00001-of-00002.safetensors", "model.safetensors.index.json"]) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    late = "model.fp16-00001-of-00001.safetensors", "model-00001-of-00001.fp16.safetensors"
    assert [pick_weights([name], "fp16") for name in late] == [[name] for name in late]


def test_only_the_needed_files_are_downloaded() -> None:
    unet = "unet/diffusion_pytorch_model"
    names = ["model_index.json", "README.md", "unet/config.json", f"{unet}.bin", f"{unet}.safetensors"]
    names += [f"{unet}.fp16.safetensors", "text_encoder/model.safetensors", "scheduler/scheduler_config.json"]
    chosen = select_files(names, ("unet", "scheduler"), "fp16")
    assert sorted(chosen) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        f"{unet}.fp16.safetensors",
    ]


def test_pickles_are_read_as_tensors_alone_and_converted(published: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published / UNET, tmp_path / "unet"))
    expected = load_file(folder / "diffusion_pytorch_model.safetensors")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(expected, folder / "diffusion_pytorch_model.bin")
    assert all(torch.equal(v, expected[k]) for k, v in load_unet(folder, **CPU).state_dict().items())
    written = convert_to_safetensors(tmp_path)
    assert written == [folder / "diffusion_pytorch_model.safetensors"]
    assert all(torch.equal(v, expected[k]) for k, v in load_file(written[0]).items())
    assert convert_to_safetensors(tmp_path) == []


def test_sharded_pickles_are_converted_with_their_index(published: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published / "show-1-base" / "text_encoder", tmp_path / "text_encoder"))
    expected = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(expected)
    for i, part in enumerate((names[::2], names[1::2]), start=1):
        torch.save({n: expected[n] for n in part}, folder / f"pytorch_model-0000{i}-of-00002.bin")
    convert_to_safetensors(folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(names)
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    assert pick_weights([f.name for f in folder.iterdir()]) == shards
    assert convert_to_safetensors(folder) == []

    (folder / shards[1]).unlink()  # as if it had been stopped
    (folder / "model.safetensors.index.json").unlink()
    assert [file.name for file in convert_to_safetensors(folder)] == shards
    assert set(load_file(folder / shards[1])) == set(names[1::2])


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return Path.touch, (Path("evil"),)  # type: ignore[return-value]


def test_code_in_a_pickle_is_not_run(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(published / UNET, tmp_path / "unet"))
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"weight": Evil()}, folder / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match="more than plain tensors"):
        load_unet(folder, **CPU)
    assert not (tmp_path / "evil").exists()


def test_old_names_of_the_autoencoder_s_attention(published: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published / "show-1-sr2" / "vae", tmp_path / "vae"))
    expected = load_vae(folder, **CPU).state_dict()
    file = folder / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(file)
    for new, name in old.items():
        state = {k.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): v for k, v in state.items()}
    assert set(state) != set(expected)
    save_file(state, file)
    loaded = load_vae(folder, **CPU).state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in loaded.items())


def truncate(root: Path) -> None:
    data = (root / WEIGHTS).read_bytes()
    (root / WEIGHTS).write_bytes(data[: len(data) // 2])


def garble(root: Path) -> None:
    (root / WEIGHTS).write_bytes(b"\xff" * 1000)


def lfs_pointer(root: Path) -> None:
    (root / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")


def wrong_shape(root: Path) -> None:
    state = load_file(root / WEIGHTS)
    save_file({**state, "conv_in.weight": torch.zeros(32, 4, 3, 3)}, root / WEIGHTS)


def lacking_tensor(root: Path) -> None:
    state = load_file(root / WEIGHTS)
    state.pop("conv_in.bias")
    save_file(state, root / WEIGHTS)


def extra_tensor(root: Path) -> None:
    save_file({**load_file(root / WEIGHTS), "conv_in.more": torch.zeros(1)}, root / WEIGHTS)


def other_stage(root: Path) -> None:
    save_random(UNet3DConditionModel(**{**PIXEL_CONFIG, "in_channels": 7}), root / UNET, 1)


def other_width(root: Path) -> None:
    save_random(UNet3DConditionModel(**{**PIXEL_CONFIG, "encoder_hid_dim": 16}), root / UNET, 1)


def bad_json(root: Path) -> None:
    (root / UNET / "config.json").write_text("{")


def bad_config(root: Path) -> None:
    config = json.loads((root / UNET / "config.json").read_text())
    (root / UNET / "config.json").write_text(json.dumps({**config, "mid_block_type": "Mystery"}))


def no_scheduler(root: Path) -> None:
    (root / "show-1-base" / "scheduler" / "scheduler_config.json").unlink()


def no_weights(root: Path) -> None:
    (root / WEIGHTS).unlink()


def no_unet(root: Path) -> None:
    shutil.rmtree(root / UNET)


def no_tokenizer(root: Path) -> None:
    (root / "show-1-base" / "tokenizer" / "spiece.model").unlink()


def bad_text_encoder(root: Path) -> None:
    file = root / "show-1-base" / "text_encoder" / "model.safetensors"
    state = load_file(file)
    save_file({**state, "encoder.final_layer_norm.weight": torch.zeros(5)}, file)


SPOILED: list[tuple[Callable[[Path], None], list[str]]] = [
    (truncate, [str(WEIGHTS), "truncated or corrupt", "download it again"]),
    (garble, [str(WEIGHTS), "truncated or corrupt", "download it again"]),
    (lfs_pointer, [str(WEIGHTS), "Git LFS pointer", "git lfs pull"]),
    (wrong_shape, [str(WEIGHTS), "conv_in.weight", "[32, 4, 3, 3]", "[32, 3, 3, 3]"]),
    (lacking_tensor, [str(WEIGHTS), "lacks conv_in.bias"]),
    (extra_tensor, [str(WEIGHTS), "holds conv_in.more"]),
    (other_stage, [str(UNET), "7 channels", "'interpolation'", "'keyframes' takes 3"]),
    (other_width, ["width 16", "gives 32"]),
    (bad_json, [str(UNET / "config.json"), "JSON", "download it again"]),
    (bad_config, [str(UNET / "config.json"), "UNet3DConditionModel", "Mystery"]),
    (no_scheduler, ["show-1-base/scheduler/scheduler_config.json is missing", "show1 models download"]),
    (no_weights, [str(UNET), "holds no weights", "show1 models download"]),
    (no_unet, [str(UNET), "is missing", "show1 models download"]),
    (no_tokenizer, ["show-1-base/tokenizer", "spiece.model", "show1 models download"]),
    (bad_text_encoder, ["show-1-base/text_encoder/model.safetensors", "final_layer_norm", "[5]", "[32]"]),
]


@pytest.mark.parametrize(("spoil", "said"), SPOILED, ids=[s.__name__ for s, _ in SPOILED])
def test_a_damaged_checkpoint_gives_one_clear_error(spoil: Callable[[Path], None], said: list[str], copy: Path) -> None:
    spoil(copy)
    with pytest.raises(CheckpointError) as caught:
        pipe = Show1Pipeline.from_pretrained(copy, stages=["keyframes"], memory="low", cache_embeddings=False)
        changes = {"keyframes": {"num_inference_steps": 2, "num_frames": 1, "height": 8, "width": 8}}
        pipe("a panda", seed=0, settings=changes)
    assert all(part in str(caught.value) for part in said), str(caught.value)
    findings = verify(copy, stages=["keyframes"])
    assert len(findings) == 1
    assert all(part in str(findings[0]) for part in said[:2]), str(findings[0])


def test_a_sound_model_has_no_findings(published: Path) -> None:
    assert verify(published, deep=True) == []


def test_numbers_that_are_not_finite_are_found(copy: Path) -> None:
    state = load_file(copy / WEIGHTS)
    save_file({**state, "conv_in.weight": torch.full_like(state["conv_in.weight"], float("nan"))}, copy / WEIGHTS)
    assert verify(copy, stages=["keyframes"]) == []
    (finding,) = verify(copy, stages=["keyframes"], deep=True)
    assert "conv_in.weight" in str(finding)
    assert str(WEIGHTS) in str(finding)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("minni", ["'minni'", "did you mean 'mini'", "known models: mini, mini:fast, showlab/show-1"]),
        ("/no/such/folder", ["/no/such/folder", "known models"]),
        ("showlab/show-1", ["showlab/show-1-base", "HF_HUB_OFFLINE", "show1 models download"]),
        ("someone/cascade", ["someone/cascade", "not on this disk"]),
        ({"keyframes": "showlab/show-1-base"}, ["showlab/show-1-base", "show1 models download"]),
    ],
)
def test_models_that_are_not_there(model: Any, said: list[str]) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(model)
    assert all(part in str(caught.value) for part in said), str(caught.value)


def test_a_mapping_s_keys_are_stages() -> None:
    with pytest.raises(InputError, match="'upscale'; the keys are keyframes"):
        resolve({"upscale": "mini"})


class Hub:
    """Stands for the Hub's client: answers with one error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def model_info(self, *_: Any, **__: Any) -> Any:
        raise self.error


def answer(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={}, request=None)


@pytest.mark.parametrize("kind", ["unreachable", "gated", "unknown", "revision"])
def test_answers_of_the_hub(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import errors

    cases: dict[str, tuple[Callable[[], Exception], type[Exception], str]] = {
        "unreachable": (lambda: OSError("Name or service not known"), ModelNotFoundError, "cannot be reached"),
        "gated": (lambda: errors.GatedRepoError("401", response=answer(401)), GatedModelError, "hf auth login"),
        "unknown": (
            lambda: errors.RepositoryNotFoundError("404", response=answer(404)),
            ModelNotFoundError,
            "did you mean 'showlab/show-1-base'",
        ),
        "revision": (
            lambda: errors.RevisionNotFoundError("404", response=answer(404)),
            ModelNotFoundError,
            "no such revision",
        ),
    }
    make, expected, said = cases[kind]
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: Hub(make()))
    with pytest.raises(expected, match=said):
        resolve({"keyframes": "showlab/show-1-bas"})


def test_the_published_model_from_the_hub_without_the_gated_network(
    published: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from huggingface_hub import errors

    def fetch(repo: str, *_: Any, **__: Any) -> str:
        if repo.startswith("DeepFloyd"):
            raise errors.GatedRepoError("403", response=answer(403))
        return str(published / repo.split("/")[1])

    class Info:
        siblings: list[Any] = []

    monkeypatch.setattr("huggingface_hub.HfApi", lambda: type("Api", (), {"model_info": lambda *_, **__: Info()})())
    monkeypatch.setattr("show1.checkpoints.hub.select_files", lambda *_: ["model_index.json"])
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    cascade = resolve("showlab/show-1")
    assert cascade.stages == ("keyframes", "interpolation", "super_resolution", "translation")
    assert "first_frame" not in cascade.parts
    assert cascade.settings.super_resolution.first_frame is None
    assert {cascade.parts[s].text for s in cascade.stages[:3]} == {published / "show-1-base"}
    for said in ("DeepFloyd/IF-II-L-v1.0", "hf auth login", "super-resolution network makes that frame instead"):
        assert said in caplog.text


def test_a_folder_without_one_of_the_repositories(tmp_path: Path, published: Path, caplog: Any) -> None:
    root = Path(shutil.copytree(published, tmp_path / "m", ignore=shutil.ignore_patterns("show-1-sr1", "IF-*")))
    with pytest.raises(ModelNotFoundError, match=r"show-1-sr1 is missing.*download showlab/show-1-sr1"):
        resolve(root)
    assert resolve(root, stages=["keyframes"]).stages == ("keyframes",)
    with pytest.raises(ModelNotFoundError, match="single stage"):
        resolve(root / "show-1-base")
    with pytest.raises(ModelNotFoundError, match="is not a cascade"):
        resolve(root / "show-1-base" / "unet")


def test_save_pretrained_gives_an_equal_cascade(published: Path, tmp_path: Path) -> None:
    pipe = Show1Pipeline.from_pretrained(published)
    pipe.save_pretrained(tmp_path / "copy")
    again = Show1Pipeline.from_pretrained(tmp_path / "copy")
    assert again.stages == pipe.stages
    assert again.settings == pipe.settings
    assert verify(tmp_path / "copy") == []
    assert not (tmp_path / "copy" / "interpolation" / "text_encoder").exists()
    index = json.loads((tmp_path / "copy" / "show1.json").read_text())
    assert index["format"] == 1
    assert set(index["stages"]) == {*pipe.stages, "first_frame"}
    with pytest.raises(OutputError, match="exists already"):
        pipe.save_pretrained(tmp_path / "copy")
    mixed = resolve({"keyframes": published / "show-1-base", "translation": tmp_path / "copy"})
    assert mixed.stages == ("keyframes", "translation")


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("[", "JSON"),
        ('{"format": 2}', "update show1"),
        ('{"format": 1}', "stages"),
        ('{"format": 1, "stages": {"keyframes": "../outside"}}', "outside"),
        ('{"format": 1, "stages": {"keyframes": "k"}, "settings": {"keyframes": {"speed": 1}}}', "settings"),
    ],
)
def test_a_damaged_index_is_named(index: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "show1.json").write_text(index)
    with pytest.raises(CheckpointError, match=said) as caught:
        resolve(tmp_path)
    assert str(tmp_path / "show1.json") in str(caught.value)


def test_scheduler_config_is_a_plain_mapping(published: Path) -> None:
    assert read_scheduler_config(published / "show-1-base" / "scheduler")["lambda_min_clipped"] == -5.1


def test_without_the_image_network_the_layout_is_whole(tmp_path: Path) -> None:
    assert "first_frame" not in resolve(build_published(tmp_path, first_frame=False)).parts
