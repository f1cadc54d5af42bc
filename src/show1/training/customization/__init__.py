"""Customization: a stage's network learns a motion or a style from a few clips, as an adapter."""

from typing import TYPE_CHECKING, Any

from show1.training.customization.config import METHODS, CustomizationConfig, Kind, MethodName

if TYPE_CHECKING:
    from show1.training.customization.run import configure, customize, describe

__all__ = ["METHODS", "CustomizationConfig", "Kind", "MethodName", "configure", "customize", "describe"]


def __getattr__(name: str) -> Any:
    """Imports the rest when it is asked for: options alone load neither torch nor diffusers."""
    if name in ("configure", "customize", "describe"):
        from show1.training.customization import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
