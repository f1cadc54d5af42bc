"""Options as frozen dataclasses whose saved form is JSON."""

import dataclasses
import math
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from show1.errors import InputError


def can_draw_levels(timestep_logit: tuple[float, ...] | None) -> bool:
    """Whether an option `timestep_logit` is left out, or a finite mean and a deviation above 0."""
    if timestep_logit is None:
        return True
    return len(timestep_logit) == 2 and all(map(math.isfinite, timestep_logit)) and timestep_logit[1] > 0


class SavedOptions:
    """What the dataclasses with the options of trainings share."""

    options_of: ClassVar[str]
    """What messages call the options: "training"."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        raise NotImplementedError

    def check_choices(self) -> None:
        """Makes sure that options of a few values have one of these.

        Raises:
            InputError: One has not.
        """
        for name, choices in _choices(type(self)).items():
            if getattr(self, name) not in choices:
                names = ", ".join(choice for choice in choices if choice is not None)
                raise InputError(f"{name} must be one of {names}, got {getattr(self, name)!r}")

    def check_ranges(self, checks: dict[str, tuple[bool, str]]) -> None:
        """Raises `InputError` for the first option that is not what is expected: name -> (well?, expected)."""
        for name, (well, expected) in checks.items():
            if not well:
                raise InputError(f"{name} must be {expected}, got {getattr(self, name)!r}")

    def to_dict(self) -> dict[str, Any]:
        """The saved form: JSON types only."""
        values = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Reads the saved form.

        Raises:
            InputError: An option is unknown, missing, or out of its range.
        """
        names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise InputError(f"unknown {cls.options_of} option {unknown[0]!r}; the options are {', '.join(names)}")
        try:
            plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**plain)
        except TypeError as error:
            raise InputError(f"{cls.options_of} options: {error}") from error


def _choices(config: type) -> dict[str, tuple[Any, ...]]:
    """The values of each option that has a few; None among them where the option may be left out."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, hint in get_type_hints(config).items():
        kinds = get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)
        literals = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
        if literals:
            found[name] = (*literals, None) if type(None) in kinds else tuple(literals)
    return found
