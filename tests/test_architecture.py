"""The order of the package's rooms (docs/architecture.md): imports go down, never up, and never in a circle.

Every import counts, those inside functions and under `TYPE_CHECKING` too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "show1"

ROOMS: tuple[tuple[str, ...], ...] = (
    ("errors", "limits", "launch", "options", "config", "files", "tables", "stage_table", "expert_table"),
    ("diffusion",),
    ("media",),
    ("video",),
    ("networks",),
    ("runtime",),
    ("checkpoints",),
    ("text",),
    ("adapters",),
    ("stages",),
    ("experts",),
    ("generation",),
    ("data",),
    ("training",),
    ("evaluation",),
    ("sprites",),
    ("server",),
    ("cli", "__main__"),
)
"""From the ground floor up: a module imports from its own room and from those before it."""

NOT_ABOVE = {("evaluation", "training")}
"""Rooms that stay apart though their order would allow an import: (importer, imported)."""

STAGE_NAMES = {"keyframes", "interpolation", "super_resolution", "translation", "first_frame"}

Imports = dict[str, set[str]]
"""The modules of show1 that each module imports."""


def read_modules() -> dict[str, ast.Module]:
    """Parses the package; returns the tree of each module by its dotted name."""
    trees = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(file.read_text(encoding="utf-8"))
    return trees


def read_imports(trees: dict[str, ast.Module]) -> Imports:
    """Finds what each module imports from show1, wherever in the module it does."""
    return {name: set(_imported(tree, set(trees))) - {name} for name, tree in trees.items()}


def _imported(tree: ast.Module, modules: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in modules else node.module


def room_of(module: str) -> str:
    """The room a module is in: the first part of its name below `show1`, or "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def upward_imports(imports: Imports) -> list[str]:
    """Lists the imports that go up, into a room that is not in the plan, or between rooms that stay apart."""
    floor = {room: number for number, rooms in enumerate(ROOMS) for room in rooms}
    found = []
    for module, others in sorted(imports.items()):
        for other in sorted(others):
            room, other_room = room_of(module), room_of(other)
            if room == "" or room == other_room:
                continue  # the package's own __init__ hands out names of all rooms, when they are asked for
            known = room in floor and other_room in floor
            if not known or floor[other_room] > floor[room] or (room, other_room) in NOT_ABOVE:
                found.append(f"{module} imports {other}")
    return found


def circles(imports: Imports) -> list[list[str]]:
    """Lists the sets of modules that import one another in a circle (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        path.append(module)
        for other in sorted(imports[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in path:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            component = path[path.index(module) :]
            del path[path.index(module) :]
            if len(component) > 1:
                found.append(sorted(component))

    for module in sorted(imports):
        if module not in index:
            visit(module)
    return found


def compared_stage_names(tree: ast.Module) -> list[int]:
    """Lists the lines that compare something with the name of a stage."""

    def named(node: ast.AST) -> bool:
        return any(
            (isinstance(n, ast.Constant) and n.value in STAGE_NAMES)
            or (isinstance(n, ast.Name) and n.id.isupper() and n.id.lower() in STAGE_NAMES)
            for n in ast.walk(node)
        )

    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            plain = [s for s in sides if isinstance(s, ast.Constant | ast.Name | ast.Tuple | ast.List | ast.Set)]
            if any(named(side) for side in plain):
                lines.append(node.lineno)
        elif isinstance(node, ast.match_case) and named(node.pattern):
            lines.append(node.pattern.lineno)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("startswith", "endswith") and any(named(arg) for arg in node.args):
                lines.append(node.lineno)
    return lines


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return read_modules()


@pytest.fixture(scope="module")
def imports(trees: dict[str, ast.Module]) -> Imports:
    return read_imports(trees)


def test_every_module_is_in_a_room(trees: dict[str, ast.Module]) -> None:
    known = {room for rooms in ROOMS for room in rooms} | {""}
    assert {room_of(module) for module in trees} <= known
    assert len(trees) > 50


def test_imports_go_down(imports: Imports) -> None:
    assert upward_imports(imports) == []


def test_no_module_imports_itself_by_way_of_others(imports: Imports) -> None:
    assert circles(imports) == []


def test_stages_do_not_import_one_another(imports: Imports) -> None:
    stages = {f"show1.stages.{name}" for name in STAGE_NAMES - {"first_frame"}}
    assert stages <= set(imports)
    assert {stage: imports[stage] & stages for stage in stages} == {stage: set() for stage in stages}


def test_only_the_table_asks_what_a_stage_is_called(trees: dict[str, ast.Module]) -> None:
    found = [
        f"{name}:{line}"
        for name, tree in trees.items()
        if name != "show1.stage_table"
        for line in compared_stage_names(tree)
    ]
    assert len(found) <= 5, found


def test_a_wrong_import_is_found_wherever_it_stands() -> None:
    inside = ast.parse("def f():\n    from show1.cli.main import main\n    return main")
    modules = {"show1.diffusion.sampling", "show1.cli.main", "show1.evaluation.scores", "show1.training.loop"}
    assert set(_imported(inside, modules)) == {"show1.cli.main"}
    assert upward_imports({"show1.diffusion.sampling": {"show1.cli.main"}}) == [
        "show1.diffusion.sampling imports show1.cli.main"
    ]
    assert upward_imports({"show1.cli.main": {"show1.diffusion.sampling"}}) == []
    assert upward_imports({"show1.evaluation.scores": {"show1.training.loop"}}) != []
    assert upward_imports({"show1.media.read": {"show1.unheard_of.room"}}) != []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    "line",
    [
        "stage == 'translation'",
        "stage in ('keyframes', 'interpolation')",
        "name.startswith('super_resolution')",
        "'first_frame' != part.name",
        "part == FIRST_FRAME",
    ],
)
def test_a_compared_stage_name_is_found(line: str) -> None:
    assert compared_stage_names(ast.parse(line)) == [1]
    assert compared_stage_names(ast.parse("settings['keyframes'] == row.settings")) == []
