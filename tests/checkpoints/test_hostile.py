"""A model's folder may come from a stranger: whatever is in it, an error of the package's own says so, and soon."""

import json
import os
import resource
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from show1.checkpoints.convert import convert_to_safetensors
from show1.checkpoints.network_configs import read_network_config
from show1.checkpoints.weight_files import weight_variants
from show1.errors import CheckpointError, ModelNotFoundError, Show1Error
from show1.generation.pipeline import Show1Pipeline
from show1.generation.verify import verify
from show1.limits import MAX_TOKENIZER_BYTES
from tests.published_layout import small_changes

BASE = Path("show-1-base")
UNET, SCHEDULER = BASE / "unet" / "config.json", BASE / "scheduler" / "scheduler_config.json"
TEXT, WEIGHTS = BASE / "text_encoder" / "config.json", BASE / "unet" / "diffusion_pytorch_model.safetensors"
TOKENIZER = BASE / "tokenizer" / "tokenizer_config.json"

Spoil = Callable[[Path], object]


def says(file: Path, **changes: Any) -> Spoil:
    """Changes a JSON file."""

    def spoil(root: Path) -> None:
        values = json.loads((root / file).read_text())
        (root / file).write_text(json.dumps({**values, **changes}))

    return spoil


def holds(file: Path, text: str) -> Spoil:
    """Replaces a file's text."""
    return lambda root: (root / file).write_text(text)


def leads_to(file: Path, target: str) -> Spoil:
    """Makes a link of a file or folder."""

    def spoil(root: Path) -> None:
        shutil.rmtree(root / file) if (root / file).is_dir() else (root / file).unlink()
        (root / file).symlink_to(target)

    return spoil


def pipe(file: Path) -> Spoil:
    """Makes a pipe of a file."""

    def spoil(root: Path) -> None:
        (root / file).unlink()
        os.mkfifo(root / file)

    return spoil


def long(file: Path, size: int) -> Spoil:
    """Lengthens a file without content."""
    return lambda root: os.truncate(root / file, size)


def weights(change: Callable[[torch.Tensor], torch.Tensor]) -> Spoil:
    """Changes all weights of the keyframes."""
    return lambda root: save_file({n: change(t) for n, t in load_file(root / WEIGHTS).items()}, root / WEIGHTS)


def renamed(name: str) -> Spoil:
    return lambda root: (root / WEIGHTS).rename(root / WEIGHTS.with_name(name))


def index(mapping: Any) -> Spoil:
    """Splits the weights, with an index of them."""

    def spoil(root: Path) -> None:
        for number in (1, 2):
            shutil.copy(root / WEIGHTS, (root / WEIGHTS).with_name(f"model-0000{number}-of-00002.safetensors"))
        (root / WEIGHTS).unlink()
        (root / WEIGHTS).with_name("a.index.json").write_text(json.dumps({"weight_map": mapping}))

    return spoil


DEEP = '{"a":' + "[" * 10**5 + "]" * 10**5 + "}"
SHARD = "model-00001-of-00002.safetensors"
SPOILT: dict[str, tuple[Spoil, str]] = {
    "layers": (says(UNET, layers_per_block=10**7), "layers_per_block is 10000000"),
    "layers of all levels": (says(UNET, layers_per_block=100), "asks for 200 layers"),
    "levels": (says(UNET, block_out_channels=[32] * 1000), "block_out_channels has 1000 entries"),
    "width": (says(UNET, block_out_channels=[10**9] * 2), "block_out_channels is 1000000000"),
    "zero": (says(UNET, norm_num_groups=0), "does not describe a UNet3DConditionModel"),
    "text for numbers": (says(UNET, block_out_channels="abc"), "does not describe a UNet3DConditionModel"),
    "huge number": (says(UNET, sample_size=10**400), "sample_size is 1000"),
    "padding": (says(UNET, downsample_padding=10**7), "downsample_padding"),
    "not a number": (says(UNET, norm_eps=float("nan")), "norm_eps is nan"),
    "deep": (holds(UNET, DEEP), "nested deeper"),
    "deep scheduler": (holds(SCHEDULER, DEEP), "nested deeper"),
    "large": (long(UNET, 1 << 30), "at most"),
    "text layers": (says(TEXT, num_layers=10**7), "num_layers is 10000000"),
    "text vocabulary": (says(TEXT, vocab_size=10**12), "vocab_size"),
    "text distances": (says(TEXT, relative_attention_max_distance=0), "an encoder that does not work"),
    "text heads": (says(TEXT, num_heads=-1), "num_heads must be a whole number, at least 0"),
    "heads": (says(UNET, addition_embed_type_num_heads=3), "does not work as its config.json describes it"),
    "no heads": (says(UNET, attention_head_dim=-1), "attention_head_dim must be a whole number"),
    "text width": (says(TEXT, d_model="x"), "d_model must be a whole number"),
    "steps": (says(SCHEDULER, num_train_timesteps=10**10), "num_train_timesteps is more than"),
    "solver order": (says(SCHEDULER, solver_order=10**10), "solver_order is more than"),
    "betas": (says(SCHEDULER, beta_start=-5, beta_end=float("nan")), "must be from 0 to 1"),
    "trained betas": (says(SCHEDULER, trained_betas=[0.1, -3.0]), "its trained_betas are 2, but num_train_timesteps"),
    "a file for betas": (says(SCHEDULER, trained_betas="/etc/passwd"), "scheduler_config.json does not describe"),
    "class": (says(SCHEDULER, _class_name="os.system"), "no scheduler of diffusers"),
    "another class": (says(SCHEDULER, _class_name="AutoencoderKL"), "no scheduler of diffusers"),
    "prediction": (says(SCHEDULER, prediction_type="evil"), "prediction_type must be one of"),
    "thresholding": (says(SCHEDULER, dynamic_thresholding_ratio=3), "dynamic_thresholding_ratio must be from 0 to 1"),
    "text for a number": (says(SCHEDULER, sample_max_value="x"), "sample_max_value must be a number"),
    "clipped": (says(SCHEDULER, lambda_min_clipped=64), "lambda_min_clipped must be at most 0"),
    "spacing": (says(SCHEDULER, timestep_spacing="evil"), "scheduler_config.json does not describe"),
    "tokenizer length": (says(TOKENIZER, model_max_length="evil"), "model_max_length"),
    "large tokenizer": (long(TOKENIZER, MAX_TOKENIZER_BYTES + 1), "at most"),
    "pipe": (pipe(UNET), "not an ordinary file"),
    "pipe of weights": (pipe(WEIGHTS), "not an ordinary file"),
    "pipe of a tokenizer": (pipe(TOKENIZER), "not an ordinary file"),
    "device": (leads_to(UNET, "/dev/zero"), "outside of the model's folder"),
    "device for weights": (leads_to(WEIGHTS, "/dev/zero"), "outside of the model's folder"),
    "link out": (leads_to(UNET, "/etc/passwd"), "outside of the model's folder"),
    "link to itself": (leads_to(UNET, "config.json"), "leads nowhere"),
    "folder that is a link out": (leads_to(BASE / "tokenizer", "/etc"), "outside of the model's folder"),
    "shards": (renamed("model-00001-of-99999.safetensors"), "one of 99999 files"),
    "index of something else": (index({"a": SHARD, "b": ["x"]}), "no weight file beside it"),
    "index that leads out": (index({"a": SHARD, "b": "../../secret.safetensors"}), "no weight file beside it"),
    "index that is a list": (index([1]), "no weight file beside it"),
    "whole numbers": (weights(lambda t: t.to(torch.int64)), "whole numbers"),
    "nan": (weights(lambda t: torch.full_like(t, float("nan"))), "not finite"),
    "infinity": (weights(lambda t: torch.full_like(t, float("inf"))), "not finite"),
}


ONLY_IN_USE = {"text distances", "heads"}
"""What is found where the model is used, and not by its files."""


@pytest.fixture
def bounded() -> Iterator[None]:
    """Ends the test with an error where more than 4 GB more than now, or 10 s, are taken."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 30), before[1]))
    began = time.process_time()
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("case", SPOILT)
def test_a_hostile_model_is_refused(case: str, published: Path, tmp_path: Path, bounded: None) -> None:
    root = tmp_path / "models"
    shutil.copytree(published / BASE, root / BASE)
    spoil, said = SPOILT[case]
    spoil(root)
    model = {"keyframes": str(root / BASE)}
    problems = verify(model)
    assert case in ONLY_IN_USE or any(said in str(problem) for problem in problems), problems
    with pytest.raises(Show1Error) as caught:
        Show1Pipeline.from_pretrained(model)("a panda", settings={"keyframes": small_changes()["keyframes"]})
    assert said in str(caught.value)


def test_links_within_a_model_and_in_the_hub_s_cache_are_followed(published: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--someone--stage"
    snapshot = Path(shutil.copytree(published / BASE, repository / "snapshots" / "1234"))
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(file for file in snapshot.rglob("*") if file.is_file())):
        blob = repository / "blobs" / f"{number:040d}"
        file.rename(blob)
        file.symlink_to(os.path.relpath(blob, file.parent))
    assert verify({"keyframes": str(snapshot)}, deep=True) == []

    whole = Path(shutil.copytree(published / BASE, tmp_path / "cascade" / "one"))
    (tmp_path / "cascade" / "other").mkdir()
    for name in ("unet", "scheduler"):
        (tmp_path / "cascade" / "other" / name).symlink_to(f"../one/{name}")
    (tmp_path / "cascade" / "show1.json").write_text(json.dumps({"format": 1, "stages": {"keyframes": "one"}}))
    (tmp_path / "link").symlink_to("cascade")
    assert verify(tmp_path / "link") == [] and whole.is_dir()


def test_pickles_that_are_pipes_or_compressed(tmp_path: Path) -> None:
    file = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "sound.bin")
    with zipfile.ZipFile(tmp_path / "sound.bin") as sound, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sound.namelist():
            packed.writestr(name, sound.read(name))
    with pytest.raises(CheckpointError, match="it is compressed"):
        convert_to_safetensors(tmp_path)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(CheckpointError, match="not an ordinary file"):
        convert_to_safetensors(tmp_path)


def test_no_code_is_looked_for_in_a_config(published: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(published / BASE, tmp_path / "stage"))
    says(Path("text_encoder/config.json"), auto_map={"AutoModel": "evil--evil.Evil"}, quantization_config={"a": 1})(
        root
    )
    says(Path("text_encoder/config.json"), attn_implementation="evil/kernel", _attn_implementation="evil/kernel")(root)
    assert verify({"keyframes": str(root)}) == []
    Show1Pipeline.from_pretrained({"keyframes": str(root)}, cache_embeddings=False)._encoder("keyframes").encode(["a"])


def test_names_of_many_shards_are_counted_once() -> None:
    names = [f"model-{i:05d}-of-01000.safetensors" for i in range(1, 1001)]
    began = time.process_time()
    assert [len(files) for files in weight_variants(names * 3).values()] == [1000]
    assert time.process_time() - began < 0.5


def test_configs_of_published_networks_pass(published: Path) -> None:
    for file in published.rglob("config.json"):
        assert read_network_config(file)


@pytest.mark.parametrize(
    "stages", [{"keyframes": "/etc"}, {"keyframes": "../x"}, {"keyframes": 5}, {"evil": "a"}, {}, 3]
)
def test_an_index_names_subfolders(stages: Any, tmp_path: Path) -> None:
    (tmp_path / "show1.json").write_text(json.dumps({"format": 1, "stages": stages}))
    with pytest.raises((CheckpointError, ModelNotFoundError)):
        Show1Pipeline.from_pretrained(tmp_path)
