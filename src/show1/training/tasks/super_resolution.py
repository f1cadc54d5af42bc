"""Small frames to large ones."""

from pathlib import Path

import torch
from torch import Tensor

from show1.checkpoints.loading import load_unet
from show1.config import SuperResolutionSettings
from show1.data.clips import ClipSource
from show1.diffusion import fold_frames
from show1.stages import SuperResolutionStage
from show1.stages.super_resolution import inputs, noising_alphas, upsample
from show1.training import networks
from show1.training.objective import moved
from show1.training.presets import preset
from show1.training.tasks.base import Batch, Sample, paired, random_crop
from show1.training.tasks.denoising import PIXEL_SCHEDULE, DenoisingTask, corrupted_share
from show1.training.tasks.options import SuperResolutionOptions


class SuperResolutionTask(DenoisingTask):
    """A low-resolution window, noised, and a clean first frame, to the high-resolution window; or single frames."""

    SINGLE_FRAMES = 0.2
    """Share of batches of single frames, without a clean one beside them: so the network can begin a video."""

    CROP = (48, 64)
    """Height and width of training crops of the high-resolution window."""

    options: SuperResolutionOptions

    noising_alphas: Tensor
    """(T,) of the schedule on which the condition is noised."""

    def __init__(self, options: SuperResolutionOptions, source: ClipSource) -> None:
        super().__init__(options, source, PIXEL_SCHEDULE, add_condition=options.add_condition)
        temporal, adds = options.temporal, options.add_condition
        if options.init is None:
            config = preset(options.network).network("super_resolution")
            self.unet = networks.fresh_pixel_unet(config, self.text.width, temporal=temporal, add_condition=adds)
        else:
            initial = load_unet(Path(options.init) / "unet", dtype=torch.float32, device="cpu")
            self.unet = networks.adapt_pixel_unet(initial, temporal=temporal, add_condition=adds)
            self._inherited = {f"unet.{name}" for name in initial.state_dict()}
        self._complete(6, noise_level=True)
        self.register_buffer("noising_alphas", noising_alphas(), persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Task.forward`: a scalar."""
        video, captions = batch["video"], batch["caption"]
        low = upsample(corrupted_share(batch["low"], self.options.corruption), *video.shape[-2:])
        video, low = random_crop(self.CROP, video, low)
        lowest, highest = self.options.noise_level
        levels = torch.randint(lowest, highest + 1, (len(video),)).to(video.device)
        if video.shape[2] == 1 or torch.rand(()) < self.SINGLE_FRAMES:
            # every frame of the window as a video of one frame
            frames = video.shape[2]
            video, low = (fold_frames(x)[:, :, None] for x in (video, low))
            levels = levels.repeat_interleave(frames)
            captions = [caption for caption in captions for _ in range(frames)]
            clean = None
        else:
            clean = video[:, :, :1]
        noise = moved(torch.randn(low.shape), low.device)
        condition = inputs(low, noise=noise, noise_level=levels, alphas_cumprod=self.noising_alphas, clean=clean)
        return {"loss": self.denoising_loss(video, captions, condition, levels)}

    def preview(self, batch: Batch) -> list[Sample]:
        """See `Task.preview`: the small window, upsampled, and the large one, (3, F, H, W) each."""
        captions = batch["caption"][:2]
        height, width = batch["video"].shape[-2:]
        low = batch["low"][: len(captions)]
        settings = SuperResolutionSettings(
            num_inference_steps=10,
            guidance_scale=1.0,
            height=height,
            width=width,
            noise_level=self.options.noise_level[0],
        )
        stage = SuperResolutionStage(self.unet, self.scheduler_config)
        return paired(captions, upsample(low, height, width), self.sample(stage, low, captions, settings))
