"""A family that no code of the package knows: one class and one row, as docs/experts.md says."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UNet2DModel
from transformers import T5EncoderModel

import show1
from show1 import Show1Pipeline
from show1.errors import CheckpointError
from show1.expert_table import EXPERTS
from show1.experts import ExpertFamily, ExpertRow, register_expert
from tests.experts.tiny_experts import clip
from tests.published_layout import build_t5, save_random


class ToyPipeline(DiffusionPipeline):
    """Text to video as a stranger might have written it: an image network on each frame, deaf to the prompt."""

    def __init__(self, vae: Any, scheduler: Any, network: Any, text_encoder: Any, tokenizer: Any) -> None:
        super().__init__()
        self.register_modules(
            vae=vae, scheduler=scheduler, network=network, text_encoder=text_encoder, tokenizer=tokenizer
        )

    def __call__(self, latents: torch.Tensor, num_inference_steps: int, callback_on_step_end: Any, **_: Any) -> Any:
        self.scheduler.set_timesteps(num_inference_steps)
        x = latents
        for i, t in enumerate(self.scheduler.timesteps):
            frames = x.transpose(1, 2).flatten(0, 1)
            v = self.network(frames, t.expand(len(frames))).sample
            x = self.scheduler.step(v.view(len(x), -1, *v.shape[1:]).transpose(1, 2), t, x, return_dict=False)[0]
            callback_on_step_end(self, i, t, {"latents": x})
        return (x,)


class Toy(ExpertFamily):
    """Frames are coded one by one, so that any number of them is taken."""

    pipeline = ToyPipeline
    text_length = 12

    def frame_multiple(self, pipe: Any) -> int:
        return 1

    def size_multiple(self, pipe: Any) -> int:
        return 8

    def text_of(self, pipe: Any, prompt: str) -> dict[str, torch.Tensor]:
        tokens = pipe.tokenizer(prompt, padding="max_length", max_length=12, truncation=True, return_tensors="pt")
        return {"prompt_embeds": pipe.text_encoder(tokens.input_ids)[0]}

    def encode(self, pipe: Any, video: torch.Tensor) -> torch.Tensor:
        frames = video.transpose(1, 2).flatten(0, 1)
        latents = pipe.vae.encode(frames).latent_dist.mode()
        return latents.view(len(video), -1, *latents.shape[1:]).transpose(1, 2)

    def decode(self, pipe: Any, latents: torch.Tensor, generators: Any) -> torch.Tensor:
        frames = pipe.vae.decode(latents.transpose(1, 2).flatten(0, 1)).sample
        return frames.view(len(latents), -1, *frames.shape[1:]).transpose(1, 2)


TOY = ExpertRow(
    name="toy",
    pipelines=("ToyPipeline",),
    implementation=Toy,
    settings={"level": 0.5, "num_inference_steps": 4, "guidance_scale": 1.0, "height": 16, "width": 24},
    fps=8.0,
    max_frames=100,
    max_level=0.6,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_random(AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4), tmp_path / "vae", 1)
    network = UNet2DModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        add_attention=False,
    )
    save_random(network, tmp_path / "network", 2)
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(tmp_path / "scheduler")
    build_t5(tmp_path)
    index = {
        "_class_name": "ToyPipeline",
        "vae": ["diffusers", "AutoencoderKL"],
        "network": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", T5EncoderModel.__name__],
        "tokenizer": ["transformers", "T5Tokenizer"],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    return tmp_path


@pytest.fixture
def _rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores the table after the test."""
    before = dict(EXPERTS)
    yield
    EXPERTS.clear()
    EXPERTS.update(before)


@pytest.mark.usefixtures("_rows")
def test_one_class_and_one_row_make_a_family(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="pipeline of the class 'ToyPipeline', and no family"):
        Show1Pipeline.from_pretrained({"translation": folder})
    register_expert(TOY)
    pipe = Show1Pipeline.from_pretrained({"translation": folder})
    asked: dict[str, Any] = {"start_from": "translation", "video": clip(frames=7), "seed": 1, "output_type": "pt"}
    video = pipe("a cat", **asked)
    assert video.shape == (3, 7, 16, 24)
    assert torch.equal(video, pipe("a cat", **asked))
    (warning,) = pipe.prompt_warnings("a cat " * 20 + "and a dog")
    assert "longer than 12 tokens" in warning and "and a dog" in warning and pipe.prompt_warnings("a cat") == []
    with pytest.raises(show1.InputError, match=r"'toy' was trained on noise levels up to 0.6, .* 0.7 is above"):
        pipe("a cat", **asked, settings={"translation": {"level": 0.7}})


@pytest.mark.usefixtures("_rows")
def test_an_installed_package_adds_its_families(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        def load(self) -> None:
            register_expert(TOY)

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Entry()] if group == "show1.experts" else [])
    assert Show1Pipeline.from_pretrained({"translation": folder}).settings.translation.level == 0.5


def test_no_code_of_the_package_names_the_toy() -> None:
    package = Path(show1.__file__).parent
    assert not any("toy" in file.read_text().lower() for file in (package / "experts").glob("*.py"))
