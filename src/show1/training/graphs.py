"""CUDA graphs: the kernels of a network's forward and backward pass, recorded once and replayed by two calls."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class _InOrder(nn.Module):
    """A network with positional inputs only, as recordings need them."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, *noise_level: Tensor) -> Tensor:
        labels = {"class_labels": noise_level[0]} if noise_level else {}
        out: Tensor = self.unet(sample, timestep, encoder_hidden_states=text, return_dict=False, **labels)[0]
        return out


def recorded(unet: nn.Module, *inputs: Tensor) -> Callable[..., Tensor]:
    """Records a network in training on a CUDA device, under the current autocast.

    The result and the gradients are valid only until the next call, so a step cannot add up several calls.

    Args:
        unet: The network.
        inputs: Noisy samples (B, C, F, H, W), timesteps (B,), text states (B, L, D), and noise levels (B,) if it takes
            them; later calls must have the same shapes.

    Returns:
        A function of the same inputs that returns what the network predicts, (B, C, F, H, W).
    """
    samples = tuple(x.detach().clone().requires_grad_(x.requires_grad) for x in inputs)
    # the recording keeps the graph that it was made from, and torch warns about that
    getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", lambda _: None)(False)
    # casts that autocast caches would be left out of the recording, although weights change
    with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda"), False):
        network: Any = torch.cuda.make_graphed_callables(_InOrder(unet), samples, allow_unused_input=True)
    return network.forward  # type: ignore[no-any-return]
