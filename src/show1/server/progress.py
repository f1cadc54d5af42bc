"""What a worker says: of a job a small file of progress and moving pictures of the drafts, and that it lives."""

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from show1.config import StageName
from show1.errors import OutputError
from show1.files import parse_json, read_json_object, write_atomically, write_text
from show1.server.jobs import DataFolder, JobFolder
from show1.server.store import SECONDS_OF_COPY

if TYPE_CHECKING:
    from torch import Tensor

SECONDS_BETWEEN_NOTES = 0.5
"""The file of progress is written at most this often."""
SECONDS_BETWEEN_PREVIEWS = 1.0
"""So are the moving pictures."""
SECONDS_OF_LIFE = 30.0
"""A worker that has said nothing for so long counts as gone."""
PREVIEW_WIDTH = 128
"""Width of the moving pictures in pixels."""


class Progress:
    """Notes how far a job is."""

    def __init__(
        self, folder: JobFolder, stages: Sequence[StageName], fps: float, done: Sequence[dict[str, Any]]
    ) -> None:
        """Takes what does not change.

        Args:
            folder: The job's files.
            stages: The stages of the job, in order.
            fps: Frames per second of the pictures.
            done: The records of the stages that are finished.
        """
        self._folder = folder
        self._stages = list(stages)
        self._fps = fps
        self._done = list(done)
        self._noted = self._pictured = self._began = 0.0

    def start(self, stage: str) -> None:
        """Notes that a stage begins, or `text`, the encoding of the prompt."""
        self._began = time.monotonic()
        self._note(stage, 0, 0)

    def step(self, stage: StageName, done: int, total: int, samples: "Tensor") -> None:
        """Notes a step.

        Args:
            stage: The stage.
            done: Steps done.
            total: All steps of the stage.
            samples: (N, C, F, H, W), of which moving pictures are made if they are pixels.
        """
        now = time.monotonic()
        if now - self._noted >= SECONDS_BETWEEN_NOTES or done in (1, total):
            self._note(stage, done, total)
        if now - self._pictured >= SECONDS_BETWEEN_PREVIEWS and samples.shape[1] == 3 and stage == self._stages[0]:
            self._pictured = now
            for draft, clip in enumerate(samples):
                write_preview(self._folder.preview(draft), clip, self._fps)

    def finish(self, record: dict[str, Any]) -> None:
        """Notes that a stage is finished."""
        self._done.append(record)
        self._note("", 0, 0)

    def _note(self, stage: str, done: int, total: int) -> None:
        self._noted = time.monotonic()
        part = done / total if total else 0.0
        note = {
            "stage": stage,
            "step": done,
            "steps": total,
            "percent": round(100 * (len(self._done) + part) / len(self._stages), 1),
            "stage_seconds_left": round((self._noted - self._began) * (total - done) / done, 1) if done else None,
            "stages": self._done,
        }
        with contextlib.suppress(OutputError):  # a full disk will be reported by what really needs room
            write_text(self._folder.progress, json.dumps(note))


def read_progress(folder: JobFolder) -> dict[str, Any]:
    """What a worker last noted of a job; empty if nothing.

    Raises:
        StoreError: It is kept elsewhere, and cannot be fetched.
    """
    folder.store.fetch(folder.progress, age=SECONDS_OF_COPY)
    try:
        note = parse_json(folder.progress.read_bytes())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def living_workers(data: DataFolder) -> list[dict[str, Any]]:
    """What the workers that live last said of themselves.

    Raises:
        StoreError: It is kept elsewhere, and cannot be fetched.
    """
    data.store.fetch_folder(data.workers, age=SECONDS_OF_COPY)
    found = []
    for file in sorted(data.workers.glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            note = read_json_object(file)
            if time.time() - float(note.get("time", 0)) < SECONDS_OF_LIFE:
                found.append(note)
    return found


def write_preview(path: Path, clip: "Tensor", fps: float) -> None:
    """Writes a clip (3, F, H, W) of values in about [-1, 1] as a small animated WebP."""
    from PIL import Image

    pixels = ((clip.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()
    height = max(1, round(PREVIEW_WIDTH * pixels.shape[1] / pixels.shape[2]))
    frames = [Image.fromarray(frame).resize((PREVIEW_WIDTH, height), Image.Resampling.BILINEAR) for frame in pixels]
    how: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": round(1000 / fps), "loop": 0}
    with contextlib.suppress(OutputError):
        write_atomically(path, lambda file: frames[0].save(file, format="WEBP", quality=60, method=0, **how))
