"""Builds folders of exactly the published layout (repositories, subfolders, files, keys), small and random."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers import UNet3DConditionModel as LatentUNet3DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel
from transformers.utils import logging as transformers_logging

from show1.config import PUBLISHED, CascadeSettings
from show1.networks import UNet3DConditionModel

SENTENCES = (
    "a burning lamborghini driving on rainbow.",
    "a panda spins over the snow",
    "a cat jumps over the lazy river while the sun sets behind the quick brown mountains",
)
T5_WIDTH, CLIP_WIDTH = 32, 24

# keys and values of the published files, sizes apart
PIXEL_CONFIG: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 6,
    "down_block_types": ["ResnetDownsampleBlock3D", "SimpleCrossAttnDownBlock3D"],
    "mid_block_type": "UNetMidBlock3DSimpleCrossAttn",
    "up_block_types": ["SimpleCrossAttnUpBlock3D", "ResnetUpsampleBlock3D"],
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "act_fn": "gelu",
    "norm_num_groups": 8,
    "cross_attention_dim": 32,
    "encoder_hid_dim": T5_WIDTH,
    "encoder_hid_dim_type": "text_proj",
    "attention_head_dim": 8,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "resnet_time_scale_shift": "scale_shift",
    "time_embedding_act_fn": "gelu",
    "cross_attention_norm": "group_norm",
}
SUPER_RESOLUTION = {
    "in_channels": 6,
    "only_cross_attention": True,
    "class_embed_type": "timestep",
    "resnet_skip_time_act": True,
}
LATENT_CONFIG: dict[str, Any] = {
    "sample_size": 16,
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": CLIP_WIDTH,
    "attention_head_dim": 8,
}
IMAGE_CONFIG: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 6,
    "out_channels": 6,
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "act_fn": "gelu",
    "norm_num_groups": 8,
    "cross_attention_dim": 32,
    "encoder_hid_dim": T5_WIDTH,
    "encoder_hid_dim_type": "text_proj",
    "attention_head_dim": 8,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "resnet_time_scale_shift": "scale_shift",
    "resnet_skip_time_act": True,
    "time_embedding_act_fn": "gelu",
    "class_embed_type": "timestep",
    "only_cross_attention": True,
    "cross_attention_norm": "group_norm",
}
DPM_SOLVER: dict[str, Any] = {
    "_class_name": "DPMSolverMultistepScheduler",
    "_diffusers_version": "0.19.3",
    "algorithm_type": "dpmsolver++",
    "beta_end": 0.02,
    "beta_schedule": "squaredcos_cap_v2",
    "beta_start": 0.0001,
    "dynamic_thresholding_ratio": 0.95,
    "lambda_min_clipped": -5.1,
    "lower_order_final": True,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.5,
    "solver_order": 2,
    "solver_type": "midpoint",
    "steps_offset": 0,
    "thresholding": True,
    "timestep_spacing": "linspace",
    "trained_betas": None,
    "use_karras_sigmas": False,
    "variance_type": "fixed_small",
}
DPM_SOLVER_LATENT = {
    **DPM_SOLVER,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "thresholding": False,
}


def small_settings(settings: CascadeSettings = PUBLISHED) -> CascadeSettings:
    """The published settings at sizes for a test: 9 frames of 24x40 from 3 keyframes of 8x16."""
    return settings.replace(**small_changes())


def small_changes() -> dict[str, dict[str, Any]]:
    """What `small_settings` changes."""
    first = {**PUBLISHED.super_resolution.to_dict()["first_frame"], "num_inference_steps": 2}
    return {
        "keyframes": {"num_inference_steps": 3, "num_frames": 3, "height": 8, "width": 16},
        "interpolation": {"num_inference_steps": 2},
        "super_resolution": {"num_inference_steps": 2, "height": 16, "width": 32, "first_frame": first},
        "translation": {"num_inference_steps": 3, "height": 24, "width": 40},
    }


def build_published(folder: Path, *, first_frame: bool = True) -> Path:
    """Writes show-1-base, show-1-interpolation, show-1-sr1, show-1-sr2 and IF-II-L-v1.0 below `folder`."""
    text = "T5EncoderModel", "T5Tokenizer"
    pixel = {"unet": ["showone.models.unet_3d_condition", "UNet3DConditionModel"]}
    repos = {
        "show-1-base": ("TextToVideoIFPipeline", {}, 1),
        "show-1-interpolation": ("TextToVideoIFInterpPipeline", {"in_channels": 7}, 2),
        "show-1-sr1": ("TextToVideoIFSuperResolutionPipeline", SUPER_RESOLUTION, 3),
    }
    for name, (pipeline, changes, seed) in repos.items():
        repo = folder / name
        save_random(UNet3DConditionModel(**{**PIXEL_CONFIG, **changes}), repo / "unet", seed)
        _write_json(repo / "scheduler" / "scheduler_config.json", DPM_SOLVER)
        _write_index(repo, pipeline, text, pixel)
    build_t5(folder / "show-1-base")
    build_expert(folder / "show-1-sr2")
    if first_frame:
        repo = folder / "IF-II-L-v1.0"
        save_random(UNet2DConditionModel(**IMAGE_CONFIG), repo / "unet", 5)
        schedule = {"beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range", "thresholding": True}
        DDPMScheduler(**schedule, clip_sample=False).save_pretrained(repo / "scheduler")
        DDPMScheduler(beta_schedule="squaredcos_cap_v2").save_pretrained(repo / "image_noising_scheduler")
    return folder


def build_expert(repo: Path) -> None:
    """Writes the layout of show-1-sr2: latent UNet, autoencoder, CLIP text model."""
    save_random(LatentUNet3DConditionModel(**LATENT_CONFIG), repo / "unet", 4)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=8,
        latent_channels=4,
        sample_size=32,
    )
    save_random(vae, repo / "vae", 6)
    _write_json(repo / "scheduler" / "scheduler_config.json", DPM_SOLVER_LATENT)
    build_clip(repo)
    _write_index(
        repo,
        "VideoToVideoSDPipeline",
        ("CLIPTextModel", "CLIPTokenizer"),
        {"unet": ["diffusers", "UNet3DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]},
    )


def build_t5(repo: Path) -> None:
    """Writes `text_encoder/` (T5 encoder) and `tokenizer/` (SentencePiece), as in show-1-base."""
    import sentencepiece

    tokenizer = repo / "tokenizer"
    tokenizer.mkdir(parents=True)
    with (tokenizer / "spiece.model").open("wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 20),
            model_writer=model,
            vocab_size=60,
            hard_vocab_limit=False,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    _write_json(tokenizer / "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", "extra_ids": 100})
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    _write_json(tokenizer / "special_tokens_map.json", special)
    config = T5Config(
        vocab_size=192,
        d_model=T5_WIDTH,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
    )
    save_random(T5EncoderModel(config), repo / "text_encoder", 7)


def build_clip(repo: Path) -> None:
    """Writes `text_encoder/` (CLIP text model, tensors named as in published files) and `tokenizer/` (byte pairs)."""
    tokenizer = repo / "tokenizer"
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    _write_json(tokenizer / "vocab.json", {word: i for i, word in enumerate(words)})
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    config: dict[str, Any] = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "!"}
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    _write_json(tokenizer / "tokenizer_config.json", {**config, **special})
    _write_json(tokenizer / "special_tokens_map.json", {**special, "pad_token": "!"})
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=CLIP_WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=CLIP_WIDTH,
        hidden_act="gelu",
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        pad_token_id=0,
    )
    save_random(CLIPTextModel(text), repo / "text_encoder", 8)
    file = repo / "text_encoder" / "model.safetensors"
    save_file({f"text_model.{k}": v.clone() for k, v in load_file(file).items()}, file, metadata={"format": "pt"})


def save_random(model: Any, folder: Path, seed: int) -> None:
    """Saves a model whose every weight is random (also those that start at zero)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            noise = torch.randn(parameter.shape, generator=generator) * (0.5 / fan_in**0.5 if fan_in > 1 else 0.02)
            norm_scale = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(1 + noise if norm_scale else noise)
    transformers_logging.disable_progress_bar()
    os.environ.setdefault("TQDM_DISABLE", "1")
    model.save_pretrained(folder)


def _write_index(repo: Path, pipeline: str, text: tuple[str, str], networks: dict[str, list[str]]) -> None:
    index = {
        "_class_name": pipeline,
        "_diffusers_version": "0.19.3",
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "text_encoder": ["transformers", text[0]],
        "tokenizer": ["transformers", text[1]],
        **networks,
    }
    _write_json(repo / "model_index.json", index)


def _write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2))
