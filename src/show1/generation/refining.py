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
_STEP = 16
"""Heights and widths that are chosen here are multiples of it, which most latent models take as they are."""
_SMALLEST = 8
"""The smallest height and width of a stage's settings."""
_TOLERANCE = 0.05
"""By how much a shape may differ from the video's, because sizes are multiples of `_STEP`."""

Size = tuple[int, int]
"""Height and width."""


def refine_settings(
    model: CascadeModel,
    stage: StageName,
    size: Size,
    *,
    settings: CascadeSettings | None = None,
    fps: float | None = None,
    asked: bool = True,
) -> dict[str, dict[str, Any]]:
    """Changes of settings that suit a video of some size; warns where a part of the video is cut off.

    The result keeps the video's shape, and has about as many pixels as the stage was made for, unless the settings say
    another size. An expert works on the video as it is, or made smaller to the size of the result; a stage of the
    cascade on one as much smaller than its result as in the whole cascade.

    Args:
        model: The model.
        stage: The stage that is to redraw the video.
        size: Height and width of the video.
        settings: Settings in which the user chose the size of the result; None: it is chosen here.
        fps: Frames per second of the video, if the expert is to see it at the pace that it knows; None: as it is.
        asked: Whether the user asked for that pace, and is to hear where it cannot be had.

    Returns:
        Changes by stage, as `make_request` takes them.

    Raises:
        InputError: `fps` is given, and the stage is no expert.
    """
    expert = model.cascade.parts[stage].expert
    if expert is None and fps is not None:
        raise InputError(
            f"only experts know a frame rate, and {stage} is none: give --expert MODEL, or leave out --time"
        )
    before = STAGES[STAGES.index(stage) - 1]
    usual_input, usual_result = _size_of(before, model.settings), _size_of(stage, model.settings)
    as_in_the_cascade = expert is None and size == usual_input
    if settings is not None:
        result = _size_of(stage, settings)
    elif as_in_the_cascade or _cut(size, usual_result) == 0:
        result = usual_result
    else:
        result = _size_like(size, pixels=math.prod(usual_result))
    if expert is not None:
        seen = _seen_by_an_expert(size, result)
    elif as_in_the_cascade and result == usual_result:
        seen = usual_input
    else:
        seen = _scaled(result, math.sqrt(math.prod(usual_input) / math.prod(usual_result)))
    _warn_of_sizes(stage, size, seen, result)
    sizes = {sized_by(before): seen, sized_by(stage): result}
    changes: dict[str, dict[str, Any]] = {
        name: {"height": height, "width": width} for name, (height, width) in sizes.items()
    }
    if expert is not None and fps is not None:
        changes[stage]["time_factor"] = _time_factor(expert.row.fps, fps, asked)
    return changes


def sized_by(stage: StageName) -> StageName:
    """The stage whose settings say the size of a stage's output: mostly its own."""
    return "keyframes" if stage == "interpolation" else stage


def _size_of(stage: StageName, settings: CascadeSettings) -> Size:
    _, height, width = STAGE_TABLE[stage].output_shape(None, settings)
    return height, width


def _cut(size: Size, shape: Size) -> float:
    """Share of a video of some size that is cut off where it gets another shape."""
    low, high = sorted((size[0] * shape[1], size[1] * shape[0]))
    return 1 - low / high


def _size_like(size: Size, *, pixels: int) -> Size:
    """The size nearest in shape to a video's, of those with about a number of pixels."""
    scale = math.sqrt(pixels / math.prod(size)) / _STEP
    heights, widths = (
        {min(max(1, number) * _STEP, MAX_SIDE) for number in (math.floor(side * scale), math.ceil(side * scale))}
        for side in size
    )

    def difference(found: Size) -> tuple[float, float]:
        return _cut(size, found), abs(math.log(math.prod(found) / pixels))

    return min(itertools.product(heights, widths), key=difference)


def _scaled(size: Size, factor: float) -> Size:
    """A size by a factor, or by a larger one where a side would be too small."""
    factor = max(factor, _SMALLEST / min(size))
    return round(size[0] * factor), round(size[1] * factor)


def _seen_by_an_expert(size: Size, result: Size) -> Size:
    """The size at which an expert sees a video: as it is but for what is cut off, or made smaller to the result's."""
    factor = min(size[0] / result[0], size[1] / result[1])
    if factor >= 1:
        return result
    if min(size) >= _SMALLEST and _cut(size, result) <= _TOLERANCE:
        return size
    return _scaled(result, factor)


def _warn_of_sizes(stage: StageName, size: Size, seen: Size, result: Size) -> None:
    owner = sized_by(stage)
    remedy = f"--set {owner}.height=N --set {owner}.width=N choose another size"
    if (cut := _cut(size, seen)) > _TOLERANCE:
        shape = "{}x{}".format(*result)
        logger.warning("%.0f %% of the video is cut off, because %s is of another shape; %s", 100 * cut, shape, remedy)
    if result[0] < size[0] and result[1] < size[1]:
        logger.warning("the result has %dx%d, less than the %dx%d of the video; %s", *result, *size, remedy)


def _time_factor(known: float, fps: float, asked: bool) -> int:
    """By how much a video is slowed down for an expert that knows some frames per second."""
    ratio = round(known / fps)
    factor = min(max(1, ratio), 8) if asked or ratio <= _USUAL_FACTOR else 1
    if asked and factor == 1 and abs(known / fps - 1) > 0.01:
        logger.warning(
            "the video has %g frames per second and the expert knows %g; it is shown as it is, because a video can "
            "only be slowed down, by 2 or another whole number",
            fps,
            known,
        )
    return factor
