"""Training of every stage: options, tasks, and one loop."""

from typing import TYPE_CHECKING, Any

from show1.training.options import LoopOptions, TaskOptions, TrainingConfig
from show1.training.tasks.options import (
    TASKS,
    AutoencoderOptions,
    InterpolationOptions,
    KeyframeImagesOptions,
    KeyframesOptions,
    SuperResolutionImagesOptions,
    SuperResolutionOptions,
    TranslationImagesOptions,
    TranslationOptions,
)

if TYPE_CHECKING:
    from show1.training.run import describe, train

__all__ = [
    "TASKS",
    "AutoencoderOptions",
    "InterpolationOptions",
    "KeyframeImagesOptions",
    "KeyframesOptions",
    "LoopOptions",
    "SuperResolutionImagesOptions",
    "SuperResolutionOptions",
    "TaskOptions",
    "TrainingConfig",
    "TranslationImagesOptions",
    "TranslationOptions",
    "describe",
    "train",
]


def __getattr__(name: str) -> Any:
    """Imports the trainer when it is asked for: options alone load neither torch nor diffusers."""
    if name in ("describe", "train"):
        from importlib import import_module

        return getattr(import_module("show1.training.run"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
