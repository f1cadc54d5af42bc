"""A network with other weights at low noise levels.

Where things are is decided at high noise levels, how they are drawn at low ones; an adapter of a motion harms the
second for the sake of the first, unless its weight is smaller there.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from show1.diffusion import Network

DETAILS_BELOW = 0.4
"""Details are drawn at timesteps below this share of those of training."""


class DetailWeights:
    """Parameters that a network has while details are drawn; it gets them and its own in turn."""

    def __init__(self, unet: nn.Module, details: Mapping[str, Tensor]) -> None:
        """Changes nothing yet.

        Args:
            unet: The network, with the weights of high noise levels.
            details: The parameters that differ, by name: as they are at low ones.
        """
        parameters = dict(unet.named_parameters())
        self._pairs = [(parameters[name], parameters[name].data, low) for name, low in details.items()]

    def use(self, *, details: bool) -> None:
        """Gives the network the weights of low noise levels, or those of high ones."""
        for parameter, high, low in self._pairs:
            parameter.data = low if details else high


class DetailNetwork:
    """A `Network` whose weights follow the noise level."""

    def __init__(self, network: Network, weights: DetailWeights, *, num_train_timesteps: int) -> None:
        """Binds a network to its weights.

        Args:
            network: The network.
            weights: Of that network.
            num_train_timesteps: Timesteps of the schedule that it was trained with.
        """
        self._network = network
        self._weights = weights
        self._below = DETAILS_BELOW * num_train_timesteps

    def encode_text(self, prompt_embeds: Tensor) -> Any:
        """Prepares text states (N, L, D) for both: (of high noise levels, of low ones)."""
        return tuple(self._encode(prompt_embeds, details=details) for details in (False, True))

    def __call__(self, sample: Tensor, timestep: Tensor, text: Any) -> Tensor:
        """Predicts from (N, C, F, H, W) with the weights of this timestep."""
        details = float(timestep) < self._below
        self._weights.use(details=details)
        return self._network(sample, timestep, text[details])

    def _encode(self, prompt_embeds: Tensor, *, details: bool) -> Any:
        self._weights.use(details=details)
        return self._network.encode_text(prompt_embeds)
