"""Options of the command line made from the fields of a dataclass, and from the docstrings under them."""

import ast
import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand


class FieldOptions:
    """The options of a config's fields; None where one is not given."""

    def __init__(
        self, config: type, *, metavars: Mapping[str, str] | None = None, short: Mapping[str, str] | None = None
    ) -> None:
        """Takes the dataclass.

        Args:
            config: The dataclass.
            metavars: What stands for the value of some fields, such as "DIR".
            short: Short flags of some fields, such as "-o".
        """
        self.docs = field_docs(config)
        self._fields = {field.name: field for field in dataclasses.fields(config)}
        self._hints = get_type_hints(config)
        self._metavars = dict(metavars or {})
        self._short = dict(short or {})

    def parameters(self, leave_out: Sequence[str] = ()) -> list[inspect.Parameter]:
        """The parameters of a command: the fields of the dataclass itself, then those of its base classes."""
        return [self._parameter(name) for name in self.docs if name not in leave_out]

    def _parameter(self, name: str) -> inspect.Parameter:
        kind, default = self._hints[name], self._fields[name].default
        if type(None) in get_args(kind):
            kind = next(choice for choice in get_args(kind) if choice is not type(None))
        text = re.sub(r"`(\w+)`", lambda named: flag(named[1]) if named[1] in self.docs else named[0], self.docs[name])
        if get_origin(kind) is Literal:
            text += f" One of {', '.join(get_args(kind))}."
        if not any(default is nothing for nothing in (None, False, dataclasses.MISSING)) and default not in ("", ()):
            shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
            text += f" Default {shown}."
        if get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis:
            kind = list[get_args(kind)[0]]  # type: ignore[misc]  # may be given several times
        metavar = self._metavars.get(name) or {int: "N", float: "X", bool: None}.get(kind, "NAME")
        own = flag(name)
        if kind is bool:
            off = flag(f"no_{name}")  # for where a run's folder has it on
            own, text = f"{own}/{off}", f"{text} {off} turns it off."
        flags = [own, *([self._short[name]] if name in self._short else [])]
        option = typer.Option(*flags, help=text, metavar=metavar, show_default=False)
        return keyword(name, Annotated[kind | None, option], None)


class WideHelp(TyperCommand):
    """A command whose help has no column for flags that turn something off, which would cut others at 80 columns."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Shows the help; the texts of options name what turns them off."""
        for parameter in self.params:
            parameter.secondary_opts = []
        super().format_help(ctx, formatter)


def flag(name: str) -> str:
    """The flag of an option's name."""
    return "--" + name.replace("_", "-")


def keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A parameter of a command."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def with_parameters(command: Callable[..., None], parameters: Sequence[inspect.Parameter], doc: str) -> None:
    """Lets a function that takes any keywords look like one with these parameters."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = doc


def field_docs(config: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, its own fields first, then those of its base classes."""
    fields = {field.name for field in dataclasses.fields(config)}
    docs: dict[str, str] = {}
    for owner in config.__mro__:
        if dataclasses.is_dataclass(owner):
            docs = {**docs, **{name: doc for name, doc in _own_docs(owner).items() if name in fields - docs.keys()}}
    return docs


@functools.cache
def _own_docs(config: type) -> dict[str, str]:
    docs = {}
    body = _classes(config.__module__)[config.__name__].body
    for field, below in zip(body, body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            docs[field.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return docs


@functools.cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
