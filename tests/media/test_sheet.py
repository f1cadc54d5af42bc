"""Contact sheets show the right frames at a visible size."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from show1.errors import InputError
from show1.media import contact_sheet
from show1.media.sheet import BACKGROUND, GAP
from show1.video import Video


def gray_ramp(frames: int, height: int = 20, width: int = 32) -> NDArray[np.uint8]:
    """A clip whose frame number n has the brightness n."""
    levels = np.arange(frames, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(levels, (frames, height, width, 3)).copy()


def shown(sheet: Image.Image, columns: int, cell: tuple[int, int], row: int = 0) -> list[int]:
    """Returns the brightness at the middle of each cell of a row."""
    pixels = np.asarray(sheet.convert("L"))
    height, width = cell
    middle = GAP + row * (height + GAP) + height // 2
    return [int(pixels[middle, GAP + column * (width + GAP) + width // 2]) for column in range(columns)]


def test_evenly_spaced_frames_from_first_to_last() -> None:
    sheet = contact_sheet([gray_ramp(29)], labels=[""], columns=8)
    assert sheet.width <= 2100
    assert shown(sheet, 8, (160, 256)) == [0, 4, 8, 12, 16, 20, 24, 28]


def test_small_frames_grow_by_a_whole_factor_without_smoothing() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (8, 20, 32, 3), dtype=np.uint8)
    sheet = contact_sheet([frames], columns=8, labels=[""])
    first = np.asarray(sheet)[GAP : GAP + 160, GAP : GAP + 256]
    np.testing.assert_array_equal(first[::8, ::8], frames[0])
    np.testing.assert_array_equal(first[7::8, 7::8], frames[0])


def test_large_frames_shrink_to_fit() -> None:
    sheet = contact_sheet([gray_ramp(3, 320, 576)], labels=[""], columns=8, max_width=400)
    assert sheet.width <= 400
    assert sheet.height < 120


def test_more_rows_show_more_frames() -> None:
    sheet = contact_sheet([gray_ramp(29)], labels=[""], columns=4, rows=2, max_width=4 * (32 + GAP) + GAP)
    assert shown(sheet, 4, (20, 32), row=0) + shown(sheet, 4, (20, 32), row=1) == [0, 4, 8, 12, 16, 20, 24, 28]


def test_short_video_shows_each_frame_once() -> None:
    sheet = contact_sheet([gray_ramp(2)], labels=[""], columns=8, max_width=8 * (32 + GAP) + GAP)
    assert shown(sheet, 2, (20, 32)) == [0, 1]
    assert sheet.width == 2 * (32 + GAP) + GAP


def test_one_row_per_video_with_captions() -> None:
    prompt = "a panda spins over the snow " * 12
    bare = contact_sheet([gray_ramp(8), gray_ramp(8)], labels=["", ""])
    long = contact_sheet([gray_ramp(8), gray_ramp(8)], labels=[prompt, "été 熊猫"])
    labelled = contact_sheet([gray_ramp(8), gray_ramp(8)], labels=["first", "second"])
    assert bare.height < labelled.height < long.height
    caption = np.asarray(long)[GAP + 160 + 2 : GAP + 160 + 22]
    assert (caption != BACKGROUND).any()
    assert (np.asarray(bare)[GAP + 160 : GAP + 168] == BACKGROUND).all()


def test_the_label_of_a_video_is_its_prompt_and_seed() -> None:
    for metadata, label in [
        ({"prompt": "a panda", "seed": 3}, "a panda (seed 3)"),
        ({"prompt": "a panda"}, "a panda"),
        ({"seed": 0}, "(seed 0)"),
        ({}, ""),
    ]:
        assert Video(frames=gray_ramp(1), fps=8, metadata=metadata).label == label


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"clips": []}, "at least one video"),
        ({"columns": 0}, "columns 0"),
        ({"rows": 0}, "rows 0"),
        ({"max_width": 10}, "max_width 10"),
        ({"labels": ["a", "b"]}, "as many labels, got 2"),
    ],
)
def test_impossible_sheets(options: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        contact_sheet(**{"clips": [gray_ramp(2)], "labels": [""], **options})  # type: ignore[arg-type]
