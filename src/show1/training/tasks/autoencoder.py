"""The image autoencoder of the translation stage."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor

from show1.checkpoints.loading import load_vae
from show1.data.clips import ClipSource
from show1.diffusion import fold_frames
from show1.errors import InputError
from show1.stages.translation import encode
from show1.training.networks import fresh_tiny_vae, fresh_vae
from show1.training.objective import moved
from show1.training.presets import preset
from show1.training.tasks.base import Batch, Sample, Task, paired, random_crop
from show1.training.tasks.options import AutoencoderOptions, TinyAutoencoderOptions


class _Autoencoding(Task):
    """What the trainings of autoencoders of images have in common."""

    EDGE_WEIGHT = 1.0

    CROP = 64
    """Height and width of training crops."""

    CROPS = 4
    """Number of crops of each image."""

    vae: Any

    @staticmethod
    def initial(folder: str | None, kind: type[Any]) -> Any:
        """Loads the autoencoder that a training starts from; None if it names no folder.

        Raises:
            InputError: It is of another kind.
        """
        if folder is None:
            return None
        vae = load_vae(Path(folder) / "vae", dtype=torch.float32, device="cpu")
        if not isinstance(vae, kind):
            raise InputError(f"init: {folder} holds an {type(vae).__name__}; this task trains an {kind.__name__}")
        return vae

    def crops(self, batch: Batch) -> Tensor:
        """Cuts random parts out of a batch's images, (N, 3, 64, 64)."""
        images = fold_frames(batch["video"])
        return torch.cat([random_crop((self.CROP, self.CROP), images)[0] for _ in range(self.CROPS)])

    def error(self, made: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Compares images (N, 3, H, W) by their values and by their edges."""
        wrong = made - images
        l1, edges = wrong.abs().mean(), sum(wrong.diff(dim=d).abs().mean() for d in (2, 3))
        return {"loss": l1 + self.EDGE_WEIGHT * edges, "l1": l1.detach()}

    def export(self, folder: Path) -> None:
        """See `Task.export`."""
        self.vae.save_pretrained(folder / "vae")

    def preview(self, batch: Batch) -> list[Sample]:
        """See `Task.preview`: images beside what the autoencoder makes of them, (3, 1, H, W) each."""
        made, shown = self.restore({"video": batch["video"][:4]})
        return paired(batch["caption"][:4], shown, made)

    @torch.no_grad()
    def restore(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Task.restore`: images after and before the autoencoder."""
        images = batch["video"][:, :, 0]
        latents = encode(self.vae, images, draw=None) / self.vae.config.scaling_factor
        made: Tensor = self.vae.decode(latents).sample
        return made[:, :, None], images[:, :, None]


class AutoencoderTask(_Autoencoding):
    """An image autoencoder with a weak pull towards a normal latent distribution (arXiv:2112.10752)."""

    KL_WEIGHT = 1e-5

    def __init__(self, options: AutoencoderOptions, source: ClipSource) -> None:
        super().__init__()
        self.vae = self.initial(options.init, AutoencoderKL) or fresh_vae(preset(options.network).network("vae"))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Task.forward`: scalars."""
        images = self.crops(batch)
        posterior = self.vae.encode(images).latent_dist
        noise = moved(torch.randn(posterior.mean.shape), images.device)
        made = self.vae.decode(posterior.mean + posterior.std * noise).sample
        error = self.error(made, images)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return {**error, "loss": error["loss"] + self.KL_WEIGHT * kl, "kl": kl.detach()}

    @torch.no_grad()
    def calibrate(self, batch: Batch) -> None:
        """See `Task.calibrate`: sets the scaling factor that gives the latents of the batch unit variance."""
        std = self.vae.encode(batch["video"][:, :, 0]).latent_dist.mean.std()
        self.vae.register_to_config(scaling_factor=round(1 / max(float(std), 1e-6), 5))


class TinyAutoencoderTask(_Autoencoding):
    """A tiny autoencoder (diffusers' `AutoencoderTiny`, the architecture of TAESD) that learns another one's latents.

    Its encoder learns to give the scaled latents of the teacher, and its decoder to draw the image of them, so that
    a latent network that was trained with the teacher works with it.
    """

    LATENT_WEIGHT = 1.0

    def __init__(self, options: TinyAutoencoderOptions, source: ClipSource) -> None:
        super().__init__()
        assert options.vae is not None
        self.teacher: Any = load_vae(Path(options.vae) / "vae", dtype=torch.float32, device="cpu").requires_grad_(False)
        config, channels = preset(options.network).network("tiny_vae"), self.teacher.config.latent_channels
        self.vae = self.initial(options.init, AutoencoderTiny) or fresh_tiny_vae(config, channels)
        self.vae.register_to_config(scaling_factor=1.0)  # it learns latents that are scaled already
        (own, factor), wanted = _latents_of(self.vae), _latents_of(self.teacher)
        if (own, factor) != wanted:
            raise InputError(
                f"vae: {options.vae} has latents of {wanted[0]} channels, {wanted[1]} times smaller than its images, "
                f"and those of the tiny autoencoder have {own} channels, {factor} times smaller; name one that fits"
            )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Task.forward`: scalars."""
        images = self.crops(batch)
        with torch.no_grad():
            wanted = encode(self.teacher, images, draw=lambda shape: moved(torch.randn(shape), images.device))
        error = self.error(self.vae.decode(wanted).sample, images)
        off = (self.vae.encode(images).latents - wanted).square().mean()
        return {**error, "loss": error["loss"] + self.LATENT_WEIGHT * off, "latents": off.detach()}


def _latents_of(vae: Any) -> tuple[int, int]:
    """Channels of an autoencoder's latents, and how many times smaller they are than its images."""
    return vae.config.latent_channels, 2 ** (len(vae.config.block_out_channels) - 1)
