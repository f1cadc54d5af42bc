"""Checks of options whose names and types a dataclass tells."""

import dataclasses
import math
from types import UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from show1.errors import InputError


def require(ok: bool, name: str, value: object, expected: str) -> None:
    """Raises `InputError` if an option is not what is expected."""
    if not ok:
        raise InputError(f"{name} must be {expected}, got {value!r}")


def require_types(options: Any) -> None:
    """Makes sure that numbers are whole or finite, texts are texts, names are known, and pairs are pairs.

    Raises:
        InputError: One of the options is of another type than its field says.
    """
    hints = get_type_hints(type(options))
    for field in dataclasses.fields(options):
        hint, value = hints[field.name], getattr(options, field.name)
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if not (value is None and type(None) in kinds):
            _require_type(field.name, value, next(kind for kind in kinds if kind is not type(None)))


def _require_type(name: str, value: object, kind: Any) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind is int:
        require(whole, name, value, "a whole number")
    elif kind is float:
        finite = (whole and abs(cast(int, value)) < 2**1000) or (isinstance(value, float) and math.isfinite(value))
        require(finite, name, value, "a finite number")
    elif kind is bool:
        require(isinstance(value, bool), name, value, "yes or no")
    elif kind is str:
        require(isinstance(value, str), name, value, "text")
    elif get_origin(kind) is Literal:
        require(value in get_args(kind), name, value, f"one of {', '.join(map(str, get_args(kind)))}")
    elif get_origin(kind) is tuple:
        inner = get_args(kind)
        many = len(inner) == 2 and inner[1] is Ellipsis
        require(isinstance(value, tuple), name, value, "a list")
        assert isinstance(value, tuple)
        require(many or len(value) == len(inner), name, value, f"{len(inner)} values")
        for each in value:
            _require_type(name, each, inner[0])
