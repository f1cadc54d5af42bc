"""Whether a request and a model agree with what a run folder holds already."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from show1.adapters.record import AdapterRecord
from show1.config import STAGES, StageName
from show1.errors import RunError
from show1.generation.manifest import Manifest, ModelRecord
from show1.generation.request import GenerationRequest
from show1.stage_table import parts_of


def check_request(path: Path, known: Manifest, before: GenerationRequest, asked: GenerationRequest) -> None:
    """Makes sure that a request agrees with what a run has computed.

    Args:
        path: The run's folder.
        known: Its manifest.
        before: The request in it.
        asked: The new request.

    Raises:
        RunError: Prompts, seeds, the first stage, or settings of a computed stage are others.
    """

    def refuse(key: str, known_value: object, value: object) -> None:
        raise RunError(
            f"{path} belongs to another request: its {key} is {_short(known_value)}, not {_short(value)}; name another "
            f"folder, or finish the run in it with `show1 resume {path}`"
        )

    for key in ("prompts", "seeds", "numerics", "fps"):
        if getattr(before, key) != getattr(asked, key):
            refuse(key, getattr(before, key), getattr(asked, key))
    shorter, longer = sorted((before.stages, asked.stages), key=len)
    if longer[: len(shorter)] != shorter:
        refuse("stages", before.stages, asked.stages)
    for stage, record in known.stages.items():
        sha = record.request_sha256 or before.stage_sha256(stage)
        if stage in asked.stages and sha != asked.stage_sha256(stage):
            saved, wanted = before.settings.to_dict(), asked.settings.to_dict()
            counted = [name for name in saved if name not in STAGES or name in asked.up_to(stage).stages]
            name = next(name for name in counted if saved[name] != wanted[name])
            refuse(f"settings of {name}", saved[name], wanted[name])


def check_model(path: Path, known: ModelRecord, now: ModelRecord, stages: Sequence[StageName]) -> None:
    """Makes sure that the weights and adapters of some stages are those that a run began with.

    Args:
        path: The run's folder.
        known: The model in its manifest.
        now: The model in use.
        stages: The stages that count.

    Raises:
        RunError: A weight file or an adapter is another one.
    """
    changed = _changed_file(known, now, stages)
    if changed is not None:
        raise RunError(
            f"{path} was made by other weights: {changed} has changed since; use the model it began with "
            f"({known.name}), or begin a new run"
        )
    if _effects(known.adapters, stages) != _effects(now.adapters, stages):
        raise RunError(
            f"{path} was made with {_named(known.adapters)}, but now there is {_named(now.adapters)}; load those it "
            "began with (pipe.adapters.load_recorded(run.adapters), `show1 resume`), or begin a new run"
        )


def _changed_file(known: ModelRecord, now: ModelRecord, stages: Sequence[StageName]) -> str | None:
    """The first weight file of these stages that is not what it was, is gone, or is new.

    A run that is picked or extended has no files of its later stages yet: those do not count.
    """
    begun = parts_of({name.partition("/")[0] for name in known.files} & set(stages))
    names = sorted(name for name in known.files.keys() | now.files.keys() if name.partition("/")[0] in begun)
    return next((name for name in names if known.files.get(name) != now.files.get(name)), None)


def _effects(adapters: Sequence[AdapterRecord], stages: Sequence[StageName]) -> list[tuple[Any, ...]]:
    """What the adapters do to these stages, in order."""
    return [(a.stage, a.sha256, a.weight, a.detail_weight, a.noise_weight) for a in adapters if a.stage in stages]


def _named(adapters: Sequence[AdapterRecord]) -> str:
    listed = ", ".join(f"{a.name} (weight {a.shown_weight}, {a.path})" for a in adapters)
    return f"the adapters {listed}" if adapters else "no adapter"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
