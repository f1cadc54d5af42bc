"""Show-1: text-to-video by pixel-space and latent-space diffusion in one cascade (arXiv:2309.15818)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from show1.generation.pipeline import Show1Pipeline
    from show1.video import Video

__version__ = "0.1.0"

__all__ = ["Show1Pipeline", "Video", "__version__"]


def __getattr__(name: str) -> Any:
    """Imports what is asked for when it is asked for: importing the package loads neither torch nor diffusers."""
    if name == "Show1Pipeline":
        from show1.generation.pipeline import Show1Pipeline

        return Show1Pipeline
    if name == "Video":
        from show1.video import Video

        return Video
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
