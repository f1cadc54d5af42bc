"""The stages of the cascade: keyframes, interpolation, super-resolution, expert translation."""

from show1.stages.base import PromptEmbeddings, Seeds, StepCallback
from show1.stages.first_frame import DeepFloydFirstFrame, FirstFrameModel
from show1.stages.interpolation import InterpolationStage
from show1.stages.keyframes import KeyframesStage
from show1.stages.super_resolution import SuperResolutionStage
from show1.stages.translation import TranslationStage

__all__ = [
    "DeepFloydFirstFrame",
    "FirstFrameModel",
    "InterpolationStage",
    "KeyframesStage",
    "PromptEmbeddings",
    "Seeds",
    "StepCallback",
    "SuperResolutionStage",
    "TranslationStage",
]
