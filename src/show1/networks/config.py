"""The config of the pixel UNet: its keys, their defaults, and what they may be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_ONE_PER_LEVEL = (
    "layers_per_block",
    "cross_attention_dim",
    "attention_head_dim",
    "num_attention_heads",
    "only_cross_attention",
    "transformer_layers_per_block",
)

_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "dual_cross_attention": (False,),
    "class_embed_type": (None, "timestep"),
    "addition_embed_type": (None, "text"),
    "encoder_hid_dim_type": (None, "text_proj"),
    "num_class_embeds": (None,),
    "time_embedding_type": ("positional",),
    "class_embeddings_concat": (False,),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "cross_attention_norm": (None, "group_norm", "layer_norm"),
}
"""Values of the keys that published networks use; others are refused."""


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Config of `UNet3DConditionModel`, in the published format.

    Keys without a description are read from published configs and change nothing. A level is one resolution of the
    network: one down block and one up block.

    Raises:
        ValueError: A value is one that no published network has, or values contradict one another.
    """

    sample_size: int | None = None
    in_channels: int = 4
    """Channels of the noisy video and its conditions together."""
    out_channels: int = 4
    """Channels of the prediction; twice the video's where the variance is learned."""
    center_input_sample: bool = False
    """Whether the input is mapped from [0, 1] to [-1, 1]."""
    flip_sin_to_cos: bool = True
    """Whether cosines come before sines in the timestep's sinusoids."""
    freq_shift: int = 0
    """Shift of the frequencies of the timestep's sinusoids."""
    down_block_types: Sequence[str] = (
        "CrossAttnDownBlock3D",
        "CrossAttnDownBlock3D",
        "CrossAttnDownBlock3D",
        "DownBlock3D",
    )
    """One block of `show1.networks.blocks.DOWN_BLOCKS` per level, from the highest resolution to the lowest."""
    mid_block_type: str = "UNetMidBlock3DCrossAttn"
    """One block of `show1.networks.blocks.MID_BLOCKS`."""
    up_block_types: Sequence[str] = (
        "UpBlock3D",
        "CrossAttnUpBlock3D",
        "CrossAttnUpBlock3D",
        "CrossAttnUpBlock3D",
    )
    """One block of `show1.networks.blocks.UP_BLOCKS` per level, from the lowest resolution to the highest."""
    only_cross_attention: bool | Sequence[bool] = False
    """Whether pixels attend to the text only, not to one another; one value, or one per level."""
    block_out_channels: Sequence[int] = (320, 640, 1280, 1280)
    """Channels per level."""
    layers_per_block: int | Sequence[int] = 2
    """Layers of a down block, one less than those of an up block; one value, or one per level."""
    downsample_padding: int = 1
    """Padding of the strided convolutions (Stable Diffusion family)."""
    mid_block_scale_factor: float = 1.0
    """Divisor of a resnet's sum in the middle block."""
    act_fn: str = "silu"
    """Activation function."""
    norm_num_groups: int = 32
    """Groups of the group normalisations."""
    norm_eps: float = 1e-5
    """Epsilon of the group normalisations."""
    cross_attention_dim: int | Sequence[int] = 1280
    """Channels of the text states that the attention layers see; one value, or one per level."""
    transformer_layers_per_block: int | Sequence[int] = 1
    """Transformer blocks per attention layer (Stable Diffusion family); one value, or one per level."""
    encoder_hid_dim: int | None = None
    """Channels of the text encoder's states, which a linear layer projects; None if they are not projected."""
    encoder_hid_dim_type: str | None = None
    attention_head_dim: int | Sequence[int] = 8
    """Channels per attention head; where `num_attention_heads` is None, the number of heads in the Stable Diffusion
    family, as in diffusers. One value, or one per level."""
    num_attention_heads: int | Sequence[int] | None = None
    """Attention heads (Stable Diffusion family); one value, or one per level."""
    dual_cross_attention: bool = False
    use_linear_projection: bool = False
    """Whether a spatial transformer begins and ends with linear layers rather than with 1x1 convolutions."""
    class_embed_type: str | None = None
    """`timestep` if the network also takes the noise level of its condition."""
    addition_embed_type: str | None = None
    """`text` if the pooled text is added to the time embedding."""
    addition_time_embed_dim: int | None = None
    num_class_embeds: int | None = None
    upcast_attention: bool = False
    resnet_time_scale_shift: str = "default"
    """How resnets see the time embedding: `default` adds it, `scale_shift` scales and shifts by it."""
    resnet_skip_time_act: bool = False
    """Whether resnets take the time embedding without an activation (DeepFloyd IF family)."""
    resnet_out_scale_factor: float = 1.0
    """Divisor of a resnet's sum (DeepFloyd IF family)."""
    time_embedding_type: str = "positional"
    time_embedding_dim: int | None = None
    """Channels of the time embedding; None for four times those of the first level."""
    time_embedding_act_fn: str | None = None
    """Activation of the finished time embedding."""
    timestep_post_act: str | None = None
    """Activation of the timestep's own embedding."""
    time_cond_proj_dim: int | None = None
    """Channels of a further condition of the timestep's embedding, which is never given."""
    conv_in_kernel: int = 3
    """Kernel of the first convolution."""
    conv_out_kernel: int = 3
    """Kernel of the last convolution."""
    projection_class_embeddings_input_dim: int | None = None
    class_embeddings_concat: bool = False
    mid_block_only_cross_attention: bool | None = None
    """`only_cross_attention` of the middle block; None for the same value, or False if that is one per level."""
    cross_attention_norm: str | None = None
    """Normalisation of the text states before their projection (DeepFloyd IF family)."""
    addition_embed_type_num_heads: int = 64
    """Heads of the attention that pools the text."""
    transfromer_in_opt: bool = False
    """Whether a temporal transformer follows the first convolution. The published key has this misspelling."""
    temporal: bool = True
    """Our own: False for an image network, whose weights a video network of the same config takes over."""
    temporal_head_dim: int | None = None
    """Our own: channels per head of the temporal transformers; None for the published number of heads."""
    patch_size: int = 1
    """Our own: the network sees patches of this many pixels per side as channels, which costs less for large frames."""
    embed_frames: bool = False
    """Our own: whether the time embedding also says where in the clip a frame is."""
    embed_places: bool = False
    """Our own: whether each level is given the position in the frame; published networks infer it from the padding."""
    add_condition: bool = False
    """Our own: whether the condition, the channels after the noisy ones, is added to the output. It is for networks
    that predict the clean video: they only have to find what a blend of keyframes or an upsampled video lacks."""

    def __post_init__(self) -> None:
        for key, values in _SUPPORTED.items():
            if getattr(self, key) not in values:
                raise ValueError(f"{key} must be one of {values}, got {getattr(self, key)!r}")
        if self.norm_num_groups is None:
            raise ValueError("norm_num_groups must be a number: networks without normalisation are not supported")
        if self.encoder_hid_dim_type is not None and self.encoder_hid_dim is None:
            raise ValueError(f"encoder_hid_dim must be a number: encoder_hid_dim_type is {self.encoder_hid_dim_type!r}")
        if not len(self.down_block_types) == len(self.up_block_types) == self.levels:
            raise ValueError("down_block_types, up_block_types and block_out_channels must have equal lengths")
        for key in _ONE_PER_LEVEL:
            value = getattr(self, key)
            if not isinstance(value, int | None) and len(value) != self.levels:
                raise ValueError(f"{key} must be one value or {self.levels} (one per level), got {value}")
        if self.add_condition and self.in_channels < 2 * self.out_channels:
            raise ValueError(
                f"add_condition needs {2 * self.out_channels} in_channels or more, noisy ones and their condition, "
                f"got {self.in_channels}"
            )

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.block_out_channels)

    @property
    def time_embed_dim(self) -> int:
        """Channels of the time embedding."""
        return self.time_embedding_dim or self.block_out_channels[0] * 4

    def at_level(self, key: str, level: int) -> Any:
        """Returns the value at a level of a key that has one value, or one per level."""
        value = getattr(self, key)
        return value if isinstance(value, int) else value[level]
