"""Blocks of the pixel UNet: layers of resnet, temporal convolution, spatial attention, temporal transformer.

There are two families, which differ in the block names of the config: the DeepFloyd IF family ("Simple" and "Resnet"
blocks: attention with added text keys, a resnet changes the size) and the Stable Diffusion family (transformers over
pixels, convolutions change the size). Both are inflated in the same way.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from diffusers.models.downsampling import Downsample2D
from torch import Tensor, nn

from show1.networks.attention import (
    AddedTextAttention,
    BlockText,
    KeyValue,
    SpatialTransformer,
    TemporalTransformer,
)
from show1.networks.config import UNetConfig
from show1.networks.layers import ResnetBlock, TemporalConvLayer, Upsample

LayerText = KeyValue | list[BlockText]
"""The text's keys and values for one layer, in the form that its spatial attention takes."""

Spatial = Literal["added", "transformer"] | None
"""Kind of spatial attention; None for a block without attention."""

DOWN_BLOCKS: dict[str, tuple[Spatial, bool]] = {
    "ResnetDownsampleBlock3D": (None, True),
    "SimpleCrossAttnDownBlock3D": ("added", True),
    "DownBlock3D": (None, False),
    "CrossAttnDownBlock3D": ("transformer", False),
}
MID_BLOCKS: dict[str, Spatial] = {
    "UNetMidBlock3DSimpleCrossAttn": "added",
    "UNetMidBlock3DCrossAttn": "transformer",
}
UP_BLOCKS: dict[str, tuple[Spatial, bool]] = {
    "ResnetUpsampleBlock3D": (None, True),
    "SimpleCrossAttnUpBlock3D": ("added", True),
    "UpBlock3D": (None, False),
    "CrossAttnUpBlock3D": ("transformer", False),
}
"""By name in the config: the spatial attention and, except for the middle, whether a resnet changes the size."""


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """Plan of the layers of a block: a level of the config, and the values that differ from block to block."""

    config: UNetConfig
    level: int
    spatial: Spatial
    attention_head_dim: int
    only_cross_attention: bool
    skip_time_act: bool
    output_scale_factor: float

    @classmethod
    def at_level(cls, config: UNetConfig, level: int) -> "LayerSpec":
        """Reads the spec of a level from the config; blocks add their spatial attention."""
        return cls(
            config=config,
            level=level,
            spatial=None,
            attention_head_dim=config.at_level("attention_head_dim", level),
            only_cross_attention=config.at_level("only_cross_attention", level),
            skip_time_act=config.resnet_skip_time_act,
            output_scale_factor=config.resnet_out_scale_factor,
        )

    @property
    def num_attention_heads(self) -> int:
        """Attention heads of the Stable Diffusion family."""
        key = "attention_head_dim" if self.config.num_attention_heads is None else "num_attention_heads"
        heads: int = self.config.at_level(key, self.level)
        return heads

    def resnet(self, in_channels: int, out_channels: int, *, up: bool = False, down: bool = False) -> ResnetBlock:
        """Makes a resnet, which doubles (`up`) or halves (`down`) the frame if asked to."""
        return ResnetBlock(
            in_channels,
            out_channels,
            time_embed_dim=self.config.time_embed_dim,
            groups=self.config.norm_num_groups,
            eps=self.config.norm_eps,
            act_fn=self.config.act_fn,
            time_scale_shift=self.config.resnet_time_scale_shift,
            skip_time_act=self.skip_time_act,
            output_scale_factor=self.output_scale_factor,
            up=up,
            down=down,
        )

    def attention(self, channels: int) -> nn.Module:
        """Makes the spatial attention."""
        text_dim, groups = self.config.at_level("cross_attention_dim", self.level), self.config.norm_num_groups
        if self.spatial == "added":
            return AddedTextAttention(
                channels,
                head_dim=self.attention_head_dim,
                text_dim=text_dim,
                groups=groups,
                eps=1e-5,
                only_text=self.only_cross_attention,
                text_norm=self.config.cross_attention_norm,
            )
        return SpatialTransformer(
            channels,
            heads=self.num_attention_heads,
            head_dim=channels // self.num_attention_heads,
            text_dim=text_dim,
            groups=groups,
            layers=self.config.at_level("transformer_layers_per_block", self.level),
            linear=self.config.use_linear_projection,
            only_text=self.only_cross_attention,
        )

    def temporal_transformer(self, channels: int) -> TemporalTransformer:
        """Makes the transformer over frames."""
        if self.config.temporal_head_dim is not None:
            heads = channels // self.config.temporal_head_dim
        else:
            # in the published DeepFloyd family, the channels per head are the number of heads
            heads = self.attention_head_dim if self.spatial == "added" else self.num_attention_heads
        return TemporalTransformer(
            channels, heads=heads, head_dim=channels // heads, groups=self.config.norm_num_groups
        )


class Block(nn.Module):
    """The common part of down, middle and up blocks."""

    def __init__(self, spec: LayerSpec, resnets: list[tuple[int, int]]) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.resnets = nn.ModuleList(spec.resnet(i, o) for i, o in resnets)
        if spec.config.temporal:
            self.temp_convs = nn.ModuleList(TemporalConvLayer(o) for _, o in resnets)
        self.temporal = spec.config.temporal

    def _add_attentions(self, spec: LayerSpec, channels: int, count: int) -> None:
        self.attentions = nn.ModuleList(spec.attention(channels) for _ in range(count))
        if spec.config.temporal:
            self.temp_attentions = nn.ModuleList(spec.temporal_transformer(channels) for _ in range(count))

    def text_key_value(self, text: Tensor) -> list[LayerText]:
        """Computes the keys and values of a text of (B, L, D) for each layer with attention."""
        return [attention.text_key_value(text) for attention in getattr(self, "attentions", [])]

    def _call(self, function: Any, *args: Any) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            out: Tensor = self._gradient_checkpointing_func(function, *args)  # type: ignore[operator]
        else:
            out = function(*args)
        return out

    def _convolve(self, i: int, x: Tensor, temb: Tensor, num_frames: int) -> Tensor:
        x = self.resnets[i](x, temb)
        return self.temp_convs[i](x, num_frames) if self.temporal else x

    def _attend(self, i: int, x: Tensor, text: LayerText, num_frames: int) -> Tensor:
        x = self.attentions[i](x, text)
        return self.temp_attentions[i](x, num_frames) if self.temporal else x

    def _layer(self, i: int, x: Tensor, temb: Tensor, text: list[LayerText], num_frames: int) -> Tensor:
        x = self._convolve(i, x, temb, num_frames)
        return self._attend(i, x, text[i], num_frames) if text else x


class DownBlock(Block):
    """Layers, then half the size (except in the last block)."""

    def __init__(
        self, kind: str, spec: LayerSpec, *, in_channels: int, out_channels: int, layers: int, final: bool, padding: int
    ) -> None:
        spatial, resnet_sampling = _lookup(DOWN_BLOCKS, "down_block_types", kind)
        spec = _for_family(replace(spec, spatial=spatial), resnet_sampling)
        super().__init__(spec, [(in_channels if i == 0 else out_channels, out_channels) for i in range(layers)])
        if spatial is not None:
            self._add_attentions(spec, out_channels, layers)
        self.downsamplers = None
        if not final:
            if resnet_sampling:
                self.downsamplers = nn.ModuleList([spec.resnet(out_channels, out_channels, down=True)])
            else:
                self.downsamplers = nn.ModuleList(
                    [Downsample2D(out_channels, use_conv=True, padding=padding, name="op")]
                )

    def forward(self, x: Tensor, temb: Tensor, text: list[LayerText], num_frames: int) -> tuple[Tensor, list[Tensor]]:
        """Computes the block.

        Args:
            x: (B*F, C, H, W).
            temb: (B, time_embed_dim) or (B*F, time_embed_dim).
            text: The text for each layer, from `text_key_value`.
            num_frames: F.

        Returns:
            The output, (B*F, C', H', W'), and the tensors for the up path: one per layer, and the smaller one.
        """
        skips = []
        for i in range(len(self.resnets)):
            x = self._call(self._layer, i, x, temb, text, num_frames)
            skips.append(x)
        for down in self.downsamplers or []:
            x = down(x, temb) if isinstance(down, ResnetBlock) else down(x)
            skips.append(x)
        return x, skips


class MidBlock(Block):
    """A resnet, then attention and resnet again."""

    def __init__(self, kind: str, spec: LayerSpec, *, channels: int, layers: int = 1) -> None:
        spatial = _lookup(MID_BLOCKS, "mid_block_type", kind)
        spec = replace(spec, spatial=spatial)
        if spatial == "transformer":  # this family's middle block knows neither key
            spec = replace(spec, skip_time_act=False, only_cross_attention=False)
        super().__init__(spec, [(channels, channels)] * (layers + 1))
        self._add_attentions(spec, channels, layers)

    def forward(self, x: Tensor, temb: Tensor, text: list[LayerText], num_frames: int) -> Tensor:
        """Maps (B*F, C, H, W) to (B*F, C, H, W); arguments as those of `DownBlock`."""
        x = self._call(self._convolve, 0, x, temb, num_frames)
        for i in range(len(self.attentions)):
            x = self._call(self._attend, i, x, text[i], num_frames)
            x = self._call(self._convolve, i + 1, x, temb, num_frames)
        return x


class UpBlock(Block):
    """Layers that see the down path's tensors, then double the size (except in the last block)."""

    def __init__(
        self,
        kind: str,
        spec: LayerSpec,
        *,
        in_channels: int,
        prev_channels: int,
        out_channels: int,
        layers: int,
        final: bool,
    ) -> None:
        spatial, resnet_sampling = _lookup(UP_BLOCKS, "up_block_types", kind)
        spec = _for_family(replace(spec, spatial=spatial), resnet_sampling)
        below = [prev_channels] + [out_channels] * (layers - 1)
        skip = [out_channels] * (layers - 1) + [in_channels]
        super().__init__(spec, [(b + s, out_channels) for b, s in zip(below, skip, strict=True)])
        if spatial is not None:
            self._add_attentions(spec, out_channels, layers)
        self.upsamplers = None
        if not final:
            if resnet_sampling:
                self.upsamplers = nn.ModuleList([spec.resnet(out_channels, out_channels, up=True)])
            else:
                self.upsamplers = nn.ModuleList([Upsample(out_channels)])

    def forward(
        self,
        x: Tensor,
        skips: list[Tensor],
        temb: Tensor,
        text: list[LayerText],
        num_frames: int,
        size: tuple[int, int] | None,
    ) -> Tensor:
        """Computes the block.

        Args:
            x: (B*F, C, H, W).
            skips: The down path's tensors for this block, (B*F, C'', H, W) each; the last one is used first.
            temb: (B, time_embed_dim) or (B*F, time_embed_dim).
            text: The text for each layer, from `text_key_value`.
            num_frames: F.
            size: Height and width of the next block; None for the last block.

        Returns:
            (B*F, C', H', W').
        """
        for i in range(len(self.resnets)):
            x = torch.cat([x, skips[-1 - i]], dim=1)
            x = self._call(self._layer, i, x, temb, text, num_frames)
        for up in self.upsamplers or []:
            x = up(x, temb, size) if isinstance(up, ResnetBlock) else up(x, size)
        return x


def _for_family(spec: LayerSpec, deepfloyd: bool) -> LayerSpec:
    """Leaves out `resnet_skip_time_act` and `resnet_out_scale_factor`, which Stable Diffusion blocks do not know."""
    return spec if deepfloyd else replace(spec, skip_time_act=False, output_scale_factor=1.0)


def _lookup(table: dict[str, Any], key: str, kind: str) -> Any:
    if kind not in table:
        raise ValueError(f"{key}: unknown block {kind!r}, expected one of {sorted(table)}")
    return table[kind]
