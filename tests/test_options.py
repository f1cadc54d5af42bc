"""Options: their types and ranges, and their saved form."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from show1.config import PUBLISHED, CascadeSettings, FirstFrameSettings, KeyframesSettings, preset_changes
from show1.errors import InputError
from show1.options import Options


@dataclass(frozen=True, kw_only=True)
class Paint(Options):
    options_of: ClassVar[str] = "paint"
    colour: Literal["red", "blue"]


@dataclass(frozen=True, kw_only=True)
class House(Options):
    options_of: ClassVar[str] = "house"
    name: str
    floors: int = 1
    height: float | None = None
    warm: bool = True
    size: tuple[int, int] = (4, 5)
    rooms: tuple[str, ...] = ()
    door: Paint | None = None
    walls: tuple[Paint, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("floors", "height", least=1, most=99)
        self.check("name", self.name.istitle(), "a title")


def test_the_saved_form_is_json_and_reads_back() -> None:
    red, blue = Paint(colour="red"), Paint(colour="blue")
    house = House(
        name="Mill", floors=3, height=9, rooms=("hall", "loft"), door=red, walls=(red, blue), sources={"a": "b"}
    )
    saved = json.loads(json.dumps(house.to_dict()))
    assert saved["walls"] == [{"colour": "red"}, {"colour": "blue"}]
    assert House.from_dict(saved) == house
    assert House.from_dict({"name": "Mill"}) == House(name="Mill")


def test_a_list_stands_for_a_tuple() -> None:
    given: Any = [4, 6]
    assert House(name="Mill", size=given) == House(name="Mill", size=(4, 6))
    assert House(name="Mill", size=given).to_dict()["size"] == [4, 6]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "the house options lack 'name'"),
        (5, "the house options must be a mapping of options, got 5"),
        ({"name": "Mill", "roof": 1}, "unknown house option 'roof'; the options are name, floors, height"),
        ({"name": 5}, "name must be text, got 5"),
        ({"name": "mill"}, "name must be a title, got 'mill'"),
        ({"name": "Mill", "floors": True}, "floors must be a whole number, got True"),
        ({"name": "Mill", "floors": None}, "floors must be a whole number, got None"),
        ({"name": "Mill", "floors": 0}, "floors must be from 1 to 99, got 0"),
        ({"name": "Mill", "height": 100}, "height must be from 1 to 99, got 100"),
        ({"name": "Mill", "height": float("inf")}, "height must be a finite number"),
        ({"name": "Mill", "warm": 1}, "warm must be yes or no, got 1"),
        ({"name": "Mill", "size": [4]}, "size must be 2 values"),
        ({"name": "Mill", "size": 4}, "size must be a list, got 4"),
        ({"name": "Mill", "rooms": ["hall", 4]}, "rooms must be text, got 4"),
        ({"name": "Mill", "door": "red"}, "door must be a mapping of options, got 'red'"),
        ({"name": "Mill", "door": {"colour": "mauve"}}, "colour must be one of red, blue, got 'mauve'"),
        ({"name": "Mill", "walls": [{"color": "red"}]}, "unknown paint option 'color'"),
        ({"name": "Mill", "sources": ["a"]}, "sources must be a mapping of options"),
    ],
)
def test_what_does_not_fit_is_said(values: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        House.from_dict(values)


def test_settings_read_back() -> None:
    assert CascadeSettings.from_dict(json.loads(json.dumps(PUBLISHED.to_dict()))) == PUBLISHED
    first_frame = PUBLISHED.super_resolution.first_frame
    assert isinstance(first_frame, FirstFrameSettings)


def test_some_settings_are_replaced() -> None:
    changed = PUBLISHED.replace(
        keyframes={"num_inference_steps": 5, "guidance_interval": (0.2, 0.9)}, clean_prompt="none"
    )
    keyframes = dataclasses.replace(PUBLISHED.keyframes, num_inference_steps=5, guidance_interval=(0.2, 0.9))
    assert changed == dataclasses.replace(PUBLISHED, keyframes=keyframes, clean_prompt="none")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"clean_prompt": "upper"}, "clean_prompt must be one of lower, none, got 'upper'"),
        ({"max_text_tokens": 1}, "max_text_tokens must be from 2 to 512, got 1"),
        ({"max_text_tokens": "many"}, "max_text_tokens must be a whole number, got 'many'"),
    ],
)
def test_whole_settings_are_checked_too(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        dataclasses.replace(PUBLISHED, **options)
    with pytest.raises(InputError, match=said):
        CascadeSettings.from_dict({**PUBLISHED.to_dict(), **options})


def test_a_stage_outside_its_range_is_said() -> None:
    with pytest.raises(InputError, match="num_frames must be from 1 to 1024, got 0"):
        KeyframesSettings(num_inference_steps=1, guidance_scale=1.0, num_frames=0)


def test_presets_are_for_the_published_model() -> None:
    efficient = PUBLISHED.replace(**preset_changes("efficient", PUBLISHED))
    for stage, most in {"keyframes": 75, "interpolation": 75, "super_resolution": 125, "translation": 50}.items():
        settings = getattr(efficient, stage)
        assert 2.9 * settings.num_inference_steps < most and settings.time_grid == "logsnr"
        assert settings.guidance_scale == getattr(PUBLISHED, stage).guidance_scale
    assert efficient.replace(**preset_changes("published", PUBLISHED)) == PUBLISHED
    without = PUBLISHED.replace(super_resolution={"first_frame": None})
    assert preset_changes("efficient", without) == preset_changes("efficient", PUBLISHED)
    with pytest.raises(InputError, match="or be named with a model that has it, such as mini:fast, got 'fast'"):
        preset_changes("fast", PUBLISHED)
    with pytest.raises(
        InputError, match="the preset 'efficient' is for the published model, and this one has settings"
    ):
        preset_changes("efficient", PUBLISHED.replace(keyframes={"num_inference_steps": 32}))


def test_the_first_frame_has_no_time_grid() -> None:
    with pytest.raises(InputError, match="time_grid must be checkpoint for the first frame's network"):
        FirstFrameSettings(num_inference_steps=5, guidance_scale=1.0, time_grid="logsnr")
