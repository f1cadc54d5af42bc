"""Two keyframes to the frames between them."""

from pathlib import Path

import torch
from torch import Tensor

from show1.checkpoints.loading import load_unet
from show1.config import InterpolationSettings
from show1.data.clips import ClipSource
from show1.stages import InterpolationStage
from show1.stages.interpolation import inputs
from show1.training import networks
from show1.training.presets import preset
from show1.training.tasks.base import Batch, Sample
from show1.training.tasks.denoising import PIXEL_SCHEDULE, DenoisingTask, corrupted_share
from show1.training.tasks.options import InterpolationOptions


class InterpolationTask(DenoisingTask):
    """The training of the interpolation network on segments of `factor + 1` frames."""

    options: InterpolationOptions

    def __init__(self, options: InterpolationOptions, source: ClipSource) -> None:
        super().__init__(options, source, PIXEL_SCHEDULE, add_condition=options.add_condition)
        adds = options.add_condition
        if options.init is None:
            config = preset(options.network).network("interpolation")
            self.unet = networks.fresh_pixel_unet(config, self.text.width, temporal=True, add_condition=adds)
        else:
            initial = load_unet(Path(options.init) / "unet", dtype=torch.float32, device="cpu")
            unet = networks.adapt_pixel_unet(initial, temporal=True, in_channels=7, add_condition=adds)
            new = {*unet.temporal_parameters(), "conv_in.weight", "conv_in.bias"}
            self.unet = unet
            self._inherited = {f"unet.{name}" for name, _ in unet.named_parameters() if name not in new}
        self._complete(7)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Task.forward`: a scalar."""
        video = batch["video"]  # (B, 3, factor + 1, H, W)
        ends = corrupted_share(video[:, :, [0, -1]], self.options.corruption)
        return {"loss": self.denoising_loss(video, batch["caption"], inputs(ends, video.shape[2] - 1))}

    def preview(self, batch: Batch) -> list[Sample]:
        """See `Task.preview`: segments (3, factor + 1, H, W)."""
        captions = batch["caption"][:4]
        video = batch["video"][: len(captions)]
        settings = InterpolationSettings(num_inference_steps=15, guidance_scale=1.0, factor=video.shape[2] - 1)
        stage = InterpolationStage(self.unet, self.scheduler_config)
        return list(zip(captions, self.sample(stage, video[:, :, [0, -1]], captions, settings), strict=True))
