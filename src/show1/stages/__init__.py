"""The stages of the cascade: keyframes, interpolation, super-resolution, expert translation."""

from show1.diffusion import Seeds, StepCallback
from show1.stages.first_frame import DeepFloydFirstFrame, FirstFrameModel
from show1.stages.interpolation import InterpolationStage
from show1.stages.keyframes import KeyframesStage
from show1.stages.load import load_stage
from show1.stages.stage import PromptEmbeddings, Stage
from show1.stages.super_resolution import SuperResolutionStage
from show1.stages.translation import TranslationStage

__all__ = [
    "DeepFloydFirstFrame",
    "FirstFrameModel",
    "InterpolationStage",
    "KeyframesStage",
    "PromptEmbeddings",
    "Seeds",
    "Stage",
    "StepCallback",
    "SuperResolutionStage",
    "TranslationStage",
    "load_stage",
]
