"""Tiny random experts: pipelines in memory, and folders of exactly the published layout."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXTransformer3DModel,
    UniPCMultistepScheduler,
    WanTransformer3DModel,
)
from transformers import T5EncoderModel, UMT5Config, UMT5EncoderModel

from show1.stages import PromptEmbeddings
from tests.published_layout import T5_WIDTH, build_t5, save_random

WAN_SCHEDULE = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}


def wan_parts() -> dict[str, Any]:
    """The networks and the scheduler of a tiny Wan 2.1."""
    torch.manual_seed(0)
    vae = AutoencoderKLWan(
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )
    return {"vae": vae, "transformer": wan_transformer(), "scheduler": UniPCMultistepScheduler(**WAN_SCHEDULE)}


def wan_transformer(seed: int = 1) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=T5_WIDTH,
        freq_dim=256,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )


def cogvideox_parts(text_length: int = 16) -> dict[str, Any]:
    """The networks and the scheduler of a tiny CogVideoX-2b."""
    torch.manual_seed(0)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=T5_WIDTH,
        num_layers=1,
        sample_width=16,
        sample_height=16,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=text_length,
    )
    torch.manual_seed(0)
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    schedule = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "snr_shift_scale": 3.0}
    scheduler = CogVideoXDDIMScheduler(
        **schedule,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    return {"vae": vae, "transformer": transformer, "scheduler": scheduler}


def embeddings(batch: int = 1, length: int = 16, seed: int = 0) -> PromptEmbeddings:
    """Random text states for `batch` prompts."""
    generator = torch.Generator().manual_seed(seed)
    positive, negative = (torch.randn(batch, length, T5_WIDTH, generator=generator) for _ in range(2))
    return PromptEmbeddings(prompt_embeds=positive, negative_prompt_embeds=negative)


def clip(batch: int = 1, frames: int = 9, height: int = 16, width: int = 16, seed: int = 1) -> torch.Tensor:
    """A random video (B, 3, F, H, W)."""
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def build_wan(folder: Path, *, low_noise_only: bool = False) -> Path:
    """Writes a folder as `Wan-AI/Wan2.1-T2V-1.3B-Diffusers`, or with `low_noise_only` as of Wan 2.2 A14B."""
    parts = wan_parts()
    classes = {"vae": "AutoencoderKLWan", "transformer": "WanTransformer3DModel"}
    save_random(parts["vae"], folder / "vae", 1)
    if low_noise_only:
        save_random(parts["transformer"], folder / "transformer_2", 3)
        classes["transformer_2"] = "WanTransformer3DModel"
    else:
        save_random(parts["transformer"], folder / "transformer", 3)
    _write_text(folder, UMT5EncoderModel)
    parts["scheduler"].save_pretrained(folder / "scheduler")
    index: dict[str, Any] = {
        "_class_name": "WanPipeline",
        "_diffusers_version": "0.35.0.dev0",
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        **{name: ["diffusers", value] for name, value in classes.items()},
    }
    if low_noise_only:
        index["boundary_ratio"] = 0.875
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def build_cogvideox(folder: Path) -> Path:
    """Writes a folder as `THUDM/CogVideoX-2b`."""
    parts = cogvideox_parts(text_length=226)
    save_random(parts["vae"], folder / "vae", 1)
    save_random(parts["transformer"], folder / "transformer", 2)
    parts["scheduler"].save_pretrained(folder / "scheduler")
    _write_text(folder, T5EncoderModel)
    index = {
        "_class_name": "CogVideoXPipeline",
        "_diffusers_version": "0.30.0.dev0",
        "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"],
        "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLCogVideoX"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _write_text(folder: Path, encoder: type) -> None:
    build_t5(folder)
    if encoder is T5EncoderModel:
        return
    sizes = {"vocab_size": 192, "d_model": T5_WIDTH, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    for file in (folder / "text_encoder").iterdir():
        file.unlink()
    save_random(encoder(UMT5Config(**sizes, feed_forward_proj="gated-gelu")), folder / "text_encoder", 7)
