"""The two kinds of networks behind the interface of `show1.diffusion.Network`."""

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from show1.diffusion import Window, blended, sliding_windows
from show1.errors import CheckpointError, Show1Error, reason_of
from show1.runtime import computing_device


@contextmanager
def as_described(others: Sequence[Exception] = ()) -> Iterator[None]:
    """Turns tensors that do not fit together inside a network into an error that names the config.

    Weights of the right shapes do not prove that a config works: it also says how attention splits its channels.

    Args:
        others: Errors that are none of the network, and stay as they are.

    Raises:
        CheckpointError: Tensors do not fit together.
    """
    try:
        yield
    except (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError) as error:
        shapes = re.search(
            r"\b(shape|size|sizes|dimension|divisible|groups|channels|kernel|padding|stride)\b", str(error)
        )
        if isinstance(error, Show1Error) or error in others or (isinstance(error, RuntimeError) and not shapes):
            raise
        raise CheckpointError(
            f"the network does not work as its config.json describes it ({reason_of(error):.200}); correct the "
            "config, or download the model again"
        ) from error


class PixelNetwork:
    """The pixel UNet; its text states are prepared once per run."""

    def __init__(self, unet: Any, *, noise_level: int | None = None) -> None:
        """Binds the network to a noise level (a timestep) of its condition, for super-resolution."""
        self._unet = unet
        self._noise_level = noise_level

    def on(self, unet: Any) -> "PixelNetwork":
        """The same with another module."""
        return PixelNetwork(unet, noise_level=self._noise_level)

    def encode_text(self, prompt_embeds: Tensor) -> Any:
        """Prepares text states (N, L, D) once for all steps of a run."""
        with as_described():
            return self._unet.encode_text(prompt_embeds.to(computing_device(self._unet), self._unet.dtype))

    def __call__(self, sample: Tensor, timestep: Tensor, text: Any) -> Tensor:
        """Predicts from (N, C, F, H, W); returns float32."""
        labels = None
        if self._noise_level is not None:
            labels = torch.full((len(sample),), self._noise_level, device=sample.device)
        x = sample.to(self._unet.dtype)
        t = timestep.to(sample.device)
        with as_described():
            out: Tensor = self._unet(x, t, class_labels=labels, text_cache=text, return_dict=False)[0]
        return out.float()


class LatentNetwork:
    """diffusers' latent video UNet, which sees long videos in windows."""

    def __init__(self, unet: nn.Module, *, window: int, overlap: int) -> None:
        """Takes the network.

        Args:
            unet: diffusers' `UNet3DConditionModel`.
            window: Most frames that it sees at once; the predictions of windows are blended.
            overlap: Frames that neighbouring windows share.
        """
        self._unet: Any = unet
        self._window, self._stride = window, max(1, window - overlap)

    def on(self, unet: Any) -> "LatentNetwork":
        """The same with another module."""
        other = copy.copy(self)
        other._unet = unet
        return other

    def encode_text(self, prompt_embeds: Tensor) -> Any:
        """Moves text states (N, L, D) to the network."""
        return prompt_embeds.to(computing_device(self._unet), self._unet.dtype)

    def __call__(self, sample: Tensor, timestep: Tensor, text: Any) -> Tensor:
        """Predicts from (N, C, F, H, W); returns float32."""
        x, t = sample.to(self._unet.dtype), timestep.to(sample.device)

        def predict(seen: Tensor, _: Window) -> Tensor:
            with as_described():
                out: Tensor = self._unet(seen, t, encoder_hidden_states=text, return_dict=False)[0]
            return out.float()

        windows = sliding_windows(x.shape[2], self._window, self._stride)
        return predict(x, windows[0]) if len(windows) == 1 else blended(predict, x, windows)
