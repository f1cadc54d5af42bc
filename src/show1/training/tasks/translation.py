"""Text to high-resolution latents: the expert of section 3.4 of arXiv:2309.15818."""

import re
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from show1.checkpoints.loading import load_latent_unet, load_vae
from show1.config import TranslationSettings
from show1.data.clips import ClipSource
from show1.diffusion import fold_frames, unfold_frames
from show1.networks.latent_unet import TrainingAttention
from show1.stages import TranslationStage
from show1.stages.translation import encode
from show1.training.corruption import corrupted, draw_clips, left_by_super_resolution
from show1.training.networks import embedded_latent_unet, fresh_latent_unet
from show1.training.objective import Inputs, moved
from show1.training.presets import preset
from show1.training.tasks.base import Batch, Sample, paired, random_crop
from show1.training.tasks.denoising import LATENT_SCHEDULE, DenoisingTask
from show1.training.tasks.options import TranslationOptions

_OVER_FRAMES = re.compile(r"temp_(convs|attentions)|transformer_in")


class TranslationTask(DenoisingTask):
    """The training of the latent network at noise levels up to `max_timestep`: with 900, the expert."""

    options: TranslationOptions

    def __init__(self, options: TranslationOptions, source: ClipSource) -> None:
        super().__init__(options, source, LATENT_SCHEDULE)
        assert options.vae is not None
        self.vae: Any = load_vae(Path(options.vae) / "vae", dtype=torch.float32, device="cpu").requires_grad_(False)
        channels = self.vae.config.latent_channels
        embeddings = {"embed_frames": options.embed_frames, "embed_places": options.embed_places}
        if options.init and (Path(options.init) / "unet").is_dir():
            initial = load_latent_unet(Path(options.init) / "unet", dtype=torch.float32, device="cpu")
            known = initial.state_dict()
            self.unet = embedded_latent_unet(initial, **embeddings)
        else:
            config = preset(options.network).network("translation")
            self.unet = fresh_latent_unet(config, self.text.width, channels, **embeddings)
            known = self.unet.state_dict()
        network: Any = self.unet
        network.set_attn_processor(TrainingAttention())
        if options.init is not None:
            # layers over frames always learn at the full rate: after single images they are new
            self._inherited = {f"unet.{name}" for name in known if not _OVER_FRAMES.search(name)}
        self._complete(channels)

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """Encodes (B, 3, F, H, W) to scaled latents (B, 4, F, H/8, W/8), drawn from the posterior."""
        images = fold_frames(video)
        latents = encode(self.vae, images, draw=lambda shape: moved(torch.randn(shape), images.device))
        return unfold_frames(latents, len(video))

    def new_parameters(self) -> set[str]:
        """See `Task.new_parameters`."""
        return {name for name in super().new_parameters() if name.startswith("unet.")}

    def inputs(self, batch: Batch) -> Inputs:
        """See `DenoisingTask.inputs`."""
        video = batch["video"]
        kind = left_by_super_resolution(video.shape[-2])
        if self.options.crop is not None:
            [video] = random_crop(self.options.crop, video)
        clean, noised = self.encode(video), None
        chosen = draw_clips(len(video), self.options.corruption).to(video.device)
        if len(chosen):
            noised = clean.index_copy(0, chosen, self.encode(corrupted(video[chosen], kind)))
        return Inputs(x0=clean, text=self.encode_captions(batch["caption"]), noised=noised)

    def learned_settings(self) -> dict[str, Any]:
        """See `DenoisingTask.learned_settings`."""
        view = self.options.view()
        return {"height": view.height, "width": view.width, "max_timestep": max(self.options.max_timestep, 1)}

    def suitable_sampling(self) -> dict[str, Any]:
        """See `DenoisingTask.suitable_sampling`."""
        return {"num_inference_steps": 15, "guidance_scale": 1.0, "strength": 0.6, "negative_prompt": ""}

    def export(self, folder: Path) -> None:
        """See `Task.export`."""
        super().export(folder)
        self.text.save(folder)
        self.vae.save_pretrained(folder / "vae")

    def preview(self, batch: Batch) -> list[Sample]:
        """See `Task.preview`: videos beside translations of their reduced copies, (3, F, H, W) each."""
        video = batch["video"][:2, :, :8]
        frames, height, width = video.shape[2:]
        small = F.interpolate(video, size=(frames, height // 4, width // 4), mode="area")
        settings = TranslationSettings(
            num_inference_steps=15, guidance_scale=1.0, strength=0.6, height=height, width=width, max_timestep=999
        )
        stage = TranslationStage(self.unet, self.vae, self.scheduler_config)
        captions = batch["caption"][: len(video)]
        made = self.sample(stage, small, captions, settings)
        return paired(captions, video, made, names=("original", "output, from the original at a quarter of its size"))
