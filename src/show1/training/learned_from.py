"""What a run learns from, by content: the clips, their words, and the folders that it starts from.

Names of clips and folders are options of a run. What they hold may change under the same name, and a run that went on
with something else would be neither the old one nor a new one. Under another name, the same content is as good.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from show1.data.clips import ClipSource
from show1.errors import InputError, RunError
from show1.files import cached_sha256, read_json_object, sha256_of_text
from show1.training.checkpoint import last_checkpoint
from show1.training.options import TaskOptions

LEARNED_FROM = "learned_from.json"
"""Hashes of what a run learns from, in its folder."""


def contents(options: TaskOptions, source: ClipSource) -> dict[str, str]:
    """Hashes what a run learns from: "data", "words" if the source lists them, and folders by their option."""
    found = {"data": getattr(source, "fingerprint", source.spec)}
    with suppress(InputError):  # an endless source need not list its words
        words = source.vocabulary()
        found["words"] = sha256_of_text(repr((words.words, sorted(words.forms.items()))))
    return found | {name: _hash_of_folder(folder) for name, folder in options.folders().items()}


def unchanged(folder: Path, now: Mapping[str, str]) -> set[str]:
    """Lists what a run resumes with as it began: its options may have other names for that.

    Raises:
        RunError: What the folder holds cannot be read.
    """
    before = _before(folder)
    return {name for name, digest in now.items() if before.get(name) == digest}


def check_contents(folder: Path, now: Mapping[str, str], options: TaskOptions, source: ClipSource) -> None:
    """Refuses to resume a run that learned from something else until now.

    Args:
        folder: The run's folder.
        now: What it would learn from, as `contents` gives it.
        options: The task's options, for the message.
        source: The clips, for the message.

    Raises:
        RunError: Something has changed.
    """
    before = _before(folder)
    titles = {"data": f"the clips or captions of {source.spec}", "words": "the words of the captions"}
    titles |= {name: f"the folder {path} (--{name.replace('_', '-')})" for name, path in options.folders().items()}
    changed = [titles[name] for name, digest in now.items() if name in before and before[name] != digest]
    if changed:
        raise RunError(
            f"{' and '.join(changed)} changed after the run in {folder} began; choose another folder for a new run, or "
            "put back what was there"
        )


def _before(folder: Path) -> dict[str, object]:
    """What a run in a folder learned from; nothing if it has no checkpoint, or is of an earlier version."""
    file = folder / LEARNED_FROM
    if last_checkpoint(folder) is None or not file.is_file():
        return {}
    try:
        return read_json_object(file)
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({error}); choose another folder for a new run") from error


def _hash_of_folder(folder: Path) -> str:
    """Hashes the files of a stage's components, which are in folders of their own."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*/*")):
        if file.is_file():
            digest.update(f"{file.relative_to(folder)} {cached_sha256(file)}\n".encode())
    return digest.hexdigest()
