"""What a file of a stranger may name: a model that is on this disk, and adapters in places that the user knows.

Whatever else it names is neither read nor downloaded; the message says which option names it on purpose.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from show1.cli.session import load_pipeline, quoted
from show1.errors import InputError, ModelNotFoundError
from show1.options import shown

if TYPE_CHECKING:
    from show1.adapters.record import AdapterRecord
    from show1.generation.pipeline import Show1Pipeline


def load_recorded_model(
    model: str | dict[str, str], source: Path, *, remedy: str, quiet: bool, **options: Any
) -> "Show1Pipeline":
    """Loads the model that a file names, if it is on this disk.

    Args:
        model: As for `Show1Pipeline.from_pretrained`.
        source: The file.
        remedy: What the user can do to get the model; `{model}` stands for it.
        quiet: Whether to show no progress.
        **options: For `Show1Pipeline.from_pretrained`.

    Raises:
        InputError: It is not on this disk.
    """
    try:
        return load_pipeline(model, quiet=quiet, local_files_only=True, **options)
    except ModelNotFoundError as error:
        names = [model] if isinstance(model, str) else [f"{stage}={where}" for stage, where in model.items()]
        named = quoted(",".join(names))
        raise InputError(
            f"{source} was made with the model {shown(model)}, which is not on this disk, and a file must not choose "
            f"what is downloaded; if you trust that model: {remedy.format(model=named)}"
        ) from error


def known_adapters(records: "Iterable[AdapterRecord]", source: Path) -> "list[AdapterRecord]":
    """The adapters that a video names, where they are now: beside it, or inside the current folder.

    Args:
        records: What the video names.
        source: The video.

    Raises:
        InputError: One is elsewhere, or is no ordinary file.
    """
    places = [source.absolute().parent.resolve()]
    with suppress(OSError):  # the current folder is gone
        places.append(Path.cwd().resolve())
    return [record.model_copy(update={"path": str(_find(record, places, source))}) for record in records]


def _find(record: "AdapterRecord", places: list[Path], source: Path) -> Path:
    path = Path(record.path)
    for candidate in (path, *(place / path.name for place in places)):
        real = candidate.resolve()
        if any(real.is_relative_to(place) for place in places) and real.is_file():
            return real
    if any(path.resolve().is_relative_to(place) for place in places):
        return path  # it is no longer there, which loading it will say
    raise InputError(
        f"{source} was made with the adapter {shown(record.path)}, which is neither beside it nor in the current "
        f"folder; if you trust it, give it: --adapter {quoted(record.given)}; --adapter none leaves it out"
    )
