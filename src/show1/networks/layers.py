"""Convolutional layers of the pixel UNet, which takes the frames of all videos as one batch.

Shapes: `x` is (B*F, C, H, W), either in the default or in the channels-last memory layout; layers keep the layout that
they get. Layers that inflation adds (their names begin with `Temporal`) see the frames of one video together.

Weights are read only inside the `forward` of the module that owns them: hooks that move or cast weights when a module
is called (group offloading, layerwise casting) depend on it.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.activations import get_activation
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import TemporalConvLayer as DiffusersTemporalConvLayer
from torch import Tensor, nn

TEMPORAL_NORM_GROUPS = 32
"""Groups of the normalisation in temporal convolutions and `transformer_in`; fixed in the published networks."""


class GroupNorm(nn.GroupNorm):
    """Group normalisation that also takes a single pixel, which `nn.GroupNorm` refuses."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (N, C, ...); the shape stays."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def gather_frames(x: Tensor, num_frames: int) -> Tensor:
    """Gathers the frames of each video: (B*F, C, H, W) -> (B, C, F, H*W).

    A view in the channels-last layout, one copy in the default one; the layout is kept.
    """
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    out = torch.unflatten(x, 0, (-1, num_frames)).transpose(1, 2).flatten(3)  # (B, C, F, H*W)
    return out if channels_last else out.contiguous()


def scatter_frames(x: Tensor, height: int, width: int) -> Tensor:
    """Inverts `gather_frames`: (B, C, F, H*W) -> (B*F, C, H, W)."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    out = torch.unflatten(x.transpose(1, 2).flatten(0, 1), 2, (height, width))
    return out if channels_last else out.contiguous()


class TemporalConvLayer(nn.Module):
    """Four convolutions over frames with a residual around all of them; the identity at initialisation.

    The kernel of (3, 1, 1) runs as a 2D convolution of (3, 1) over (frames, pixels): equal but for rounding, and
    several times faster.
    """

    published_order = False
    """Set by `UNet3DConditionModel.use_published_order`."""

    def __init__(self, channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.conv1 = _temporal_conv(channels)
        self.conv2 = _temporal_conv(channels, nn.Dropout(dropout))
        self.conv3 = _temporal_conv(channels, nn.Dropout(dropout))
        self.conv4 = _temporal_conv(channels, nn.Dropout(dropout))
        self.zero_init()

    def zero_init(self) -> None:
        """Makes the layer the identity."""
        for parameter in self.conv4[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Maps (B*F, C, H, W) to (B*F, C, H, W)."""
        if self.published_order:
            video = torch.unflatten(x, 0, (-1, num_frames)).transpose(1, 2)  # (B, C, F, H, W)
            h: Tensor = self.conv4(self.conv3(self.conv2(self.conv1(video))))
            return (video + h).transpose(1, 2).flatten(0, 1)
        h = self.conv4(self.conv3(self.conv2(self.conv1(gather_frames(x, num_frames)))))
        return x + scatter_frames(h, x.shape[2], x.shape[3])


def _temporal_conv(channels: int, *dropout: nn.Dropout) -> nn.Sequential:
    norm = GroupNorm(TEMPORAL_NORM_GROUPS, channels)
    conv = FrameConv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
    return nn.Sequential(norm, nn.SiLU(), *dropout, conv)


def set_temporal_dropout(module: nn.Module, p: float) -> None:
    """Sets the dropout of all temporal convolutions in a module, those of diffusers' networks included."""
    for layer in module.modules():
        if isinstance(layer, TemporalConvLayer | DiffusersTemporalConvLayer):
            for drop in layer.modules():
                if isinstance(drop, nn.Dropout):
                    drop.p = p


class FrameConv3d(nn.Conv3d):
    """A 3D convolution of kernel (k, 1, 1) that runs as a 2D one over (frames, pixels): equal, and faster."""

    published_order = False
    """Set by `UNet3DConditionModel.use_published_order`."""

    @classmethod
    def from_conv(cls, conv: nn.Conv3d) -> "FrameConv3d":
        """Makes one that shares the parameters of `conv`."""
        kernel: Any = conv.kernel_size
        with torch.device("meta"):
            frame_conv = cls(conv.in_channels, conv.out_channels, kernel, padding=conv.padding)  # type: ignore[arg-type]
        frame_conv.weight, frame_conv.bias = conv.weight, conv.bias
        return frame_conv.train(conv.training)

    def forward(self, input: Tensor) -> Tensor:
        """Maps (B, C, F, H, W), or (B, C, F, H*W), to the same with C' channels."""
        if self.published_order:
            return super().forward(input)
        out = F.conv2d(input.flatten(3), self.weight.squeeze(-1), self.bias, padding=(self.padding[0], 0))  # type: ignore[arg-type]
        return torch.unflatten(out, 3, input.shape[3:])


def use_frame_convolutions(module: nn.Module) -> None:
    """Replaces the convolutions over frames of another library's network by `FrameConv3d`; parameters stay."""
    for parent in list(module.modules()):
        for name, conv in parent.named_children():
            if type(conv) is nn.Conv3d and conv.kernel_size[1:] == (1, 1) and conv.stride == (1, 1, 1):
                setattr(parent, name, FrameConv3d.from_conv(conv))


class FrameEmbedding(nn.Module):
    """Adds to the time embedding where in the clip each frame is; the identity at initialisation.

    The place, 0 for the first frame to 1 for the last whatever their number, goes through sinusoids (arXiv:1706.03762,
    section 3.5) and, together with the embedding of timestep and text, through a small network.
    """

    CHANNELS = 32
    """Channels of the sinusoids."""

    def __init__(self, time_embed_dim: int) -> None:
        super().__init__()
        self.proj = Timesteps(self.CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0, scale=20)
        self.embedding = TimestepEmbedding(time_embed_dim + self.CHANNELS, time_embed_dim)
        nn.init.zeros_(self.embedding.linear_2.weight)
        nn.init.zeros_(self.embedding.linear_2.bias)

    def forward(self, temb: Tensor, num_frames: int) -> Tensor:
        """Maps (B, time_embed_dim) to (B*F, time_embed_dim)."""
        place = self.proj(torch.linspace(0, 1, num_frames, device=temb.device)).to(temb.dtype)
        place = place.repeat(temb.shape[0], 1)
        temb = temb.repeat_interleave(num_frames, dim=0)
        out: Tensor = temb + self.embedding(torch.cat([temb, place], dim=1))
        return out


class PlaceProjection(nn.Linear):
    """A linear layer of the sinusoids of height and width, which computes each of the two once."""

    def forward(self, rows: Tensor, columns: Tensor) -> Tensor:  # type: ignore[override]
        """Maps (H, D) and (W, D) to what it gives for each pair of a row and a column, (H, W, C)."""
        of_rows, of_columns = self.weight.chunk(2, dim=1)
        out: Tensor = (rows @ of_rows.T)[:, None] + (columns @ of_columns.T + self.bias)
        return out


class PlaceEmbedding(nn.Module):
    """Adds to each position of a frame where in the frame it is; the identity at initialisation.

    Height and width, both from 0 to 1 whatever the size, go through sinusoids (arXiv:1706.03762, section 3.5; half a
    period to four over the frame) and one linear layer.
    """

    OCTAVES = 4
    """Frequencies of the sinusoids, each twice the one before."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = PlaceProjection(4 * self.OCTAVES, channels)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the place to each position of (N, C, H, W)."""
        frequencies = math.pi * 2.0 ** torch.arange(self.OCTAVES, device=x.device)
        waves = []
        for length in x.shape[2:]:
            phase = torch.outer((torch.arange(length, device=x.device) + 0.5) / length, frequencies)
            waves.append(torch.cat([phase.sin(), phase.cos()], dim=1).to(x.dtype))
        place: Tensor = self.proj(*waves)  # (H, W, C)
        return x + place.permute(2, 0, 1)


class ResnetBlock(nn.Module):
    """Residual block on single frames that sees the time embedding; can halve or double the frame (DeepFloyd IF)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        time_embed_dim: int,
        groups: int,
        eps: float,
        act_fn: str,
        time_scale_shift: str = "default",
        skip_time_act: bool = False,
        output_scale_factor: float = 1.0,
        up: bool = False,
        down: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, in_channels, eps=eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.scale_shift = time_scale_shift == "scale_shift"
        self.time_emb_proj = nn.Linear(time_embed_dim, out_channels * (2 if self.scale_shift else 1))
        self.norm2 = GroupNorm(groups, out_channels, eps=eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nonlinearity = get_activation(act_fn)
        self.skip_time_act = skip_time_act
        self.output_scale_factor = output_scale_factor
        self.up, self.down = up, down
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor, temb: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Computes the block.

        Args:
            x: (B*F, C_in, H, W).
            temb: (B, time_embed_dim), one time embedding per video, shared by its frames; or (B*F, time_embed_dim).
            size: Height and width to upsample to; only with `up=True`.

        Returns:
            (B*F, C_out, H', W').
        """
        h = self.nonlinearity(self.norm1(x))
        if self.up:
            assert size is not None
            x, h = upsample_to(x, size), upsample_to(h, size)
        elif self.down:
            x, h = halve(x), halve(h)
        h = self.conv1(h)
        t = self.time_emb_proj(temb if self.skip_time_act else self.nonlinearity(temb))
        t = per_frame(t, h.shape[0])[:, :, None, None]
        if self.scale_shift:
            scale, shift = t.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + t)
        h = self.conv2(self.nonlinearity(h))
        if self.conv_shortcut is not None:
            x = self.conv_shortcut(x)
        x = x + h
        return x if self.output_scale_factor == 1.0 else x / self.output_scale_factor


class Upsample(nn.Module):
    """Nearest-neighbour upsampling and a convolution (Stable Diffusion family)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps (B*F, C, H, W) to (B*F, C, *size)."""
        out: Tensor = self.conv(upsample_to(x, size))
        return out


def halve(x: Tensor) -> Tensor:
    """Averages 2x2 pixels, (N, C, H, W) -> (N, C, ceil(H/2), ceil(W/2)); an odd edge over the pixels that it has."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def upsample_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Repeats pixels, (N, C, H, W) -> (N, C, *size): each twice, except the last row and column of an odd size."""
    return F.interpolate(x, size=size, mode="nearest")


def to_patches(x: Tensor, patch_size: int) -> Tensor:
    """Turns patches into channels: (N, C, H, W) -> (N, C*p*p, ceil(H/p), ceil(W/p)); edges are repeated as padding."""
    if patch_size == 1:
        return x
    height, width = x.shape[-2:]
    bottom, right = -height % patch_size, -width % patch_size
    if bottom or right:
        x = F.pad(x, (0, right, 0, bottom), mode="replicate")
    return F.pixel_unshuffle(x, patch_size)


def from_patches(x: Tensor, patch_size: int, size: tuple[int, int]) -> Tensor:
    """Inverts `to_patches`: (N, C*p*p, H', W') -> (N, C, *size)."""
    if patch_size == 1:
        return x
    return F.pixel_shuffle(x, patch_size)[..., : size[0], : size[1]]


def per_frame(x: Tensor, batch_frames: int) -> Tensor:
    """Repeats each video's row for its frames, (B, C) -> (B*F, C); rows that are one per frame already stay."""
    return x if x.shape[0] == batch_frames else x.repeat_interleave(batch_frames // x.shape[0], dim=0)
