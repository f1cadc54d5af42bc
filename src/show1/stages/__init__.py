"""The stages of the cascade: keyframes, interpolation, super-resolution, expert translation."""

from show1.stages.interpolation import InterpolationStage
from show1.stages.keyframes import KeyframesStage
from show1.stages.load import check_settings, load_stage
from show1.stages.stage import PromptEmbeddings, Stage
from show1.stages.super_resolution import SuperResolutionStage
from show1.stages.translation import TranslationStage

__all__ = [
    "InterpolationStage",
    "KeyframesStage",
    "PromptEmbeddings",
    "Stage",
    "SuperResolutionStage",
    "TranslationStage",
    "check_settings",
    "load_stage",
]
