"""Results that are kept on disk, so that a benchmark resumes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from show1.files import read_json_object, write_json


def kept_json(file: Path, compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Reads a JSON object that an earlier run has kept, or computes and keeps it.

    Args:
        file: The file.
        compute: Called if there is no such file.
    """
    if not file.is_file():
        write_json(file, compute())
    return read_json_object(file)
