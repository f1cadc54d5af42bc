"""diffusers' latent video UNet, which can be told where in the clip and in the frame it is."""

import inspect
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn

from show1.networks.layers import FrameEmbedding, PlaceEmbedding

_FEW_KEYS = 256
"""With at most so many keys, the products of queries and keys are small enough to be kept for the backward pass."""


class TrainingAttention:
    """An attention processor of diffusers for networks that learn.

    In bfloat16 on a CPU the backward pass of torch's fused attention takes several times as long as that of plain
    matrix products, where the keys are few: over frames, to a text, and on the lower levels.
    """

    def __init__(self) -> None:
        self._plain, self._fused = AttnProcessor(), AttnProcessor2_0()

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **options: Any
    ) -> Tensor:
        """Computes an attention layer, (N, Q, C) to (N, Q, C)."""
        keys = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        slow = torch.is_grad_enabled() and torch.is_autocast_enabled("cpu") and keys.device.type == "cpu"
        processor = self._plain if slow and keys.shape[1] <= _FEW_KEYS else self._fused
        return processor(attn, hidden_states, encoder_hidden_states, **options)  # type: ignore[no-any-return]


def latent_unet_class(config: Mapping[str, Any]) -> type[UNet3DConditionModel]:
    """The class of a latent video UNet: diffusers' own, unless its config asks for embeddings."""
    embedded = config.get("embed_frames") or config.get("embed_places")
    return PlacedLatentUNet if embedded else UNet3DConditionModel


class PlacedLatentUNet(UNet3DConditionModel):  # type: ignore[misc]
    """diffusers' `UNet3DConditionModel` with the embeddings of the pixel UNet, which start as the identity.

    Networks without any are diffusers' own class, so that their folders are its too.
    """

    def __init__(self, *, embed_frames: bool = False, embed_places: bool = False, **config: Any) -> None:
        """Makes the network.

        Args:
            embed_frames: Whether it is told where in the clip each frame is.
            embed_places: Whether each level is told where in the frame each position is.
            **config: That of diffusers' class.
        """
        super().__init__(**config)
        self.register_to_config(embed_frames=embed_frames, embed_places=embed_places)
        channels = self.config.block_out_channels
        self.frame_embedding = FrameEmbedding(channels[0] * 4) if embed_frames else None
        places = nn.ModuleList(PlaceEmbedding(width) for width in (channels[0], *channels))
        self.place_embeddings = places if embed_places else None

    def forward(self, sample: Tensor, *arguments: Any, **options: Any) -> Any:
        """Predicts from (B, C, F, H, W), as diffusers' network does."""
        blocks = [*self.down_blocks, self.mid_block, *self.up_blocks]
        with ExitStack() as hooks:  # not kept in the blocks, whose copies would call this network's embeddings
            for number, block in enumerate(blocks):
                see = partial(self._embedded, number, sample.shape[2])
                hooks.callback(block.register_forward_pre_hook(see, with_kwargs=True).remove)
            return super().forward(sample, *arguments, **options)

    def _embedded(
        self, number: int, frames: int, block: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[()], dict[str, Any]]:
        """The arguments of a block, as keywords, with embeddings in its states and its time embedding."""
        named = {**dict(zip(("hidden_states", "temb"), arguments, strict=False)), **options}
        if self.frame_embedding is not None:
            named["temb"] = self.frame_embedding(named["temb"][::frames], frames)
        if self.place_embeddings is not None and number < len(self.place_embeddings):
            named["hidden_states"] = self.place_embeddings[number](named["hidden_states"])
        return (), named


_keys, _own = (inspect.signature(cls.__init__).parameters for cls in (UNet3DConditionModel, PlacedLatentUNet))
# diffusers reads from the signature which keys of a config are the network's
PlacedLatentUNet.__init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [*_keys.values(), _own["embed_frames"], _own["embed_places"]]
)
