"""The pixel UNet of Show-1 (arXiv:2309.15818, section 3), compatible with the published configs and weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.activations import get_activation
from diffusers.models.embeddings import TextTimeEmbedding, TimestepEmbedding, Timesteps
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from show1.networks.attention import AddedTextAttention, TemporalTransformer
from show1.networks.blocks import DownBlock, LayerSpec, LayerText, MidBlock, UpBlock
from show1.networks.layers import (
    TEMPORAL_NORM_GROUPS,
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
    """All that the network computes from the text; it does not change during a sampling run."""

    pooled: Tensor | None
    """(B, time_embed_dim), added to the time embedding."""
    down: list[list[LayerText]]
    mid: list[LayerText]
    up: list[list[LayerText]]
    """Keys and values for each layer of each block."""

    def select(self, rows: slice) -> "TextCache":
        """The cache for some rows of the batch."""

        def cut(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value[rows]
            return None if value is None else type(value)(cut(v) for v in value)

        return TextCache(cut(self.pooled), cut(self.down), cut(self.mid), cut(self.up))


class UNet3DConditionModel(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """UNet over videos with text, of two families of blocks (`show1.networks.blocks`).

    The keys of the config are the published ones, `transfromer_in_opt` with its misspelling among them. Six keys are
    our own: `temporal` (false: an image network, whose weights a video network of the same config takes over),
    `temporal_head_dim` (channels a head of the temporal transformers; null: as published), `patch_size` (the
    network sees patches of so many pixels a side as channels: less work at high resolution), `embed_frames` (the
    time embedding also says where in the clip a frame is), `embed_places` (every level is told where in the frame
    each position is; published networks learn both from the padding at the edges alone) and `add_condition` (the
    condition, the channels after the noisy ones, is added to the output: for networks that predict the clean video,
    which then have to find only what a blend of keyframes or an upsampled video lacks).

    Raises:
        ValueError: The config asks for something that no published network has, or to add a condition where there is
            none.
    """

    published_order = False
    """See `use_published_order`."""

    _supports_gradient_checkpointing = True
    _no_split_modules = ["DownBlock", "MidBlock", "UpBlock"]

    @register_to_config  # type: ignore[misc]
    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 4,
        out_channels: int = 4,
        center_input_sample: bool = False,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        down_block_types: Sequence[str] = (
            "CrossAttnDownBlock3D",
            "CrossAttnDownBlock3D",
            "CrossAttnDownBlock3D",
            "DownBlock3D",
        ),
        mid_block_type: str = "UNetMidBlock3DCrossAttn",
        up_block_types: Sequence[str] = (
            "UpBlock3D",
            "CrossAttnUpBlock3D",
            "CrossAttnUpBlock3D",
            "CrossAttnUpBlock3D",
        ),
        only_cross_attention: bool | Sequence[bool] = False,
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_block: int | Sequence[int] = 2,
        downsample_padding: int = 1,
        mid_block_scale_factor: float = 1.0,
        act_fn: str = "silu",
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int | Sequence[int] = 1280,
        transformer_layers_per_block: int | Sequence[int] = 1,
        encoder_hid_dim: int | None = None,
        encoder_hid_dim_type: str | None = None,
        attention_head_dim: int | Sequence[int] = 8,
        num_attention_heads: int | Sequence[int] | None = None,
        dual_cross_attention: bool = False,
        use_linear_projection: bool = False,
        class_embed_type: str | None = None,
        addition_embed_type: str | None = None,
        addition_time_embed_dim: int | None = None,
        num_class_embeds: int | None = None,
        upcast_attention: bool = False,
        resnet_time_scale_shift: str = "default",
        resnet_skip_time_act: bool = False,
        resnet_out_scale_factor: float = 1.0,
        time_embedding_type: str = "positional",
        time_embedding_dim: int | None = None,
        time_embedding_act_fn: str | None = None,
        timestep_post_act: str | None = None,
        time_cond_proj_dim: int | None = None,
        conv_in_kernel: int = 3,
        conv_out_kernel: int = 3,
        projection_class_embeddings_input_dim: int | None = None,
        class_embeddings_concat: bool = False,
        mid_block_only_cross_attention: bool | None = None,
        cross_attention_norm: str | None = None,
        addition_embed_type_num_heads: int = 64,
        transfromer_in_opt: bool = False,
        temporal: bool = True,
        temporal_head_dim: int | None = None,
        patch_size: int = 1,
        embed_frames: bool = False,
        embed_places: bool = False,
        add_condition: bool = False,
    ) -> None:
        super().__init__()
        _reject_unknown(self.config)
        if add_condition and in_channels < 2 * out_channels:
            raise ValueError(
                f"add_condition needs {2 * out_channels} in_channels or more, noisy ones and their condition, "
                f"got {in_channels}"
            )
        levels = len(block_out_channels)
        channels = list(block_out_channels)
        layers = _per_level(layers_per_block, levels, "layers_per_block")
        text_dims = _per_level(cross_attention_dim, levels, "cross_attention_dim")
        head_dims = _per_level(attention_head_dim, levels, "attention_head_dim")
        heads = _per_level(num_attention_heads or attention_head_dim, levels, "num_attention_heads")
        only_text = _per_level(only_cross_attention, levels, "only_cross_attention")
        depth = _per_level(transformer_layers_per_block, levels, "transformer_layers_per_block")
        if mid_block_only_cross_attention is None:
            mid_block_only_cross_attention = only_cross_attention if isinstance(only_cross_attention, bool) else False

        time_embed_dim = time_embedding_dim or channels[0] * 4
        self.time_proj = Timesteps(channels[0], flip_sin_to_cos, freq_shift)
        self.time_embedding = TimestepEmbedding(
            channels[0], time_embed_dim, act_fn=act_fn, post_act_fn=timestep_post_act, cond_proj_dim=time_cond_proj_dim
        )
        self.frame_embedding = FrameEmbedding(time_embed_dim) if embed_frames and temporal else None
        self.time_embed_act = get_activation(time_embedding_act_fn) if time_embedding_act_fn else None
        self.class_embedding = (
            TimestepEmbedding(channels[0], time_embed_dim, act_fn=act_fn) if class_embed_type == "timestep" else None
        )
        text_dim = encoder_hid_dim or text_dims[0]
        self.add_embedding = (
            TextTimeEmbedding(text_dim, time_embed_dim, num_heads=addition_embed_type_num_heads)
            if addition_embed_type == "text"
            else None
        )
        self.encoder_hid_proj = nn.Linear(encoder_hid_dim, text_dims[0]) if encoder_hid_dim else None

        padding = (conv_in_kernel - 1) // 2
        self.conv_in = nn.Conv2d(in_channels * patch_size**2, channels[0], conv_in_kernel, padding=padding)
        self.transformer_in = (
            TemporalTransformer(channels[0], heads=8, head_dim=head_dims[0], groups=TEMPORAL_NORM_GROUPS)
            if transfromer_in_opt and temporal
            else None
        )

        spec = LayerSpec(
            spatial=None,
            time_embed_dim=time_embed_dim,
            groups=norm_num_groups,
            eps=norm_eps,
            act_fn=act_fn,
            time_scale_shift=resnet_time_scale_shift,
            skip_time_act=resnet_skip_time_act,
            output_scale_factor=resnet_out_scale_factor,
            text_dim=text_dims[0],
            attention_head_dim=head_dims[0],
            num_attention_heads=heads[0],
            only_cross_attention=only_text[0],
            cross_attention_norm=cross_attention_norm,
            transformer_layers=depth[0],
            use_linear_projection=use_linear_projection,
            temporal=temporal,
            temporal_head_dim=temporal_head_dim,
        )
        specs = [
            replace(
                spec,
                text_dim=text_dims[i],
                attention_head_dim=head_dims[i],
                num_attention_heads=heads[i],
                only_cross_attention=only_text[i],
                transformer_layers=depth[i],
            )
            for i in range(levels)
        ]
        self.down_blocks = nn.ModuleList(
            DownBlock(
                kind,
                specs[i],
                in_channels=channels[max(i - 1, 0)],
                out_channels=channels[i],
                layers=layers[i],
                final=i == levels - 1,
                padding=downsample_padding,
            )
            for i, kind in enumerate(down_block_types)
        )
        self.place_embeddings = (
            nn.ModuleList(PlaceEmbedding(c) for c in (channels[0], *channels)) if embed_places else None
        )
        self.mid_block = MidBlock(
            mid_block_type,
            replace(
                specs[-1],
                output_scale_factor=mid_block_scale_factor,
                only_cross_attention=mid_block_only_cross_attention,
            ),
            channels=channels[-1],
        )
        self.up_blocks = nn.ModuleList(
            UpBlock(
                kind,
                # as in diffusers, a list of attention_head_dim is not turned round for the up blocks
                replace(specs[i], attention_head_dim=head_dims[levels - 1 - i]),
                in_channels=channels[max(i - 1, 0)],
                prev_channels=channels[min(i + 1, levels - 1)],
                out_channels=channels[i],
                layers=layers[i] + 1,
                final=i == 0,
            )
            for i, kind in zip(reversed(range(levels)), up_block_types, strict=True)
        )
        self.conv_norm_out = GroupNorm(norm_num_groups, channels[0], eps=norm_eps)
        self.conv_act = get_activation(act_fn)
        padding = (conv_out_kernel - 1) // 2
        self.conv_out = nn.Conv2d(channels[0], out_channels * patch_size**2, conv_out_kernel, padding=padding)

    def temporal_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that inflation adds: temporal layers and the frame embedding, by name."""
        found: dict[str, nn.Parameter] = {}
        for prefix, module in self.named_modules():
            if isinstance(module, TemporalConvLayer | TemporalTransformer | FrameEmbedding):
                found.update({f"{prefix}.{name}": p for name, p in module.named_parameters()})
        return found

    def use_published_order(self, on: bool) -> None:
        """Whether to compute in the order, and in the memory layouts, of the published code.

        It costs time (convolutions over frames as 3D ones, attention over the text frame by frame) and changes the
        rounding alone: on the same machine, with as many threads, the output is the published code's to the last bit.
        Sampling in windows makes large differences of small ones, so a published run is repeated only so.
        """
        self.published_order = on
        for module in self.modules():
            if isinstance(module, TemporalConvLayer | TemporalTransformer | AddedTextAttention):
                module.published_order = on

    def encode_text(self, encoder_hidden_states: Tensor) -> TextCache:
        """Computes once what the network makes of the text.

        Args:
            encoder_hidden_states: (B, L, D), the text encoder's states.
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
        """(B,) timesteps and noise levels -> (B, time_embed_dim), or (B*F, time_embed_dim) with a frame embedding."""
        dtype = self.conv_in.weight.dtype
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
            timestep: One for all, or (B,).
            encoder_hidden_states: (B, L, D); not needed with `text_cache`.
            class_labels: (B,) noise level of the condition, where the network has `class_embed_type` "timestep".
            text_cache: Result of `encode_text` for the same batch.
            return_dict: False for a plain tuple.

        Returns:
            `sample` of (B, C_out, F, H, W).

        Raises:
            ValueError: The shape of the sample, or missing text or noise level.
        """
        if sample.ndim != 5 or sample.shape[1] != self.config.in_channels:
            raise ValueError(f"sample must be (B, {self.config.in_channels}, F, H, W), got {tuple(sample.shape)}")
        if text_cache is None:
            if encoder_hidden_states is None:
                raise ValueError("either encoder_hidden_states or text_cache is needed")
            text_cache = self.encode_text(encoder_hidden_states)
        batch, _, num_frames = sample.shape[:3]
        t = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(batch)
        if class_labels is not None:
            class_labels = torch.as_tensor(class_labels, device=sample.device).reshape(-1).expand(batch)
        temb = self.embed_time(t, class_labels, text_cache.pooled, num_frames)
        if self.published_order:
            temb = per_frame(temb, batch * num_frames)

        height, width = sample.shape[3:]
        x = to_patches(sample.transpose(1, 2).flatten(0, 1), self.config.patch_size)  # (B*F, C, H, W)
        if x.device.type == "cuda":
            x = x.contiguous(memory_format=torch.channels_last)
        if self.config.center_input_sample:
            x = 2 * x - 1.0
        x = self.conv_in(x)
        if self.transformer_in is not None:
            x = self.transformer_in(x, num_frames)

        skips = [x]
        *places, middle = self.place_embeddings or [nn.Identity()] * (len(self.down_blocks) + 1)
        for block, text, place in zip(self.down_blocks, text_cache.down, places, strict=True):
            x, more = block(place(x), temb, text, num_frames)
            skips += more
        x = self.mid_block(middle(x), temb, text_cache.mid, num_frames)
        for block, text in zip(self.up_blocks, text_cache.up, strict=True):
            count = len(block.resnets)  # type: ignore[arg-type]
            used, skips = skips[-count:], skips[:-count]
            size = skips[-1].shape[2:] if skips else None
            x = block(x, used, temb, text, num_frames, size)

        x = self.conv_out(self.conv_act(self.conv_norm_out(x)))
        x = from_patches(x, self.config.patch_size, (height, width))
        out = torch.unflatten(x, 0, (batch, num_frames)).transpose(1, 2)
        if self.config.add_condition:
            channels = self.config.out_channels
            out = out + sample[:, channels : 2 * channels]
        return UNet3DConditionOutput(sample=out) if return_dict else (out,)


def _per_level(value: Any, levels: int, key: str) -> list[Any]:
    if isinstance(value, int | bool):
        return [value] * levels
    if len(value) != levels:
        raise ValueError(f"{key} must be one value or {levels} (one a block), got {value}")
    return list(value)


def _reject_unknown(config: Any) -> None:
    allowed: dict[str, tuple[Any, ...]] = {
        "dual_cross_attention": (False,),
        "class_embed_type": (None, "timestep"),
        "addition_embed_type": (None, "text"),
        "encoder_hid_dim_type": (None, "text_proj"),
        "num_class_embeds": (None,),
        "time_embedding_type": ("positional",),
        "class_embeddings_concat": (False,),
        "resnet_time_scale_shift": ("default", "scale_shift"),
    }
    for key, values in allowed.items():
        if config[key] not in values:
            raise ValueError(f"{key} must be one of {values}, got {config[key]!r}")
    if config.norm_num_groups is None:
        raise ValueError("norm_num_groups must be a number: networks without normalisation are not supported")
    if config.encoder_hid_dim_type is not None and config.encoder_hid_dim is None:
        raise ValueError(f"encoder_hid_dim must be a number: encoder_hid_dim_type is {config.encoder_hid_dim_type!r}")
    if not len(config.down_block_types) == len(config.up_block_types) == len(config.block_out_channels):
        raise ValueError("down_block_types, up_block_types and block_out_channels must have equal lengths")
