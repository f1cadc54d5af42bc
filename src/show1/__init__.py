"""Show-1: text-to-video by pixel-space and latent-space diffusion in one cascade (arXiv:2309.15818)."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from show1.config import (
        PUBLISHED,
        CascadeSettings,
        FirstFrameSettings,
        InterpolationSettings,
        KeyframesSettings,
        SuperResolutionSettings,
        TranslationSettings,
    )
    from show1.errors import (
        Cancelled,
        CheckpointError,
        GatedModelError,
        InputError,
        MediaError,
        MissingDependencyError,
        ModelNotFoundError,
        OutputError,
        RunError,
        Show1Error,
    )
    from show1.generation.arguments import make_request
    from show1.generation.pipeline import Show1Pipeline
    from show1.generation.progress import Callbacks
    from show1.generation.request import GenerationRequest
    from show1.generation.run import Run
    from show1.video import Video

__version__ = "0.1.0"

__all__ = [
    "PUBLISHED",
    "Callbacks",
    "Cancelled",
    "CascadeSettings",
    "CheckpointError",
    "FirstFrameSettings",
    "GatedModelError",
    "GenerationRequest",
    "InputError",
    "InterpolationSettings",
    "KeyframesSettings",
    "MediaError",
    "MissingDependencyError",
    "ModelNotFoundError",
    "OutputError",
    "Run",
    "RunError",
    "Show1Error",
    "Show1Pipeline",
    "SuperResolutionSettings",
    "TranslationSettings",
    "Video",
    "__version__",
    "make_request",
]

_HOMES = {
    "Callbacks": "generation.progress",
    "GenerationRequest": "generation.request",
    "PUBLISHED": "config",
    "Run": "generation.run",
    "Show1Pipeline": "generation.pipeline",
    "Video": "video",
    "make_request": "generation.arguments",
}
"""Where names are defined, apart from settings (`config`) and errors (`errors`)."""


def __getattr__(name: str) -> Any:
    """Imports a name when it is first used: importing the package loads neither torch nor diffusers."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES.get(name) or ("config" if name.endswith("Settings") else "errors")
    return getattr(importlib.import_module(f"show1.{home}"), name)
