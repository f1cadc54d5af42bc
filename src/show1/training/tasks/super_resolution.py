"""Small frames to large ones."""

from typing import Any

import torch
from torch import Tensor

from show1.config import SuperResolutionSettings
from show1.data.clips import ClipSource
from show1.diffusion import fold_frames
from show1.stages import SuperResolutionStage
from show1.stages.super_resolution import inputs, noising_alphas, upsample
from show1.training.corruption import corrupted_share
from show1.training.objective import Inputs, moved
from show1.training.tasks.base import Batch, Sample, paired, random_crop
from show1.training.tasks.denoising import PIXEL_SCHEDULE, DenoisingTask
from show1.training.tasks.options import SuperResolutionOptions

SINGLE_FRAMES = 0.2
"""Share of batches of single frames, without a clean one beside them: so the network can begin a video."""

CROP = (48, 64)
"""Height and width of training crops of the high-resolution window."""


class SuperResolutionTask(DenoisingTask):
    """A low-resolution window, noised, and a clean first frame, to the high-resolution window; or single frames."""

    options: SuperResolutionOptions

    noising_alphas: Tensor
    """(T,) of the schedule on which the condition is noised."""

    def __init__(self, options: SuperResolutionOptions, source: ClipSource) -> None:
        super().__init__(options, source, PIXEL_SCHEDULE, add_condition=options.add_condition)
        changes = {"temporal": options.temporal, "add_condition": options.add_condition}
        self._make_pixel_unet(noise_level=True, **changes)
        self.register_buffer("noising_alphas", noising_alphas(), persistent=False)

    def inputs(self, batch: Batch) -> Inputs:
        """See `DenoisingTask.inputs`."""
        video = batch["video"]
        low = upsample(corrupted_share(batch["low"], self.options.corruption), *video.shape[-2:])
        x0, condition, levels = windows_or_frames(video, low, self.options.noise_level, self.noising_alphas)
        repeats = len(x0) // len(video)
        text = self.encode_captions([caption for caption in batch["caption"] for _ in range(repeats)])
        return Inputs(x0=x0, text=text, condition=condition, noise_level=levels)

    def learned_settings(self) -> dict[str, Any]:
        """See `DenoisingTask.learned_settings`."""
        view = self.options.view()
        window = view.window or view.num_frames
        windows = {"window": window, "stride": window - 1} if window > 1 else {}
        sizes = {"height": view.height, "width": view.width}
        return {**sizes, **windows, "noise_level": self.options.noise_level[0], "first_frame": None}

    def suitable_sampling(self) -> dict[str, Any]:
        """See `DenoisingTask.suitable_sampling`."""
        return {"num_inference_steps": 2 if self.options.add_condition else 25, "guidance_scale": 1.0}

    def preview(self, batch: Batch) -> list[Sample]:
        """See `Task.preview`: the small window, upsampled, and the large one, (3, F, H, W) each."""
        captions = batch["caption"][:2]
        height, width = batch["video"].shape[-2:]
        low = batch["low"][: len(captions)]
        return paired(captions, upsample(low, height, width), self._enlarged(low, captions, height, width))

    def restore(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Task.restore`: the enlarged window, and the true one."""
        return self._enlarged(batch["low"], batch["caption"], *batch["video"].shape[-2:]), batch["video"]

    def _enlarged(self, low: Tensor, captions: list[str], height: int, width: int) -> Tensor:
        """Runs the stage: (B, 3, F, h, w) to (B, 3, F, height, width)."""
        settings = SuperResolutionSettings(
            num_inference_steps=10,
            guidance_scale=1.0,
            height=height,
            width=width,
            noise_level=self.options.noise_level[0],
        )
        stage = SuperResolutionStage(self.unet, self.scheduler_config)
        return self.sample(stage, low, captions, settings)


def windows_or_frames(
    video: Tensor, low: Tensor, noise_level: tuple[int, int], alphas_cumprod: Tensor, *, draw_kind_first: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws what the network learns from: windows led by a clean frame or, as sampling begins, single frames.

    Training and customization both call this.

    Args:
        video: (B, 3, F, H, W) in high resolution.
        low: (B, 3, F, H, W) in low resolution, upsampled.
        noise_level: Lowest and highest noise level of the condition.
        alphas_cumprod: (T,) of the condition's schedule.
        draw_kind_first: Draws whether these are single frames before the crop and the noise levels, not after; single
            frames then have noise levels of their own, not that of their clip.

    Returns:
        Crops (N, 3, F', h, w), their condition (N, 3, F', h, w) and its noise levels (N,), N a multiple of B.
    """
    frames = video.shape[2]

    def single_frames() -> bool:
        return frames == 1 or float(torch.rand(())) < SINGLE_FRAMES

    single = draw_kind_first and single_frames()
    video, low = random_crop(CROP, video, low)
    levels = torch.randint(noise_level[0], noise_level[1] + 1, (len(video) * (frames if single else 1),))
    single = single or (not draw_kind_first and single_frames())
    if single:
        video, low = (fold_frames(x)[:, :, None] for x in (video, low))
        levels = levels.repeat_interleave(len(video) // len(levels))
    levels = moved(levels, video.device)
    noise = moved(torch.randn(low.shape), low.device)
    clean = None if single else video[:, :, :1]
    condition = inputs(low, noise=noise, noise_level=levels, alphas_cumprod=alphas_cumprod, clean=clean)
    return video, condition, levels
