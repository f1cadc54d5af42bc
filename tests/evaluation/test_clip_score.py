"""CLIPSIM with a small random CLIP, compared by hand."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel
from transformers.utils import logging as transformers_logging

from show1.errors import CheckpointError, InputError, ModelNotFoundError
from show1.evaluation.clip_score import ClipScore
from show1.evaluation.feature_networks import FeatureOptions
from show1.evaluation.probes import load_features
from show1.files import read_json_object, sha256, write_json
from tests.published_layout import build_clip

MEAN, STD = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.4])
PROMPTS = ["a red fox", "a blue whale in the rain"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of 8x8 pixels and 40 tokens, as transformers saves it."""
    folder = tmp_path_factory.mktemp("clip")
    build_clip(folder)
    for file in (folder / "tokenizer").iterdir():
        file.rename(folder / file.name)
    size = len(read_json_object(folder / "vocab.json"))
    tiny = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": 0}
    text = {**tiny, **ids, "vocab_size": size, "max_position_embeddings": 40}
    vision = {**tiny, "image_size": 8, "patch_size": 4}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=512))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": 8},
            "crop_size": {"height": 8, "width": 8},
            "image_mean": MEAN.tolist(),
            "image_std": STD.tolist(),
        },
    )
    return folder


@pytest.fixture(scope="module")
def clip(folder: Path) -> ClipScore:
    return ClipScore.load(folder, FeatureOptions(local_files_only=True))


def test_loading_shows_no_bar_of_a_library(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.enable_progress_bar()
    try:
        ClipScore.load(str(folder), FeatureOptions(local_files_only=True))
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        if not shown:
            transformers_logging.disable_progress_bar()
    assert capfd.readouterr().err == ""


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_similarity_by_hand(clip: ClipScore, folder: Path) -> None:
    videos = noise(0, 2, 3, 8, 8)  # of CLIP's size: nothing is resized
    model = CLIPModel.from_pretrained(folder).eval()
    pixels = torch.from_numpy((videos / 255 - MEAN) / STD).float()
    wanted = []
    for video, prompt in zip(pixels, PROMPTS, strict=True):
        tokens = clip._tokenizer([prompt], return_tensors="pt")
        with torch.no_grad():
            text = model.text_projection(model.text_model(input_ids=tokens["input_ids"]).pooler_output)[0].double()
            images = [
                model.visual_projection(model.vision_model(frame.permute(2, 0, 1)[None]).pooler_output)[0].double()
                for frame in video
            ]
        wanted.append(np.mean([float(text @ image / (text.norm() * image.norm())) for image in images]))
    found = clip.similarity(videos, PROMPTS)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    assert abs(wanted[0] - wanted[1]) > 1e-3 and found.dtype == np.float64


def test_batches_change_nothing(clip: ClipScore, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = noise(1, 2, 5, 12, 9)
    together = clip.similarity(videos, PROMPTS)
    alone = [clip.similarity(videos[i : i + 1], PROMPTS[i : i + 1])[0] for i in range(2)]
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    monkeypatch.setattr("show1.evaluation.clip_score._FRAMES_PER_BATCH", 3)
    np.testing.assert_allclose(clip.similarity(videos, PROMPTS), together, rtol=1e-5)


def test_the_prompt_and_the_channels_matter(clip: ClipScore) -> None:
    videos = noise(2, 2, 2, 10, 10) // np.array([1, 4, 16], dtype=np.uint8)
    scores = clip.similarity(videos, PROMPTS)
    assert not np.allclose(scores, clip.similarity(videos, PROMPTS[::-1]), atol=1e-3)
    assert not np.allclose(scores, clip.similarity(videos[..., ::-1], PROMPTS), atol=1e-3)


def test_long_prompts_are_cut_and_reported(clip: ClipScore, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        embeds = clip.embed_prompts(["long " * 40, "short"])
    assert "only the first 40 tokens" in caplog.text and "'short'" not in caplog.text
    np.testing.assert_allclose(embeds.norm(dim=1), 1)


def test_traps(clip: ClipScore) -> None:
    with pytest.raises(InputError, match="each video needs one prompt: got 2 and 1"):
        clip.similarity(noise(0, 2, 1, 8, 8), PROMPTS[:1])
    with pytest.raises(InputError, match="uint8"):
        clip.similarity(noise(0, 2, 1, 8, 8) / 255, PROMPTS)


def test_as_a_feature_network(folder: Path) -> None:
    probe = load_features("clip-vit-b-32", FeatureOptions(folder=folder, local_files_only=True))
    found = probe.compute(noise(3, 2, 3, 9, 8), ())
    assert found.shape == (2, 3, 512)
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1, rtol=1e-5)
    assert probe.sha256 == sha256(folder / "model.safetensors")


def test_published_weights_are_verified(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"others")
    with pytest.raises(CheckpointError, match="sha256"):
        ClipScore.load("clip-vit-b-32", FeatureOptions(folder=tmp_path))


def test_offline_and_damaged(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="openai/clip-vit-base-patch32.*pytorch_model.bin into a folder"):
        ClipScore.load("clip-vit-b-32", FeatureOptions(local_files_only=True))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds no weights"):
        ClipScore.load(tmp_path, FeatureOptions())
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="not a CLIP model"):
        ClipScore.load(tmp_path, FeatureOptions())
