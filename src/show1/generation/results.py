"""What a generation gives back: videos with the record of how they were made, or their frames in another form."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from show1.config import StageName
from show1.diffusion import IndependentSeeds, PublishedSeeds, Seeds
from show1.generation.manifest import Environment, FewerBits, VideoModel
from show1.generation.metadata import VideoRecord
from show1.generation.request import GenerationRequest
from show1.video import Video

OutputType = Literal["video", "np", "pt", "pil"]
Frames: TypeAlias = NDArray[np.uint8]
Images: TypeAlias = "list[Any]"
"""A list of `PIL.Image.Image`."""


def make_videos(
    video: Tensor,
    request: GenerationRequest,
    model: VideoModel,
    place: Environment,
    weights: Mapping[StageName, FewerBits],
) -> list[Video]:
    """Makes videos with their records.

    Args:
        video: (B, 3, F, H, W) in about [-1, 1], the output of the request's last stage.
        request: What was asked for.
        model: The model that made it.
        place: Where it was made.
        weights: The stages whose weights were kept otherwise than the settings say; those of the request count.
    """
    *_, fps = request.final_shape
    out = []
    for index, frames in enumerate(video):
        one = request.sample(index, request.stages)
        record = VideoRecord(
            prompt=one.prompts[0],
            seed=one.seeds[0],
            numerics=one.numerics,
            stages=one.stages,
            settings=one.settings,
            model=model,
            weights={stage: kept for stage, kept in weights.items() if stage in one.stages} or None,
            **dict(place),
        )
        out.append(Video.from_tensor(frames, fps=fps, metadata=record.to_dict()))
    return out


def make_seeds(request: GenerationRequest) -> Seeds:
    """The source of a request's random numbers."""
    if request.numerics == "published":
        return PublishedSeeds(request.seeds[0])
    return IndependentSeeds(request.seeds)


def convert(video: Video, tensor: Tensor, output_type: OutputType) -> Any:
    """Gives a video in the form asked for.

    Args:
        video: The video.
        tensor: The same, (3, F, H, W) float32 in about [-1, 1].
        output_type: See `Show1Pipeline.generate`.
    """
    if output_type == "np":
        return video.frames
    if output_type == "pil":
        return video.to_pil()
    return tensor if output_type == "pt" else video
