"""The record inside a video file, which says how the video was made and is enough to make it again."""

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Annotated, Any, Self, cast

import torch
from pydantic import Field, ValidationError, model_validator

from show1.adapters.record import explain
from show1.config import CascadeSettings, Numerics, StageName
from show1.errors import InputError
from show1.generation.manifest import DtypeName, Environment, FewerBits, VideoModel
from show1.generation.request import GenerationRequest, with_numerics
from show1.stage_table import STAGE_TABLE


class VideoRecord(Environment):
    """The record of one video: `Video.metadata`."""

    prompt: str
    """The prompt."""
    seed: int
    """The seed."""
    numerics: Numerics
    """See `GenerationRequest.numerics`."""
    stages: Annotated[tuple[StageName, ...], Field(min_length=1, strict=False)]
    """The stages that made it, in order."""
    settings: CascadeSettings
    """The settings of all stages."""
    model: VideoModel
    """The model."""
    weights: dict[StageName, FewerBits] | None = None
    """The stages whose weights were kept otherwise than the settings say; see `CostRecord.weights`."""

    @model_validator(mode="before")
    @classmethod
    def _translate(cls, values: Any) -> Any:
        return with_numerics(values) if isinstance(values, Mapping) else values

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Self:
        """Reads a video's metadata.

        Raises:
            InputError: They are not of a video that show1 made.
        """
        try:
            return cls.model_validate(metadata)
        except ValidationError as error:
            raise InputError(
                f"the file does not say how it was made ({explain(error)}); only videos by show1 do"
            ) from error

    @property
    def from_prompt(self) -> bool:
        """Whether it was made from a prompt alone, so that `to_request` can make it again."""
        return not STAGE_TABLE[self.stages[0]].needs_video

    def to_request(self) -> GenerationRequest:
        """The request that makes the video again, on the model that it names.

        Raises:
            InputError: It was made from another video.
        """
        if not self.from_prompt:
            raise InputError(
                f"the video was made from another video by {', '.join(self.stages)}, which the file does not hold"
            )
        return GenerationRequest(
            prompts=(self.prompt,),
            seeds=(self.seed,),
            settings=self.settings,
            stages=self.stages,
            numerics=self.numerics,
            fps=self.settings.keyframes.fps,
        )


def environment(device: torch.device, dtype: torch.dtype, storage: str = "") -> Environment:
    """Describes this installation, and where and how precisely it computes."""
    packages = ("show1", "torch", "diffusers", "transformers")
    return Environment(
        versions={
            **{name: importlib.metadata.version(name) for name in packages},
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        device=device.type,
        dtype=cast(DtypeName, str(dtype).removeprefix("torch.")),
        threads=torch.get_num_threads() if device.type == "cpu" else None,
        storage=storage or None,
    )
