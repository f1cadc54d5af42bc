"""Finds the files of an expert: a pipeline of diffusers in a folder or on the Hub, of which some parts are used."""

from pathlib import Path
from typing import Any

from show1.checkpoints.hub import HubOptions, fetch
from show1.checkpoints.index import STAGE_NOTES, Notes, merged, read_stage_notes
from show1.checkpoints.weight_files import read_json
from show1.expert_table import EXPERT_SETTINGS, PIPELINE_INDEX, Expert, read_expert
from show1.stage_table import STAGE_TABLE, StageRow, subfolders_of


def expert_in(row: StageRow, folder: Path) -> Expert | None:
    """The expert that a folder holds in place of a stage's own networks; None if it holds none.

    Raises:
        CheckpointError: It holds a pipeline that is of no family.
    """
    index = folder / PIPELINE_INDEX
    if not row.takes_experts or (folder / row.unet.name).is_dir() or not index.is_file():
        return None
    return _read(read_json(index), folder, folder)


def expert_stage(folder: Path) -> str | None:
    """The stage whose place a folder's expert takes; None if the folder holds none.

    Raises:
        CheckpointError: It holds a pipeline that is of no family.
    """
    return next((name for name, row in STAGE_TABLE.items() if expert_in(row, folder) is not None), None)


def expert_on_hub(row: StageRow, repo: str, options: HubOptions) -> tuple[Path, str, Expert] | None:
    """Downloads the parts of an expert that are used; None if the repository is no expert.

    Returns:
        The folder, repo@commit, and what it holds.

    Raises:
        ModelNotFoundError: There is no such repository, or it is neither in the cache nor reachable.
        CheckpointError: It holds a pipeline that is of no family.
    """
    if not row.takes_experts or repo in {other.repository for other in STAGE_TABLE.values()}:
        return None
    path, _ = fetch(repo, (), options, extra=(STAGE_NOTES,))
    index: dict[str, Any] = read_json(path / PIPELINE_INDEX) if (path / PIPELINE_INDEX).is_file() else {}
    if not index or row.unet.name in index:
        return None
    expert = read_expert(index, repo)
    path, source = fetch(repo, subfolders_of(expert.components), options, extra=(STAGE_NOTES,))
    return path, source, _read(index, repo, path)


def _read(index: dict[str, Any], where: object, folder: Path) -> Expert:
    """The expert that a folder holds, with a look at its network where its index does not tell."""
    config = folder / "transformer" / "config.json"
    return read_expert(index, where, read_json(config) if config.is_file() else None)


def read_notes(row: StageRow, folder: Path, expert: Expert | None) -> Notes:
    """What is known about a stage from its folder; of an expert, also the settings that suit its family."""
    notes = read_stage_notes(folder, row.name)
    if expert is None:
        return notes
    suiting = {**EXPERT_SETTINGS, "window": expert.row.max_frames, **expert.row.settings}
    return merged([notes, Notes(settings={row.name: suiting})])
