"""Text to images, then text to keyframes: the same network, inflated."""

from pathlib import Path

import torch
from torch import Tensor

from show1.checkpoints.loading import load_unet
from show1.config import KeyframesSettings
from show1.data.clips import ClipSource
from show1.stages import KeyframesStage
from show1.training import networks
from show1.training.presets import preset
from show1.training.tasks.base import Batch, Sample
from show1.training.tasks.denoising import PIXEL_SCHEDULE, DenoisingTask
from show1.training.tasks.options import KeyframesOptions


class KeyframesTask(DenoisingTask):
    """The training of the keyframe network, on single frames or on all keyframes of a clip."""

    def __init__(self, options: KeyframesOptions, source: ClipSource) -> None:
        super().__init__(options, source, PIXEL_SCHEDULE)
        self._clips_per_scene = source.clips_per_scene
        if options.init is None:
            config = preset(options.network).network("keyframes")
            self.unet = networks.fresh_pixel_unet(config, self.text.width, temporal=options.temporal)
        else:
            initial = load_unet(Path(options.init) / "unet", dtype=torch.float32, device="cpu")
            self.unet = networks.adapt_pixel_unet(initial, temporal=options.temporal)
            text = {name for name, _ in self.named_parameters() if name.startswith("text.")}
            self._inherited = {f"unet.{name}" for name in initial.state_dict()} | text
        self._complete(3)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Task.forward`: a scalar. Clips of one scene get the same noise."""
        first = None
        if self._clips_per_scene > 1:
            first = torch.arange(len(batch["video"])) // self._clips_per_scene * self._clips_per_scene
        return {"loss": self.denoising_loss(batch["video"], batch["caption"], noise_from=first)}

    def preview(self, batch: Batch) -> list[Sample]:
        """See `Task.preview`: keyframes (3, F, H, W)."""
        captions = batch["caption"][:4]
        frames, height, width = batch["video"].shape[2:]
        settings = KeyframesSettings(
            num_inference_steps=15, guidance_scale=3.0, num_frames=frames, height=height, width=width
        )
        stage = KeyframesStage(self.unet, self.scheduler_config)
        return list(zip(captions, self.sample(stage, None, captions, settings), strict=True))

    def export(self, folder: Path) -> None:
        """See `Task.export`."""
        super().export(folder)
        self.text.save(folder)
