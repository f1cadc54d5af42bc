"""The image autoencoder of the translation stage."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from show1.checkpoints.loading import load_vae
from show1.data.clips import ClipSource
from show1.diffusion import fold_frames
from show1.training.networks import fresh_vae
from show1.training.objective import moved
from show1.training.presets import preset
from show1.training.tasks.base import Batch, Sample, Task, paired, random_crop
from show1.training.tasks.options import AutoencoderOptions


class AutoencoderTask(Task):
    """An image autoencoder with a weak pull towards a normal latent distribution (arXiv:2112.10752)."""

    KL_WEIGHT = 1e-5
    EDGE_WEIGHT = 1.0

    CROP = 64
    """Height and width of training crops."""

    CROPS = 4
    """Number of crops of each image."""

    def __init__(self, options: AutoencoderOptions, source: ClipSource) -> None:
        super().__init__()
        self.vae: Any = (
            load_vae(Path(options.init) / "vae", dtype=torch.float32, device="cpu")
            if options.init
            else fresh_vae(preset(options.network).network("vae"))
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Task.forward`: scalars."""
        images = fold_frames(batch["video"])
        images = torch.cat([random_crop((self.CROP, self.CROP), images)[0] for _ in range(self.CROPS)])
        posterior = self.vae.encode(images).latent_dist
        noise = moved(torch.randn(posterior.mean.shape), images.device)
        made = self.vae.decode(posterior.mean + posterior.std * noise).sample
        l1 = (made - images).abs().mean()
        edges = sum(((made - images).diff(dim=d)).abs().mean() for d in (2, 3))
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return {"loss": l1 + self.EDGE_WEIGHT * edges + self.KL_WEIGHT * kl, "l1": l1.detach(), "kl": kl.detach()}

    def export(self, folder: Path) -> None:
        """See `Task.export`."""
        self.vae.save_pretrained(folder / "vae")

    @torch.no_grad()
    def calibrate(self, batch: Batch) -> None:
        """See `Task.calibrate`: sets the scaling factor that gives the latents of the batch unit variance."""
        std = self.vae.encode(batch["video"][:, :, 0]).latent_dist.mean.std()
        self.vae.register_to_config(scaling_factor=round(1 / max(float(std), 1e-6), 5))

    def preview(self, batch: Batch) -> list[Sample]:
        """See `Task.preview`: images beside what the autoencoder makes of them, (3, 1, H, W) each."""
        made, shown = self.restore({"video": batch["video"][:4]})
        return paired(batch["caption"][:4], shown, made)

    @torch.no_grad()
    def restore(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Task.restore`: images after and before the autoencoder."""
        images = batch["video"][:, :, 0]
        made: Tensor = self.vae.decode(self.vae.encode(images).latent_dist.mean).sample
        return made[:, :, None], images[:, :, None]
