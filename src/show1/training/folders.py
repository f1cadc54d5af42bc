"""Where the folders are that a training starts from: on this disk, or on the Hub."""

import dataclasses
import re
from pathlib import Path

from show1.checkpoints.cascade import Part
from show1.checkpoints.hub import HubOptions, fetch
from show1.checkpoints.index import INDEX
from show1.checkpoints.locate import resolve
from show1.checkpoints.names import KNOWN_MODELS, PUBLISHED_MODEL, near_name, split_preset
from show1.checkpoints.weight_files import check_inside
from show1.errors import InputError, ModelNotFoundError
from show1.files import user_path
from show1.stage_table import SHARED_TEXT, STAGE_TABLE
from show1.training.checkpoint import CONFIG
from show1.training.options import TaskOptions
from show1.training.tasks.distillation_options import DistillationOptions
from show1.training.tasks.options import AutoencoderOptions

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
        name = str(getattr(options, option))
        part = _part_of_model(options, option, run)
        if part is not None:
            folder = part.text if option == "text" and part.text is not None else part.path
            found[option] = str(folder)
            if option == "init" and _lacks_text(options, folder) and part.text is not None:
                found["text"] = str(part.text)  # that of the same model
        if folder.exists():
            _check_links(folder)
            _check_autoencoder(option, name, folder)
            continue
        found[option] = _on_hub(options, option, run)
    return dataclasses.replace(options, **found)


def _on_hub(options: TaskOptions, option: str, run: Path) -> str:
    """Fetches what an option needs of a repository on the Hub; gives its folder."""
    name = str(getattr(options, option))
    if name == PUBLISHED_MODEL:
        name = STAGE_TABLE[str(_stage(options, option))].repository
    if not _ON_HUB.fullmatch(name) or name.startswith("."):
        said = near_name(name) or "; name one that is there"
        raise InputError(f"{option}: there is no folder {options.folders()[option]}{said}")
    try:
        local = HubOptions(local_files_only=(run / CONFIG).is_file())
        return str(fetch(name, _components(options, option), local)[0])
    except ModelNotFoundError as error:
        raise InputError(f"{option}: there is no folder {name}, and as a name on the Hub: {error}") from error


def _stage(options: TaskOptions, option: str) -> str | None:
    """The stage that an option is for."""
    return {"text": SHARED_TEXT, "vae": "translation"}.get(option, options.stage)


def _part_of_model(options: TaskOptions, option: str, run: Path) -> Part | None:
    """The stage's files in a whole model on this disk that an option names, such as `mini`; None if it names none."""
    name, stage = str(getattr(options, option)), _stage(options, option)
    plain, _ = split_preset(name)
    embedded = plain in KNOWN_MODELS and plain != PUBLISHED_MODEL
    if stage is None or not (embedded or (user_path(plain, option) / INDEX).is_file()):
        return None
    try:
        return resolve({stage: name}, local_files_only=(run / CONFIG).is_file(), check=False).parts[stage]
    except ModelNotFoundError as error:
        raise InputError(f"{option}: {error}") from error


def _lacks_text(options: TaskOptions, init: Path) -> bool:
    """Whether a task reads prompts, and neither its options nor the folder it starts from have a text encoder."""
    return hasattr(options, "text") and options.text is None and not (init / _TEXT[0]).is_dir()


def _check_autoencoder(option: str, name: str, folder: Path) -> None:
    """Makes sure that there is an autoencoder where one is to be."""
    if option == "vae" and not (folder / "vae").is_dir():
        raise InputError(f"vae: {name} holds no vae/; name the export of a vae training, or a model, such as mini")


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
        return ("vae", "scheduler") if option == "vae" or isinstance(options, AutoencoderOptions) else _TEXT
    if option == "text":
        return _TEXT
    if option == "temporal_init":
        return ("unet",)
    return ("unet", "scheduler", *(() if options.text else _TEXT))
