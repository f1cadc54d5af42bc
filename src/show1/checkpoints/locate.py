"""Where a cascade's files are: the embedded one, a folder, or repositories on the Hugging Face Hub."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from show1.checkpoints.cascade import Cascade, Part
from show1.checkpoints.expert_files import expert_in, expert_on_hub, expert_stage, read_notes
from show1.checkpoints.hub import HubOptions, fetch
from show1.checkpoints.index import INDEX, STAGE_NOTES, Notes, merged, read_index, read_stage_notes, stage_of
from show1.checkpoints.names import KNOWN_MODELS, PUBLISHED_MODEL, absolute_model, near_name, split_preset
from show1.checkpoints.weight_files import check_inside, find_weights, read_json
from show1.config import PRESETS, PUBLISHED, STAGES, StageName
from show1.errors import CheckpointError, InputError, ModelNotFoundError
from show1.options import shown
from show1.stage_table import SHARED_TEXT, STAGE_TABLE, TEXT, Component, StageRow, parts_of, subfolders_of

logger = logging.getLogger(__name__)

# the first release's authors advise 100 steps and guidance 12.0
_SETTINGS_OF_REPO: dict[str, dict[str, Any]] = {
    "showlab/show-1-base-0.0": {"num_inference_steps": 100, "guidance_scale": 12.0}
}

ModelLike = str | Path | Mapping[str, str | Path]
"""A known name, a folder, a Hub repository, or a mapping from stage to one of these. NAME:PRESET, such as `mini:fast`,
stands for a cascade with the networks of one of its presets in place."""


@dataclass(frozen=True, kw_only=True)
class _Options(HubOptions):
    stages: tuple[str, ...] = STAGES
    preset: str | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        return parts_of(self.stages)


def resolve(
    model: ModelLike,
    *,
    stages: Sequence[StageName] | None = None,
    variant: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    check: bool = True,
) -> Cascade:
    """Finds a cascade's files, downloads those that are on the Hub, and checks that none is missing.

    Args:
        model: See `ModelLike`.
        stages: Only these; None: all.
        variant: Weight files to prefer, such as `fp16`.
        revision: Branch, tag or commit on the Hub.
        local_files_only: Never ask the Hub.
        check: Make sure that no file is missing.

    Raises:
        ModelNotFoundError: No such model, or it is neither on this disk nor reachable.
        CheckpointError: A file is missing, or an index is damaged.
        InputError: An unknown stage.
    """
    for stage in stages or ():
        if stage not in STAGES:
            raise InputError(f"unknown stage {stage!r}; the stages are {', '.join(STAGES)}")
    options = _Options(
        stages=tuple(s for s in STAGES if stages is None or s in stages),
        variant=variant,
        revision=revision,
        local_files_only=local_files_only,
    )
    cascade = _resolve_mapping(model, options) if isinstance(model, Mapping) else _resolve_name(str(model), options)
    missing = [s for s in stages or () if s not in cascade.parts]
    if missing:
        raise ModelNotFoundError(
            f"the model {cascade.name!r} has no stage {missing[0]!r}; it has {', '.join(cascade.stages) or 'none'}"
        )
    if check:
        _check_parts(cascade)
    absent = [row for row in STAGE_TABLE.values() if row.part_of is not None and row.name not in cascade.parts]
    return replace(cascade, settings=cascade.settings.replace(**{row.stage: {row.name: None} for row in absent}))


def embedded_folder() -> Path:
    """Where the package keeps `mini`."""
    return Path(__file__).parent.parent / "weights" / "mini"


def _resolve_name(name: str, options: _Options) -> Cascade:
    plain, preset = split_preset(name)
    if preset is not None:
        return _with_preset(plain, preset, options)
    if name == "mini":
        if not (embedded_folder() / INDEX).is_file():
            raise ModelNotFoundError(
                f"this installation lacks the embedded model (expected in {embedded_folder()}); install show1 again"
            )
        return replace(_cascade_folder(embedded_folder(), options), name="mini", model="mini")
    if name == PUBLISHED_MODEL:
        _refuse_preset(name, options)
        return _published_on_hub(options)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _resolve_folder(folder, options)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith((".", "/")):
        return _cascade_on_hub(name, options)
    if folder.exists():
        raise ModelNotFoundError(f"{folder} is a file; a model is a folder, a name or a Hub repository")
    raise ModelNotFoundError(
        f"no model or folder {os.path.expanduser(name)!r}{near_name(name)}; known models: {', '.join(KNOWN_MODELS)}"
    )


def _with_preset(name: str, preset: str, options: _Options) -> Cascade:
    """A cascade with the networks of one of its presets."""
    if options.preset is not None:
        raise ModelNotFoundError(f"{name}:{preset}:{options.preset} names two presets; name one")
    cascade = _resolve_name(name, replace(options, preset=preset))
    return replace(cascade, name=f"{cascade.name}:{preset}", model=f"{cascade.model}:{preset}")


def _refuse_preset(name: str | Path, options: _Options) -> None:
    """Makes sure that no preset is asked for of a model that has no `show1.json`, where presets are."""
    if options.preset is not None:
        raise ModelNotFoundError(
            f"{name} has no preset {options.preset!r}; those of the published model are {' and '.join(PRESETS)} "
            "(`--preset`, or `preset=` of a call)"
        )


def _resolve_folder(folder: Path, options: _Options) -> Cascade:
    if (folder / INDEX).is_file():
        return _cascade_folder(folder, options)
    _refuse_preset(folder, options)
    if (stage := stage_of(folder) or expert_stage(folder)) is not None:
        return _resolve_mapping({stage: folder}, options)
    found = {name: _published_folder(folder, row.repository) for name, row in STAGE_TABLE.items()}
    if any(found[s] is not None for s in STAGES):
        return _published_in_folder(folder, found, options)
    if (folder / "unet").is_dir() or (folder / "model_index.json").is_file():
        raise ModelNotFoundError(
            f"{folder} holds a single stage; say which: keyframes={folder}, or in Python {{'keyframes': '{folder}'}}"
        )
    raise ModelNotFoundError(
        f"{folder} is not a cascade: it holds neither {INDEX} nor any of the published repositories "
        f"({', '.join(row.repository.split('/')[1] for row in STAGE_TABLE.values())})"
    )


def _cascade_folder(folder: Path, options: _Options) -> Cascade:
    index = read_index(folder / INDEX)
    preset = index.preset(options.preset)
    subfolders = index.folders(preset)
    parts: dict[str, Part] = {}
    of_preset: list[Notes] = []
    of_others: list[Notes] = []
    shared = folder / index.subfolders[SHARED_TEXT] if SHARED_TEXT in index.subfolders else None
    for name in (n for n in options.parts if n in subfolders):
        path = folder / subfolders[name]
        expert = expert_in(STAGE_TABLE[name], path)
        text = (_own_text(path) or shared) if STAGE_TABLE[name].has_text and expert is None else None
        parts[name] = Part(path=path, source=str(path), text=text, root=folder, expert=expert)
        if expert is not None or (path / STAGE_NOTES).is_file():
            notes = read_notes(STAGE_TABLE[name], path, expert)
            (of_preset if name in preset.subfolders else of_others).append(notes)
    notes = merged([preset.notes, *of_preset, index.notes, *of_others])
    return Cascade(
        name=index.name,
        model=str(folder.resolve()),
        parts=parts,
        settings=PUBLISHED.replace(**notes.settings),
        customization=notes.customization,
        variant=options.variant,
    )


def _own_text(path: Path) -> Path | None:
    """The folder itself if it holds a text encoder."""
    return path if (path / "text_encoder").is_dir() else None


def _published_folder(folder: Path, repo: str) -> Path | None:
    owner, name = repo.split("/")
    candidates = (folder / name, folder / owner / name)
    return next((c for c in candidates if c.is_dir()), None)


def _published_in_folder(folder: Path, found: Mapping[str, Path | None], options: _Options) -> Cascade:
    parts: dict[str, Part] = {}
    for name in options.parts:
        row, path = STAGE_TABLE[name], found[name]
        expected = folder / row.repository.split("/")[1]
        if path is None and row.part_of is not None:
            _explain_absent_part(row, f"{expected} is not there")
            continue
        if path is None:
            raise ModelNotFoundError(
                f"{expected} is missing: {folder} lacks the stage {name!r}; download {row.repository} to it, or "
                f"ask for other stages only (`until`, `stages=`)"
            )
        # the published repositories of the pixel stages hold copies of one text encoder
        text = {"own": path, "shared": found[SHARED_TEXT] or path, "none": None}[row.text]
        parts[name] = Part(path=path, source=str(path), text=text, root=folder)
    model = str(folder.resolve())
    return Cascade(name=folder.resolve().name, model=model, parts=parts, settings=PUBLISHED, variant=options.variant)


def _published_on_hub(options: _Options) -> Cascade:
    parts: dict[str, Part] = {}
    for name in options.parts:
        row = STAGE_TABLE[name]
        try:
            path, source = fetch(row.repository, subfolders_of(row.needed_components), options)
        except ModelNotFoundError as error:
            if row.part_of is None:
                raise
            _explain_absent_part(row, str(error))
            continue
        parts[name] = Part(path=path, source=source, root=path, text=path if row.text == "own" else None)
    if any(STAGE_TABLE[name].text == "shared" for name in parts):
        shared = parts[SHARED_TEXT].path if SHARED_TEXT in parts else _fetch_shared_text(options)
        parts = {n: replace(p, text=shared) if STAGE_TABLE[n].text == "shared" else p for n, p in parts.items()}
    name = PUBLISHED_MODEL
    return Cascade(name=name, model=name, parts=parts, settings=PUBLISHED, variant=options.variant)


def _fetch_shared_text(options: _Options) -> Path:
    """Downloads the text encoder that published stages share; returns the folder that holds it."""
    return fetch(STAGE_TABLE[SHARED_TEXT].repository, subfolders_of(TEXT), options)[0]


def _explain_absent_part(row: StageRow, reason: str) -> None:
    logger.warning(
        "The published run makes the first high-resolution frame with %s, which is optional and not available (%s). "
        "The video super-resolution network makes that frame instead. To use it: accept the licence at "
        "https://huggingface.co/%s, log in with `hf auth login`, and run `show1 models download showlab/show-1`.",
        row.repository,
        reason.rstrip("."),
        row.repository,
    )


def _cascade_on_hub(repo: str, options: _Options) -> Cascade:
    path, source = fetch(repo, (), options, extra=(INDEX, STAGE_NOTES))
    if not (path / INDEX).is_file():
        _refuse_preset(repo, options)
        if (stage := stage_of(path) or expert_stage(path)) is not None:
            return _resolve_mapping({stage: repo}, options)
        raise ModelNotFoundError(
            f"{repo} is not a cascade: it has no {INDEX}; if it is a stage, say which: keyframes={repo}, or in Python "
            f"{{'keyframes': {repo!r}}}"
        )
    index = read_index(path / INDEX)
    subfolders = index.folders(index.preset(options.preset))
    wanted = {name: _components_with_text(STAGE_TABLE[name]) for name in subfolders if name in options.parts}
    needed = {f"{subfolders[name]}/{each.name}" for name, components in wanted.items() for each in components}
    if SHARED_TEXT in index.subfolders:
        needed |= {f"{index.subfolders[SHARED_TEXT]}/{component.name}" for component in TEXT}
    notes = [f"{subfolder}/{STAGE_NOTES}" for subfolder in subfolders.values()]
    path, source = fetch(repo, sorted(needed), options, extra=(INDEX, *notes))
    cascade = _cascade_folder(path, options)
    parts = {n: replace(p, source=f"{source}/{subfolders[n]}") for n, p in cascade.parts.items()}
    return replace(cascade, name=repo, model=repo, parts=parts)


def _components_with_text(row: StageRow) -> tuple[Component, ...]:
    """What a stage's folder may hold."""
    return (*row.components, *TEXT) if row.has_text else row.components


def _resolve_mapping(model: Mapping[str, str | Path], options: _Options) -> Cascade:
    unknown = [k for k in model if k not in STAGE_TABLE]
    if unknown or not model:
        wrong = f"unknown stage {shown(unknown[0])}" if unknown else "the mapping of stages is empty"
        raise InputError(f"{wrong}; the keys are {', '.join(STAGE_TABLE)}")
    parts: dict[str, Part] = {}
    notes: list[Notes] = []
    for name in (n for n in options.parts if n in model):
        found, of_stage = _resolve_part(STAGE_TABLE[name], str(model[name]), options)
        parts.update(found)
        notes.append(of_stage)
    shared = parts[SHARED_TEXT].text if SHARED_TEXT in parts else None
    needing = {n for n, part in parts.items() if STAGE_TABLE[n].has_text and part.expert is None}
    parts = {n: replace(part, text=part.text or shared) if n in needing else part for n, part in parts.items()}
    return Cascade(
        name=", ".join(f"{stage}={value}" for stage, value in model.items()),
        model={name: absolute_model(str(value)) for name, value in model.items()},
        parts=parts,
        settings=PUBLISHED.replace(**merged(notes).settings),
        customization=merged(notes).customization,
        variant=options.variant,
    )


def _resolve_part(row: StageRow, value: str, options: _Options) -> tuple[dict[str, Part], Notes]:
    """One entry of a mapping: the row's own folder or repository, or a cascade to take it from.

    Returns:
        The files, and what is known about how to use them.
    """
    folder = Path(value).expanduser()
    expert = None if value in KNOWN_MODELS else expert_in(row, folder)
    if expert is not None or (value not in KNOWN_MODELS and (folder / "unet").is_dir()):
        text = _own_text(folder) if row.has_text and expert is None else None
        part = Part(path=folder.resolve(), source=str(folder), text=text, root=folder.resolve(), expert=expert)
        return {row.name: part}, read_notes(row, folder, expert)
    if value not in KNOWN_MODELS and not folder.is_dir() and re.fullmatch(r"[\w.-]+/[\w.-]+", value):
        return _part_on_hub(row, value, options)
    cascade = _resolve_name(value, replace(options, stages=(row.stage,)))
    if row.name not in cascade.parts:
        raise ModelNotFoundError(f"{value} has no {row.name!r}; it has {', '.join(cascade.parts) or 'no stage'}")
    if row.part_of is not None:
        return {row.name: cascade.parts[row.name]}, Notes()
    notes = Notes(settings=cascade.settings.to_dict(), customization=cascade.customization)
    return cascade.parts, notes.of_stage(row.name)


def _part_on_hub(row: StageRow, repo: str, options: _Options) -> tuple[dict[str, Part], Notes]:
    if (found := expert_on_hub(row, repo, options)) is not None:
        path, source, expert = found
        return {row.name: Part(path=path, source=source, root=path, expert=expert)}, read_notes(row, path, expert)
    shares_text = row.text == "shared" and repo in {other.repository for other in STAGE_TABLE.values()}
    components = row.components if shares_text else _components_with_text(row)
    path, source = fetch(repo, subfolders_of(components), options, extra=(STAGE_NOTES,))
    text = _fetch_shared_text(options) if shares_text else _own_text(path) if row.has_text else None
    notes = read_stage_notes(path, row.name)
    if repo in _SETTINGS_OF_REPO and row.part_of is None:
        notes = Notes(settings={row.name: _SETTINGS_OF_REPO[repo]})
    return {row.name: Part(path=path, source=source, text=text, root=path)}, notes


def _check_parts(cascade: Cascade) -> None:
    for name, part in cascade.parts.items():
        for component in part.components(STAGE_TABLE[name]):
            if not component.optional or (part.path / component.name).exists():
                _check_component(part, part.path / component.name, component, cascade.variant)
        if not STAGE_TABLE[name].has_text or part.expert is not None:
            continue
        if part.text is None:
            raise CheckpointError(
                f"{part.path} has no text encoder, and there is no {SHARED_TEXT} stage to share one with; "
                "complete the folder with text_encoder/ and tokenizer/"
            )
        for component in TEXT:
            _check_component(part, part.text / component.name, component, cascade.variant)


def check_links(part: Part, folder: Path) -> None:
    """Makes sure that no file of a component is a link out of its model.

    Args:
        part: The files of a row.
        folder: Folder of one of its components, or of its text encoder's.

    Raises:
        CheckpointError: A file is such a link.
    """
    check_inside(folder, part.root if folder.is_relative_to(part.root) else folder.parent)


def _check_component(part: Part, folder: Path, component: Component, variant: str | None) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is missing; download the model again (`show1 models download`)")
    check_links(part, folder)
    if component.has_weights:
        read_json(folder / "config.json")
        find_weights(folder, variant)
    elif component.kind == "scheduler":
        read_json(folder / "scheduler_config.json")
