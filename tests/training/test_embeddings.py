"""Frame and place embeddings of the translation's network."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch.testing import assert_close

from show1 import Show1Pipeline
from show1.checkpoints.loading import load_latent_unet
from show1.errors import InputError
from show1.networks.latent_unet import PlacedLatentUNet, TrainingAttention
from show1.training.networks import embedded_latent_unet, fresh_latent_unet
from show1.training.presets import preset
from tests.training import tiny_training
from tests.training.test_tasks import asked, build
from tests.training.tiny_training import Exports

BOTH = {"embed_frames": True, "embed_places": True}


def seen(unet: Any, frames: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, unet.config.in_channels, frames, 8, 8, generator=generator)
    text = torch.randn(2, 5, unet.config.cross_attention_dim, generator=generator)
    with torch.no_grad():
        return unet(x, torch.tensor([3, 500]), encoder_hidden_states=text, return_dict=False)[0]


def test_new_embeddings_change_nothing_and_then_tell_frames_and_places_apart() -> None:
    torch.manual_seed(0)
    plain = fresh_latent_unet(preset("mini").network("translation"), 32, 4).eval()
    told: Any = embedded_latent_unet(plain, **BOTH).eval()
    assert isinstance(told, PlacedLatentUNet) and not isinstance(plain, PlacedLatentUNet)
    assert_close(seen(told), seen(plain), atol=1e-6, rtol=0)
    assert embedded_latent_unet(told, embed_frames=True, embed_places=False) is told
    torch.nn.init.normal_(told.frame_embedding.embedding.linear_2.weight)
    assert (seen(told) - seen(plain)).abs().mean() > 1e-3
    torch.nn.init.zeros_(told.frame_embedding.embedding.linear_2.weight)
    for place in told.place_embeddings:
        torch.nn.init.normal_(place.proj.weight)
    assert (seen(told) - seen(plain)).abs().mean() > 1e-3


@pytest.mark.parametrize(("side", "plain"), [(8, True), (32, False)])
def test_attention_of_training_is_attention(side: int, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = Attention(query_dim=16, heads=2, dim_head=8)
    x = torch.randn(2, side**2, 16)
    gradients, called = [], []
    products = torch.baddbmm
    monkeypatch.setattr("torch.baddbmm", lambda *a, **options: called.append(1) or products(*a, **options))
    for processor in (AttnProcessor2_0(), TrainingAttention()):
        layer.set_processor(processor)
        with torch.autocast("cpu", torch.bfloat16):
            layer(x).square().mean().backward()
        gradients.append(layer.to_k.weight.grad)
        layer.zero_grad()
    assert_close(*gradients, rtol=0.05, atol=2e-2 * float(gradients[0].abs().max()))
    assert bool(called) == plain
    called.clear()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        layer(x)
    assert not called  # the fused one is as fast forwards


@pytest.mark.parametrize("begun", ["fresh", "init"])
def test_a_trained_network_with_embeddings_loads_again(exports: Exports, tmp_path: Path, begun: str) -> None:
    chosen: dict[str, Any] = {"text": str(exports["keyframes"]), "init": None} if begun == "fresh" else {}
    config = tiny_training.config(
        "translation", tmp_path / "run", **{**exports.inputs("translation"), **BOTH, **chosen}
    )
    tiny_training.run(config)
    export = tmp_path / "run" / "export"
    saved = json.loads((export / "unet" / "config.json").read_text())
    assert saved["_class_name"] == "PlacedLatentUNet" and saved["embed_frames"] and saved["embed_places"]
    unet: Any = load_latent_unet(export / "unet", dtype=torch.float32, device="cpu")
    assert isinstance(unet, PlacedLatentUNet)
    learned = [unet.frame_embedding.embedding.linear_2.weight, *(each.proj.weight for each in unet.place_embeddings)]
    assert all(weight.abs().max() > 0 for weight in learned)
    task: Any = build("translation", exports, init=str(export))
    assert isinstance(task.unet, PlacedLatentUNet)  # it keeps what its start had
    pipe = Show1Pipeline.from_pretrained({"translation": str(export)}, cache_embeddings=False)
    video = pipe("a panda", start_from="translation", video=torch.zeros(3, 3, 8, 8), seed=1, output_type="pt")
    assert bool(video.isfinite().all())


def test_embeddings_where_they_would_be_wrong_are_refused(exports: Exports) -> None:
    with pytest.raises(InputError, match="embed_frames: a single frame has no place in a clip"):
        asked("translation_images", exports, embed_frames=True)
    with pytest.raises(InputError, match="embed_places: places in a crop are others than in a whole frame"):
        asked("translation", exports, embed_places=True, crop=[16, 24])
