"""The model of a server, with each expert that its clients may choose for the last stage."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from show1.errors import InputError
from show1.generation.pipeline import Show1Pipeline

OWN = "none"
"""What a client names to have no expert, where a video that it continues has one."""


@dataclass(frozen=True)
class Models:
    """A model, and the same one with each expert."""

    own: Show1Pipeline
    """The model without an expert of the operator's list."""
    experts: Mapping[str, Show1Pipeline] = field(default_factory=dict)
    """With an expert in place of the translation, by the names that clients use."""

    def get(self, expert: str | None) -> Show1Pipeline:
        """The model with an expert; None: without.

        Raises:
            InputError: There is none of that name.
        """
        if expert is None:
            return self.own
        if expert not in self.experts:
            names = ", ".join(self.experts) or "none"
            raise InputError(f"there is no expert {expert[:60]!r}; there are {names}")
        return self.experts[expert]

    def take(self, expert: str | None) -> Show1Pipeline:
        """Like `get`; what the others hold in memory is dropped.

        Raises:
            InputError: There is none of that name.
        """
        chosen = self.get(expert)
        for other in (self.own, *self.experts.values()):
            if other is not chosen:
                other.free()
        return chosen
