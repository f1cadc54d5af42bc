"""Run folders: the record of one generation, a lossless artefact a stage, and what is needed to go on after a crash.

::

    runs/20261122-101502-3f2a/
      manifest.json            request, model identity, versions, timings, peak memory, hashes of the artefacts
      input.safetensors        the video the run began with, where it began at a later stage
      keyframes.safetensors    `video` (B, 3, F, H, W) float32 in [-1, 1]; one file a finished stage
      interpolation.safetensors ...
      pick-5/                  the run that carries draft 5 alone through the later stages

Every file is written beside its place and moved there when it is complete, so a run can be killed at any moment.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from show1.config import CascadeSettings, Seeding, StageName


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What was asked for, fully resolved: the same request on the same model gives the same video."""

    prompts: tuple[str, ...]
    """One a sample (a prompt with several drafts is repeated)."""
    seeds: tuple[int, ...]
    """One a sample."""
    settings: CascadeSettings
    """With every override applied."""
    stages: tuple[StageName, ...]
    """The stages to run, in order."""
    seeding: Seeding = "independent"
    """How random numbers follow from the seeds."""
    fps: float
    """Frames per second of the first stage's input, or of the keyframes."""


class Run:
    """One run folder. Use `create` or `open`, and as a context manager to hold its lock."""

    path: Path
    """The folder."""

    @classmethod
    def create(cls, directory: str | Path | None = None, *, output: dict[str, Any] | None = None) -> Self:
        """Begins a new run.

        Args:
            directory: The folder, new or empty; None: `runs/YYYYMMDD-HHMMSS-xxxx` in the current directory.
            output: The file asked for, `{"path": ..., "options": {...}}`: recorded, so that `show1 resume` writes it.

        Raises:
            RunError: The folder holds something already.
            OutputError: The folder cannot be made.
        """
        raise NotImplementedError

    @classmethod
    def open(cls, directory: str | Path) -> Self:
        """Opens an existing run.

        Raises:
            RunError: No such folder, no manifest in it, or the manifest is damaged.
        """
        raise NotImplementedError

    @property
    def manifest(self) -> dict[str, Any]:
        """A copy of the manifest."""
        raise NotImplementedError

    @property
    def request(self) -> RunRequest | None:
        """What was asked for; None until the pipeline has recorded it."""
        raise NotImplementedError

    @property
    def model(self) -> Any:
        """What to hand to `Show1Pipeline.from_pretrained`: a name, a folder, or a mapping of stage to repo or folder."""
        raise NotImplementedError

    @property
    def output(self) -> dict[str, Any] | None:
        """The file asked for: `{"path": str, "options": {...}}`."""
        raise NotImplementedError

    @property
    def finished_stages(self) -> tuple[StageName, ...]:
        """Stages whose artefact is there and undamaged, in order, up to the first that is not."""
        raise NotImplementedError

    @property
    def finished(self) -> bool:
        """Whether every stage asked for is finished."""
        raise NotImplementedError

    def load(self, stage: StageName) -> Tensor:
        """Reads a finished stage's video, (B, 3, F, H, W) float32 in [-1, 1].

        Raises:
            RunError: The stage has not finished, or its file is damaged.
        """
        raise NotImplementedError

    def pick(self, index: int) -> "Run":
        """The run of one sample alone, in `pick-<index + 1>`, which goes on to the last stage.

        It starts from a copy of the sample's artefacts, has the sample's prompt and seed, and gives bit for bit what
        the whole run would have given for that sample. Made on the first call, opened on later ones.

        Args:
            index: The sample, from 0.

        Raises:
            RunError: Nothing is finished yet, or there is no such sample.
        """
        raise NotImplementedError
