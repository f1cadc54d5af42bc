"""Settings to redraw a video of the user's by one stage."""

import itertools
import logging
import math
from typing import Any

from show1.config import STAGES, CascadeSettings, StageName
from show1.errors import InputError
from show1.generation.model import CascadeModel
from show1.limits import MAX_SIDE
from show1.stage_table import STAGE_TABLE

logger = logging.getLogger(__name__)

_USUAL_FACTOR = 4
"""A video is slowed down by more only if that is asked for: it is one of single pictures, and costs that much time."""
_SIZED_BY: dict[StageName, StageName] = {"interpolation": "keyframes"}
"""Stages whose output has the size of another stage's."""
_CUT = 0.05
"""Share of a video that is cut off without a word, for sizes are multiples of `_STEP`."""
_STEP = 16
"""Heights and widths that are chosen here are multiples of it, which most latent models take as they are."""


def refine_settings(
    model: CascadeModel, stage: StageName, height: int, width: int, *, fps: float | None = None, asked: bool = True
) -> dict[str, dict[str, Any]]:
    """Changes of settings that suit a video of some size.

    The result keeps the video's shape, and has about as many pixels as the stage was made for. An expert works on the
    video as it is, or made smaller to that size; a stage of the cascade on one as much smaller than its result as in
    the whole cascade.

    Args:
        model: The model.
        stage: The stage that is to redraw the video.
        height: Height of the video.
        width: Its width.
        fps: Its frames per second, if the expert is to see it at the pace that it knows; None: as it is.
        asked: Whether the user asked for that pace, and is to hear where it cannot be had.

    Returns:
        Changes by stage, as `make_request` takes them.

    Raises:
        InputError: `fps` is given, and the stage is no expert.
    """
    expert = model.cascade.parts[stage].expert
    if expert is None and fps is not None:
        raise InputError(f"only an expert knows a pace, and {stage} has none; name one, or keep the video's time")
    before = STAGES[STAGES.index(stage) - 1]
    _, high, wide = STAGE_TABLE[stage].output_shape(None, model.settings)
    result = [high, wide]
    if height * wide != width * high:
        result = _like(height, width, high * wide)
    if expert is None:
        _, low, narrow = STAGE_TABLE[before].output_shape(None, model.settings)
        given = [round(side * share) for side, share in zip(result, (low / high, narrow / wide), strict=True)]
    else:
        given = [min(side, most) for side, most in zip((height, width), result, strict=True)]
        given = result if given[0] * given[1] >= result[0] * result[1] else given
    sizes = {stage: result, _SIZED_BY.get(before, before): given}
    changes: dict[str, dict[str, Any]] = {
        name: {"height": max(8, tall), "width": max(8, broad)} for name, (tall, broad) in sizes.items()
    }
    if expert is not None and fps is not None:
        ratio = round(expert.row.fps / fps)
        factor = changes[stage]["time_factor"] = min(max(1, ratio), 8) if asked or ratio <= _USUAL_FACTOR else 1
        if asked and factor == 1 and abs(expert.row.fps / fps - 1) > 0.01:
            logger.warning(
                "the video has %g frames per second and the expert knows %g; it is shown as it is, because a video can "
                "only be slowed down, by 2 or another whole number",
                fps,
                expert.row.fps,
            )
    return changes


def _like(height: int, width: int, pixels: int) -> list[int]:
    """The height and width nearest in shape to a video's, of those with about a number of pixels."""
    scale = math.sqrt(pixels / (height * width)) / _STEP
    near = [{math.floor(side * scale), math.ceil(side * scale)} for side in (height, width)]
    sizes = [[min(max(1, n) * _STEP, MAX_SIDE) for n in pair] for pair in itertools.product(*near)]
    return min(sizes, key=lambda size: abs(math.log(size[0] * width / (size[1] * height))))


def size_warnings(stage: StageName, settings: CascadeSettings, height: int, width: int) -> list[str]:
    """What a user should hear about the size at which a stage redraws a video.

    Args:
        stage: The stage.
        settings: The settings of the call.
        height: Height of the video.
        width: Its width.
    """
    _, high, wide = STAGE_TABLE[stage].output_shape(None, settings)
    other = f"--set {stage}.height=N --set {stage}.width=N choose another size"
    found = []
    if high < height and wide < width:
        found.append(f"the result has {high}x{wide}, less than the {height}x{width} of the video; {other}")
    shapes = sorted((high / wide, height / width))
    if (cut := 1 - shapes[0] / shapes[1]) > _CUT:
        found.append(f"{cut:.0%} of the video are cut off, because {high}x{wide} is of another shape; {other}")
    return found
