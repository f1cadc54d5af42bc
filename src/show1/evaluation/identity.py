"""The identity of an evaluation, which is what its figures depend on: a folder holds only one evaluation."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from show1.errors import RunError
from show1.files import read_json_object, write_json


def identify(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what figures depend on, as JSON saves it, with 16 hex digits of its hash as `id`."""
    text = json.dumps(parts, sort_keys=True)
    return {"id": hashlib.sha256(text.encode()).hexdigest()[:16], **json.loads(json.dumps(parts))}


def claim(file: Path, identity: Mapping[str, Any], kind: str) -> None:
    """Writes the identity of an evaluation into its folder, unless the folder is that of another evaluation.

    Args:
        file: File in which the folder keeps the identity.
        identity: See `identify`.
        kind: What the folder holds, in messages: `an evaluation`, `a benchmark`.

    Raises:
        RunError: The folder is that of another evaluation, or its file is damaged.
    """
    if not file.is_file():
        write_json(file, identity)
        return
    try:
        before = read_json_object(file)
    except ValueError as error:
        raise RunError(f"{file} is damaged ({error}); name another folder with --out") from error
    if before.get("id") != identity["id"]:
        changed = next((key for key in identity if key != "id" and before.get(key) != identity[key]), "id")
        raise RunError(f"{file.parent} holds {kind} with another {changed}; name another folder with --out")
