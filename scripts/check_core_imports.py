"""Imports every module of show1 as on a machine that has the core dependencies only.

Packages outside the core dependencies (and what these need) are hidden, so a module that imports an optional package at
its top fails here. Rooms that need an extra as a whole are left out. Exits with 1 and names the modules
if any fails.
"""

import importlib
import pkgutil
import sys
import tomllib
import traceback
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from types import ModuleType

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

ROOMS_OF_EXTRAS = ("show1.server.", "show1.cli.batch_queue")
"""Modules that need an extra (`show1[server]`), and that only a command which says so imports."""


def core_distributions() -> set[str]:
    """Returns the core dependencies of pyproject.toml with all that they need, extras aside."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pending = [Requirement(line) for line in project["dependencies"]]
    found = {"show1"}
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        try:
            pending += [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:
            print(f"warning: {name} is not installed", file=sys.stderr)
    return found


def hidden_packages() -> set[str]:
    """Returns the names of all installed top-level modules that no core distribution provides."""
    core = core_distributions()
    return {
        module
        for module, distributions in packages_distributions().items()
        if not core & {canonicalize_name(name) for name in distributions}
    }


class HidingFinder(PathFinder):
    """Finds modules as usual, save the hidden ones, which seem not to be installed."""

    hidden: set[str] = set()

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in cls.hidden:
            return None
        return super().find_spec(fullname, path, target)


def main() -> int:
    HidingFinder.hidden = hidden_packages()
    sys.meta_path[:] = [HidingFinder if finder is PathFinder else finder for finder in sys.meta_path]
    package = importlib.import_module("show1")
    names = [module.name for module in pkgutil.walk_packages(package.__path__, "show1.")]
    failed = []
    for name in names:
        if name.endswith("__main__") or name.startswith(ROOMS_OF_EXTRAS):
            continue
        try:
            importlib.import_module(name)
        except Exception:
            traceback.print_exc()
            failed.append(name)
    if failed:
        print(f"not importable with the only the core dependencies: {', '.join(failed)}", file=sys.stderr)
        return 1
    print(f"{len(names)} modules import with only the core dependencies")
    return 0


if __name__ == "__main__":
    sys.exit(main())
