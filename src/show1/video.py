"""The `Video` type: frames, frame rate and the record of how they were made."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from show1.errors import InputError

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass(frozen=True, kw_only=True, eq=False)
class Video:
    """A finished video."""

    frames: NDArray[np.uint8]
    """(F, H, W, 3) uint8, RGB, 0 to 255."""

    fps: float
    """Frames per second."""

    metadata: dict[str, Any] = field(default_factory=dict)
    """JSON-serialisable record of how the video was made: prompt, seed, model, settings. Travels in the file."""

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise InputError(
                f"frames must be uint8 of shape (F, H, W, 3), got {self.frames.dtype} of shape {self.frames.shape}"
            )
        if self.fps <= 0:
            raise InputError(f"fps must be positive, got {self.fps}")

    def __len__(self) -> int:
        return len(self.frames)

    @classmethod
    def from_tensor(cls, video: "torch.Tensor", *, fps: float, metadata: dict[str, Any] | None = None) -> "Video":
        """Quantises a float tensor to frames.

        Args:
            video: (3, F, H, W), values in [-1, 1] (clipped).
            fps: Frames per second.
            metadata: Record to carry along.
        """
        pixels = ((video.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()
        frames = pixels.permute(1, 2, 3, 0).contiguous().numpy()
        return cls(frames=frames, fps=fps, metadata=dict(metadata or {}))

    def to_tensor(self) -> "torch.Tensor":
        """Returns the frames as a float32 tensor (3, F, H, W) in [-1, 1]."""
        import torch

        return torch.from_numpy(self.frames.copy()).permute(3, 0, 1, 2).float() / 127.5 - 1

    def to_pil(self) -> "list[Image.Image]":
        """Returns the frames as a list of RGB images."""
        from PIL import Image

        return [Image.fromarray(frame) for frame in self.frames]

    def save(self, path: str | Path, *, overwrite: bool = False, **options: Any) -> Path:
        """Writes the video; the suffix picks the format. See `show1.media.write_video`."""
        from show1.media import write_video

        return write_video(self, path, overwrite=overwrite, **options)

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> "Video":
        """Reads a video file with its metadata. See `show1.media.read_video`."""
        from show1.media import read_video

        return read_video(path, **options)
