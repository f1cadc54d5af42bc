"""A customization as a task of the training loop: a frozen network of which a method lets some weights learn."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from show1.adapters.adapter import Adapter, unet_sha256
from show1.checkpoints.loading import load_latent_unet, load_unet, load_vae, read_scheduler_config
from show1.checkpoints.locate import Cascade
from show1.config import StageSettings
from show1.diffusion import IndependentSeeds, add_noise, build_scheduler, fold_frames
from show1.errors import InputError
from show1.networks.layers import set_temporal_dropout
from show1.stages import (
    InterpolationStage,
    KeyframesStage,
    PromptEmbeddings,
    SuperResolutionStage,
    TranslationStage,
    interpolation,
)
from show1.stages.super_resolution import NOISING, upsample
from show1.training.customization.augment import random_hue
from show1.training.customization.config import CustomizationConfig
from show1.training.customization.layers import hold_frozen_in
from show1.training.customization.methods import METHOD_CLASSES, Inputs, Predicted
from show1.training.customization.prepare import Prepared
from show1.training.objective import draw_timesteps, moved
from show1.training.tasks import Batch, Sample, SuperResolutionTask, Task, random_crop

logger = logging.getLogger(__name__)

ADAPTER = "adapter.safetensors"
"""The adapter in an export."""

PREVIEW_STEPS = 25
"""Sampling steps of a sample sheet at most."""

HIGHEST_NOISE_LEVEL = 400
"""Of super-resolution's small clips, as in the stage's own training, where it samples with any noise in them."""


class CustomizationTask(Task):
    """What the training loop sees of a customization."""

    def __init__(self, config: CustomizationConfig, cascade: Cascade, prepared: Prepared | None) -> None:
        """Loads the network and lets the method choose what learns.

        Args:
            config: What to learn, and how.
            cascade: The files of the stage.
            prepared: What to learn from; None: only the networks are looked at.

        Raises:
            InputError: The stage does not go with the method or an option.
            CheckpointError: A file of the network is damaged.
        """
        super().__init__()
        self._config = config
        self._cascade = cascade
        self._part = cascade.parts[config.stage].path
        load = load_latent_unet if config.stage == "translation" else load_unet
        self.unet: Any = load(self._part / "unet", dtype=torch.float32, device="cpu", variant=cascade.variant)
        set_temporal_dropout(self.unet, 0.0)  # a few hundred steps on a clip or two are no place for it
        self.method = METHOD_CLASSES[config.resolved_method](self.unet, config)
        if config.mixed_precision == "bf16":
            hold_frozen_in(self.unet, torch.bfloat16)
        if config.gradient_checkpointing:
            if config.stage == "translation":
                raise InputError("gradient_checkpointing: the expert's network cannot do it; leave it out")
            self.unet.enable_gradient_checkpointing()
        self._learning = {name: p for name, p in self.named_parameters() if p.requires_grad}
        self._sampler = read_scheduler_config(self._part / "scheduler")
        schedule: Any = build_scheduler(self._sampler, "ddpm")
        self._prediction = schedule.config.prediction_type
        noising = self._part / "image_noising_scheduler"
        self._noising = read_scheduler_config(noising) if noising.is_dir() else NOISING
        self._hold("alphas_cumprod", schedule.alphas_cumprod)
        self._hold("noising_alphas", build_scheduler(self._noising).alphas_cumprod)
        for name, tensor in prepared.tensors().items() if prepared is not None else ():
            self._hold(name, tensor)

    def _hold(self, name: str, tensor: Tensor) -> None:
        """Keeps a tensor on the network's device and out of checkpoints."""
        self.register_buffer(f"_{name}", tensor, persistent=False)

    def _held(self, name: str) -> Tensor:
        tensor = getattr(self, f"_{name}")
        assert isinstance(tensor, Tensor), f"{name} was not prepared"
        return tensor

    # checkpoints hold what learns alone

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The weights that learn."""
        return {name: parameter.detach() for name, parameter in self._learning.items()}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Puts back the weights that learn."""
        assert set(state_dict) == set(self._learning), "a checkpoint of another method"
        for name, parameter in self._learning.items():
            parameter.copy_(state_dict[name])

    def learning_parameters(self) -> list[nn.Parameter]:
        """The parameters that learn."""
        return list(self._learning.values())

    def train(self, mode: bool = True) -> Self:
        """As for every module; going to evaluation makes the network what it will be with the adapter."""
        super().train(mode)
        if not mode:
            self.method.show()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Task.forward`; a batch is the clips' places, "index" (B,)."""
        return {"loss": self.method.loss(self.predict, self.inputs(batch["index"]))}

    def inputs(self, index: Tensor) -> Inputs:
        """What the stage's network sees of some clips: random parts of them, and their texts, some left out.

        Args:
            index: (B,) places of the clips.
        """
        dropped = torch.rand(len(index)) < self._config.prompt_dropout
        text, empty = self._held("text")[index], self._held("empty")
        text = torch.where(dropped.to(text.device)[:, None, None], empty, text)
        stage = self._config.stage
        if stage == "translation":
            return Inputs(x0=self._held("latents")[index], text=text)
        video = self._held("clips")[index]
        if self._config.random_hue > 0:
            video = random_hue(video, self._config.random_hue)
        if stage == "keyframes":
            return Inputs(x0=video, text=text)
        if stage == "interpolation":
            length = self._cascade.settings.interpolation.factor + 1
            start = int(torch.randint(video.shape[2] - length + 1, ()))
            part = video[:, :, start : start + length]
            return Inputs(x0=part, text=text, condition=interpolation.inputs(part[:, :, [0, -1]], length - 1))
        return self._super_resolution_inputs(video, self._held("low")[index], text)

    def _super_resolution_inputs(self, video: Tensor, low: Tensor, text: Tensor) -> Inputs:
        """Noisy small frames, and the clean first one of a window of several; or, as sampling begins, single frames."""
        frames = video.shape[2]
        if frames > 1 and float(torch.rand(())) < SuperResolutionTask.SINGLE_FRAMES:
            video, low = (fold_frames(x)[:, :, None] for x in (video, low))
            text = text.repeat_interleave(frames, dim=0)
        video, low = random_crop(SuperResolutionTask.CROP, video, upsample(low, *video.shape[-2:]))
        highest = HIGHEST_NOISE_LEVEL if self._cascade.settings.super_resolution.noise_level > 0 else 0
        levels = moved(torch.randint(highest + 1, (len(video),)), video.device)
        condition = add_noise(low, moved(torch.randn(low.shape), low.device), levels, self._held("noising_alphas"))
        if video.shape[2] > 1:
            condition = torch.cat([video[:, :, :1], condition[:, :, 1:]], dim=2)
        return Inputs(x0=video, text=text, condition=condition, noise_level=levels)

    def predict(self, inputs: Inputs) -> Predicted:
        """Adds noise of a random level and asks the network."""
        x0, alphas = inputs.x0, self._held("alphas_cumprod")
        stage = self._config.stage
        highest = self._cascade.settings.translation.max_timestep if stage == "translation" else len(alphas) - 1
        noise = moved(torch.randn(x0.shape), x0.device)
        t = moved(draw_timesteps(len(x0), min(highest, len(alphas) - 1), self._config.timestep_logit), x0.device)
        sample = add_noise(x0, noise, t, alphas)
        if inputs.condition is not None:
            sample = torch.cat([sample, inputs.condition], dim=1)
        labels = {} if inputs.noise_level is None else {"class_labels": inputs.noise_level}
        out = self.unet(sample, t, encoder_hidden_states=inputs.text, return_dict=False, **labels)[0]
        return Predicted(out=out, x0=x0, noise=noise, t=t, alphas_cumprod=alphas, prediction=self._prediction)

    def preview(self, batch: Batch) -> list[Sample]:
        """The first clip, and what the network makes of the sheet's prompts (from that clip, in later stages)."""
        texts: list[str] = batch["prompts"]
        clip = self._held("clips")[:1].cpu()
        with torch.autocast(self.unet.device.type, torch.bfloat16, enabled=self._config.mixed_precision == "bf16"):
            made = self._sample(clip.expand(len(texts), -1, -1, -1, -1), len(texts))
        rows = [("the clip that is learned", clip[0])]
        return [*rows, *zip(texts, made, strict=True)]

    def _sample(self, clips: Tensor, count: int) -> Tensor:
        """Runs the stage: (P, 3, F, H, W) reference clips -> (P, 3, F, H, W)."""
        embeds = self._held("preview")
        empty = self._held("empty").expand(count, -1, -1)
        prompts = PromptEmbeddings(prompt_embeds=embeds, negative_prompt_embeds=empty)
        seeds = IndependentSeeds(list(range(count)))
        frames, height, width = clips.shape[2:]
        settings = self._cascade.settings
        if self._config.stage == "keyframes":
            options = _shorter(settings.keyframes, num_frames=frames, height=height, width=width)
            return KeyframesStage(self.unet, self._sampler)(None, prompts, seeds=seeds, settings=options)
        if self._config.stage == "interpolation":
            video = clips[:, :, :: settings.interpolation.factor]
            stage = InterpolationStage(self.unet, self._sampler)
            return stage(video, prompts, seeds=seeds, settings=_shorter(settings.interpolation))
        if self._config.stage == "super_resolution":
            low = self._held("low")[:1].cpu().expand(count, -1, -1, -1, -1)
            upscale = SuperResolutionStage(self.unet, self._sampler, self._noising)
            options = _shorter(settings.super_resolution, height=height, width=width, first_frame=None)
            return upscale(low, prompts, seeds=seeds, settings=options)
        vae = load_vae(self._part / "vae", dtype=torch.float32, device=self.unet.device)
        small = F.interpolate(clips, size=(frames, height // 2, width // 2), mode="area")
        options = _shorter(settings.translation, height=height, width=width)
        return TranslationStage(self.unet, vae, self._sampler)(small, prompts, seeds=seeds, settings=options)

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


def _shorter(settings: StageSettings, **changes: Any) -> Any:
    """A stage's settings for a look in between."""
    steps = min(settings.num_inference_steps, PREVIEW_STEPS)
    return dataclasses.replace(settings, num_inference_steps=steps, **changes)


def _recorded(config: CustomizationConfig) -> dict[str, Any]:
    """The options as an adapter tells them to others: files by name alone."""
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
