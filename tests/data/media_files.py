"""Small videos and pictures whose frames tell their number."""

import json
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image


def write_video(path: Path, *, frames: int, fps: int = 8, size: tuple[int, int] = (48, 64)) -> None:
    """Writes a video whose frame number i is grey level 5 * i."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"qp": "0"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            picture = np.full((*size, 3), 5 * number, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def write_picture(path: Path, number: int, size: tuple[int, int] = (48, 64)) -> None:
    """Writes a picture of grey level 5 * number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size[1], size[0]), (5 * number,) * 3).save(path)


def write_captions(folder: Path, *rows: dict[str, object]) -> None:
    """Writes `captions.jsonl`."""
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def frame_numbers(video: torch.Tensor) -> list[int]:
    """Reads the number of each frame of (3, F, H, W) off its grey level."""
    return [round(float((frame.mean() + 1) * 127.5 / 5)) for frame in video.unbind(1)]
