"""Options as frozen dataclasses: checked when they are made, saved as JSON."""

import dataclasses
import numbers
import sys
from collections.abc import Mapping
from types import UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from show1.errors import InputError


class Options:
    """Base of the frozen dataclasses that hold options.

    Types are checked when an object is made; a list becomes a tuple where a tuple is expected. A subclass extends
    `__post_init__` to check ranges, with `check` and `check_range`. Fields may be other `Options`, or tuples of them.
    """

    options_of: ClassVar[str]
    """Owner of the options in messages, such as "training"."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            given, kinds = getattr(self, field.name), _alternatives(hints[field.name])
            value = tuple(given) if isinstance(given, list) and get_origin(kinds[0]) is tuple else plain_number(given)
            if value is not given:
                object.__setattr__(self, field.name, value)
            if value is not None or type(None) not in kinds:
                _check_type(self.option_label(field.name), value, kinds[0])

    @classmethod
    def option_label(cls, name: str) -> str:
        """The name of an option in messages."""
        return name

    def check(self, name: str, ok: bool, expected: str) -> None:
        """Raises `InputError`, with the option's name and value and what is expected, unless `ok`."""
        require(ok, self.option_label(name), getattr(self, name), expected)

    def check_range(self, *names: str, least: float, most: float | None = None) -> None:
        """Raises `InputError` for the first of these options that is below `least` or above `most`.

        None passes; of a tuple, every value has to be in the range.
        """
        expected = f"{least} or more" if most is None else f"from {least} to {most}"
        for name in names:
            self.check(name, all(least <= x and (most is None or x <= most) for x in self._values(name)), expected)

    def check_positive(self, *names: str) -> None:
        """Raises `InputError` for the first of these options that is not above 0; None passes."""
        for name in names:
            self.check(name, all(x > 0 for x in self._values(name)), "more than 0")

    def _values(self, name: str) -> tuple[Any, ...]:
        value = getattr(self, name)
        return () if value is None else value if isinstance(value, tuple) else (value,)

    def to_dict(self) -> dict[str, Any]:
        """Returns the saved form, which has JSON types only."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads the saved form.

        Raises:
            InputError: An option is unknown, missing, of the wrong type or out of its range.
        """
        require(isinstance(values, Mapping), f"the {cls.options_of} options", values, "a mapping of options")
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(values) - set(fields)):
            raise InputError(f"unknown {cls.options_of} option {unknown[0]!r}; the options are {', '.join(fields)}")
        for name, field in fields.items():
            if name not in values and field.default is field.default_factory is dataclasses.MISSING:
                raise InputError(f"the {cls.options_of} options lack {name!r}; give it")
        hints = get_type_hints(cls)
        return cls(**{name: _restored(value, hints[name]) for name, value in values.items()})

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Lets a field of a pydantic model hold options: `from_dict` reads them, `to_dict` saves them."""
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.from_dict(value),
            serialization=core_schema.plain_serializer_function_ser_schema(cls.to_dict),
        )


def require(ok: bool, name: str, value: object, expected: str) -> None:
    """Raises `InputError` that names an option, its value and what is expected, unless `ok`."""
    if not ok:
        raise InputError(f"{name} must be {expected}, got {shown(value)}")


def shown(value: object, most: int = 120) -> str:
    """The value for a message: its `repr`, shortened if it is long."""
    try:
        text = repr(value)
    except Exception:  # numbers of more than 4300 digits, and whatever a stranger's class does
        return f"a very large {type(value).__name__}"
    return shortened(text, most)


def counted(number: int, noun: str) -> str:
    """`1 frame`, `29 frames`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shortened(text: str, most: int) -> str:
    """The text, cut to a number of characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def plain_number(value: Any) -> Any:
    """A whole or real number of another library, such as NumPy, as Python's own; anything else as it is."""
    if isinstance(value, int | float | None) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of a union, None last; of any other type, only itself."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(sorted(kinds, key=lambda kind: kind is type(None)))


def _check_type(name: str, value: object, kind: Any) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind is int:
        require(whole, name, value, "a whole number")
    elif kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        require(number and abs(value) <= sys.float_info.max, name, value, "a finite number")  # type: ignore[arg-type]
    elif kind is bool:
        require(isinstance(value, bool), name, value, "yes or no")
    elif kind is str:
        require(isinstance(value, str), name, value, "text")
    elif get_origin(kind) is Literal:
        require(value in get_args(kind), name, value, f"one of {', '.join(map(str, get_args(kind)))}")
    elif get_origin(kind) is tuple:
        _check_tuple(name, value, get_args(kind))
    else:
        require(isinstance(value, get_origin(kind) or kind), name, value, "a mapping of options")


def _check_tuple(name: str, value: object, kinds: tuple[Any, ...]) -> None:
    require(isinstance(value, tuple), name, value, "a list")
    assert isinstance(value, tuple)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    require(len(value) == len(kinds), name, value, f"{len(kinds)} values")
    for each, kind in zip(value, kinds, strict=True):
        _check_type(name, each, kind)


def _plain(value: Any) -> Any:
    if isinstance(value, Options):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value


def _restored(value: Any, hint: Any) -> Any:
    """Turns a JSON value into what a field of this type holds; what does not fit is left for the check of types."""
    kind = _alternatives(hint)[0]
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_restored(each, get_args(kind)[0]) for each in value)
    if isinstance(kind, type) and issubclass(kind, Options) and isinstance(value, Mapping):
        return kind.from_dict(value)
    return value
