"""Where the folders are that a training starts from: on this disk, or on the Hub."""

import dataclasses
import re
from pathlib import Path

from show1.checkpoints.hub import HubOptions, fetch
from show1.checkpoints.index import INDEX
from show1.checkpoints.locate import resolve
from show1.checkpoints.names import KNOWN_MODELS, absolute_model, split_preset
from show1.checkpoints.weight_files import check_inside
from show1.errors import InputError, ModelNotFoundError
from show1.stage_table import SHARED_TEXT
from show1.training.checkpoint import CONFIG
from show1.training.options import TaskOptions
from show1.training.tasks.distillation_options import DistillationOptions

_TEXT = ("text_encoder", "tokenizer")
_ON_HUB = re.compile(r"[\w.-]+/[\w.-]+")


def on_this_disk(options: TaskOptions, run: Path) -> TaskOptions:
    """Replaces names of models and Hub repositories among a task's folders by the folders that hold their files.

    Args:
        options: The task's options.
        run: The run's folder. What an earlier command wrote there only names what is on this disk already.

    Raises:
        InputError: There is neither such a folder nor such a repository.
        CheckpointError: A file in such a folder is a link that leads out of it.
    """
    if isinstance(options, DistillationOptions):
        options = _with_teacher(options, run)
    found: dict[str, str] = {}
    for option, folder in options.folders().items():
        name = getattr(options, option)
        if (inside := _in_model(options, option, run)) is not None:
            folder, found[option] = inside, str(inside)
        if folder.exists():
            _check_links(folder)
            continue
        if not _ON_HUB.fullmatch(name) or name.startswith("."):
            raise InputError(f"{option}: there is no folder {folder}; name one that is there")
        try:
            local = HubOptions(local_files_only=(run / CONFIG).is_file())
            found[option] = str(fetch(name, _components(options, option), local)[0])
        except ModelNotFoundError as error:
            raise InputError(f"{option}: there is no folder {folder}, and as a name on the Hub: {error}") from error
    return dataclasses.replace(options, **found)


def _in_model(options: TaskOptions, option: str, run: Path) -> Path | None:
    """The stage's folder in a whole model that an option names, such as `mini`; None if it names no model."""
    name, stage = str(getattr(options, option)), {"text": SHARED_TEXT, "vae": "translation"}.get(option, options.stage)
    if stage is None or not (split_preset(name)[0] in KNOWN_MODELS or (Path(absolute_model(name)) / INDEX).is_file()):
        return None
    part = resolve({stage: name}, local_files_only=(run / CONFIG).is_file(), check=False).parts[stage]
    return part.text if option == "text" else part.path


def _check_links(folder: Path) -> None:
    """Makes sure that no file of a stage's components is a link out of the folder of its model."""
    root = folder.parent if (folder.parent / INDEX).is_file() else folder
    for component in ("unet", "vae", "scheduler", *_TEXT):
        check_inside(folder / component, root)


def _with_teacher(options: DistillationOptions, run: Path) -> DistillationOptions:
    """Finds the stage's folder in the model that a distillation names, and the folder of its text encoder."""
    assert options.teacher is not None
    local = (run / CONFIG).is_file()
    cascade = resolve({options.stage: options.teacher}, local_files_only=local, check=False)
    part = cascade.parts[options.stage]
    text = options.text or part.text
    if text is None:
        raise InputError(
            f"text: {options.teacher} has no text encoder; name the folder of the one that it was trained with (--text)"
        )
    return dataclasses.replace(options, teacher=str(part.path), text=str(text))


def _components(options: TaskOptions, option: str) -> tuple[str, ...]:
    """The components of a repository that an option is for."""
    if option == "vae" or not hasattr(options, "text"):
        return ("vae", "scheduler") if option == "vae" or options.task in ("vae", "tiny_vae") else _TEXT
    if option == "text":
        return _TEXT
    if option == "temporal_init":
        return ("unet",)
    return ("unet", "scheduler", *(() if options.text else _TEXT))
