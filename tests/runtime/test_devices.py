"""Devices of the parts of a cascade, as the caller names them."""

import pytest
import torch

from show1.errors import InputError
from show1.runtime import choose_devices

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("given", "main", "own"),
    [
        ("cpu", "cpu", {}),
        (torch.device("cpu"), "cpu", {}),
        ("cpu,translation=cpu:1", "cpu", {"translation": "cpu:1"}),
        (" text = cpu:1 , keyframes = cpu:2 ", "cpu", {"text": "cpu:1", "keyframes": "cpu:2"}),
        ({"translation": torch.device("cpu", 1)}, "cpu", {"translation": "cpu:1"}),
    ],
)
def test_what_is_named_has_its_device(given: object, main: str, own: dict[str, str]) -> None:
    devices = choose_devices(given)  # type: ignore[arg-type]
    assert devices.main == torch.device(main)
    assert devices.own == {part: torch.device(name) for part, name in own.items()}
    for part in ("text", "keyframes", "interpolation", "super_resolution", "translation"):
        assert devices.of(part) == torch.device(own.get(part, main))


def test_devices_are_shown_as_they_are_used() -> None:
    assert str(choose_devices("cpu,translation=cpu:1")) == "cpu, translation on cpu:1"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("cpu,", "expected a device, or PART=DEVICE"),
        ("cpu,cpu:1", "each part once"),
        ("translation=cpu,translation=cpu:1", "each part once"),
        ("translation=", "expected a device, or PART=DEVICE"),
        ("translator=cpu", "there is no part 'translator'; the parts are text, keyframes"),
        ({"translator": "cpu"}, "there is no part 'translator'"),
        ("translation=abacus", "unknown device 'abacus'"),
        ({"translation": 1.5}, "unknown device 1.5"),
    ],
)
def test_what_cannot_be_a_device_is_refused(given: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        choose_devices(given)  # type: ignore[arg-type]
