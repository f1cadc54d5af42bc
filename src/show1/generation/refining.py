"""Settings to redraw a video of the user's by one stage."""

import math
from typing import Any

from show1.config import STAGES, StageName
from show1.generation.model import CascadeModel
from show1.limits import MAX_SIDE
from show1.stage_table import STAGE_TABLE

_STEP = 16
"""Heights and widths that are chosen here are multiples of it, which most latent models take as they are."""


def refine_settings(
    model: CascadeModel, stage: StageName, height: int, width: int, *, fps: float | None = None
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

    Returns:
        Changes by stage, as `make_request` takes them.
    """
    expert = model.cascade.parts[stage].expert
    if expert is None:
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
        changes[stage]["time_factor"] = min(max(1, round(expert.row.fps / fps)), 8)
    return changes
