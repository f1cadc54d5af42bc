"""`--set keyframes.guidance_scale=5`, `--model` and `--adapter`: text to settings."""

import dataclasses
import difflib
import math
import types
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, Union, cast, get_args, get_origin, get_type_hints

from show1.checkpoints.names import split_preset
from show1.config import STAGES, CascadeSettings, StageName, StageSettings
from show1.errors import InputError
from show1.files import user_path
from show1.stage_table import STAGE_TABLE

_COMMON = ("clean_prompt", "max_text_tokens")
_OPTIONS: dict[tuple[str, ...], type[StageSettings]] = {
    (row.name,) if row.part_of is None else (row.part_of, row.name): row.settings for row in STAGE_TABLE.values()
}
"""The options at each place in the settings, such as ("super_resolution", "first_frame")."""
_YES_OR_NO = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


class Change(NamedTuple):
    """One `--set`."""

    path: tuple[str, ...]
    """The option, such as ("keyframes", "guidance_scale")."""
    value: Any
    """The new value, in its JSON form."""


class AdapterChoice(TypedDict):
    """One `--adapter`: the arguments of `AdapterSet.load`."""

    path: str
    weight: float
    detail_weight: float | None
    stage: StageName | None


def parse_adapters(texts: Sequence[str] | None) -> list[AdapterChoice] | None:
    """Reads the values of `--adapter`: `FILE`, `FILE:WEIGHT`, `FILE:WEIGHT:DETAIL_WEIGHT`, `STAGE=FILE...`.

    Returns:
        None if there are none; an empty list for `none`, which leaves out those of a video to repeat.

    Raises:
        InputError: An empty path, a weight that is no finite number, or `none` among others.
    """
    if not texts:
        return None
    if "none" in texts and len(texts) > 1:
        raise InputError("--adapter none leaves all adapters out; give no other beside it")
    return [] if texts[0] == "none" else [_parse_adapter(text) for text in texts]


def _parse_adapter(text: str) -> AdapterChoice:
    before, equals, after = text.partition("=")
    stage = cast(StageName, before.strip()) if equals and before.strip() in STAGES else None
    path = after if stage is not None else text
    weights: list[float] = []
    while len(weights) < 2 and _ends_in_weight(path):
        path, _, last = path.rpartition(":")
        expected = "expected FILE:WEIGHT, such as walk.safetensors:0.8"
        weights.insert(0, _number(last, float, f"--adapter {text}: the weight {last!r} is not a number; {expected}"))
    if not path.strip():
        raise InputError(f"--adapter {text!r}: no such file; expected FILE:WEIGHT, such as walk.safetensors:0.8")
    return AdapterChoice(
        path=path,
        weight=weights[0] if weights else 1.0,
        detail_weight=weights[1] if len(weights) > 1 else None,
        stage=stage,
    )


def _ends_in_weight(path: str) -> bool:
    """Whether a weight follows the last colon, and not a part of the path (`C:/walk.safetensors`, `clips:1/walk`)."""
    _, colon, tail = path.rpartition(":")
    goes_on = "/" in tail or "\\" in tail or tail.endswith(".safetensors")
    return bool(colon) and not (path.strip() and user_path(path).is_file()) and not goes_on


def apply_changes(base: CascadeSettings, changes: Sequence[Change]) -> CascadeSettings:
    """Changes settings; later changes win.

    Raises:
        InputError: A value is out of its range, or is of the first frame's network and the model has none.
    """
    values = base.to_dict()
    for change in changes:
        place: Any = values
        for parent in change.path[:-1]:
            place = place[parent]
            if place is None:
                raise InputError(
                    f"--set {'.'.join(change.path)}: this model has no network of its own for the "
                    f"{parent.replace('_', ' ')}; leave it out"
                )
        place[change.path[-1]] = change.value
    return CascadeSettings.from_dict(values)


def parse_model(text: str) -> str | dict[str, str]:
    """Reads `--model`: a name, a folder, or `STAGE=WHERE,STAGE=WHERE`.

    Raises:
        InputError: A part of a mapping is no `STAGE=WHERE`.
    """
    if not text.strip():
        raise InputError("--model is empty: give a name such as mini, a folder or a Hub repository")
    if text.partition("=")[0].strip() not in STAGE_TABLE:
        return text
    mapping = {}
    for part in text.split(","):
        name, equals, where = (piece.strip() for piece in part.partition("="))
        if not equals or not where or name not in STAGE_TABLE:
            raise InputError(f"--model {text}: expected STAGE=WHERE,..., got {part!r}; {_near(name, STAGE_TABLE)}")
        mapping[name] = where
    return mapping


def with_expert(model: str | dict[str, str], expert: str) -> dict[str, str]:
    """A model whose translation is an expert.

    Args:
        model: As `parse_model` gives it.
        expert: Repository or folder of the expert.

    Raises:
        InputError: The expert's name is empty.
    """
    if not expert.strip():
        raise InputError("--expert is empty: give a Hub repository or a folder, such as THUDM/CogVideoX-2b")
    stages: dict[str, str] = dict(model) if isinstance(model, dict) else dict.fromkeys(map(str, STAGES), model)
    return {**stages, **{stage: expert.strip() for stage in STAGES if STAGE_TABLE[stage].takes_experts}}


def with_preset(model: str | dict[str, str], preset: str) -> str:
    """A model with the networks of one of its presets.

    Args:
        model: As `parse_model` gives it.
        preset: The preset's name.

    Raises:
        InputError: The model is put together from several, or names a preset already.
    """
    if not preset.strip():
        raise InputError("--preset is empty: give a name, such as fast")
    if isinstance(model, dict):
        raise InputError(f"--preset {preset}: name it where the parts are named, such as keyframes=mini:fast")
    if split_preset(model)[1] is not None:
        raise InputError(f"--model {model} names a preset already; leave out --preset {preset}")
    return f"{model}:{preset}"


def parse_change(pair: str) -> Change:
    """Reads a value of `--set`.

    Raises:
        InputError: No `KEY=VALUE`, an unknown key, or a value of another type.
    """
    key, equals, text = pair.partition("=")
    if not equals:
        raise InputError(f"--set {pair}: expected KEY=VALUE, such as --set keyframes.guidance_scale=5")
    path = tuple(key.strip().split("."))
    hints = _hints(pair, path[:-1])
    if path[-1] not in hints:
        owners = [stage for stage in STAGES if path[-1] in _hints(pair, (stage,))]
        if len(path) == 1 and owners:
            raise InputError(
                f"--set {pair}: {key.strip()} is a setting of a stage, such as --set {owners[0]}.{pair.strip()}; "
                f"the stages with it are {', '.join(owners)}"
            )
        raise InputError(f"--set {pair}: unknown option {path[-1]!r}; {_near(path[-1], hints)}")
    return Change(path=path, value=_convert(pair, text.strip(), hints[path[-1]]))


def _hints(pair: str, parents: tuple[str, ...]) -> dict[str, Any]:
    """Types of the options at a place in the settings."""
    if not parents:
        return {name: get_type_hints(CascadeSettings)[name] for name in _COMMON}
    if parents in _OPTIONS:
        hints = get_type_hints(_OPTIONS[parents])
        return {field.name: hints[field.name] for field in dataclasses.fields(_OPTIONS[parents])}
    where = ".".join(parents)
    raise InputError(f"--set {pair}: unknown stage {where!r}; {_near(where, STAGES)}")


def _convert(pair: str, text: str, hint: Any) -> Any:
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if types.NoneType in kinds and text.lower() in ("none", "null"):
        return None
    kind = next(k for k in kinds if k is not types.NoneType)
    if kind in _OPTIONS.values():
        raise InputError(
            f"--set {pair}: it takes only none; its options are set one by one, such as "
            "super_resolution.first_frame.noise_level"
        )
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise InputError(f"--set {pair}: expected one of {', '.join(get_args(kind))}")
        return text
    if get_origin(kind) is tuple:
        parts, count = text.strip("[]() ").split(","), len(get_args(kind))
        if len(parts) != count:
            raise InputError(f"--set {pair}: expected {count} numbers with a comma between them, got {text!r}")
        return [_number(part, float, f"--set {pair}: expected a number, got {part.strip()!r}") for part in parts]
    if kind is bool:
        if text.lower() not in _YES_OR_NO:
            raise InputError(f"--set {pair}: expected yes or no, got {text!r}")
        return _YES_OR_NO[text.lower()]
    if kind is int:
        return _number(text, int, f"--set {pair}: expected a whole number, got {text!r}")
    return _number(text, float, f"--set {pair}: expected a number, got {text!r}") if kind is float else text


def _number(text: str, kind: Callable[[str], float], message: str) -> float:
    """Reads a finite number; whatever else the text is raises `InputError` with the message."""
    try:
        value = kind(text)
    except ValueError:
        raise InputError(message) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(message)
    return value


def _near(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    near = [other for other in known if other.startswith(name)] or difflib.get_close_matches(name, list(known), n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{guess}there are {', '.join(known)}"
