"""A customization as a task of the training loop: a frozen network in which a method lets some weights learn."""

import dataclasses
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from show1.adapters.adapter import Adapter, unet_sha256
from show1.checkpoints.cascade import Cascade
from show1.checkpoints.components import NETWORK_CLASSES
from show1.checkpoints.loading import load_network, read_scheduler_config
from show1.diffusion import build_scheduler
from show1.errors import InputError
from show1.networks.layers import set_temporal_dropout
from show1.stage_table import STAGE_TABLE
from show1.stages import load_stage
from show1.training.customization.augment import random_hue
from show1.training.customization.config import CustomizationConfig
from show1.training.customization.layers import hold_frozen_in
from show1.training.customization.methods import METHOD_CLASSES
from show1.training.customization.prepare import Prepared, make_learner
from show1.training.objective import Inputs, Predicted, ask, predict
from show1.training.tasks.base import Batch, Sample, Task
from show1.training.tasks.denoising import sample_stage

logger = logging.getLogger(__name__)

ADAPTER = "adapter.safetensors"
"""The adapter in an export."""

PREVIEW_STEPS = 25
"""Most sampling steps of a sample sheet."""

PER_CLIP = ("clips", "low", "latents")
"""Prepared tensors with a row per clip, for the learner."""


class CustomizationTask(Task):
    """A customization as the training loop runs it."""

    def __init__(self, config: CustomizationConfig, cascade: Cascade, prepared: Prepared | None) -> None:
        """Loads the network and lets the method choose what learns.

        Args:
            config: What to learn, and how.
            cascade: The files of the stage.
            prepared: What to learn from; None: only for a look at the networks.

        Raises:
            InputError: The stage does not fit the method or an option.
            CheckpointError: A file of the network is damaged.
        """
        super().__init__()
        self._config = config
        self._cascade = cascade
        self._part = cascade.parts[config.stage].path
        self._learner = make_learner(config, cascade)
        network = STAGE_TABLE[config.stage].unet
        place: dict[str, Any] = {"dtype": torch.float32, "device": "cpu", "variant": cascade.variant}
        self.unet: Any = load_network(NETWORK_CLASSES[network.kind], self._part / network.name, **place)
        set_temporal_dropout(self.unet, 0.0)  # a few hundred steps on a clip or two are no place for it
        self.method = METHOD_CLASSES[config.resolved_method](self.unet, config)
        self._dtype = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[config.mixed_precision]
        if config.mixed_precision != "no":
            hold_frozen_in(self.unet, self._dtype)
        if config.gradient_checkpointing:
            if network.kind != "pixel_unet":
                raise InputError("gradient_checkpointing: the expert's network does not support it; leave it out")
            self.unet.enable_gradient_checkpointing()
        schedule: Any = build_scheduler(read_scheduler_config(self._part / "scheduler"), "ddpm")
        self._prediction = schedule.config.prediction_type
        self._prompts = prepared.prompts if prepared is not None else ()
        tensors = {"alphas_cumprod": schedule.alphas_cumprod, **(prepared.tensors if prepared is not None else {})}
        for name, tensor in tensors.items():
            self.register_buffer(f"_{name}", tensor, persistent=False)

    def _held(self, name: str) -> Tensor:
        return self.get_buffer(f"_{name}")

    def train(self, mode: bool = True) -> Self:
        """See `nn.Module.train`; on changing to evaluation, the network becomes what it will be with the adapter."""
        super().train(mode)
        if not mode:
            self.method.show()
        return self

    def batches(self, rank: int, world: int, start: int) -> Iterator[Batch]:
        """Gives the clips' places, "index" (B,), one clip after another; for `show1.training.loop.fit`."""
        loop = self._config.loop
        clips, part = len(self._held("clips")), start * loop.accumulate
        while True:
            yield {"index": (torch.arange(loop.part_size) + part * loop.part_size) % clips}
            part += 1

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Task.forward`: a scalar."""
        return {"loss": self.method.loss(self.predict, self.inputs(batch["index"]))}

    def inputs(self, index: Tensor) -> Inputs:
        """Makes a batch of random parts of some clips, and of their texts, some of them replaced by the empty one.

        Args:
            index: (B,) places of the clips.
        """
        dropped = torch.rand(len(index)) < self._config.prompt_dropout
        text, empty = self._held("text")[index], self._held("empty")
        text = torch.where(dropped.to(text.device)[:, None, None], empty, text)
        clips = self._chosen(index)
        if self._config.random_hue > 0:
            clips["clips"] = random_hue(clips["clips"], self._config.random_hue)
        return self._learner.inputs(clips, text)

    def _chosen(self, index: Tensor) -> dict[str, Tensor]:
        """The tensors of some clips, by name."""
        return {name: self._held(name)[index] for name in PER_CLIP if hasattr(self, f"_{name}")}

    def predict(self, inputs: Inputs) -> Predicted:
        """Adds noise of a random level to x0 (B, C, F, H, W), and asks the network."""
        alphas = self._held("alphas_cumprod")
        last = len(alphas) - 1
        highest = last if self._learner.max_timestep is None else min(self._learner.max_timestep, last)
        logit = self._config.timestep_logit
        network = partial(ask, self.unet)
        return predict(network, inputs, alphas, self._prediction, max_timestep=highest, logit=logit)

    def preview(self, batch: Batch) -> list[Sample]:
        """The first clip, and what the network makes of the sheet's prompts (from that clip, in later stages)."""
        texts = self._prompts
        lower = self._dtype if self._dtype != torch.float32 else torch.bfloat16
        with torch.autocast(self.unet.device.type, lower, enabled=self._config.mixed_precision != "no"):
            made = self._sample()
        rows = [("the clip that is learned", self._held("clips")[0].cpu())]
        return [*rows, *zip(texts, made, strict=True)]

    def _sample(self) -> Tensor:
        """Runs the stage from the first clip for each of the sheet's P prompts: (P, 3, F, H, W)."""
        clips = {name: tensor.cpu() for name, tensor in self._chosen(torch.zeros(1, dtype=torch.long)).items()}
        video, settings = self._learner.preview(clips)
        settings = dataclasses.replace(settings, num_inference_steps=min(settings.num_inference_steps, PREVIEW_STEPS))
        stage = load_stage(self._config.stage, self._part, device=self.unet.device, unet=self.unet)
        return sample_stage(stage, video, self._held("preview"), self._held("empty")[None], settings)

    def adapter(self) -> Adapter:
        """The adapter of the weights as they are now."""
        config = self._config
        return Adapter(
            stage=config.stage,
            kind=config.kind,
            method=config.resolved_method,
            base_name=self._cascade.name,
            base_sha256=unet_sha256(self._part / "unet", self._cascade.variant),
            prompt=config.name if config.kind == "style" else "; ".join(dict.fromkeys(config.prompt)),
            settings=_recorded(config),
            tensors=self.method.tensors(),
            lora_alpha=self.method.lora_alpha,
            start_noise=self._held("start_noise") if config.inverts else None,
            noise_weight=config.noise_weight,
        )

    def export(self, folder: Path) -> None:
        """See `Task.export`: the adapter."""
        self.adapter().save(folder / ADAPTER)


def _recorded(config: CustomizationConfig) -> dict[str, Any]:
    """The options as an adapter records them for others, with only the names of files."""
    values = config.to_dict()
    del values["output"], values["run"], values["preview"]
    model = Path(config.model)
    return {
        **values,
        "method": config.resolved_method,
        "learning_rate": config.resolved_learning_rate,
        "model": model.name if model.is_dir() else config.model,
        "video": [Path(file).name for file in config.video],
        "source": [Path(file).name for file in config.source],
        "images": None if config.images is None else Path(config.images).name,
    }
