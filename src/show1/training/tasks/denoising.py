"""The common part of the tasks that train a denoising network with text."""

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from show1.checkpoints.components import text_width
from show1.checkpoints.loading import load_unet, read_scheduler_config
from show1.config import PUBLISHED
from show1.data.clips import ClipSource
from show1.diffusion import IndependentSeeds, build_scheduler
from show1.errors import InputError
from show1.files import write_json
from show1.launch import several
from show1.networks import UNet3DConditionModel
from show1.networks.layers import set_temporal_dropout
from show1.stage_table import STAGE_TABLE
from show1.stages import PromptEmbeddings
from show1.training.networks import adapt_pixel_unet, fresh_pixel_unet
from show1.training.objective import Inputs, ask, predict
from show1.training.presets import preset
from show1.training.tasks.base import Batch, Task
from show1.training.tasks.cached_text import CachedText
from show1.training.tasks.export import write_notes
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


VALIDATED = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Noise levels of validations, as shares of the highest one."""


class DenoisingTask(Task):
    """A task with text, a noise schedule and a denoising network.

    A subclass makes `self.unet`, most by `_make_pixel_unet`.

    Args:
        options: Options of the task.
        source: Where the clips come from; it knows the words of the captions.
        schedule: Noise schedule of a fresh network.
        add_condition: Whether the network is to add its condition to its output.

    Raises:
        InputError: CUDA graphs are asked for where there can be none, or a folder does not fit the task.
    """

    unet: nn.Module
    options: DenoisingOptions

    def __init__(
        self, options: DenoisingOptions, source: ClipSource, schedule: dict[str, Any], *, add_condition: bool = False
    ) -> None:
        if options.cuda_graphs and not torch.cuda.is_available():
            raise InputError("cuda_graphs needs a CUDA device, and there is none; leave it out (--no-cuda-graphs)")
        if options.cuda_graphs and several():
            raise InputError("cuda_graphs works only in a single process; leave it out, or train in one")
        super().__init__()
        self.options = options
        self.clip_options = source.options
        self.inherited_lr_scale = options.inherited_lr_scale
        self.previewed: dict[str, Any] = {}
        """Settings of previews that are not the stage's usual ones."""
        self._inherited: set[str] = set()
        self._replay: Callable[..., Tensor] | None = None
        text_folder = options.text or options.init
        if text_folder is None:
            self.text = TextConditioner.fresh(preset(options.network), source.vocabulary())
        elif options.cache_text:
            self.text = CachedText(text_folder)
        else:
            self.text = TextConditioner.from_folder(text_folder)
            if self.text.knows_only_words:
                self.text.add_words(source.vocabulary())
        self._trains_text = options.trains_text and options.text is None
        if not self._trains_text:
            self.text.requires_grad_(False)
        if options.init is not None and (Path(options.init) / "scheduler").is_dir():
            self.scheduler_config = read_scheduler_config(Path(options.init) / "scheduler")
            if add_condition:  # the network's last layer starts from new weights
                self.scheduler_config = {**self.scheduler_config, "prediction_type": options.prediction_type}
        else:
            self.scheduler_config = {**schedule, **SAMPLING, "prediction_type": options.prediction_type}
        noise_schedule = build_scheduler(self.scheduler_config, "ddpm")
        self.prediction = noise_schedule.config.prediction_type
        self.alphas_cumprod: Tensor
        self.register_buffer("alphas_cumprod", noise_schedule.alphas_cumprod, persistent=False)

    def _make_pixel_unet(self, *, noise_level: bool = False, **changes: Any) -> UNet3DConditionModel:
        """Makes the network of the stage: with random weights, or one that starts as that of `init`.

        Args:
            noise_level: Whether the network gets the noise level of its condition.
            changes: Config keys that differ from those of the preset or of `init`.
        """
        if self.options.init is None:
            config = preset(self.options.network).network(self.options.stage)
            unet = fresh_pixel_unet(config, self.text.width, **changes)
        else:
            initial = load_unet(Path(self.options.init) / "unet", dtype=torch.float32, device="cpu")
            unet = adapt_pixel_unet(initial, **changes)
            self._inherited = {f"unet.{name}" for name in initial.state_dict()}
        self.unet = unet
        self._complete(STAGE_TABLE[self.options.stage].in_channels, noise_level=noise_level)
        return unet

    def _complete(self, in_channels: int | None, *, noise_level: bool = False) -> None:
        """Checks the network against the task and its text, and sets its dropout and checkpointing.

        Raises:
            InputError: `init` is of another stage, or `text` of another width than it was trained with.
        """
        options = self.options
        found: Any = self.unet.config
        width = text_width(found)
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
            if not getattr(self.unet, "_supports_gradient_checkpointing", False):
                raise InputError("gradient_checkpointing: the expert's network does not support it; leave it out")
            self.unet.enable_gradient_checkpointing()  # type: ignore[operator]

    def new_parameters(self) -> set[str]:
        """See `Task.new_parameters`."""
        return super().new_parameters() - self._inherited

    def encode_captions(self, captions: list[str]) -> Tensor:
        """Gives text states (B, L, D), in training some of them of the empty caption."""
        drop = (torch.rand(len(captions)) < self.options.prompt_dropout) & self.training
        kept = ["" if gone else caption for caption, gone in zip(captions, drop.tolist(), strict=True)]
        with torch.set_grad_enabled(self._trains_text and torch.is_grad_enabled()):
            states: Tensor = self.text(kept)
        return states

    @abstractmethod
    def inputs(self, batch: Batch) -> Inputs:
        """Makes what the network is to denoise, with text states from `encode_captions`."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Task.forward`: a scalar."""
        options = self.options
        noise: dict[str, Any] = {"max_timestep": options.max_timestep, "logit": options.timestep_logit}
        predicted = predict(self._ask, self.inputs(batch), self.alphas_cumprod, self.prediction, **noise)
        return {"loss": predicted.loss(min_snr_gamma=options.min_snr_gamma, absolute=options.loss == "absolute")}

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """See `Task.validate`: the loss at each of some noise levels, and the mean of these."""
        options, losses = self.options, {}
        inputs = self.inputs(batch)
        for share in VALIDATED:
            level = round(share * options.max_timestep)
            t = torch.full((len(inputs.x0),), level)
            predicted = predict(
                self._ask, inputs, self.alphas_cumprod, self.prediction, max_timestep=0, logit=None, t=t
            )
            losses[f"loss_t{level}"] = predicted.loss(
                min_snr_gamma=options.min_snr_gamma, absolute=options.loss == "absolute"
            )
        return {"loss": torch.stack(list(losses.values())).mean(), **losses}

    def _ask(self, *given: Tensor) -> Tensor:
        """Runs the network; see `show1.training.objective.ask`."""
        if not (self.options.cuda_graphs and self.training):
            return ask(self.unet, *given)
        if self._replay is None:
            self._replay = recorded(self.unet, *given)
        return self._replay(*given)

    @property
    def cuts_prompts(self) -> bool:
        """Whether the cascade's settings, and not the stage's tokenizer, say how many tokens of a prompt are read."""
        return STAGE_TABLE[self.options.stage].prompt("", PUBLISHED)[1] is not None

    @abstractmethod
    def learned_settings(self) -> dict[str, Any]:
        """Gives the settings of the stage that the training decides: sizes, frames, noise levels."""

    @abstractmethod
    def suitable_sampling(self) -> dict[str, Any]:
        """Gives the steps and the guidance that suit the network with the sampler of `SAMPLING`."""

    def export(self, folder: Path) -> None:
        """See `Task.export`."""
        self.unet.save_pretrained(folder / "unet")  # type: ignore[operator]
        (folder / "scheduler").mkdir(parents=True, exist_ok=True)
        write_json(folder / "scheduler" / "scheduler_config.json", self.scheduler_config)
        ours = all(self.scheduler_config.get(key) == value for key, value in SAMPLING.items())
        write_notes(
            folder,
            self.options.stage,
            learned=self.learned_settings(),
            sampling=self.suitable_sampling() if ours else None,
            max_text_tokens=self.text.length if self.cuts_prompts else None,
            init=self.options.init,
        )

    @torch.no_grad()
    def sample(self, stage: Callable[..., Tensor], video: Tensor | None, captions: list[str], settings: Any) -> Tensor:
        """Runs a stage with the task's network for a preview; arguments and result as for `sample_stage`."""
        settings = dataclasses.replace(settings, **self.previewed)
        return sample_stage(stage, video, self.text(captions), self.text([""]), settings)


def sample_stage(
    stage: Callable[..., Tensor], video: Tensor | None, text: Tensor, empty: Tensor, settings: Any
) -> Tensor:
    """Runs a stage for a sheet of samples, with seeds that are always the same.

    Args:
        stage: The stage.
        video: (B, 3, F, H, W) its input, or (1, 3, F, H, W) for all samples; None for keyframes.
        text: (B, L, D) text states of the prompts.
        empty: (1, L, D) text states of the empty prompt.
        settings: The stage's settings.

    Returns:
        (B, 3, F', H', W').
    """
    count = len(text)
    prompts = PromptEmbeddings(prompt_embeds=text, negative_prompt_embeds=empty.expand(count, -1, -1))
    given = None if video is None else video.expand(count, -1, -1, -1, -1)
    return stage(given, prompts, seeds=IndependentSeeds(range(count)), settings=settings)


class _InOrder(nn.Module):
    """A network with positional inputs only, as CUDA graphs need them."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, *noise_level: Tensor) -> Tensor:
        return ask(self.unet, sample, timestep, text, *noise_level)


def recorded(unet: nn.Module, *inputs: Tensor) -> Callable[..., Tensor]:
    """Records a network in training as CUDA graphs, under the current autocast: two calls replay all its kernels.

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
