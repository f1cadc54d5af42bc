"""The artefacts of a run folder: a stage's video, lossless, in a safetensors file whose hash the manifest keeps."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from show1.checkpoints.weight_files import is_finite
from show1.errors import RunError
from show1.files import sha256, write_tensors
from show1.generation.manifest import InputRecord, StageRecord


def write_artefact(file: Path, video: Tensor) -> str:
    """Writes a video (B, 3, F, H, W) as float32; returns the SHA-256 of the file.

    Raises:
        OutputError: No permission, or the disk is full.
    """
    write_tensors(file, {"video": video.float().cpu().contiguous()})
    return sha256(file)


def read_artefact(file: Path) -> Tensor:
    """Reads a video, (B, C, F, H, W) float32.

    Raises:
        RunError: The file cannot be read, holds something else, or holds numbers that are not finite.
    """
    try:
        video: Tensor = load_file(file)["video"]
    except (SafetensorError, OSError, KeyError) as error:
        raise RunError(f"{file} cannot be read ({error}); delete it and resume the run") from error
    if video.ndim != 5 or video.dtype != torch.float32:
        raise RunError(f"{file} holds no video for the request of its run; delete it and resume the run")
    if not is_finite(video):
        raise RunError(f"{file} holds numbers that are not finite (NaN or infinity); delete it and resume the run")
    return video


def is_sound(file: Path, record: StageRecord | InputRecord) -> bool:
    """Whether an artefact is there and is that of its record."""
    return file.is_file() and sha256(file) == record.sha256
