"""Latent video models of diffusers in place of the cascade's own translation: see docs/experts.md."""

from show1.expert_table import EXPERTS, Expert, ExpertRow, register_expert
from show1.experts.expert import DiffusersExpert, check_expert_settings, load_expert
from show1.experts.family import ExpertFamily
from show1.experts.needs import ExpertNeeds, expert_needs
from show1.experts.text import ExpertText

__all__ = [
    "EXPERTS",
    "DiffusersExpert",
    "Expert",
    "ExpertFamily",
    "ExpertNeeds",
    "ExpertRow",
    "ExpertText",
    "check_expert_settings",
    "expert_needs",
    "load_expert",
    "register_expert",
]
