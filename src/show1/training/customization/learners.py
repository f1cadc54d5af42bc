"""How each stage is customized: what its network learns from, and what a sample sheet starts from."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from show1.checkpoints.loading import load_vae, read_scheduler_config
from show1.config import CascadeSettings, StageName, StageSettings
from show1.diffusion import fold_frames, unfold_frames
from show1.stages import interpolation, super_resolution, translation
from show1.training.objective import Inputs
from show1.training.tasks.super_resolution import windows_or_frames

TRANSLATION_FRAMES = 8
"""Frames of a clip for the expert, if the options do not say."""

HIGHEST_NOISE_LEVEL = 400
"""Highest noise level of super-resolution's small clips, as in the stage's own training; 0 if it samples without."""


class StageLearner:
    """One stage as it is customized: it learns whole clips, or the latents of clips.

    All its randomness comes from the global generator.
    """

    input_frames: int | None = None
    """Frames that the stage is given to make one clip of the usual length; None: it is given no video."""
    least_frames = 1
    """Frames that a clip must have."""
    max_timestep: int | None = None
    """Highest noise level to learn; None: the last one of the schedule."""

    def __init__(self, settings: CascadeSettings, folder: Path) -> None:
        """Takes what the stage is made for.

        Args:
            settings: Of the cascade.
            folder: Of the stage's files.
        """
        self.settings = settings
        self.folder = folder

    def prepare(self, clips: Tensor, source: Tensor | None, device: torch.device) -> dict[str, Tensor]:
        """Computes once what the network learns from besides the clips.

        Args:
            clips: (N, 3, F, H, W) reference clips in [-1, 1].
            source: (N, 3, F, H, W) the same clips without the style, if there are any.
            device: Where to compute.

        Returns:
            Tensors of `Prepared` by name, each (N, ...) on the CPU.
        """
        return {}

    def inputs(self, clips: Mapping[str, Tensor], text: Tensor) -> Inputs:
        """What the network is to denoise.

        Args:
            clips: Of the chosen clips: "clips" (B, 3, F, H, W), and what `prepare` computed.
            text: (B, L, D) text states of the chosen clips.
        """
        return Inputs(x0=clips.get("latents", clips["clips"]), text=text)

    def preview(self, clips: Mapping[str, Tensor]) -> tuple[Tensor | None, StageSettings]:
        """The input (1, 3, F, h, w) and the settings with which a sample sheet is made.

        Args:
            clips: As for `inputs`, of the first clip and on the CPU.
        """
        frames, height, width = clips["clips"].shape[2:]
        return None, dataclasses.replace(self.settings.keyframes, num_frames=frames, height=height, width=width)


class _Interpolation(StageLearner):
    """Learns one segment at a time, wherever it begins."""

    def __init__(self, settings: CascadeSettings, folder: Path) -> None:
        super().__init__(settings, folder)
        self.input_frames = settings.keyframes.num_frames
        self.least_frames = settings.interpolation.factor + 1

    def inputs(self, clips: Mapping[str, Tensor], text: Tensor) -> Inputs:
        video = clips["clips"]
        start = int(torch.randint(video.shape[2] - self.least_frames + 1, ()))
        part = video[:, :, start : start + self.least_frames]
        condition = interpolation.inputs(part[:, :, [0, -1]], self.settings.interpolation.factor)
        return Inputs(x0=part, text=text, condition=condition)

    def preview(self, clips: Mapping[str, Tensor]) -> tuple[Tensor | None, StageSettings]:
        return clips["clips"][:, :, :: self.settings.interpolation.factor], self.settings.interpolation


class _SuperResolution(StageLearner):
    """Learns crops of windows led by a clean frame or, as sampling begins, of single frames."""

    def __init__(self, settings: CascadeSettings, folder: Path) -> None:
        super().__init__(settings, folder)
        noising = folder / "image_noising_scheduler"
        config = read_scheduler_config(noising) if noising.is_dir() else super_resolution.NOISING
        self._noising_alphas = super_resolution.noising_alphas(config)
        self.input_frames = settings.super_resolution.window

    def prepare(self, clips: Tensor, source: Tensor | None, device: torch.device) -> dict[str, Tensor]:
        shown = clips if source is None else source
        size = (self.settings.keyframes.height, self.settings.keyframes.width)
        return {"low": unfold_frames(F.interpolate(fold_frames(shown), size=size, mode="area"), len(shown))}

    def inputs(self, clips: Mapping[str, Tensor], text: Tensor) -> Inputs:
        video, low = clips["clips"], clips["low"]
        low = super_resolution.upsample(low, *video.shape[-2:])
        noise_level = (0, HIGHEST_NOISE_LEVEL if self.settings.super_resolution.noise_level > 0 else 0)
        alphas = self._noising_alphas.to(video.device)
        x0, condition, levels = windows_or_frames(video, low, noise_level, alphas, draw_kind_first=True)
        text = text.repeat_interleave(len(x0) // len(text), dim=0)
        return Inputs(x0=x0, text=text, condition=condition, noise_level=levels)

    def preview(self, clips: Mapping[str, Tensor]) -> tuple[Tensor | None, StageSettings]:
        height, width = clips["clips"].shape[-2:]
        own = self.settings.super_resolution
        return clips["low"], dataclasses.replace(own, height=height, width=width, first_frame=None)


class _Translation(StageLearner):
    """Learns latents, at the expert's noise levels."""

    input_frames = TRANSLATION_FRAMES

    def __init__(self, settings: CascadeSettings, folder: Path) -> None:
        super().__init__(settings, folder)
        self.max_timestep = settings.translation.max_timestep

    @torch.no_grad()
    def prepare(self, clips: Tensor, source: Tensor | None, device: torch.device) -> dict[str, Tensor]:
        vae = load_vae(self.folder / "vae", dtype=torch.float32, device=device)
        latents = translation.encode(vae, fold_frames(clips), draw=None, frames_per_slice=1)
        return {"latents": unfold_frames(latents, len(clips)).cpu()}

    def preview(self, clips: Mapping[str, Tensor]) -> tuple[Tensor | None, StageSettings]:
        frames, height, width = clips["clips"].shape[2:]
        small = F.interpolate(clips["clips"], size=(frames, height // 2, width // 2), mode="area")
        return small, dataclasses.replace(self.settings.translation, height=height, width=width)


LEARNERS: dict[StageName, type[StageLearner]] = {
    "keyframes": StageLearner,
    "interpolation": _Interpolation,
    "super_resolution": _SuperResolution,
    "translation": _Translation,
}
"""The class of each stage."""
