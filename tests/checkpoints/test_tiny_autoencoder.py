"""An `AutoencoderTiny` in place of the expert's own autoencoder: in the whole model, and with a wrong config."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny

from show1.checkpoints.loading import load_vae
from show1.checkpoints.locate import resolve
from show1.errors import CheckpointError
from show1.generation.verify import verify
from show1.stages import load_stage
from show1.stages.needs import stage_need
from show1.stages.translation import decode, encode
from tests.checkpoints.test_mutated_configs import EXPERT, VALUES, is_refused, use
from tests.mutations import mutated, places
from tests.published_layout import save_random

LEVELS: dict[str, Any] = {
    "encoder_block_out_channels": (8, 8, 8, 8),
    "num_encoder_blocks": (0, 1, 1, 1),
    "decoder_block_out_channels": (8, 8, 8, 8),
    "num_decoder_blocks": (1, 1, 1, 0),
}


@pytest.fixture
def expert(published: Path, tmp_path: Path) -> Path:
    """The expert in the published layout, with a tiny autoencoder."""
    folder = Path(shutil.copytree(published / EXPERT, tmp_path / EXPERT))
    shutil.rmtree(folder / "vae")
    save_random(AutoencoderTiny(**LEVELS), folder / "vae", 6)
    return folder


def change(expert: Path, values: Mapping[str, Any]) -> None:
    file = expert / "vae/config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_model_with_a_tiny_autoencoder_works(published: Path, expert: Path) -> None:
    use(published, expert)
    assert not verify({"translation": str(expert)}, deep=True)
    stage, streamed = (load_stage("translation", expert, streamed=streamed) for streamed in (False, True))
    assert isinstance(stage.vae, AutoencoderTiny) and stage.vae.config.latent_channels == 4
    frames = torch.linspace(-1, 1, 2 * 3 * 16 * 24).reshape(2, 3, 16, 24)
    with torch.no_grad():
        latents = [encode(each.vae, frames, draw=None) for each in (stage, streamed)]
        assert latents[0].shape == (2, 4, 2, 3) and torch.equal(*latents)
        made = [torch.stack(list(decode(each.vae, latents[0]))) for each in (stage, streamed)]
        assert made[0].shape == frames.shape and torch.equal(*made)


def test_a_tiny_autoencoder_takes_less_memory(published: Path, expert: Path) -> None:
    needs = []
    for folder in (published / EXPERT, expert):
        cascade = resolve({"translation": str(folder)})
        settings = cascade.settings.replace(translation={"height": 512, "width": 512})
        need = stage_need("translation", cascade.parts, settings, frames=2, prompts=1, dtype=torch.float32)
        needs.append(need)
    assert needs[1].weights < needs[0].weights
    saved = stage_need("translation", cascade.parts, settings, frames=2, prompts=1, dtype=torch.float32)
    change(expert, {"block_out_channels": [16]})  # what follows from other values is not believed
    assert stage_need("translation", cascade.parts, settings, frames=2, prompts=1, dtype=torch.float32) == saved


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"in_channels": 4}, "in_channels must be 3, got 4"),
        ({"out_channels": 1}, "out_channels must be 3, got 1"),
        ({"upsampling_scaling_factor": 4}, "upsampling_scaling_factor must be 2"),
        ({"decoder_block_out_channels": [8, 8, 8]}, "decoder_block_out_channels must be four equal whole numbers"),
        ({"encoder_block_out_channels": [8, 8, 8, 16]}, "encoder_block_out_channels must be four equal whole numbers"),
        ({"num_encoder_blocks": [0, 1, 1]}, "num_encoder_blocks must be four whole numbers, at least 0"),
        ({"num_decoder_blocks": [1, 1, 1, -1]}, "num_decoder_blocks must be four whole numbers, at least 0"),
        ({"num_decoder_blocks": [1, 1, 1, 2**24]}, "asks for .* layers, and at most"),
        ({"latent_channels": 8}, "vae/.* "),
    ],
)
def test_a_wrong_value_is_named(expert: Path, values: dict[str, Any], message: str) -> None:
    change(expert, values)
    with pytest.raises(CheckpointError, match=message):
        load_vae(expert / "vae", dtype=torch.float32, device="cpu")


@pytest.mark.filterwarnings("ignore")
def test_any_wrong_value_is_an_error_or_does_no_harm(published: Path, expert: Path) -> None:
    file, refused = expert / "vae/config.json", 0
    known = json.loads(file.read_text())
    cases = [(path, value) for path in places(known) for value in VALUES]
    for path, value in cases[:: len(cases) // 40]:
        file.write_text(json.dumps(mutated(known, path, value)))
        refused += is_refused(published, expert, path, value)
    assert refused > 10
