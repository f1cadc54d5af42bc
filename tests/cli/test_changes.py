"""`--set`: every setting in the form in which it is shown, and values that it refuses."""

import dataclasses
import re

import pytest

from show1.cli.plan import say_settings
from show1.cli.settings import apply_changes, parse_change
from show1.config import PUBLISHED, STAGES
from show1.errors import InputError


def test_settings_are_taken_in_the_form_in_which_they_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    other = PUBLISHED.replace(
        keyframes={"split_guidance": True, "guidance_interval": [0.2, 0.8], "num_frames": 5},
        interpolation={"keep_keyframes": not PUBLISHED.interpolation.keep_keyframes, "max_batch": 3},
        translation={"window": 24, "level": 0.5, "prompt": "a cat, in fur"},
    )
    say_settings(other, STAGES)
    pairs = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "keyframes.split_guidance=True" in pairs
    changed = apply_changes(PUBLISHED, [parse_change(pair) for pair in pairs])
    assert dataclasses.asdict(changed) == dataclasses.asdict(other)


@pytest.mark.parametrize("text", ["yes", "true", "True", "on", "1", "no", "False", "off", "0"])
def test_yes_and_no_are_read(text: str) -> None:
    changed = apply_changes(PUBLISHED, [parse_change(f"keyframes.split_guidance={text}")])
    assert changed.keyframes.split_guidance is (text.lower() in ("yes", "true", "on", "1"))


def test_anything_else_is_refused() -> None:
    with pytest.raises(InputError, match=re.escape("keyframes.split_guidance=maybe: expected yes or no, got 'maybe'")):
        parse_change("keyframes.split_guidance=maybe")
