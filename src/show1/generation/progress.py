"""Who is told how far a generation has come, and who may stop it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from show1.config import StageName
from show1.errors import Cancelled
from show1.video import Video

StageStart = Callable[[str], None]
"""Called before a stage is loaded and run, with its name; `text` for the encoding of the prompts."""
StepEnd = Callable[[StageName, int, int, Tensor], None]
"""Called after each denoising step with (stage, steps done, steps in all of the stage, current noisy samples)."""
StageEnd = Callable[[StageName, list[Video]], None]
"""Called after a stage with its name and its videos, one a sample."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """The callbacks of one generation."""

    stage_start: StageStart | None = None
    """See `StageStart`."""
    step_end: StepEnd | None = None
    """See `StepEnd`."""
    stage_end: StageEnd | None = None
    """See `StageEnd`."""
    cancel: threading.Event | None = None
    """When set, the generation stops at the next step."""

    def start(self, stage: str) -> None:
        """Tells that a stage begins; raises `Cancelled` if it must not."""
        self._check()
        if self.stage_start is not None:
            self.stage_start(stage)

    def step(self, stage: StageName, done: int, total: int, samples: Tensor) -> None:
        """Tells of a step; raises `Cancelled` if there must be no other."""
        if self.step_end is not None:
            self.step_end(stage, done, total, samples)
        self._check()

    def _check(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled("the generation was cancelled; a run folder keeps its finished stages (`show1 resume`)")
