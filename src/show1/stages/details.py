"""A network with other weights at low noise levels.

Where things are is decided at high noise levels, how they are drawn at low ones. An adapter that teaches a motion harms
the drawing for the sake of the motion, unless its weight is smaller there.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from show1.diffusion import Network

DETAILS_BELOW = 0.4
"""Details are drawn at timesteps below this fraction of the training timesteps."""


@dataclass(frozen=True)
class _Text:
    """What a network prepares from text states, with its own weights and with those for details."""

    own: Any
    details: Any


class DetailNetwork:
    """A `Network` that has other weights while details are drawn, and its own again after every call."""

    def __init__(
        self, network: Network, unet: nn.Module, details: Mapping[str, Tensor], *, num_train_timesteps: int
    ) -> None:
        """Binds a network to its weights at low noise levels.

        Args:
            network: The network.
            unet: The module whose parameters `network` computes with.
            details: The parameters of `unet` that differ at low noise levels, by name, each of the parameter's shape.
            num_train_timesteps: Timesteps of the schedule that the network was trained with.
        """
        self._network = network
        self._unet = unet
        self._details = details
        self._below = DETAILS_BELOW * num_train_timesteps

    def encode_text(self, prompt_embeds: Tensor) -> _Text:
        """Prepares text states (N, L, D) for all noise levels."""
        own = self._network.encode_text(prompt_embeds)
        with replaced_weights(self._unet, self._details):
            return _Text(own, self._network.encode_text(prompt_embeds))

    def __call__(self, sample: Tensor, timestep: Tensor, text: _Text) -> Tensor:
        """Predicts from (N, C, F, H, W) at one timestep (); returns (N, C', F, H, W), float32."""
        if float(timestep) >= self._below:
            return self._network(sample, timestep, text.own)
        with replaced_weights(self._unet, self._details):
            return self._network(sample, timestep, text.details)


@contextmanager
def replaced_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Gives some parameters of a module other values inside the block, without copying any.

    Args:
        module: Has its own weights again after the block.
        weights: Values by the parameter's name, each of the parameter's shape.
    """
    parameters = dict(module.named_parameters())
    own = {name: parameters[name].data for name in weights}
    try:
        for name, value in weights.items():
            parameters[name].data = value
        yield
    finally:
        for name, value in own.items():
            parameters[name].data = value
