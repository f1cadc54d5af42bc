"""The cascade: the only place that knows all four stages and their order."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from show1.config import CascadeSettings, Seeding, StageName
from show1.runs import Run
from show1.video import Video

OutputType = Literal["video", "np", "pt", "pil"]
Output = Video | NDArray[np.uint8] | Tensor | list[Image.Image]
Memory = Literal["auto", "low", "high"]
StepEnd = Callable[[StageName, int, int, Tensor], None]
"""Called after each denoising step with (stage, steps done, steps in all of the stage, current noisy samples)."""
StageStart = Callable[[str], None]
"""Called before a stage is loaded and run, with its name; `text` for the encoding of the prompts."""
StageEnd = Callable[[StageName, list[Video]], None]
"""Called after a stage with its name and its videos, one a sample."""


class Show1Pipeline:
    """Text to video by the four-stage cascade of arXiv:2309.15818.

    ::

        pipe = Show1Pipeline.from_pretrained("mini")
        video = pipe("a panda spins over the snow", seed=1)
        video.save("panda.mp4")
    """

    settings: CascadeSettings
    """The settings a call starts from."""
    stages: tuple[StageName, ...]
    """The stages this pipeline can run, in order."""

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | Mapping[str, str | Path] = "mini",
        *,
        stages: Sequence[StageName] | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        memory: Memory = "auto",
        variant: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Finds (and downloads, where it is on the Hub) a cascade. Weights are read when a call needs them.

        Args:
            model: `mini` (comes with the package); `showlab/show-1` (the published networks, about 40 GB); a folder:
                a cascade folder with `show1.json`, or one that holds the published repositories by name; a Hub
                repository of a cascade; or a mapping of stage (and `first_frame`) to a repository or folder of that
                stage, or to a cascade to take it from.
            stages: Only these are looked for and can be run; None: all.
            device: None: CUDA, else MPS, else the CPU.
            dtype: None: bfloat16 (float16 on older cards) on CUDA, float32 elsewhere.
            memory: `low` holds one network at a time, `high` keeps all, `auto` decides by the device's free memory.
            variant: Weight files to prefer, such as `fp16`; None: `fp16` where the computation is half precision.
            revision: Branch, tag or commit on the Hub.
            local_files_only: Never ask the Hub.

        Raises:
            ModelNotFoundError: No such model, or it is neither on this disk nor reachable.
            CheckpointError: A file of it is missing or damaged.
        """
        raise NotImplementedError

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes the cascade as a folder that `from_pretrained` reads: `show1.json` and a folder a stage."""
        raise NotImplementedError

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str | None = None,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        count: int = 1,
        num_keyframes: int | None = None,
        settings: CascadeSettings | Mapping[str, Any] | None = None,
        start_from: StageName | None = None,
        until: StageName | None = None,
        video: Video | Tensor | Sequence[Video] | None = None,
        seeding: Seeding = "independent",
        run: Run | str | Path | None = None,
        output_type: OutputType = "video",
        callback_on_stage_start: StageStart | None = None,
        callback_on_step_end: StepEnd | None = None,
        callback_on_stage_end: StageEnd | None = None,
        cancel: threading.Event | None = None,
    ) -> Any:
        """Generates.

        Args:
            prompt: What to show; or several, generated as one batch.
            negative_prompt: What to avoid, for every stage; None: as each stage's settings say.
            seed: A whole number: sample i of each prompt uses seed + i. A list: one a sample. None: random (recorded in
                the video's metadata).
            generator: Instead of a seed: the seeds are drawn from it (or from each of several, one a sample).
            count: Drafts of each prompt.
            num_keyframes: n keyframes become (n - 1) * factor + 1 frames (factor 4: 8 give 29); None: as the settings.
            settings: All settings, or changes: `{"keyframes": {"num_inference_steps": 20}}`.
            start_from: First stage to run; needs `video` if it is not `keyframes`.
            until: Last stage to run; None: the last one there is.
            video: What `start_from` works on: Video(s), or a tensor (3, F, H, W) or (B, 3, F, H, W) in [-1, 1].
            seeding: `published` reproduces the published run's draws.
            run: A run (or the folder of one, new or begun): finished stages are kept there and not computed again.
            output_type: `video`: `Video`; `np`: uint8 (F, H, W, 3); `pt`: float32 (3, F, H, W) in [-1, 1]; `pil`: images.
            callback_on_stage_start: See `StageStart`.
            callback_on_step_end: See `StepEnd`.
            callback_on_stage_end: See `StageEnd`.
            cancel: When set, the generation stops at the next step with `Cancelled`.

        Returns:
            One output for one prompt with count 1; else a list, drafts of a prompt side by side.

        Raises:
            InputError: A prompt, size, frame count or option cannot be used.
            RunError: The run folder belongs to another request.
            Cancelled: `cancel` was set.
        """
        raise NotImplementedError

    def resume(
        self,
        run: Run | str | Path,
        *,
        output_type: OutputType = "video",
        callback_on_stage_start: StageStart | None = None,
        callback_on_step_end: StepEnd | None = None,
        callback_on_stage_end: StageEnd | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Any]:
        """Finishes a run: stages with a sound artefact are read, the others computed.

        Returns:
            One output a sample.

        Raises:
            RunError: The run is damaged, was made by other weights, or is being written by another process.
        """
        raise NotImplementedError

    def prompt_warnings(self, prompt: str) -> list[str]:
        """What the user should know: words cut beyond the token limit, words the model has never seen."""
        raise NotImplementedError
