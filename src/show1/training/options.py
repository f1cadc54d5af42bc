"""Options as frozen dataclasses whose saved form is JSON."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Self

from show1.checks import require
from show1.errors import InputError


class SavedOptions:
    """What the dataclasses with the options of trainings share."""

    options_of: ClassVar[str]
    """What messages call the options: "training"."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        raise NotImplementedError

    def check_ranges(self, checks: dict[str, tuple[bool, str]]) -> None:
        """Raises `InputError` for the first option that is not what is expected: name -> (well?, expected)."""
        for name, (well, expected) in checks.items():
            require(well, name, getattr(self, name), expected)

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
