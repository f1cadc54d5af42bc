"""The run at the published sizes, with networks and sizes for a test, on the CPU."""

import sys

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers import UNet3DConditionModel as LatentUNet
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from benchmarks import gpu_full
from benchmarks.gpu_full import Measured, Runner, Sizes, published, report
from show1.networks import UNet3DConditionModel
from tests.published_layout import CLIP_WIDTH, IMAGE_CONFIG, LATENT_CONFIG, PIXEL_CONFIG, T5_WIDTH, small_settings

VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (8, 8, 16, 16),
    "norm_num_groups": 8,
}


def small():
    t5 = T5Config(d_model=T5_WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=8)
    clip = CLIPTextConfig(
        hidden_size=CLIP_WIDTH, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=8
    )
    enlarging = {"in_channels": 6, "class_embed_type": "timestep"}
    return Sizes(
        networks={
            "T5": lambda: T5EncoderModel(t5),
            "keyframes": lambda: UNet3DConditionModel(**PIXEL_CONFIG),
            "interpolation": lambda: UNet3DConditionModel(**{**PIXEL_CONFIG, "in_channels": 7}),
            "first_frame": lambda: UNet2DConditionModel(**IMAGE_CONFIG),
            "super_resolution": lambda: UNet3DConditionModel(**{**PIXEL_CONFIG, **enlarging}),
            "CLIP": lambda: CLIPTextModel(clip),
            "translation": lambda: LatentUNet(**LATENT_CONFIG),
            "vae": lambda: AutoencoderKL(**VAE),
        },
        settings=small_settings(),
    )


@pytest.mark.slow
def test_the_whole_cascade_runs_with_random_weights():
    torch.manual_seed(0)
    found = list(Runner(small(), torch.device("cpu"), torch.float32).run())
    assert [each.name for each in found] == [
        "T5", "CLIP", "keyframes", "interpolation", "super_resolution", "translation",
    ]  # fmt: skip
    evaluations = {each.name: each.evaluations for each in found}
    # both halves of guidance: 3 steps; 2 segments of 2; 2 steps of one or two windows, and of the first frame; 0.8 of 3
    assert evaluations["keyframes"] == 2 * 3 and evaluations["interpolation"] == 2 * 2 * 2
    assert evaluations["super_resolution"] == 2 * 2 * 2 + 2 * 2 and evaluations["translation"] == 2 * 2
    assert evaluations["T5"] == 0
    assert all(each.peak > 0 for each in found)
    assert all((each.ours > 0) == (each.name not in ("T5", "CLIP")) for each in found)


def test_published_sizes_name_all_networks():
    assert published().networks.keys() == small().networks.keys()


def test_the_report_adds_up():
    one = Measured(name="T5", evaluations=0, seconds=1, peak=10**9, plain=0, ours=0)
    two = Measured(name="keyframes", evaluations=150, seconds=2, peak=2 * 10**9, plain=3, ours=1.5)
    lines = report([one, two]).splitlines()
    assert lines[3] == "| keyframes | 150 | 2.0 | 2.00 | 3.00 | 1.50 | 2.00 |"
    assert lines[4].startswith("| all | 150 | 3.0 | 2.00 |")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_without_a_gpu_it_counts_and_says_so(monkeypatch, capsys, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- published sizes -->\n<!-- end -->\n")
    monkeypatch.setattr(gpu_full, "parts", lambda: [])
    monkeypatch.setattr(gpu_full, "table", lambda counts: "| counted |")
    monkeypatch.setattr(sys, "argv", ["gpu_full", "--write", str(page)])
    gpu_full.main()
    assert "no GPU: counted, not measured" in capsys.readouterr().out
    assert "| counted |" in page.read_text()
