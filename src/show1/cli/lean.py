"""A quick start: what diffusers and transformers import for features that no command uses is left for later.

Both import all of their models, peft, scipy and torch's compiler, whatever is asked of them: half of the seconds before
a command begins. Only the embedded model is started this way: it needs neither pipelines of diffusers nor their LoRA
loaders, which peft is left out of. Other versions of the two packages than the tested ones are imported as they are.
"""

import gc
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_MODELS = ("diffusers.models.transformers", "diffusers.models.autoencoders", "diffusers.models.unets")
"""Packages whose `__init__` imports every model of their kind."""


_TESTED = {"diffusers": "0.42.", "transformers": "5.23."}
"""Versions whose imports are known."""


class _Deferred(ModuleType):
    """A package whose `__init__` runs when it is asked for a name that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__dict__["__loader__"].exec_module(self)
        return getattr(self, name)


@contextmanager
def without_collector() -> Iterator[None]:
    """Imports without looking for garbage: a fifth of the time, and modules stay as long as the process anyway.

    What a new process has imported inside the block is never looked through again either: that is a quarter of a
    million objects each time that a stage is freed. A process that had torch already keeps its collector as it is.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def lean_imports() -> None:
    """Imports torch and the parts of diffusers and transformers that all stages stand on, and defers the rest."""
    known = all(importlib.metadata.version(name).startswith(version) for name, version in _TESTED.items())
    if known and "diffusers" not in sys.modules:
        with _without_compiler():
            _import_parts()


def _import_parts() -> None:
    with _without_list_of_packages():
        import diffusers  # noqa: F401
    import diffusers.models
    import transformers.utils

    for name in ("scipy", "scipy.stats", "scipy.integrate", *_MODELS):
        _defer(name)
    with _without_extras(transformers.utils, transformers.utils.import_utils):
        with _without_peft(), _stand_ins(transformers, "PreTrainedModel", "AutoImageProcessor"):
            import diffusers.hooks
            import diffusers.loaders.lora_base
            import diffusers.loaders.single_file_model  # noqa: F401
        from transformers import CLIPTextModel, T5EncoderModel  # noqa: F401


@contextmanager
def _without_list_of_packages() -> Iterator[None]:
    """Lets diffusers be imported without a list of all installed packages: it names only those that are not needed."""
    known = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = lambda: {}
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = known


@contextmanager
def _without_extras(*modules: ModuleType) -> Iterator[None]:
    """Text encoders need neither the losses of object detection nor the splitting of a model over machines."""
    names = ("is_scipy_available", "is_torch_distributed_available")
    known = {(module, name): getattr(module, name) for module in modules for name in names}
    for module, name in known:
        setattr(module, name, lambda: False)
    try:
        yield
    finally:
        for (module, name), function in known.items():
            setattr(module, name, function)


def _defer(name: str) -> None:
    """Puts a package in its place without running its `__init__`; modules of it can be imported all the same."""
    try:
        spec = None if name in sys.modules else importlib.util.find_spec(name)
    except ModuleNotFoundError:  # the package that it belongs to is not installed
        return
    if spec is None:
        return
    package = _Deferred(name)
    locations = list(spec.submodule_search_locations or ())
    vars(package).update(
        __spec__=spec, __package__=name, __file__=spec.origin, __loader__=spec.loader, __path__=locations
    )
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Imports without torch's compiler, for which functions are marked: unmarked ones are compiled as any other."""
    import torch

    if "torch._dynamo" in sys.modules:
        yield
        return
    spec = importlib.util.find_spec("torch._dynamo")
    package = ModuleType("torch._dynamo")
    marks = dict.fromkeys(("allow_in_graph", "assume_constant_result", "disable"), _unmarked)
    vars(package).update(__path__=list(spec.submodule_search_locations or ()) if spec else [], **marks)
    sys.modules["torch._dynamo"] = torch._dynamo = package
    try:
        yield
    finally:
        del torch._dynamo
        for name in [name for name in sys.modules if name == "torch._dynamo" or name.startswith("torch._dynamo.")]:
            del sys.modules[name]


def _unmarked(function: Any = None, *_flags: Any, **_options: Any) -> Any:
    """Stands for a decorator, with or without options, that changes nothing in eager mode."""
    return _unmarked if function is None else function


@contextmanager
def _without_peft() -> Iterator[None]:
    """Lets diffusers' hooks, which only ask whether a layer is one of peft's, be imported without peft."""
    from diffusers.utils import import_utils

    known = import_utils._peft_available
    import_utils._peft_available = False
    try:
        yield
    finally:
        import_utils._peft_available = known


class _Kind(type):
    """A class that knows its instances by the name of their class, and asks the real one for all else."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return any(kind.__name__ == cls.__name__ for kind in type(instance).__mro__)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return any(kind.__name__ == cls.__name__ for kind in subclass.__mro__)

    def __getattr__(cls, name: str) -> Any:
        return getattr(getattr(importlib.import_module("transformers"), cls.__name__), name)


@contextmanager
def _stand_ins(module: ModuleType, *names: str) -> Iterator[None]:
    """Lets classes be imported from a lazy module and used in `isinstance`, without importing the real ones."""
    for name in names:
        setattr(module, name, _Kind(name, (), {}))
    try:
        yield
    finally:
        for name in names:
            delattr(module, name)
