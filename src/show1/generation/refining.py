"""Settings to redraw a video of the user's by one stage."""

import logging
import math
from typing import Any

from show1.config import STAGES, StageName
from show1.errors import InputError
from show1.generation.model import CascadeModel
from show1.limits import MAX_SIDE
from show1.stage_table import STAGE_TABLE

logger = logging.getLogger(__name__)

_USUAL_FACTOR = 4
"""A video is slowed down by more only if that is asked for: it is one of single pictures, and costs that much time."""
_STEP = 16
"""Heights and widths that are chosen here are multiples of it, which most latent models take as they are."""


def refine_settings(
    model: CascadeModel, stage: StageName, height: int, width: int, *, fps: float | None = None, asked: bool = True
) -> dict[str, dict[str, Any]]:
    """Changes of settings that suit a video of some size.

    An expert keeps the video's shape: its result has about as many pixels as its family was made for, and it works on
    the video as it is, or made smaller to that size. Other stages work on the size that they were trained on.

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
    if expert is None:
        if fps is not None:
            raise InputError(f"only an expert knows a pace, and {stage} has none; name one, or keep the video's time")
        return {}
    before = STAGES[STAGES.index(stage) - 1]
    _, high, wide = STAGE_TABLE[stage].output_shape(None, model.settings)
    scale = math.sqrt(high * wide / (height * width))
    result = [min(max(_STEP, round(side * scale / _STEP) * _STEP), MAX_SIDE) for side in (height, width)]
    given = [min(side, most) for side, most in zip((height, width), result, strict=True)]
    sizes = {stage: result, before: result if given[0] * given[1] >= result[0] * result[1] else given}
    changes: dict[str, dict[str, Any]] = {
        name: {"height": max(8, high), "width": max(8, wide)} for name, (high, wide) in sizes.items()
    }
    if fps is not None:
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
