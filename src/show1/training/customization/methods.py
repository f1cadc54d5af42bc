"""The methods of customization: which weights learn, by which loss, and which of them an adapter holds."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from show1.errors import InputError, MissingDependencyError
from show1.training.customization.config import CustomizationConfig, MethodName
from show1.training.customization.layers import (
    spatial_convolutions,
    spatial_linears,
    temporal_linears,
    temporal_parameters,
)
from show1.training.customization.losses import appearance_debiased_loss, residual_vector_loss
from show1.training.objective import Inputs, Predicted

Predict = Callable[[Inputs], Predicted]
"""Adds noise of a random level and asks the network. Draws from the global generator."""


class Method(ABC):
    """A way to learn. Making one freezes all of the network's weights but those that learn."""

    lora_alpha: float | None = None
    """LoRA's scale times its rank, for the adapter; None: not a LoRA."""

    def loss(self, predict: Predict, inputs: Inputs) -> Tensor:
        """The loss of a batch, a scalar with a graph to the weights that learn: that of the stage's own training."""
        return predict(inputs).loss()

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The adapter's tensors, of the shapes of the current weights or LoRA matrices."""

    def show(self) -> None:  # noqa: B027 (most methods have nothing to do)
        """Makes the network what it will be with the adapter, for sampling."""


class TemporalAttention(Method):
    """The transformers over frames are finetuned by the stage's own loss (arXiv:2309.15818)."""

    def __init__(self, unet: nn.Module, config: CustomizationConfig) -> None:
        unet.requires_grad_(False)
        self._tuned = temporal_parameters(unet, attention_only=config.layers == "attention")
        if not self._tuned:
            raise InputError(
                "method: this network has no transformers over frames that could be trained; choose another stage"
            )
        self._before = {name: parameter.detach().float().cpu().clone() for name, parameter in self._tuned.items()}
        for parameter in self._tuned.values():
            parameter.requires_grad_(True)

    def tensors(self) -> dict[str, Tensor]:
        """See `Method.tensors`, also for their shapes."""
        return {
            f"{name}.diff": parameter.detach().float().cpu() - self._before[name]
            for name, parameter in self._tuned.items()
        }


class ResidualVector(TemporalAttention):
    """The same weights, by the differences of neighbouring frames: VMC, arXiv:2312.00845."""

    def loss(self, predict: Predict, inputs: Inputs) -> Tensor:
        """See `Method.loss`; a scalar."""
        predicted = predict(inputs)
        return residual_vector_loss(predicted.mean, predicted.wanted)


class _Lora(Method):
    """LoRA matrices that peft puts into linear layers of the network."""

    def __init__(self, unet: nn.Module, config: CustomizationConfig, names: list[str]) -> None:
        try:
            from peft import LoraConfig, inject_adapter_in_model
            from peft.tuners.lora import LoraLayer
        except ImportError as error:
            raise MissingDependencyError(f"{error}; install the training extra: pip install 'show1[train]'") from error
        if not names:
            raise InputError(
                "method: this network has no layers that this method can train; choose another stage or method"
            )
        unet.requires_grad_(False)
        self.lora_alpha = float(config.rank)
        options = LoraConfig(r=config.rank, lora_alpha=config.rank, target_modules=names, bias="none")
        inject_adapter_in_model(options, unet)
        self._layers: dict[str, Any] = {n: m for n, m in unet.named_modules() if isinstance(m, LoraLayer)}
        assert sorted(self._layers) == sorted(names)
        for layer in self._layers.values():
            layer.cast_input_dtype_enabled = False  # autocast casts what it must; peft would cast there and back

    def _tensors_of(self, names: list[str]) -> dict[str, Tensor]:
        return {
            f"{name}.{side}.weight": getattr(self._layers[name], side)["default"].weight.detach().float().cpu().clone()
            for name in names
            for side in ("lora_A", "lora_B")
        }

    def _set(self, names: list[str], *, active: bool, learning: bool) -> None:
        """Says of some layers whether their LoRA takes part, and whether it learns."""
        for name in names:
            self._layers[name].enable_adapters(active)
            for side in ("lora_A", "lora_B"):
                getattr(self._layers[name], side).requires_grad_(learning)


class MotionLora(_Lora):
    """LoRA on the transformers over frames with an appearance-debiased loss: MotionDirector, arXiv:2310.08465.

    A second LoRA, on the attention over pixels, learns single frames and so takes up what the clips look like; it is
    there, but does not learn, while the first one learns how they move, and is thrown away in the end. Each step is of
    one of both kinds, by chance.
    """

    SPATIAL_SHARE = 0.5
    """Chance that a step learns single frames."""

    def __init__(self, unet: nn.Module, config: CustomizationConfig) -> None:
        self._temporal = temporal_linears(unet, attention_only=config.layers == "attention")
        self._spatial = spatial_linears(unet, text=False)
        super().__init__(unet, config, [*self._temporal, *self._spatial] if self._temporal else [])

    def loss(self, predict: Predict, inputs: Inputs) -> Tensor:
        """See `Method.loss`; a scalar."""
        # drawn by the global generator, so that a resumed run draws the same
        spatial, frame = float(torch.rand(())) < self.SPATIAL_SHARE, int(torch.randint(inputs.x0.shape[2], ()))
        return (self.spatial_loss if spatial else self.temporal_loss)(predict, inputs, frame)

    def spatial_loss(self, predict: Predict, inputs: Inputs, frame: int) -> Tensor:
        """The loss, a scalar, of a step that learns this frame as a single one."""
        self._set(self._spatial, active=True, learning=True)
        self._set(self._temporal, active=False, learning=False)
        return predict(inputs.frame(frame)).loss()

    def temporal_loss(self, predict: Predict, inputs: Inputs, frame: int) -> Tensor:
        """The loss, a scalar, of a step that learns how clips move; this frame stands for their appearance."""
        self._set(self._spatial, active=True, learning=False)
        self._set(self._temporal, active=True, learning=True)
        predicted = predict(inputs)
        return predicted.loss() + appearance_debiased_loss(predicted.mean, predicted.wanted, frame)

    def tensors(self) -> dict[str, Tensor]:
        """See `Method.tensors`, also for their shapes."""
        return self._tensors_of(self._temporal)

    def show(self) -> None:
        """See `Method.show`."""
        self._set(self._spatial, active=False, learning=False)
        self._set(self._temporal, active=True, learning=False)


class SpatialLora(_Lora):
    """LoRA on the attention over pixels, and on convolutions if asked, by the stage's own loss: how clips look."""

    def __init__(self, unet: nn.Module, config: CustomizationConfig) -> None:
        convolutions = spatial_convolutions(unet) if config.convolutions else []
        super().__init__(unet, config, [*spatial_linears(unet, text=True), *convolutions])

    def tensors(self) -> dict[str, Tensor]:
        """See `Method.tensors`, also for their shapes."""
        return self._tensors_of(list(self._layers))


METHOD_CLASSES: dict[MethodName, Callable[[nn.Module, CustomizationConfig], Method]] = {
    "temporal_attention": TemporalAttention,
    "residual_vector": ResidualVector,
    "lora": MotionLora,
    "spatial_lora": SpatialLora,
}
"""The class of each method."""
