"""The common part of the tasks that train a denoising network with text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from show1.checkpoints.loading import read_scheduler_config
from show1.data.clips import ClipSource
from show1.diffusion import IndependentSeeds, add_noise, build_scheduler
from show1.errors import InputError
from show1.files import write_json
from show1.networks.layers import set_temporal_dropout
from show1.stages import PromptEmbeddings
from show1.training.corruption import corrupted, left_in
from show1.training.graphs import recorded
from show1.training.objective import draw_timesteps, moved, noise_of, prediction_loss
from show1.training.presets import preset
from show1.training.tasks.base import Task
from show1.training.tasks.options import DenoisingOptions
from show1.training.tasks.text_conditioner import TextConditioner

PIXEL_SCHEDULE: dict[str, Any] = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
"""Noise schedule of the published pixel stages."""

LATENT_SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
}
"""Noise schedule of the published latent stage."""

SAMPLING: dict[str, Any] = {
    "_class_name": "DPMSolverMultistepScheduler",
    "timestep_spacing": "trailing",
    "final_sigmas_type": "zero",
    "euler_at_final": True,
    "lambda_min_clipped": -5.1,
}
"""How exports sample: from the last timestep (arXiv:2305.08891), with a last step of first order."""


class DenoisingTask(Task):
    """A task with text, a noise schedule and a denoising network.

    A subclass makes `self.unet` and then calls `_complete`.

    Args:
        options: Options of the task.
        source: Where the clips come from; it knows the words of the captions.
        schedule: Noise schedule of a fresh network.
        add_condition: Whether the network is to add its condition to its output.
    """

    unet: nn.Module
    options: DenoisingOptions

    def __init__(
        self, options: DenoisingOptions, source: ClipSource, schedule: dict[str, Any], *, add_condition: bool = False
    ) -> None:
        super().__init__()
        self.options = options
        self.inherited_lr_scale = options.inherited_lr_scale
        self._inherited: set[str] = set()
        self._replay: Callable[..., Tensor] | None = None
        text_folder = options.text or options.init
        if text_folder is None:
            self.text = TextConditioner.fresh(preset(options.network), source.vocabulary())
        else:
            self.text = TextConditioner.from_folder(text_folder)
            self.text.add_words(source.vocabulary())
        self._trains_text = options.trains_text and options.text is None
        if not self._trains_text:
            self.text.requires_grad_(False)
        if options.init is not None and (Path(options.init) / "scheduler").is_dir():
            self.scheduler_config = read_scheduler_config(Path(options.init) / "scheduler")
            if add_condition:  # the network's last layer starts anew
                self.scheduler_config = {**self.scheduler_config, "prediction_type": options.prediction_type}
        else:
            self.scheduler_config = {**schedule, **SAMPLING, "prediction_type": options.prediction_type}
        noise_schedule = build_scheduler(self.scheduler_config, "ddpm")
        self.prediction = noise_schedule.config.prediction_type
        self.alphas_cumprod: Tensor
        self.register_buffer("alphas_cumprod", noise_schedule.alphas_cumprod, persistent=False)

    def _complete(self, in_channels: int, *, noise_level: bool = False) -> None:
        """Checks the network against the task and its text, and sets its dropout and checkpointing.

        Raises:
            InputError: `init` is of another stage, or `text` of another width than it was trained with.
        """
        options = self.options
        found: Any = self.unet.config
        width = found.get("encoder_hid_dim") or found.get("cross_attention_dim")
        if found.in_channels != in_channels or (found.get("class_embed_type") is not None) != noise_level:
            raise InputError(
                f"init: {options.init} holds a network of another stage (in_channels {found.in_channels}, "
                f"{options.task} needs {in_channels}); name an export of the previous stage, or of this one"
            )
        if width != self.text.width:
            raise InputError(
                f"text: its states have {self.text.width} channels, but the network of {options.init} reads {width}; "
                "name the text encoder that it was trained with"
            )
        set_temporal_dropout(self.unet, options.temporal_dropout)
        if options.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()  # type: ignore[operator]

    def train(self, mode: bool = True) -> Self:
        """Sets the mode as for every module, but frozen parts stay in evaluation mode."""
        super().train(mode)
        for part in self.children():
            if not any(p.requires_grad for p in part.parameters()):
                part.eval()
        return self

    def new_parameters(self) -> set[str]:
        """See `Task.new_parameters`."""
        return super().new_parameters() - self._inherited

    def encode_captions(self, captions: list[str]) -> Tensor:
        """Gives text states (B, L, D), some of them of the empty caption."""
        drop = torch.rand(len(captions)) < self.options.prompt_dropout
        kept = ["" if gone else caption for caption, gone in zip(captions, drop.tolist(), strict=True)]
        with torch.set_grad_enabled(self._trains_text and torch.is_grad_enabled()):
            states: Tensor = self.text(kept)
        return states

    def denoising_loss(
        self,
        x0: Tensor,
        captions: list[str],
        condition: Tensor | None = None,
        noise_level: Tensor | None = None,
        *,
        noised: Tensor | None = None,
        noise_from: Tensor | None = None,
    ) -> Tensor:
        """Gives the loss on clean samples, a scalar.

        Args:
            x0: (B, C, F, H, W) clean samples, which the network is to find.
            captions: What they show.
            condition: (B, C', F, H, W) channels beside the noisy ones.
            noise_level: (B,) noise level of the condition.
            noised: (B, C, F, H, W) samples that noise is added to instead, at all but low noise levels.
            noise_from: (B,) index of the sample whose noise and noise level each sample gets; None: its own.
        """
        options, alphas = self.options, self.alphas_cumprod
        text = self.encode_captions(captions)
        noise = moved(torch.randn(x0.shape), x0.device)
        t = moved(draw_timesteps(len(x0), options.max_timestep, options.timestep_logit), x0.device)
        if noise_from is not None:
            noise, t = noise[noise_from], t[noise_from]
        if noised is not None:
            noise = noise + noise_of(noised - x0, t, alphas)
        x_t = add_noise(x0, noise, t, alphas)
        inputs = x_t if condition is None else torch.cat([x_t, condition], dim=1)
        return prediction_loss(
            self.predict(inputs, t, text, noise_level),
            x0,
            noise,
            t,
            alphas,
            prediction=self.prediction,
            min_snr_gamma=options.min_snr_gamma,
            absolute=options.loss == "absolute",
        )

    def predict(self, inputs: Tensor, t: Tensor, text: Tensor, noise_level: Tensor | None) -> Tensor:
        """Runs the network on noisy samples (B, C, F, H, W) at timesteps (B,) with text states (B, L, D)."""
        if self.options.cuda_graphs and self.training:
            given = (inputs, t, text) if noise_level is None else (inputs, t, text, noise_level)
            if self._replay is None:
                self._replay = recorded(self.unet, *given)
            return self._replay(*given)
        labels = {} if noise_level is None else {"class_labels": noise_level}
        out: Tensor = self.unet(inputs, t, encoder_hidden_states=text, return_dict=False, **labels)[0]
        return out

    def export(self, folder: Path) -> None:
        """See `Task.export`."""
        self.unet.save_pretrained(folder / "unet")  # type: ignore[operator]
        (folder / "scheduler").mkdir(parents=True, exist_ok=True)
        write_json(folder / "scheduler" / "scheduler_config.json", self.scheduler_config)

    def sample(self, stage: Callable[..., Tensor], video: Tensor | None, captions: list[str], settings: Any) -> Tensor:
        """Runs a stage with the task's network for a preview.

        Args:
            stage: The stage.
            video: (B, 3, F, H, W) its input; None for keyframes.
            captions: B captions.
            settings: The stage's settings.

        Returns:
            (B, 3, F, H, W).
        """
        with torch.no_grad():
            empty = self.text([""]).expand(len(captions), -1, -1)
            prompts = PromptEmbeddings(prompt_embeds=self.text(captions), negative_prompt_embeds=empty)
        return stage(video, prompts, seeds=IndependentSeeds(list(range(len(captions)))), settings=settings)


def draw_clips(count: int, share: float) -> Tensor:
    """Draws which of a batch's clips are corrupted: their indices, (N,)."""
    return (torch.rand(count) < share).nonzero()[:, 0]


def corrupted_share(frames: Tensor, share: float) -> Tensor:
    """Corrupts some clips of low-resolution frames (B, 3, F, H, W) as an earlier stage leaves them: the same shape."""
    chosen = draw_clips(len(frames), share).to(frames.device)
    if not len(chosen):
        return frames
    return frames.index_copy(0, chosen, corrupted(frames[chosen], left_in(frames.shape[-2])))
