"""Names of models: known ones, presets of cascades, and folders. Loads without torch."""

import difflib
import re
from pathlib import Path

from show1.stage_table import STAGE_TABLE

PRESET_NAME = r"[\w.-]+"
"""What the name of a preset looks like, as a regular expression."""

PUBLISHED_MODEL = "showlab/show-1"
"""Name of the published cascade, whose stages are repositories of their own."""

KNOWN_MODELS: dict[str, str] = {
    "mini": "the embedded cascade of the sprite world: 29x160x256, runs on any laptop, Apache-2.0",
    "mini:fast": "the same with distilled keyframes, a smaller expert and fewer steps",
    PUBLISHED_MODEL: "the published cascade of arXiv:2309.15818: 29x320x576, about 40 GB, CC BY-NC 4.0",
}
"""Names for `from_pretrained`, with a line of description each."""


def split_preset(model: str) -> tuple[str, str | None]:
    """Splits NAME:PRESET; the preset is None where there is none, or where a folder has that name."""
    split = re.fullmatch(rf"(.+):({PRESET_NAME})", model)
    if split is None or (model not in KNOWN_MODELS and Path(model).expanduser().exists()):
        return model, None
    return split[1], split[2]


def absolute_model(model: str) -> str:
    """The same model with the absolute path of its folder, if it is a folder on this disk."""
    name, preset = split_preset(model)
    folder = Path(name).expanduser()
    found = str(folder.resolve()) if name not in KNOWN_MODELS and folder.is_dir() else name
    return found if preset is None else f"{found}:{preset}"


def near_name(name: str) -> str:
    """Returns "; did you mean ...?" for a message if a known name is similar, otherwise an empty text."""
    candidates = {k.lower(): k for k in (*KNOWN_MODELS, *(row.repository for row in STAGE_TABLE.values()))}
    near = difflib.get_close_matches(name.lower(), candidates, n=1, cutoff=0.6)
    return f"; did you mean {candidates[near[0]]!r}?" if near else ""
