"""The package as a whole: it imports, its names are exact, its version is one."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import show1
import show1.errors

MODULES = ["show1"] + [
    module.name for module in pkgutil.walk_packages(show1.__path__, "show1.") if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_and_exports_exactly(name: str) -> None:
    """A module with `__all__` lists all that it defines for others and, if a package, all that it gathers."""
    module = importlib.import_module(name)
    if not hasattr(module, "__all__"):
        return
    exported = list(module.__all__)
    assert len(exported) == len(set(exported))
    for export in exported:
        assert hasattr(module, export), f"{name}.__all__ lists {export}, which does not exist"
    is_package = hasattr(module, "__path__")
    public = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and (value.__module__.startswith("show1.") if is_package else value.__module__ == name)
    }
    assert public <= set(exported), f"missing in {name}.__all__: {sorted(public - set(exported))}"


ROOT = {
    "Show1Pipeline", "Video", "Run", "make_request", "GenerationRequest", "Callbacks",
    "CascadeSettings", "KeyframesSettings", "InterpolationSettings", "SuperResolutionSettings", "FirstFrameSettings",
    "TranslationSettings", "PUBLISHED",
    "Show1Error", "InputError", "OutputError", "ModelNotFoundError", "GatedModelError", "CheckpointError", "MediaError",
    "RunError", "MissingDependencyError", "Cancelled",
    "__version__",
}  # fmt: skip
"""What normal use needs."""


def test_the_root_exports_exactly_what_normal_use_needs() -> None:
    assert set(show1.__all__) == ROOT
    assert set(dir(show1.errors)) >= {name for name in ROOT if name.endswith("Error")}
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        show1.Nothing  # noqa: B018
    assert (Path(show1.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize(
    ("modules", "unloaded"),
    [
        ("show1", {"torch", "numpy", "pydantic", "diffusers", "transformers"}),
        ("show1.generation, show1.generation.request, show1.generation.output", {"torch", "diffusers", "transformers"}),
        ("show1.generation.run, show1.generation.arguments, show1.generation.progress", {"diffusers", "transformers"}),
    ],
)
def test_light_imports(modules: str, unloaded: set[str]) -> None:
    """Requests and run folders are read without the libraries that generate."""
    code = f"import sys; import {modules}; print(*({unloaded!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_one_version() -> None:
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
    declared = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"]
    assert version("show1") == declared
    assert getattr(show1, "__version__", declared) == declared


def test_constraints_pin_every_dependency() -> None:
    root = Path(__file__).parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["train"], *extras["test"]]
    names = {line.partition(">=")[0] for line in wanted if not line.startswith("show1[")}
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    assert names <= pinned
