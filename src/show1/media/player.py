"""A player for notebooks."""

import base64
import html
import tempfile
from pathlib import Path

import numpy as np

from show1.media.write import Frames, write_video

MIN_WIDTH = 256
"""Width in pixels at which smaller videos are shown."""


def html_player(frames: Frames, fps: float, label: str = "") -> str:
    """Returns HTML that plays a video in a loop; the video is inside, as MP4.

    Args:
        frames: (F, H, W, 3), RGB; without frames the result says so.
        fps: Frames per second.
        label: Caption.
    """
    caption = html.escape(label)
    if len(frames) == 0:
        return f"<p>A video without frames. {caption}</p>"
    height, width = frames.shape[1:3]
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), "edge")  # browsers play no odd sizes
    with tempfile.TemporaryDirectory() as folder:
        data = write_video(even, Path(folder) / "video.mp4", fps=fps).read_bytes()
    source = f"data:video/mp4;base64,{base64.b64encode(data).decode()}"
    return (
        f'<video controls loop autoplay muted playsinline width="{max(width, MIN_WIDTH)}" src="{source}"></video>'
        f"<div>{caption}</div>"
    )
