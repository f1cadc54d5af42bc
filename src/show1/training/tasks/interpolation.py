"""Two keyframes to the frames between them."""

from typing import Any

from show1.config import InterpolationSettings
from show1.data.clips import ClipSource
from show1.stages import InterpolationStage
from show1.stages.interpolation import inputs as condition_of
from show1.training.corruption import corrupted_share
from show1.training.objective import Inputs
from show1.training.tasks.base import Batch, Sample
from show1.training.tasks.denoising import PIXEL_SCHEDULE, DenoisingTask
from show1.training.tasks.options import InterpolationOptions


class InterpolationTask(DenoisingTask):
    """The training of the interpolation network on segments of `factor + 1` frames."""

    options: InterpolationOptions

    def __init__(self, options: InterpolationOptions, source: ClipSource) -> None:
        super().__init__(options, source, PIXEL_SCHEDULE, add_condition=options.add_condition)
        adds = options.add_condition
        unet = self._make_pixel_unet(temporal=True, in_channels=7, add_condition=adds)
        new = (*unet.temporal_parameters(), "conv_in.weight", "conv_in.bias")
        self._inherited -= {f"unet.{name}" for name in new}

    def inputs(self, batch: Batch) -> Inputs:
        """See `DenoisingTask.inputs`."""
        video = batch["video"]  # (B, 3, factor + 1, H, W)
        ends = corrupted_share(video[:, :, [0, -1]], self.options.corruption)
        condition = condition_of(ends, video.shape[2] - 1)
        return Inputs(x0=video, text=self.encode_captions(batch["caption"]), condition=condition)

    def learned_settings(self) -> dict[str, Any]:
        """See `DenoisingTask.learned_settings`."""
        view = self.options.view()
        return {"factor": (view.window or view.num_frames) - 1}

    def suitable_sampling(self) -> dict[str, Any]:
        """See `DenoisingTask.suitable_sampling`."""
        return {"num_inference_steps": 2 if self.options.add_condition else 25, "guidance_scale": 1.0}

    def preview(self, batch: Batch) -> list[Sample]:
        """See `Task.preview`: segments (3, factor + 1, H, W)."""
        captions = batch["caption"][:4]
        video = batch["video"][: len(captions)]
        settings = InterpolationSettings(num_inference_steps=15, guidance_scale=1.0, factor=video.shape[2] - 1)
        stage = InterpolationStage(self.unet, self.scheduler_config)
        return list(zip(captions, self.sample(stage, video[:, :, [0, -1]], captions, settings), strict=True))
