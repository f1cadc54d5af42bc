"""Tiny random experts: pipelines in memory, and folders of exactly the published layout."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoTransformer3DModel,
    LTX2VideoTransformer3DModel,
    LTXVideoTransformer3DModel,
    UniPCMultistepScheduler,
    WanTransformer3DModel,
)
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaModel,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from show1.experts import ExpertFamily
from show1.stages import PromptEmbeddings
from tests.published_layout import CLIP_WIDTH, T5_WIDTH, build_clip, build_t5, save_random

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


def cogvideox_parts(text_length: int = 16, **changes: Any) -> dict[str, Any]:
    """The networks and the scheduler of a tiny CogVideoX-2b, or of another version by changes of its network."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "num_attention_heads": 4,
        "attention_head_dim": 8,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 2,
        "text_embed_dim": T5_WIDTH,
        "num_layers": 1,
        "sample_width": 16,
        "sample_height": 16,
        "sample_frames": 9,
        "patch_size": 2,
        "temporal_compression_ratio": 4,
        "max_text_seq_length": text_length,
    }
    transformer = CogVideoXTransformer3DModel(**{**sizes, **changes})
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


def cogvideox_15_parts() -> dict[str, Any]:
    """The networks and the scheduler of a tiny CogVideoX 1.5, whose tokens span 2 latent frames."""
    return cogvideox_parts(patch_size_t=2, use_rotary_positional_embeddings=True, attention_head_dim=16)


def ltx_parts() -> dict[str, Any]:
    """The networks and the scheduler of a tiny LTX-Video, whose decoder removes noise as that of 0.9.5 does."""
    torch.manual_seed(0)
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        timestep_conditioning=True,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    torch.manual_seed(1)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=T5_WIDTH,
    )
    return {"vae": vae, "transformer": transformer, "scheduler": _shifting_schedule()}


def ltx2_parts() -> dict[str, Any]:
    """The networks and the scheduler of a tiny LTX-2."""
    torch.manual_seed(0)
    vae = AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatiotemporal",),
        upsample_type=("spatiotemporal",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        down_block_types=("LTX2VideoDownBlock3D",),
        patch_size=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    audio_vae = AutoencoderKLLTX2Audio(
        base_channels=4, ch_mult=(1,), num_res_blocks=1, resolution=32, latent_channels=2, mel_bins=8
    )
    rope = {"rope_double_precision": False, "rope_type": "split"}
    connectors = LTX2TextConnectors(
        caption_channels=T5_WIDTH // 4,
        text_proj_in_factor=4,
        video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=4,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=4,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
        connector_rope_base_seq_len=32,
        **rope,
    )
    transformer = LTX2VideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=2,
        caption_channels=T5_WIDTH // 4,
        **rope,
    )
    networks = {"vae": vae, "audio_vae": audio_vae, "connectors": connectors, "transformer": transformer}
    return {**networks, "scheduler": _shifting_schedule()}


def hunyuan_parts(pooled: int = 8) -> dict[str, Any]:
    """The networks and the scheduler of a tiny HunyuanVideo."""
    torch.manual_seed(0)
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=True,
    )
    torch.manual_seed(1)
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=2,
        text_embed_dim=T5_WIDTH,
        pooled_projection_dim=pooled,
        rope_axes_dim=(2, 4, 4),
    )
    return {"vae": vae, "transformer": transformer, "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0)}


def _shifting_schedule() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, shift_terminal=0.1
    )


def embeddings(
    batch: int = 1, length: int = 16, seed: int = 0, family: ExpertFamily | type[ExpertFamily] = ExpertFamily
) -> PromptEmbeddings:
    """Random text states for `batch` prompts, as a family takes them."""
    generator = torch.Generator().manual_seed(seed)
    positive, negative = (torch.randn(batch, length, T5_WIDTH, generator=generator) for _ in range(2))
    known = {
        "prompt_attention_mask": torch.ones(batch, length),
        "pooled_prompt_embeds": torch.randn(batch, 8, generator=generator),
    }
    extra = {f"{half}{name}": known[name] for half in ("", "negative_") for name in family.text_states if name in known}
    return PromptEmbeddings(prompt_embeds=positive, negative_prompt_embeds=negative, extra=extra)


def one_of(text: PromptEmbeddings, index: int) -> PromptEmbeddings:
    """The text states of one sample of several."""
    return PromptEmbeddings(
        prompt_embeds=text.prompt_embeds[index : index + 1],
        negative_prompt_embeds=text.negative_prompt_embeds[index : index + 1],
        extra={name: states[index : index + 1] for name, states in text.extra.items()},
    )


def clip(batch: int = 1, frames: int = 9, height: int = 16, width: int = 16, seed: int = 1) -> torch.Tensor:
    """A random video (B, 3, F, H, W)."""
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def build_wan(folder: Path, *, low_noise_only: bool = False, pipeline: str = "WanPipeline") -> Path:
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
        "_class_name": pipeline,
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


def build_ltx(folder: Path) -> Path:
    """Writes a folder as `Lightricks/LTX-Video`."""
    _write_text(folder, T5EncoderModel)
    text = {"text_encoder": ["transformers", "T5EncoderModel"], "tokenizer": ["transformers", "T5Tokenizer"]}
    return _write_parts(folder, "LTXPipeline", ltx_parts(), text)


def build_ltx2(folder: Path) -> Path:
    """Writes a folder as `Lightricks/LTX-2`, whose text encoder gives the states of 4 layers."""
    build_t5(folder)
    for file in (folder / "text_encoder").iterdir():
        file.unlink()
    sizes = {"hidden_size": T5_WIDTH // 4, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    text = Gemma3TextConfig(**sizes, num_key_value_heads=1, head_dim=4, vocab_size=192)
    vision = {**sizes, "image_size": 8, "patch_size": 4}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    save_random(Gemma3ForConditionalGeneration(config), folder / "text_encoder", 7)
    classes = {
        "text_encoder": ["transformers", "Gemma3ForConditionalGeneration"],
        "tokenizer": ["transformers", "GemmaTokenizerFast"],
        "vocoder": ["ltx2", "LTX2Vocoder"],
    }
    return _write_parts(folder, "LTX2Pipeline", ltx2_parts(), classes)


def build_hunyuan(folder: Path) -> Path:
    """Writes a folder as `hunyuanvideo-community/HunyuanVideo`: two text encoders."""
    build_clip(folder)
    for name in ("text_encoder", "tokenizer"):
        (folder / name).rename(folder / f"{name}_2")
    build_t5(folder)
    for file in (folder / "text_encoder").iterdir():
        file.unlink()
    sizes = {"hidden_size": T5_WIDTH, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    save_random(LlamaModel(LlamaConfig(**sizes, vocab_size=192)), folder / "text_encoder", 7)
    classes = {
        "text_encoder": ["transformers", "LlamaModel"],
        "tokenizer": ["transformers", "LlamaTokenizerFast"],
        "text_encoder_2": ["transformers", "CLIPTextModel"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }
    return _write_parts(folder, "HunyuanVideoPipeline", hunyuan_parts(CLIP_WIDTH), classes)


def _write_parts(folder: Path, pipeline: str, parts: dict[str, Any], classes: dict[str, list[str]]) -> Path:
    """Writes networks, scheduler and `model_index.json`, with the library of each class as diffusers names it."""
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": "0.37.0", **classes}
    for seed, (name, part) in enumerate(parts.items(), start=1):
        index[name] = ["ltx2" if "connectors" in type(part).__module__ else "diffusers", type(part).__name__]
        if name == "scheduler":
            part.save_pretrained(folder / name)
        else:
            save_random(part, folder / name, seed)
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
