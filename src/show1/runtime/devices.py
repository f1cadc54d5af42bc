"""Where each part of a cascade computes: all on one device, or stages on devices of their own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from show1.config import STAGES
from show1.errors import InputError
from show1.runtime.placement import choose_device

TEXT = "text"
"""The name of all text encoders among the parts that have a device."""
PARTS = (TEXT, *STAGES)

DeviceLike: TypeAlias = "str | torch.device | Mapping[str, str | torch.device] | Devices | None"
"""A device; or, per part, `{"text": "cpu", "translation": "cuda:1"}`, or as text `cuda:0,translation=cuda:1`; or
what `choose_devices` gave."""


@dataclass(frozen=True)
class Devices:
    """The device of each part."""

    main: torch.device
    """That of all parts that have none of their own."""
    own: Mapping[str, torch.device] = field(default_factory=dict)
    """Those of some stages, and of the text encoders (`text`)."""

    def of(self, part: str) -> torch.device:
        """The device of a stage, or of the text encoders."""
        return self.own.get(part, self.main)

    def __str__(self) -> str:
        return ", ".join([str(self.main), *(f"{part} on {device}" for part, device in self.own.items())])


def choose_devices(device: DeviceLike = None) -> Devices:
    """Chooses the devices that are asked for; see `DeviceLike`. Parts that are not named get the fastest device.

    Raises:
        InputError: There is no such device or part, or a part is named twice.
    """
    if isinstance(device, Devices):
        return device
    if isinstance(device, str) and ("=" in device or "," in device):
        device = _read(device)
    if not isinstance(device, Mapping):
        return Devices(choose_device(device))
    if wrong := [part for part in device if part not in ("", *PARTS)]:
        raise InputError(f"device: there is no part {wrong[0]!r}; the parts are {', '.join(PARTS)}")
    own = {part: choose_device(place) for part, place in device.items() if part}
    return Devices(choose_device(device.get("")), own)


def _read(text: str) -> dict[str, str]:
    """Reads `cuda:0,translation=cuda:1`; what stands for all other parts gets the name "" (nothing)."""
    found: dict[str, str] = {}
    for word in text.split(","):
        part, _, place = (piece.strip() for piece in word.rpartition("="))
        if not place or part in found:
            raise InputError(
                f"device {text!r}: expected a device, or PART=DEVICE with a comma between them and each part once, "
                "such as cuda:0,translation=cuda:1"
            )
        found[part] = place
    return found
