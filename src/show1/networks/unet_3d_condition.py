"""The pixel UNet of Show-1 (arXiv:2309.15818, section 3), compatible with the published configs and weights."""

import inspect
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.activations import get_activation
from diffusers.models.embeddings import TextTimeEmbedding, TimestepEmbedding, Timesteps
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from show1.errors import CheckpointError
from show1.networks.attention import AddedTextAttention, TemporalTransformer
from show1.networks.blocks import DownBlock, LayerSpec, LayerText, MidBlock, UpBlock
from show1.networks.config import UNetConfig
from show1.networks.layers import (
    TEMPORAL_NORM_GROUPS,
    FrameConv3d,
    FrameEmbedding,
    GroupNorm,
    PlaceEmbedding,
    TemporalConvLayer,
    from_patches,
    per_frame,
    to_patches,
)


@dataclass
class UNet3DConditionOutput(BaseOutput):  # type: ignore[misc]
    """Output of `UNet3DConditionModel`."""

    sample: Tensor
    """(B, C_out, F, H, W)."""


@dataclass(frozen=True)
class TextCache:
    """Everything that the network computes from the text; it does not change during a sampling run."""

    pooled: Tensor | None
    """(B, time_embed_dim), added to the time embedding."""
    down: list[list[LayerText]]
    """Keys and values per layer with attention, per down block."""
    mid: list[LayerText]
    """Keys and values per layer with attention of the middle block."""
    up: list[list[LayerText]]
    """Keys and values per layer with attention, per up block."""


class UNet3DConditionModel(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """UNet over videos with text, of two families of blocks (`show1.networks.blocks`)."""

    published_order = False
    """Set by `use_published_order`."""

    _supports_gradient_checkpointing = True
    _no_split_modules = ["DownBlock", "MidBlock", "UpBlock"]

    def __init__(self, **keys: Any) -> None:
        """Builds the network with random weights; inflated layers start as the identity.

        Args:
            **keys: Keys of `UNetConfig`.

        Raises:
            ValueError: The config asks for something that no published network has, or contradicts itself.
        """
        super().__init__()
        config = UNetConfig(**keys)
        channels = config.block_out_channels
        self._add_embeddings(config)
        self.conv_in = nn.Conv2d(
            config.in_channels * config.patch_size**2,
            channels[0],
            config.conv_in_kernel,
            padding=(config.conv_in_kernel - 1) // 2,
        )
        self.transformer_in = None
        if config.transfromer_in_opt and config.temporal:
            # 8 heads of 64 channels in every published network, whatever attention_head_dim is
            self.transformer_in = TemporalTransformer(channels[0], heads=8, head_dim=64, groups=TEMPORAL_NORM_GROUPS)
        self._add_blocks(config)
        self.conv_norm_out = GroupNorm(config.norm_num_groups, channels[0], eps=config.norm_eps)
        self.conv_act = get_activation(config.act_fn)
        self.conv_out = nn.Conv2d(
            channels[0],
            config.out_channels * config.patch_size**2,
            config.conv_out_kernel,
            padding=(config.conv_out_kernel - 1) // 2,
        )

    # diffusers reads the names and defaults of a config from the constructor's signature
    __init__.__signature__ = inspect.signature(UNetConfig.__init__)  # type: ignore[attr-defined]
    __init__ = register_to_config(__init__)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Any:
        """Loads the network as diffusers does, but does not fill in random numbers for weights that a file lacks.

        Args:
            pretrained_model_name_or_path: Folder or Hub repository, as for every network of diffusers.
            options: As for every network of diffusers.

        Raises:
            CheckpointError: The files lack weights, because they are of another network, or packed as int8.
        """
        wanted, folder = options.pop("output_loading_info", False), pretrained_model_name_or_path
        logger = logging.getLogger("diffusers.models.modeling_utils")
        level = logger.level
        logger.setLevel(logging.ERROR)  # it lists all weights that are missing or left over
        try:
            model, info = super().from_pretrained(folder, output_loading_info=True, **options)
        finally:
            logger.setLevel(level)
        if any(name.endswith(".int8") for name in info["unexpected_keys"]):
            raise CheckpointError(
                f"{folder} holds weights that are packed as int8, which diffusers cannot read; use "
                "show1.checkpoints.loading.load_unet(folder, dtype=torch.float32, device='cpu')"
            )
        if info["missing_keys"]:
            raise CheckpointError(
                f"{folder} lacks {info['missing_keys'][0]}; weights and config.json do not belong to the same network: "
                "download both again, or correct the folder"
            )
        return (model, info) if wanted else model

    def _add_embeddings(self, config: UNetConfig) -> None:
        """Adds what turns timestep, noise level, frames and text into the time embedding and the text states."""
        width, channels, act_fn = config.time_embed_dim, config.block_out_channels[0], config.act_fn
        text_dim = config.at_level("cross_attention_dim", 0)
        self.time_proj = Timesteps(channels, config.flip_sin_to_cos, config.freq_shift)
        self.time_embedding = TimestepEmbedding(
            channels,
            width,
            act_fn=act_fn,
            post_act_fn=config.timestep_post_act,
            cond_proj_dim=config.time_cond_proj_dim,
        )
        self.frame_embedding = FrameEmbedding(width) if config.embed_frames and config.temporal else None
        self.time_embed_act = get_activation(config.time_embedding_act_fn) if config.time_embedding_act_fn else None
        self.class_embedding = None
        if config.class_embed_type == "timestep":
            self.class_embedding = TimestepEmbedding(channels, width, act_fn=act_fn)
        self.add_embedding = None
        if config.addition_embed_type == "text":
            heads = config.addition_embed_type_num_heads
            self.add_embedding = TextTimeEmbedding(config.encoder_hid_dim or text_dim, width, num_heads=heads)
        self.encoder_hid_proj = nn.Linear(config.encoder_hid_dim, text_dim) if config.encoder_hid_dim else None

    def _add_blocks(self, config: UNetConfig) -> None:
        """Adds the down blocks, the middle block and the up blocks."""
        channels, levels = config.block_out_channels, config.levels
        layers = [config.at_level("layers_per_block", level) for level in range(levels)]
        specs = [LayerSpec.at_level(config, level) for level in range(levels)]
        self.down_blocks = nn.ModuleList(
            DownBlock(
                kind,
                specs[i],
                in_channels=channels[max(i - 1, 0)],
                out_channels=channels[i],
                layers=layers[i],
                final=i == levels - 1,
                padding=config.downsample_padding,
            )
            for i, kind in enumerate(config.down_block_types)
        )
        self.place_embeddings = None
        if config.embed_places:
            self.place_embeddings = nn.ModuleList(PlaceEmbedding(c) for c in (channels[0], *channels))
        only_text = config.mid_block_only_cross_attention
        if only_text is None:
            only_text = config.only_cross_attention is True
        mid_spec = replace(specs[-1], output_scale_factor=config.mid_block_scale_factor, only_cross_attention=only_text)
        self.mid_block = MidBlock(config.mid_block_type, mid_spec, channels=channels[-1])
        self.up_blocks = nn.ModuleList(
            UpBlock(
                kind,
                # as in diffusers, a list of attention_head_dim is not reversed for the up blocks
                replace(specs[i], attention_head_dim=specs[levels - 1 - i].attention_head_dim),
                in_channels=channels[max(i - 1, 0)],
                prev_channels=channels[min(i + 1, levels - 1)],
                out_channels=channels[i],
                layers=layers[i] + 1,
                final=i == 0,
            )
            for i, kind in zip(reversed(range(levels)), config.up_block_types, strict=True)
        )

    def temporal_parameters(self) -> dict[str, nn.Parameter]:
        """Returns the parameters that inflation adds, by name: temporal layers and the frame embedding."""
        found: dict[str, nn.Parameter] = {}
        for prefix, module in self.named_modules():
            if isinstance(module, TemporalConvLayer | TemporalTransformer | FrameEmbedding):
                found.update({f"{prefix}.{name}": p for name, p in module.named_parameters()})
        return found

    def use_published_order(self, on: bool) -> None:
        """Switches between our own order of computation and that of the published code, with its memory layouts.

        The published order costs time (convolutions over frames as 3D ones, attention to the text frame by frame) and
        changes only the rounding: on the same machine, with the same number of threads, the output equals that of the
        published code to the last bit. Sampling in windows turns small differences into large ones, so that a
        published run cannot be repeated without it.
        """
        self.published_order = on
        for module in self.modules():
            if isinstance(module, TemporalConvLayer | FrameConv3d | TemporalTransformer | AddedTextAttention):
                module.published_order = on

    def encode_text(self, encoder_hidden_states: Tensor) -> TextCache:
        """Computes everything that depends on the text only.

        Args:
            encoder_hidden_states: (B, L, D), the text encoder's states.

        Returns:
            The cache that `forward` takes for the same batch.
        """
        pooled = self.add_embedding(encoder_hidden_states) if self.add_embedding is not None else None
        text = self.encoder_hid_proj(encoder_hidden_states) if self.encoder_hid_proj else encoder_hidden_states
        return TextCache(
            pooled=pooled,
            down=[block.text_key_value(text) for block in self.down_blocks],  # type: ignore[operator]
            mid=self.mid_block.text_key_value(text),
            up=[block.text_key_value(text) for block in self.up_blocks],  # type: ignore[operator]
        )

    def embed_time(
        self, timestep: Tensor, class_labels: Tensor | None, pooled: Tensor | None, num_frames: int
    ) -> Tensor:
        """Embeds timestep, noise level, pooled text and frames.

        Args:
            timestep: (B,).
            class_labels: (B,) noise levels, or None.
            pooled: (B, time_embed_dim) pooled text, or None.
            num_frames: F.

        Returns:
            (B, time_embed_dim), or (B*F, time_embed_dim) with a frame embedding.

        Raises:
            ValueError: The network takes a noise level, and there is none.
        """
        dtype = self.dtype
        temb: Tensor = self.time_embedding(self.time_proj(timestep).to(dtype))
        if self.class_embedding is not None:
            if class_labels is None:
                raise ValueError("class_labels (the noise level, shape (B,)) is needed: class_embed_type is 'timestep'")
            temb = temb + self.class_embedding(self.time_proj(class_labels).to(dtype))
        if pooled is not None:
            temb = temb + pooled
        if self.frame_embedding is not None:
            temb = self.frame_embedding(temb, num_frames)
        return temb if self.time_embed_act is None else self.time_embed_act(temb)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor | None = None,
        class_labels: Tensor | None = None,
        *,
        text_cache: TextCache | None = None,
        return_dict: bool = True,
    ) -> UNet3DConditionOutput | tuple[Tensor]:
        """Predicts the noise (and, with twice the channels, the learned variance).

        Args:
            sample: (B, C_in, F, H, W), noisy video and conditions; any F, H, W of 1 or more.
            timestep: One for all samples, or (B,).
            encoder_hidden_states: (B, L, D); not needed with `text_cache`.
            class_labels: (B,) noise level of the condition, if `class_embed_type` is "timestep".
            text_cache: The result of `encode_text` for the same batch.
            return_dict: False for a plain tuple.

        Returns:
            `sample` of (B, C_out, F, H, W).

        Raises:
            ValueError: The sample has another shape, or text or noise level are missing.
        """
        if sample.ndim != 5 or sample.shape[1] != self.config.in_channels:
            raise ValueError(f"sample must be (B, {self.config.in_channels}, F, H, W), got {tuple(sample.shape)}")
        if text_cache is None:
            if encoder_hidden_states is None:
                raise ValueError("either encoder_hidden_states or text_cache is needed")
            text_cache = self.encode_text(encoder_hidden_states)
        batch, _, num_frames, height, width = sample.shape
        t = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(batch)
        if class_labels is not None:
            class_labels = torch.as_tensor(class_labels, device=sample.device).reshape(-1).expand(batch)
        temb = self.embed_time(t, class_labels, text_cache.pooled, num_frames)
        if self.published_order:
            temb = per_frame(temb, batch * num_frames)

        x = to_patches(sample.transpose(1, 2).flatten(0, 1), self.config.patch_size)  # (B*F, C, H, W)
        x = self._run_blocks(x, temb, text_cache, num_frames)
        x = from_patches(x, self.config.patch_size, (height, width))
        out = torch.unflatten(x, 0, (batch, num_frames)).transpose(1, 2)
        if self.config.add_condition:
            channels = self.config.out_channels
            out = out + sample[:, channels : 2 * channels]
        return UNet3DConditionOutput(sample=out) if return_dict else (out,)

    def _run_blocks(self, x: Tensor, temb: Tensor, text: TextCache, num_frames: int) -> Tensor:
        """Maps (B*F, C_in, H, W) to (B*F, C_out, H, W)."""
        if x.device.type == "cuda":
            x = x.contiguous(memory_format=torch.channels_last)
        if self.config.center_input_sample:
            x = 2 * x - 1.0
        x = self.conv_in(x)
        if self.transformer_in is not None:
            x = self.transformer_in(x, num_frames)

        skips = [x]
        for level, (down, down_text) in enumerate(zip(self.down_blocks, text.down, strict=True)):
            x, more = down(self._add_place(x, level), temb, down_text, num_frames)
            skips += more
        x = self.mid_block(self._add_place(x, len(self.down_blocks)), temb, text.mid, num_frames)
        for up, up_text in zip(self.up_blocks, text.up, strict=True):
            count = len(up.resnets)  # type: ignore[arg-type]
            used, skips = skips[-count:], skips[:-count]
            size = skips[-1].shape[2:] if skips else None
            x = up(x, used, temb, up_text, num_frames, size)
        out: Tensor = self.conv_out(self.conv_act(self.conv_norm_out(x)))
        return out

    def _add_place(self, x: Tensor, level: int) -> Tensor:
        if self.place_embeddings is None:
            return x
        out: Tensor = self.place_embeddings[level](x)
        return out
