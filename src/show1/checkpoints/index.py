"""What a model's folders say about it: `show1.json` of a cascade, and `stage.json` of a stage.

Both hold the settings that suit the model, and options that suit its customization. Both are a stranger's words: they
are checked when they are read, and name nothing outside of their folder.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from show1.checkpoints.names import PRESET_NAME
from show1.checkpoints.weight_files import read_json
from show1.config import PRESETS, PUBLISHED, STAGES, CascadeSettings
from show1.errors import CheckpointError, ModelNotFoundError, Show1Error
from show1.files import write_json
from show1.stage_table import SHARED_TEXT, STAGE_TABLE

INDEX = "show1.json"
"""The file that makes a folder a cascade."""
STAGE_NOTES = "stage.json"
"""The file of a stage's folder that says how to use it."""

CARD = "README.md"
"""A model's card for people, in its folder."""

Advice = dict[str, list[dict[str, Any]]]
"""Options that suit a model's customization, by kind (motion, style): one mapping for each way that was tried, the best
first. Each names its `stage`, and mostly its `method`."""


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What a folder says about how to use a model."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Changes of the published settings, as `CascadeSettings.replace` takes them."""
    customization: Advice = field(default_factory=dict)
    """Options for `show1 customize`."""

    def of_stage(self, stage: str) -> "Notes":
        """The part of the notes that is about one stage of the cascade."""
        shared = {k: v for k, v in self.settings.items() if k not in STAGES and stage == SHARED_TEXT}
        own = {stage: self.settings[stage]} if stage in self.settings else {}
        chosen = {kind: [each for each in ways if each["stage"] == stage] for kind, ways in self.customization.items()}
        return Notes(settings={**own, **shared}, customization={kind: ways for kind, ways in chosen.items() if ways})


def merged(notes: Iterable[Notes]) -> Notes:
    """Puts notes together: of two that decide the same setting, the earlier one wins."""
    settings: dict[str, Any] = {}
    customization: Advice = {}
    for each in notes:
        for name, value in each.settings.items():
            settings[name] = {**value, **settings.get(name, {})} if name in STAGES else settings.get(name, value)
        for kind, ways in each.customization.items():
            customization[kind] = customization.get(kind, []) + ways
    return Notes(settings=settings, customization=customization)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What a preset of a cascade changes."""

    subfolders: dict[str, str] = field(default_factory=dict)
    """Folders of other networks, by the stage."""
    notes: Notes = field(default_factory=Notes)
    """How to use them."""


@dataclass(frozen=True, kw_only=True)
class Index:
    """What is in `show1.json`."""

    name: str
    """Name of the cascade, by default that of its folder."""
    subfolders: dict[str, str]
    """Folder of each stage, below that of the file."""
    notes: Notes
    """How to use it."""
    presets: dict[str, Preset] = field(default_factory=dict)
    """Its presets by name."""

    def preset(self, name: str | None) -> Preset:
        """One of the presets; None: one that changes nothing.

        Raises:
            ModelNotFoundError: There is no such preset.
        """
        if name is None:
            return Preset()
        if name not in self.presets:
            known = f"; its presets are {', '.join(self.presets)}" if self.presets else ", nor any other"
            raise ModelNotFoundError(f"the model {self.name!r} has no preset {name!r}{known}")
        return self.presets[name]

    def folders(self, preset: Preset) -> dict[str, str]:
        """Folder of each stage, with those of a preset in place."""
        return {**self.subfolders, **preset.subfolders}


def read_index(file: Path) -> Index:
    """Reads `show1.json`.

    Raises:
        CheckpointError: It is damaged, or of a later version of show1.
    """
    index = _read(file)
    subfolders = _subfolders(file, index)
    if not subfolders:
        raise CheckpointError(f"{file} must map stages to subfolders under 'stages'; save the cascade again")
    presets = index.get("presets", {})
    if not isinstance(presets, dict) or not all(isinstance(each, dict) for each in presets.values()):
        raise CheckpointError(f"{file}: 'presets' must map names to what they change; correct it")
    for name in presets:
        if not re.fullmatch(PRESET_NAME, name) or name in PRESETS:
            raise CheckpointError(
                f"{file}: a preset cannot be called {name!r}: names consist of letters, digits, dots and dashes, and "
                f"{' and '.join(PRESETS)} belong to the published model; rename it"
            )
    return Index(
        name=str(index.get("name") or file.resolve().parent.name)[:100],
        subfolders=subfolders,
        notes=_notes(file, index),
        presets={
            name: Preset(subfolders=_subfolders(file, values), notes=_notes(file, values))
            for name, values in presets.items()
        },
    )


def _subfolders(file: Path, values: Mapping[str, Any]) -> dict[str, str]:
    """The folders of stages that a file names, which have to be inside of its own."""
    subfolders = values.get("stages", {})
    if not isinstance(subfolders, dict):
        raise CheckpointError(f"{file} must map stages to subfolders under 'stages'; save the cascade again")
    for stage, subfolder in subfolders.items():
        inside = isinstance(subfolder, str) and not Path(subfolder).is_absolute() and ".." not in Path(subfolder).parts
        if stage not in STAGE_TABLE or not inside:
            raise CheckpointError(f"{file}: {subfolder!r} is not a subfolder for the stage {stage!r}; correct it")
    return subfolders


def write_index(folder: Path, parts: Mapping[str, str], settings: CascadeSettings, advice: Advice) -> None:
    """Writes `show1.json`.

    Args:
        folder: Folder of the cascade, whose name becomes its name.
        parts: Subfolder of each part.
        settings: The settings that suit it.
        advice: Options that suit its customization.

    Raises:
        OutputError: It cannot be written.
    """
    index = {"format": 1, "name": folder.name, "stages": dict(parts), "settings": settings.to_dict()}
    write_json(folder / INDEX, {**index, "customization": advice} if advice else index)


def stage_of(folder: Path) -> str | None:
    """Reads which stage a folder says that it is; None if it says nothing.

    Raises:
        CheckpointError: The file is damaged.
    """
    file = folder / STAGE_NOTES
    if not file.is_file():
        return None
    stage = _read(file).get("stage")
    if stage not in STAGES:
        raise CheckpointError(f"{file}: 'stage' must be one of {', '.join(STAGES)}, got {stage!r}; correct it")
    return str(stage)


def read_stage_notes(folder: Path, part: str) -> Notes:
    """Reads what is known about a stage from its folder, or from the cascade that the folder lies in.

    Args:
        folder: Folder of the stage.
        part: Row of the stage table; of a folder of another stage, nothing is known.

    Raises:
        CheckpointError: The file is damaged.
    """
    row, file, above = STAGE_TABLE[part], folder / STAGE_NOTES, folder.resolve().parent / INDEX
    if row.part_of is not None:
        return Notes()
    if file.is_file():
        values = _read(file)
        if values.get("stage") != part:
            return Notes()
        own, shared = values.get("settings", {}), values.get("cascade_settings", {})
        settings = {part: own, **(shared if isinstance(shared, dict) else {})}
        return _notes(file, {**values, "settings": settings})
    if above.is_file():
        index = read_index(above)
        for preset in (Preset(), *index.presets.values()):
            if index.folders(preset).get(part) == folder.resolve().name:
                return merged([preset.notes, index.notes]).of_stage(part)
    return Notes()


def write_stage_notes(folder: Path, part: str, notes: Notes) -> None:
    """Writes `stage.json`.

    Args:
        folder: Folder of the stage.
        part: Its row of the stage table.
        notes: How to use it.

    Raises:
        OutputError: It cannot be written.
    """
    shared = {name: value for name, value in notes.settings.items() if name not in STAGES}
    values = {"format": 1, "stage": part, "settings": notes.settings.get(part, {}), "cascade_settings": shared}
    write_json(
        folder / STAGE_NOTES, {**values, **({"customization": notes.customization} if notes.customization else {})}
    )


def _read(file: Path) -> dict[str, Any]:
    values = read_json(file)
    if values.get("format") != 1:
        raise CheckpointError(
            f"{file} has format {values.get('format')!r}, this version of show1 reads format 1; update show1"
        )
    return values


def _notes(file: Path, values: Mapping[str, Any]) -> Notes:
    settings, advice = values.get("settings", {}), values.get("customization", {})
    try:
        PUBLISHED.replace(**settings)
    except (Show1Error, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file}: the settings cannot be read ({error}); correct them") from error
    ways = (
        [way for each in advice.values() for way in (each if isinstance(each, list) else [None])]
        if isinstance(advice, dict)
        else [None]
    )
    if not all(isinstance(way, dict) and way.get("stage", SHARED_TEXT) in STAGES for way in ways):
        raise CheckpointError(f"{file}: 'customization' must map kinds to lists of options; correct it")
    named = {kind: [{"stage": SHARED_TEXT, **way} for way in each] for kind, each in advice.items()}
    return Notes(settings=settings, customization=named)
