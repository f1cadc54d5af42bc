"""Training of every stage: options, tasks, and one loop."""

from show1.training.config import TASKS, TaskName, TrainingConfig
from show1.training.trainer import describe, last_checkpoint, train

__all__ = ["TASKS", "TaskName", "TrainingConfig", "describe", "last_checkpoint", "train"]
