"""Following a generation, and stopping it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from show1.config import StageName
from show1.errors import Cancelled
from show1.options import require
from show1.video import Video

StageStart = Callable[[str], None]
"""Called before a stage is loaded and run, with its name; `text` for the encoding of the prompts."""
StepEnd = Callable[[StageName, int, int, Tensor], None]
"""Called after each denoising step with (stage, steps done, total steps of the stage, current noisy samples
(N, C, F, H, W))."""
StageEnd = Callable[[StageName, list[Video]], None]
"""Called after a stage with its name and its videos, one per sample."""


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """What a generation calls while it runs."""

    on_stage_start: StageStart | None = None
    """See `StageStart`."""
    on_step_end: StepEnd | None = None
    """See `StepEnd`."""
    on_stage_end: StageEnd | None = None
    """See `StageEnd`."""
    cancel: threading.Event | None = None
    """When set, the generation stops at the next step with `Cancelled`."""

    def __post_init__(self) -> None:
        for name in ("on_stage_start", "on_step_end", "on_stage_end"):
            called = getattr(self, name)
            require(called is None or callable(called), name, called, "a function")
        require(isinstance(self.cancel, threading.Event | None), "cancel", self.cancel, "a threading.Event")

    def stage_start(self, stage: str) -> None:
        """Reports that a stage begins; raises `Cancelled` if it must not."""
        self._check()
        if self.on_stage_start is not None:
            self.on_stage_start(stage)

    def step_end(self, stage: StageName, done: int, total: int, samples: Tensor) -> None:
        """Reports a step with its samples (N, C, F, H, W); raises `Cancelled` if there must be no other."""
        if self.on_step_end is not None:
            self.on_step_end(stage, done, total, samples)
        self._check()

    def stage_end(self, stage: StageName, videos: Callable[[], list[Video]]) -> None:
        """Reports a stage's videos, which are made only if somebody asks for them."""
        if self.on_stage_end is not None:
            self.on_stage_end(stage, videos())

    def _check(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled("the generation was cancelled; a run folder keeps its finished stages (`show1 resume`)")
