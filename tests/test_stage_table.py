import dataclasses
import subprocess
import sys

import pytest

from show1.config import PUBLISHED, STAGES
from show1.stage_table import STAGE_TABLE, parts_of


def test_the_published_sizes() -> None:
    shapes, frames = {}, None
    for stage in STAGES:
        shapes[stage] = STAGE_TABLE[stage].output_shape(frames, PUBLISHED)
        frames = shapes[stage][0]
    assert shapes == {
        "keyframes": (8, 40, 64),
        "interpolation": (29, 40, 64),
        "super_resolution": (29, 160, 256),
        "translation": (29, 320, 576),
    }
    assert STAGE_TABLE["first_frame"].output_shape(29, PUBLISHED) == (1, 160, 256)
    assert STAGE_TABLE["interpolation"].output_shape(None, PUBLISHED) == (None, 40, 64)


def test_interpolation_alone_changes_the_frame_rate() -> None:
    assert {name: row.fps_factor(PUBLISHED) for name, row in STAGE_TABLE.items() if row.fps_factor(PUBLISHED) != 1} == {
        "interpolation": 4
    }


@pytest.mark.parametrize("stage", STAGES)
def test_the_text_of_a_stage(stage: str) -> None:
    prompt, as_it_is = "  A Panda ", dataclasses.replace(PUBLISHED, clean_prompt="none")
    rule = STAGE_TABLE[stage].prompt
    if stage == "translation":
        assert rule(prompt, PUBLISHED) == rule(prompt, as_it_is) == (prompt, None)
        return
    assert rule(prompt, PUBLISHED) == ("a panda", 77)
    assert rule(prompt, as_it_is) == (prompt, 77)
    assert rule(" ", PUBLISHED) == rule(" ", as_it_is) == ("", 77)


def test_an_optional_part_comes_with_its_stage() -> None:
    assert parts_of(STAGES) == (*STAGES, "first_frame")
    assert parts_of(["super_resolution"]) == ("super_resolution", "first_frame")
    assert parts_of(["translation", "keyframes"]) == ("keyframes", "translation")


def test_the_table_is_read_without_torch() -> None:
    code = "import sys, show1.stage_table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
