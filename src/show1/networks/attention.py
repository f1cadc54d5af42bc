"""Attention layers of the pixel UNet: spatial attention with text, transformers over pixels and over frames.

Text enters through keys and values that do not change during a sampling run: every layer with text has
`text_key_value`, which computes them once, and takes them in `forward`.
"""

import torch
import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from torch import Tensor, nn

from show1.networks.layers import GroupNorm, gather_frames, scatter_frames

KeyValue = tuple[Tensor, Tensor]
"""Keys and values of the text, (B, L, C) each."""

BlockText = tuple[KeyValue | None, KeyValue]
"""The text for the two attentions of a `TransformerBlock`; None if the first one looks at the pixels."""


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Computes softmax attention.

    Args:
        query: (N, Q, C).
        key: (N, K, C).
        value: (N, K, C).
        heads: Number of heads, a divisor of C.

    Returns:
        (N, Q, C).
    """
    q, k, v = (torch.unflatten(x, -1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        # the fused CPU kernel is two to nine times slower than this in bfloat16
        scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
        out = torch.matmul(scores.softmax(dim=-1), v)
    else:
        out = F.scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).flatten(2)


def expand_frames(x: Tensor, batch_frames: int) -> Tensor:
    """Repeats each video's text for its frames: (B, L, C) -> (B*F, L, C)."""
    if x.shape[0] == batch_frames:
        return x
    return x[:, None].expand(-1, batch_frames // x.shape[0], -1, -1).flatten(0, 1)


def _expand(key_value: KeyValue | None, batch_frames: int) -> KeyValue | None:
    if key_value is None:
        return None
    return expand_frames(key_value[0], batch_frames), expand_frames(key_value[1], batch_frames)


class Attention(nn.Module):
    """Multi-head attention of tokens to themselves, or to a text."""

    def __init__(self, dim: int, heads: int, head_dim: int, text_dim: int | None = None) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(text_dim or dim, inner, bias=False)
        self.to_v = nn.Linear(text_dim or dim, inner, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(inner, dim), nn.Identity()])

    def text_key_value(self, text: Tensor) -> KeyValue:
        """Computes the keys and values of a text of (B, L, D)."""
        return self.to_k(text), self.to_v(text)

    def forward(self, x: Tensor, key_value: KeyValue | None = None) -> Tensor:
        """Maps tokens of (N, Q, C) to (N, Q, C); with `key_value`, they attend to the text."""
        key, value = (self.to_k(x), self.to_v(x)) if key_value is None else key_value
        out: Tensor = self.to_out[0](attend(self.to_q(x), key, value, self.heads))
        return out


class AddedTextAttention(nn.Module):
    """One attention over a frame's pixels and over the text (DeepFloyd IF: added keys and values)."""

    published_order = False
    """Set by `UNet3DConditionModel.use_published_order`."""

    def __init__(
        self,
        channels: int,
        *,
        head_dim: int,
        text_dim: int,
        groups: int,
        eps: float,
        only_text: bool,
        text_norm: str | None,
    ) -> None:
        super().__init__()
        self.heads = channels // head_dim
        self.only_text = only_text
        inner = self.heads * head_dim
        self.group_norm = GroupNorm(groups, channels, eps=eps)
        self.norm_cross: nn.Module | None = None
        if text_norm == "group_norm":
            self.norm_cross = GroupNorm(32, text_dim, eps=1e-5)
        elif text_norm == "layer_norm":
            self.norm_cross = nn.LayerNorm(text_dim)
        self.to_q = nn.Linear(channels, inner)
        if not only_text:
            self.to_k = nn.Linear(channels, inner)
            self.to_v = nn.Linear(channels, inner)
        self.add_k_proj = nn.Linear(text_dim, inner)
        self.add_v_proj = nn.Linear(text_dim, inner)
        self.to_out = nn.ModuleList([nn.Linear(inner, channels), nn.Identity()])

    def text_key_value(self, text: Tensor) -> KeyValue:
        """Computes the keys and values of a text of (B, L, D)."""
        if isinstance(self.norm_cross, nn.GroupNorm):
            text = self.norm_cross(text.transpose(1, 2)).transpose(1, 2)
        elif self.norm_cross is not None:
            text = self.norm_cross(text)
        return self.add_k_proj(text), self.add_v_proj(text)

    def forward(self, x: Tensor, text: KeyValue) -> Tensor:
        """Maps (B*F, C, H, W), with a text of (B, L, C), to (B*F, C, H, W)."""
        batch_frames = x.shape[0]
        tokens = self.group_norm(x.flatten(2)).transpose(1, 2)  # (B*F, H*W, C)
        query = self.to_q(tokens)
        if self.only_text and not self.published_order:
            # all pixels of a video see the same text, so that its keys and values need no copy per frame
            videos = text[0].shape[0]
            out = attend(query.reshape(videos, -1, query.shape[-1]), *text, self.heads).view(query.shape)
        else:
            key, value = (expand_frames(t, batch_frames) for t in text)
            if not self.only_text:
                key = torch.cat([key, self.to_k(tokens)], dim=1)
                value = torch.cat([value, self.to_v(tokens)], dim=1)
            out = attend(query, key, value, self.heads)
        h: Tensor = self.to_out[0](out).transpose(1, 2).reshape(x.shape)
        # the sum has the memory layout of its first part, in which the next layer computes
        return h + x if self.published_order else x + h


class TransformerBlock(nn.Module):
    """Pre-norm block: attention, a second attention (over text if `text_dim` is given), feed-forward."""

    def __init__(
        self, dim: int, heads: int, head_dim: int, *, text_dim: int | None = None, only_text: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, heads, head_dim, text_dim if only_text else None)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = Attention(dim, heads, head_dim, text_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, activation_fn="geglu")  # arXiv:2002.05202

    def forward(self, x: Tensor, text1: KeyValue | None = None, text2: KeyValue | None = None) -> Tensor:
        """Maps tokens of (N, Q, C) to (N, Q, C); each attention looks at its text, or at the tokens if that is None."""
        x = x + self.attn1(self.norm1(x), text1)
        x = x + self.attn2(self.norm2(x), text2)
        out: Tensor = x + self.ff(self.norm3(x))
        return out


class SpatialTransformer(nn.Module):
    """Transformer over the pixels of a frame, with text (Stable Diffusion family)."""

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        head_dim: int,
        text_dim: int,
        groups: int,
        layers: int,
        linear: bool,
        only_text: bool,
    ) -> None:
        super().__init__()
        inner = heads * head_dim
        self.only_text = only_text
        self.linear = linear
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, inner) if linear else nn.Conv2d(channels, inner, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(inner, heads, head_dim, text_dim=text_dim, only_text=only_text) for _ in range(layers)
        )
        self.proj_out = nn.Linear(inner, channels) if linear else nn.Conv2d(inner, channels, 1)

    def text_key_value(self, text: Tensor) -> list[BlockText]:
        """Computes the keys and values of a text of (B, L, D) for each block."""
        blocks = [block for block in self.transformer_blocks if isinstance(block, TransformerBlock)]
        return [
            (b.attn1.text_key_value(text) if self.only_text else None, b.attn2.text_key_value(text)) for b in blocks
        ]

    def forward(self, x: Tensor, text: list[BlockText]) -> Tensor:
        """Maps (B*F, C, H, W), with a text of (B, L, C), to (B*F, C, H, W)."""
        batch_frames = x.shape[0]
        h = self._to_tokens(self.norm(x))
        for block, (text1, text2) in zip(self.transformer_blocks, text, strict=True):
            h = block(h, _expand(text1, batch_frames), _expand(text2, batch_frames))
        return x + self._to_frames(h, x.shape[2], x.shape[3])

    def _to_tokens(self, h: Tensor) -> Tensor:
        """Maps (B*F, C, H, W) to (B*F, H*W, inner)."""
        if self.linear:
            tokens: Tensor = self.proj_in(h.flatten(2).transpose(1, 2))
            return tokens
        return self.proj_in(h).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]

    def _to_frames(self, h: Tensor, height: int, width: int) -> Tensor:
        """Maps (B*F, H*W, inner) to (B*F, C, H, W)."""
        if self.linear:
            return torch.unflatten(self.proj_out(h).transpose(1, 2), 2, (height, width))
        out: Tensor = self.proj_out(torch.unflatten(h.transpose(1, 2), 2, (height, width)))
        return out


class TemporalTransformer(nn.Module):
    """Transformer over the frames at each pixel, without text or position embedding; the identity at initialisation."""

    published_order = False
    """Set by `UNet3DConditionModel.use_published_order`."""

    def __init__(self, channels: int, *, heads: int, head_dim: int, groups: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, inner)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(inner, heads, head_dim)])
        self.proj_out = nn.Linear(inner, channels)
        self.zero_init()

    def zero_init(self) -> None:
        """Makes the layer the identity."""
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Maps (B*F, C, H, W) to (B*F, C, H, W)."""
        if self.published_order:
            h: Tensor = self.norm(torch.unflatten(x, 0, (-1, num_frames)).transpose(1, 2)).flatten(3)
        else:
            h = self.norm(gather_frames(x, num_frames))  # (B, C, F, H*W)
        videos = h.shape[0]
        h = h.permute(0, 3, 2, 1).flatten(0, 1)  # (B*H*W, F, C)
        h = self.proj_in(h)
        for block in self.transformer_blocks:
            h = block(h)
        h = self.proj_out(h)
        h = torch.unflatten(h, 0, (videos, -1)).permute(0, 3, 2, 1)  # (B, C, F, H*W)
        if self.published_order:
            return scatter_frames(h, x.shape[2], x.shape[3]).contiguous() + x
        if not x.is_contiguous(memory_format=torch.channels_last):
            h = h.contiguous()
        return x + scatter_frames(h, x.shape[2], x.shape[3])
