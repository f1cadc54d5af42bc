"""The `Video` type: frames, frame rate and the record of how they were made."""

import numbers
import textwrap
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
    """A finished video: frames, frame rate and metadata."""

    frames: NDArray[np.uint8]
    """(F, H, W, 3), RGB, 0 to 255."""

    fps: float
    """Frames per second."""

    metadata: dict[str, Any] = field(default_factory=dict)
    """Record, in JSON types, of how the video was made: prompt, seed, model, settings. It travels in the file."""

    def __post_init__(self) -> None:
        if not isinstance(self.frames, np.ndarray):
            raise InputError(f"frames must be a NumPy array (F, H, W, 3), got {type(self.frames).__name__}")
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise InputError(
                f"frames must be uint8 of shape (F, H, W, 3), got {self.frames.dtype} of shape {self.frames.shape}"
            )
        if not isinstance(self.fps, numbers.Real) or not 0 < self.fps < float("inf"):
            raise InputError(f"fps must be a positive number, got {self.fps!r}")

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        count, height, width = self.frames.shape[:3]
        label = f", {textwrap.shorten(self.label, 80, placeholder='...')!r}" if self.label else ""
        frames = "1 frame" if count == 1 else f"{count} frames"
        return f"<Video of {frames}, {height}x{width} (height x width), {self.fps:g} frames/s{label}>"

    def _repr_html_(self) -> str:
        """Gives a player for notebooks, which plays in a loop."""
        from show1.media.player import html_player

        return html_player(self.frames, self.fps, self.label)

    @classmethod
    def from_tensor(cls, video: "torch.Tensor", *, fps: float, metadata: dict[str, Any] | None = None) -> "Video":
        """Makes a video from a float tensor, whose values are clipped and rounded.

        Args:
            video: (3, F, H, W), values in [-1, 1].
            fps: Frames per second.
            metadata: Record of how the video was made.

        Raises:
            InputError: A value is NaN or infinite, which would be black.
        """
        frames = np.empty((*video.shape[1:], 3), np.uint8)
        for frame, one in zip(frames, video.detach().unbind(1), strict=True):  # all at once would take more memory
            if not bool(one.isfinite().all()):
                raise InputError("the video holds numbers that are not finite (NaN or infinity); make it again")
            pixels = (one.float().cpu().clamp(-1, 1) + 1) * 127.5
            frame[:] = pixels.round().byte().permute(1, 2, 0).numpy()
        return cls(frames=frames, fps=fps, metadata=dict(metadata or {}))

    def to_tensor(self) -> "torch.Tensor":
        """Returns the frames as a float32 tensor (3, F, H, W) in [-1, 1]."""
        import torch

        return torch.from_numpy(self.frames.copy()).permute(3, 0, 1, 2).float() / 127.5 - 1

    def to_pil(self) -> "list[Image.Image]":
        """Returns the frames, (H, W) each, as RGB images."""
        from PIL import Image

        return [Image.fromarray(frame) for frame in self.frames]

    @property
    def label(self) -> str:
        """Caption for contact sheets: the prompt and the seed, if the metadata has them."""
        prompt, seed = self.metadata.get("prompt"), self.metadata.get("seed")
        parts = [str(prompt) if prompt else "", f"(seed {seed})" if seed is not None else ""]
        return " ".join(part for part in parts if part)

    def save(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        codec: str | None = None,
        quality: int | None = None,
    ) -> Path:
        """Writes the video with its metadata; the suffix picks the format, as `show1.media.write_video` explains."""
        from show1.media import write_video

        return write_video(
            self.frames,
            path,
            fps=self.fps,
            metadata=self.metadata,
            overwrite=overwrite,
            codec=codec,
            quality=quality,
        )

    @classmethod
    def load(cls, path: str | Path, *, max_frames: int | None = None) -> "Video":
        """Reads a video file with its metadata. Arguments and errors are those of `show1.media.read_video`."""
        from show1.media import read_video

        frames, fps, metadata = read_video(path, max_frames=max_frames)
        return cls(frames=frames, fps=fps, metadata=metadata)
