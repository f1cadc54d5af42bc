"""Where a cascade's files are: the embedded one, a folder, or repositories on the Hugging Face Hub."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from show1.checkpoints.hub import KNOWN_MODELS, PUBLISHED_REPOS, HubOptions, fetch, near_name
from show1.checkpoints.weight_files import find_weights, read_json
from show1.config import PUBLISHED, STAGES, CascadeSettings, StageName
from show1.errors import CheckpointError, InputError, ModelNotFoundError, Show1Error

logger = logging.getLogger(__name__)

INDEX = "show1.json"
"""The file that makes a folder a cascade."""
FIRST_FRAME = "first_frame"
TEXT = ("tokenizer", "text_encoder")
COMPONENTS: dict[str, tuple[str, ...]] = {
    "keyframes": ("unet", "scheduler"),
    "interpolation": ("unet", "scheduler"),
    "super_resolution": ("unet", "scheduler", "image_noising_scheduler"),
    "translation": ("unet", "vae", "scheduler"),
    FIRST_FRAME: ("unet", "scheduler", "image_noising_scheduler"),
}
"""The subfolders that a stage needs, apart from those of its text encoder."""
OPTIONAL_COMPONENTS = ("image_noising_scheduler",)
WEIGHTED = ("unet", "vae", "text_encoder")
# the first release's authors advise 100 steps and guidance 12.0
_SETTINGS_OF_REPO: dict[str, dict[str, Any]] = {
    "showlab/show-1-base-0.0": {"num_inference_steps": 100, "guidance_scale": 12.0}
}

ModelLike = str | Path | Mapping[str, str | Path]
"""A known name, a folder, a Hub repository, or a mapping of stage to one of these."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The files of one stage (or of the first frame's network)."""

    path: Path
    """Folder that holds the stage's components."""
    source: str
    """Where it comes from: a repository with its commit, or a folder."""
    text: Path | None = None
    """Folder that holds the stage's `tokenizer` and `text_encoder`."""


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """A cascade whose files are on this disk."""

    name: str
    """For people: `mini`, `showlab/show-1`, a folder's name."""
    model: str | dict[str, str]
    """What finds it again."""
    parts: dict[str, Part]
    """The stages in order, and `first_frame` if there is one."""
    settings: CascadeSettings
    """What it was made for."""
    variant: str | None = None
    """Weight files to prefer."""

    @property
    def stages(self) -> tuple[StageName, ...]:
        """The stages, in order."""
        return tuple(s for s in STAGES if s in self.parts)

    def weight_files(self, stages: Sequence[str] | None = None) -> dict[str, Path]:
        """Weight files by `stage/component/name`, of some stages (and their text encoders) or of all."""
        files: dict[str, Path] = {}
        for name, part in self.parts.items():
            if stages is not None and name not in stages:
                continue
            folders = [part.path / c for c in COMPONENTS[name] if c in WEIGHTED]
            folders += [part.text / "text_encoder"] if part.text is not None else []
            for folder in folders:
                for file in find_weights(folder, self.variant):
                    files[f"{name}/{folder.name}/{file.name}"] = file
        return files


@dataclass(frozen=True, kw_only=True)
class _Options(HubOptions):
    stages: tuple[str, ...] = STAGES

    @property
    def parts(self) -> tuple[str, ...]:
        return (*self.stages, FIRST_FRAME) if "super_resolution" in self.stages else self.stages


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
    if FIRST_FRAME not in cascade.parts and cascade.settings.super_resolution.first_frame is not None:
        cascade = replace(cascade, settings=cascade.settings.replace(super_resolution={"first_frame": None}))
    return cascade


def embedded_folder() -> Path:
    """Where the package keeps `mini`."""
    return Path(__file__).parent.parent / "weights" / "mini"


def _resolve_name(name: str, options: _Options) -> Cascade:
    if name == "mini":
        if not (embedded_folder() / INDEX).is_file():
            raise ModelNotFoundError(
                f"this installation lacks the embedded model (expected in {embedded_folder()}); install show1 again"
            )
        return replace(_cascade_folder(embedded_folder(), options), name="mini", model="mini")
    if name == "showlab/show-1":
        return _published_on_hub(options)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _resolve_folder(folder, options)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith((".", "/")):
        return _cascade_on_hub(name, options)
    if folder.exists():
        raise ModelNotFoundError(f"{folder} is a file; a model is a folder, a name or a Hub repository")
    raise ModelNotFoundError(f"no model or folder {name!r}{near_name(name)}; known models: {', '.join(KNOWN_MODELS)}")


def _resolve_folder(folder: Path, options: _Options) -> Cascade:
    if (folder / INDEX).is_file():
        return _cascade_folder(folder, options)
    found = {part: _published_folder(folder, repo) for part, repo in PUBLISHED_REPOS.items()}
    if any(found[s] is not None for s in STAGES):
        return _published_in_folder(folder, found, options)
    if (folder / "unet").is_dir() or (folder / "model_index.json").is_file():
        raise ModelNotFoundError(
            f"{folder} holds a single stage; say which: Show1Pipeline.from_pretrained({{'keyframes': {str(folder)!r}}})"
        )
    raise ModelNotFoundError(
        f"{folder} is no cascade: it holds neither {INDEX} nor any of the published repositories "
        f"({', '.join(repo.split('/')[1] for repo in PUBLISHED_REPOS.values())})"
    )


def _cascade_folder(folder: Path, options: _Options) -> Cascade:
    subfolders, settings = _read_index(folder / INDEX)
    parts = {}
    shared = folder / subfolders["keyframes"] if "keyframes" in subfolders else None
    for name in (n for n in (*STAGES, FIRST_FRAME) if n in subfolders and n in options.parts):
        path = folder / subfolders[name]
        parts[name] = Part(path=path, source=str(path), text=_text_folder(name, path, shared))
    name = str(read_json(folder / INDEX).get("name") or folder.resolve().name)
    model = str(folder.resolve())
    return Cascade(name=name, model=model, parts=parts, settings=settings, variant=options.variant)


def _read_index(file: Path) -> tuple[dict[str, str], CascadeSettings]:
    index = read_json(file)
    if index.get("format") != 1:
        raise CheckpointError(
            f"{file} has format {index.get('format')!r}, this version of show1 reads format 1; update show1"
        )
    subfolders = index.get("stages")
    if not isinstance(subfolders, dict) or not subfolders:
        raise CheckpointError(f"{file} must map stages to subfolders under 'stages'; save the cascade again")
    for stage, subfolder in subfolders.items():
        inside = isinstance(subfolder, str) and not Path(subfolder).is_absolute() and ".." not in Path(subfolder).parts
        if stage not in COMPONENTS or not inside:
            raise CheckpointError(f"{file}: stage {stage!r} in {subfolder!r} is no stage in a subfolder; correct it")
    try:
        settings = CascadeSettings.from_dict(index["settings"]) if "settings" in index else PUBLISHED
    except (Show1Error, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file}: the settings cannot be read ({error}); correct them") from error
    return subfolders, settings


def _text_folder(stage: str, path: Path, shared: Path | None) -> Path | None:
    """A stage's own text encoder if its folder has one, else that of the keyframes."""
    if stage == FIRST_FRAME:
        return None
    return path if (path / "text_encoder").is_dir() else shared


def _published_folder(folder: Path, repo: str) -> Path | None:
    owner, name = repo.split("/")
    candidates = (folder / name, folder / owner / name)
    return next((c for c in candidates if c.is_dir()), None)


def _published_in_folder(folder: Path, found: Mapping[str, Path | None], options: _Options) -> Cascade:
    parts: dict[str, Part] = {}
    for name in options.parts:
        path = found[name]
        if path is None and name == FIRST_FRAME:
            _explain_first_frame(f"{folder / 'IF-II-L-v1.0'} is not there")
            continue
        if path is None:
            expected = folder / PUBLISHED_REPOS[name].split("/")[1]
            raise ModelNotFoundError(
                f"{expected} is missing: {folder} lacks the stage {name!r}; download {PUBLISHED_REPOS[name]} to it, or "
                f"ask for other stages alone (`until`, `stages=`)"
            )
        # the published repositories of the pixel stages hold copies of one text encoder
        text = None if name == FIRST_FRAME else path if name == "translation" else found["keyframes"] or path
        parts[name] = Part(path=path, source=str(path), text=text)
    model = str(folder.resolve())
    return Cascade(name=folder.resolve().name, model=model, parts=parts, settings=PUBLISHED, variant=options.variant)


def _published_on_hub(options: _Options) -> Cascade:
    parts: dict[str, Part] = {}
    base: Path | None = None
    if any(s != "translation" for s in options.stages):
        components = COMPONENTS["keyframes"] if "keyframes" in options.stages else ()
        base, _ = fetch(PUBLISHED_REPOS["keyframes"], (*components, *TEXT), options)
    for name in options.parts:
        repo = PUBLISHED_REPOS[name]
        own_text = TEXT if name == "translation" else ()
        try:
            path, source = fetch(repo, (*COMPONENTS[name], *own_text), options)
        except ModelNotFoundError as error:
            if name != FIRST_FRAME:
                raise
            _explain_first_frame(str(error))
            continue
        text = None if name == FIRST_FRAME else path if name == "translation" else base
        parts[name] = Part(path=path, source=source, text=text)
    return Cascade(
        name="showlab/show-1", model="showlab/show-1", parts=parts, settings=PUBLISHED, variant=options.variant
    )


def _explain_first_frame(reason: str) -> None:
    repo = PUBLISHED_REPOS[FIRST_FRAME]
    logger.warning(
        "The published run makes the first high-resolution frame with %s, which is optional and not available (%s). "
        "The video super-resolution network makes that frame instead. To use it: accept the licence at "
        "https://huggingface.co/%s, log in with `hf auth login`, and run `show1 models download showlab/show-1`.",
        repo,
        reason.rstrip("."),
        repo,
    )


def _cascade_on_hub(repo: str, options: _Options) -> Cascade:
    path, source = fetch(repo, (), options, extra=(INDEX,))
    if not (path / INDEX).is_file():
        raise ModelNotFoundError(
            f"{repo} is no cascade: it has no {INDEX}; if it is a stage, say which: "
            f"Show1Pipeline.from_pretrained({{'keyframes': {repo!r}}})"
        )
    subfolders, _ = _read_index(path / INDEX)
    wanted = {n: s for n, s in subfolders.items() if n in options.parts or n == "keyframes"}
    components = [
        f"{sub}/{c}"
        for name, sub in wanted.items()
        for c in (*(COMPONENTS[name] if name in options.parts else ()), *(TEXT if name != FIRST_FRAME else ()))
    ]
    path, source = fetch(repo, components, options, extra=(INDEX,))
    cascade = _cascade_folder(path, options)
    parts = {n: replace(p, source=f"{source}/{subfolders[n]}") for n, p in cascade.parts.items()}
    return replace(cascade, name=repo, model=repo, parts=parts)


def _resolve_mapping(model: Mapping[str, str | Path], options: _Options) -> Cascade:
    unknown = [k for k in model if k not in COMPONENTS]
    if unknown or not model:
        raise InputError(f"unknown stage {unknown[0] if unknown else None!r}; the keys are {', '.join(COMPONENTS)}")
    parts: dict[str, Part] = {}
    settings = PUBLISHED
    for name in (n for n in (*STAGES, FIRST_FRAME) if n in model and n in options.parts):
        found, of_stage = _resolve_part(name, str(model[name]), options)
        parts.update(found)
        if of_stage is not None and name != FIRST_FRAME:
            settings = settings.replace(**{name: of_stage})
    shared = parts["keyframes"].text if "keyframes" in parts else None
    parts = {n: p if n == FIRST_FRAME or p.text is not None else replace(p, text=shared) for n, p in parts.items()}
    absolute = {name: _absolute(str(value)) for name, value in model.items()}
    name = ", ".join(f"{stage}={value}" for stage, value in model.items())
    return Cascade(name=name, model=absolute, parts=parts, settings=settings, variant=options.variant)


def _absolute(value: str) -> str:
    return str(Path(value).expanduser().resolve()) if Path(value).expanduser().is_dir() else value


def _resolve_part(name: str, value: str, options: _Options) -> tuple[dict[str, Part], dict[str, Any] | None]:
    """One entry of a mapping: the stage's own folder or repository, or a cascade to take the stage from."""
    folder = Path(value).expanduser()
    if value not in KNOWN_MODELS and folder.is_dir() and (folder / "unet").is_dir():
        text = folder if name != FIRST_FRAME and (folder / "text_encoder").is_dir() else None
        return {name: Part(path=folder.resolve(), source=str(folder), text=text)}, None
    if value not in KNOWN_MODELS and not folder.is_dir() and re.fullmatch(r"[\w.-]+/[\w.-]+", value):
        return _part_on_hub(name, value, options)
    stage = "super_resolution" if name == FIRST_FRAME else name
    cascade = _resolve_name(value, replace(options, stages=(stage,)))
    if name not in cascade.parts:
        raise ModelNotFoundError(f"{value} has no {name!r}; it has {', '.join(cascade.parts) or 'no stage'}")
    taken = {n: p for n, p in cascade.parts.items() if n in (name, FIRST_FRAME)}
    of_stage = None if name == FIRST_FRAME else getattr(cascade.settings, name).to_dict()
    return taken, of_stage


def _part_on_hub(name: str, repo: str, options: _Options) -> tuple[dict[str, Part], dict[str, Any] | None]:
    shares_text = repo in PUBLISHED_REPOS.values() and name in ("interpolation", "super_resolution")
    own_text = () if name == FIRST_FRAME or shares_text else TEXT
    path, source = fetch(repo, (*COMPONENTS[name], *own_text), options)
    text: Path | None = path if own_text and (path / "text_encoder").is_dir() else None
    if shares_text:
        text, _ = fetch(PUBLISHED_REPOS["keyframes"], TEXT, options)
    return {name: Part(path=path, source=source, text=text)}, _SETTINGS_OF_REPO.get(repo)


def _check_parts(cascade: Cascade) -> None:
    for name, part in cascade.parts.items():
        for component in COMPONENTS[name]:
            if component not in OPTIONAL_COMPONENTS or (part.path / component).exists():
                _check_component(part.path / component, cascade.variant)
        if name != FIRST_FRAME:
            if part.text is None:
                raise CheckpointError(
                    f"{part.path} has no text encoder, and there is no keyframes stage to share one with; "
                    "complete the folder with text_encoder/ and tokenizer/"
                )
            for component in TEXT:
                _check_component(part.text / component, cascade.variant)


def _check_component(folder: Path, variant: str | None) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is missing; download the model again (`show1 models download`)")
    if folder.name in WEIGHTED:
        read_json(folder / "config.json")
        find_weights(folder, variant)
    elif folder.name.endswith("scheduler"):
        read_json(folder / "scheduler_config.json")
