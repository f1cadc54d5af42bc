"""Training of every stage: options, tasks, and one loop."""

from typing import TYPE_CHECKING, Any

from show1.training.config import TASKS, TaskName, TrainingConfig

if TYPE_CHECKING:
    from show1.training.trainer import describe, last_checkpoint, train

__all__ = ["TASKS", "TaskName", "TrainingConfig", "describe", "last_checkpoint", "train"]


def __getattr__(name: str) -> Any:
    """Imports the trainer when it is asked for: options alone load neither torch nor diffusers."""
    if name in ("describe", "last_checkpoint", "train"):
        from show1.training import trainer

        return getattr(trainer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
