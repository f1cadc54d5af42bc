"""The scripts under benchmarks/ as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load_script(name: str) -> ModuleType:
    """Imports `benchmarks/<name>/run.py`."""
    file = Path(__file__).parents[2] / "benchmarks" / name / "run.py"
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
