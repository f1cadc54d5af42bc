"""CUDA graphs: the kernels of a network's forward and backward pass, recorded once and replayed by two calls."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class _InOrder(nn.Module):
    """A network whose inputs come in order, as recordings take them."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, *noise_level: Tensor) -> Tensor:
        labels = {"class_labels": noise_level[0]} if noise_level else {}
        out: Tensor = self.unet(sample, timestep, encoder_hidden_states=text, return_dict=False, **labels)[0]
        return out


def recorded(unet: nn.Module, *inputs: Tensor) -> Callable[..., Tensor]:
    """Records a network in training on a CUDA device, under the autocast that is on.

    The result holds until the next call alone, and so do the gradients: a step cannot add up several calls.

    Args:
        unet: The network.
        inputs: Noisy sample, timesteps, text states, and a noise level if it takes one; later calls have equal shapes.

    Returns:
        A function of as many inputs that gives what the network predicts.
    """
    samples = tuple(x.detach().clone().requires_grad_(x.requires_grad) for x in inputs)
    # the recording holds on to the graph that it was made from; torch warns of that
    getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", lambda _: None)(False)
    # a cast that autocast remembers would be left out of the recording, and weights change
    with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda"), False):
        network: Any = torch.cuda.make_graphed_callables(_InOrder(unet), samples, allow_unused_input=True)
    return network.forward  # type: ignore[no-any-return]
