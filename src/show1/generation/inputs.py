"""The video that a generation begins with, where it begins with one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from show1.checkpoints.weight_files import is_finite
from show1.errors import InputError
from show1.files import user_path
from show1.generation.request import GenerationRequest
from show1.limits import MAX_PIXEL_VALUE
from show1.options import shown
from show1.video import Video

VideoLike = Video | Tensor | str | Path | Sequence[Video | str | Path]
"""Videos, or files of them; or a tensor (3, F, H, W) or (B, 3, F, H, W) in [-1, 1]."""


def read_videos(video: Any, *, max_frames: int | None = None) -> Any:
    """What a caller gives as `video`, with files read.

    Raises:
        InputError: There is no such file.
        MediaError: A file is no video.
    """
    if isinstance(video, str | Path):
        return Video.load(user_path(video, "video"), max_frames=max_frames)
    if isinstance(video, Sequence):
        return [read_videos(each, max_frames=max_frames) for each in video]
    return video


def video_tensor(video: VideoLike, request: GenerationRequest) -> Tensor:
    """Brings a caller's video into the form and the size that the first stage of a request works on.

    It is resized so that it covers the size that the stage before gives, and cropped at the centre.

    Args:
        video: One video, or one per sample: see `make_request`. One serves all samples.
        request: What is to be done with it.

    Returns:
        (B, 3, F, H, W), float32, on the CPU.

    Raises:
        InputError: Another type, shape, range or number.
    """
    samples, known = len(request.prompts), read_videos(video)
    if isinstance(known, Video):
        tensor = known.to_tensor()[None]
    elif isinstance(known, Tensor):
        tensor = known if known.ndim == 5 else known[None]
    elif isinstance(known, list) and known and all(isinstance(v, Video) for v in known):
        tensors = [v.to_tensor() for v in known]
        if len({t.shape for t in tensors}) > 1:
            raise InputError(f"the videos differ in shape: {[tuple(t.shape) for t in tensors]}; call once for each")
        tensor = torch.stack(tensors)
    else:
        raise InputError(f"video must be a Video, a video file, a tensor, or a list of videos, got {shown(video)}")
    if tensor.ndim != 5 or tensor.shape[1] != 3 or 0 in tensor.shape or not tensor.is_floating_point():
        raise InputError(
            f"video must be floating-point of shape (3, F, H, W) or (B, 3, F, H, W), got {tensor.dtype} of shape "
            f"{tuple(tensor.shape)}"
        )
    if len(tensor) not in (1, samples):
        raise InputError(f"there are {len(tensor)} videos for {samples} samples; give one, or one per sample")
    tensor = tensor.detach().float().cpu()
    if not is_finite(tensor):
        raise InputError("the video holds numbers that are not finite (NaN or infinity); give values from -1 to 1")
    if float(tensor.abs().amax()) > MAX_PIXEL_VALUE:
        raise InputError(f"the video holds values up to {float(tensor.abs().amax()):g}; scale them to -1 to 1")
    return _covering(tensor, *request.input_size).expand(samples, -1, -1, -1, -1).contiguous()


def _covering(video: Tensor, height: int, width: int) -> Tensor:
    """Resizes a video (B, 3, F, h, w) so that it covers a size, and crops it at the centre: (B, 3, F, H, W)."""
    h, w = video.shape[-2:]
    if (h, w) == (height, width):
        return video
    scale = max(height / h, width / w)
    size = (max(height, round(h * scale)), max(width, round(w * scale)))
    frames = F.interpolate(video.transpose(1, 2).flatten(0, 1), size=size, mode="bilinear", antialias=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    cropped = frames[..., top : top + height, left : left + width]
    return cropped.reshape(len(video), -1, *cropped.shape[1:]).transpose(1, 2)
