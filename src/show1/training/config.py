"""The saved form of a training: `config.json` in its folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from show1.errors import InputError
from show1.options import require
from show1.training.options import LoopOptions, TaskOptions, names_of


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that decides a training."""

    options: TaskOptions
    """Options of what is trained."""

    loop: LoopOptions
    """Options of the training loop itself."""

    data: str
    """The clips, as `ClipSource.spec` names them."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the saved form, which has JSON types only."""
        return {"task": self.options.task, "data": self.data, **self.loop.to_dict(), **self.options.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], tasks: Sequence[type[TaskOptions]]) -> Self:
        """Reads the saved form, also that of trainings before each task had its own options.

        Args:
            values: The content of a `config.json`.
            tasks: The options of the tasks that it may be of.

        Raises:
            InputError: An option is unknown, missing or out of its range.
        """
        kinds = {kind.task: kind for kind in tasks}
        task = values.get("task")
        require(task in kinds, "task", task, f"one of {', '.join(kinds)}")
        kind = kinds[str(task)]
        rest = current_form(values, kind)
        data = rest.pop("data", None)
        del rest["task"]
        if not isinstance(data, str):
            raise InputError(f"data: name the clips, such as a folder of videos with captions; got {data!r}")
        known = [*names_of(LoopOptions), *names_of(kind)]
        if unknown := sorted(set(rest) - set(known)):
            raise InputError(f"unknown training option {unknown[0]!r}; the options of {task} are {', '.join(known)}")
        loop = {name: value for name, value in rest.items() if name in names_of(LoopOptions)}
        own = {name: value for name, value in rest.items() if name not in loop}
        return cls(options=kind.from_dict(own), loop=LoopOptions.from_dict(loop), data=data)


_FORMER = {"spins": None, "tilts": 0.0, "groups": 0.0}
"""Defaults of options that became part of `data`."""


def current_form(values: Mapping[str, Any], options: type[TaskOptions]) -> dict[str, Any]:
    """Translates saved options from the form in which every task had every option, those of the clips among them.

    Args:
        values: The content of a `config.json`; the current form is left as it is.
        options: The options of its task.
    """
    if not {"vae", "noise_level"} <= set(values):
        return dict(values)
    kept = {name: value for name, value in values.items() if name in {*names_of(LoopOptions), *names_of(options)}}
    words = [
        f"{name}={float(values[name])}" for name, default in _FORMER.items() if values.get(name, default) != default
    ]
    if values.get("motions_per_scene", 1) > 1:
        words.append(f"motions_per_scene={values['motions_per_scene']}")
    for subject, _, share in (text.rpartition(":") for text in values.get("subject_share", ())):
        words.append(f"subject_share={subject}:{float(share)}")
    data = values.get("data", "sprites")
    return {**kept, "task": values["task"], "data": data + (":" + ",".join(words) if words else "")}
