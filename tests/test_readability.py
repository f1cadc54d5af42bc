"""How the package reads: files that fit a sitting, functions that fit a screen, docstrings, and shapes of tensors."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "show1"

LONGEST_FILE = 400
LONGEST_FUNCTION = 60
LONG_ON_PURPOSE: dict[str, str] = {
    "cli/generate.py:generate": "most of its lines are the options of the command, each with its help",
}
"""Functions over the limit, each with its reason."""

_SHAPE = re.compile(r"\((?:[A-Z][\w'/*+.-]*|\d+|[a-z]{1,3}),[^)]*\)|\(\)|\([A-Z]\)|\bshape|\bscalar")
_TENSOR = re.compile(r"\b(Tensor|NDArray|ndarray)\b")


class Definition(NamedTuple):
    """A function or class of the package."""

    name: str
    """`module:Class.function`."""
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    owner: ast.ClassDef | None
    """The class it stands in."""

    @property
    def is_public(self) -> bool:
        return not any(part.startswith("_") for part in self.name.partition(":")[2].split("."))

    @property
    def docstring(self) -> str:
        return ast.get_docstring(self.node) or ""


def definitions() -> Iterator[Definition]:
    """All functions and classes of modules and classes; functions inside functions belong to those."""
    for file in sorted(PACKAGE.rglob("*.py")):
        module = str(file.relative_to(PACKAGE))
        yield from _inside(module, ast.parse(file.read_text(encoding="utf-8")), "", None)


def _inside(module: str, parent: ast.AST, prefix: str, owner: ast.ClassDef | None) -> Iterator[Definition]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield Definition(f"{module}:{prefix}{node.name}", node, owner)
        if isinstance(node, ast.ClassDef):
            yield from _inside(module, node, f"{prefix}{node.name}.", node)


def takes_or_gives_tensors(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a tensor or an array stands in the annotations of its arguments or of what it returns."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    annotations = [a.annotation for a in arguments] + [node.returns]
    return any(a is not None and _TENSOR.search(ast.unparse(a)) for a in annotations)


@pytest.fixture(scope="module")
def found() -> list[Definition]:
    return list(definitions())


def test_files_fit_a_sitting() -> None:
    lengths = {
        str(f.relative_to(PACKAGE)): len(f.read_text(encoding="utf-8").splitlines()) for f in PACKAGE.rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_functions_fit_a_screen(found: list[Definition]) -> None:
    functions = [d for d in found if not isinstance(d.node, ast.ClassDef)]
    long = {d.name: (d.node.end_lineno or 0) - d.node.lineno + 1 for d in functions}
    too_long = {name: length for name, length in long.items() if length > LONGEST_FUNCTION}
    assert set(too_long) == set(LONG_ON_PURPOSE), too_long
    assert len(LONG_ON_PURPOSE) <= 1


def test_public_names_have_docstrings(found: list[Definition]) -> None:
    public = [d for d in found if d.is_public]
    bare = [d.name for d in public if not d.docstring]
    assert len(bare) <= 0.05 * len(public), f"{len(bare)} of {len(public)}: {bare}"


def test_public_functions_of_tensors_state_shapes(found: list[Definition]) -> None:
    public = [
        d for d in found if d.is_public and not isinstance(d.node, ast.ClassDef) and takes_or_gives_tensors(d.node)
    ]
    silent = [d.name for d in public if not _SHAPE.search(d.docstring)]
    assert len(public) > 100
    assert len(silent) <= 0.1 * len(public), f"{len(silent)} of {len(public)}: {silent}"
