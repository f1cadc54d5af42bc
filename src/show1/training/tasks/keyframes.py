"""Text to images, then text to keyframes: the same network, inflated."""

from pathlib import Path
from typing import Any

import torch

from show1.checkpoints.loading import load_unet
from show1.config import KeyframesSettings
from show1.data.clips import ClipSource
from show1.stages import KeyframesStage
from show1.training.networks import take_temporal_layers
from show1.training.objective import Inputs
from show1.training.tasks.base import Batch, Sample
from show1.training.tasks.denoising import PIXEL_SCHEDULE, DenoisingTask
from show1.training.tasks.options import DenoisingOptions


class KeyframesTask(DenoisingTask):
    """The training of the keyframe network, on single frames or on all keyframes of a clip."""

    def __init__(self, options: DenoisingOptions, source: ClipSource) -> None:
        super().__init__(options, source, PIXEL_SCHEDULE)
        self._clips_per_scene = source.clips_per_scene
        unet = self._make_pixel_unet(temporal=options.temporal)
        if (folder := getattr(options, "temporal_init", None)) is not None:
            other = load_unet(Path(folder) / "unet", dtype=torch.float32, device="cpu")
            self._inherited |= {f"unet.{name}" for name in take_temporal_layers(unet, other)}
        if options.init is not None:
            self._inherited |= {name for name, _ in self.named_parameters() if name.startswith("text.")}

    def inputs(self, batch: Batch) -> Inputs:
        """See `DenoisingTask.inputs`. Clips of one scene get the same noise."""
        first = None
        if self._clips_per_scene > 1:
            first = torch.arange(len(batch["video"])) // self._clips_per_scene * self._clips_per_scene
        return Inputs(x0=batch["video"], text=self.encode_captions(batch["caption"]), noise_from=first)

    def preview(self, batch: Batch) -> list[Sample]:
        """See `Task.preview`: keyframes (3, F, H, W)."""
        captions = batch["caption"][:4]
        frames, height, width = batch["video"].shape[2:]
        settings = KeyframesSettings(
            num_inference_steps=15, guidance_scale=3.0, num_frames=frames, height=height, width=width
        )
        stage = KeyframesStage(self.unet, self.scheduler_config)
        return list(zip(captions, self.sample(stage, None, captions, settings), strict=True))

    def learned_settings(self) -> dict[str, Any]:
        """See `DenoisingTask.learned_settings`."""
        view = self.options.view().of_frames(self.clip_options.frames)
        frames, seconds = view.window or view.num_frames, self.clip_options.duration
        rate = {"fps": (frames - 1) / seconds} if frames > 1 and seconds > 0 else {}
        return {"num_frames": frames, "height": view.height, "width": view.width, **rate}

    def suitable_sampling(self) -> dict[str, Any]:
        """See `DenoisingTask.suitable_sampling`."""
        return {"num_inference_steps": 32, "guidance_scale": 3.0 if self.options.prompt_dropout else 1.0}

    def export(self, folder: Path) -> None:
        """See `Task.export`."""
        super().export(folder)
        self.text.save(folder)
