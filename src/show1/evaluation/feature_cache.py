"""Features of a set of clips: every clip is decoded once, results are kept on disk, and a stopped run resumes.

::

    FOLDER/
      i3d-stylegan-v-0123456789abcdef/000000-000064.safetensors ... chunks, while it runs
      i3d-stylegan-v-0123456789abcdef.safetensors             all of them: rows, positions, rejected clips
"""

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from show1.evaluation.clips import Clip, ClipSet, Rejected
from show1.evaluation.probes import Probe
from show1.files import write_tensors

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClipFeatures:
    """Features of a set of clips."""

    rows: NDArray[np.float32]
    """Features of shape (clips, rows per clip, D), in the order of the set."""

    rejected: tuple[Rejected, ...]
    """Clips that could not be read."""

    @property
    def matrix(self) -> NDArray[np.float32]:
        """The rows of all clips, of shape (N, D)."""
        return self.rows.reshape(-1, self.rows.shape[-1])


def clip_features(
    clips: ClipSet,
    probes: Sequence[Probe],
    folder: Path,
    *,
    rule: str,
    batch_size: int = 4,
    chunk: int = 64,
    on_clip: Callable[[int, int], None] | None = None,
) -> dict[str, ClipFeatures]:
    """Reads features from the folder, and computes what is missing.

    Args:
        clips: The set.
        probes: The networks.
        folder: Where features are kept.
        rule: How the clips are cut: an id that changes with it.
        batch_size: Number of clips given to a network together, if they have one size.
        chunk: Number of clips per file that is kept while the work continues.
        on_clip: Called with clips done and clips in all, while it computes.

    Returns:
        Features by name of the network.

    Raises:
        OutputError: The folder cannot be written.
    """
    files = {probe.name: folder / f"{probe.name}-{_key(clips, probe, rule)}.safetensors" for probe in probes}
    found = {name: loaded for name, file in files.items() if (loaded := _load(file, clips)) is not None}
    missing = [probe for probe in probes if probe.name not in found]
    parts: dict[str, list[ClipFeatures]] = {probe.name: [] for probe in missing}
    for start in range(0, len(clips), chunk) if missing else ():
        places = range(start, min(start + chunk, len(clips)))
        name_of_part = f"{places.start:06d}-{places.stop:06d}.safetensors"
        here = {probe.name: _load(files[probe.name].with_suffix("") / name_of_part, clips) for probe in missing}
        pending = [probe for probe in missing if here[probe.name] is None]
        if pending:
            for name, features in _compute(clips, places, pending, batch_size, on_clip).items():
                _save(files[name].with_suffix("") / name_of_part, features)
                here[name] = features
        for name, part in here.items():
            assert part is not None, "read or computed"
            parts[name].append(part)
    for name, computed in parts.items():
        found[name] = _joined(computed)
        _save(files[name], found[name])
        shutil.rmtree(files[name].with_suffix(""), ignore_errors=True)
    return found


def _key(clips: ClipSet, probe: Probe, rule: str) -> str:
    prompts = clips.prompts if probe.uses_prompts else ()
    parts = [rule, probe.name, probe.sha256, clips.fingerprint, list(prompts)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _compute(
    clips: ClipSet,
    places: range,
    probes: Sequence[Probe],
    batch_size: int,
    on_clip: Callable[[int, int], None] | None,
) -> dict[str, ClipFeatures]:
    rows: dict[str, list[NDArray[np.float32]]] = {probe.name: [] for probe in probes}
    rejected: list[Rejected] = []
    batch: list[Clip] = []

    def flush() -> None:
        if batch:
            stacked = np.stack([clip.frames for clip in batch])
            for probe in probes:
                rows[probe.name].append(probe.compute(stacked, [clip.prompt for clip in batch]))
            batch.clear()

    for read in clips.clips(places):
        if isinstance(read, Rejected):
            logger.warning("%s is left out: %s", read.key, read.reason)
            rejected.append(read)
        else:
            if batch and batch[0].frames.shape != read.frames.shape:
                flush()
            batch.append(read)
            if len(batch) == batch_size:
                flush()
        if on_clip is not None:
            on_clip(read.index + 1, len(clips))
    flush()
    return {name: ClipFeatures(rows=_stack(parts), rejected=tuple(rejected)) for name, parts in rows.items()}


def _stack(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(0, 0, 0) where nothing could be read."""
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros((0, 0, 0), dtype=np.float32)


def _joined(parts: Sequence[ClipFeatures]) -> ClipFeatures:
    rows = _stack([part.rows for part in parts if len(part.rows)])
    return ClipFeatures(rows=rows, rejected=tuple(r for part in parts for r in part.rejected))


def _save(file: Path, features: ClipFeatures) -> None:
    import torch

    listed = json.dumps([[r.index, r.key, r.reason] for r in features.rejected]).encode()
    tensors = {
        "rows": torch.from_numpy(np.ascontiguousarray(features.rows)),
        "rejected": torch.from_numpy(np.frombuffer(listed, dtype=np.uint8).copy()),
    }
    write_tensors(file, tensors)


def _load(file: Path, clips: ClipSet) -> ClipFeatures | None:
    """None if it is not there, or damaged: then it is computed again."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not file.is_file():
        return None
    with contextlib.suppress(OSError, KeyError, ValueError, TypeError, SafetensorError):
        tensors = load_file(file)
        listed: list[Any] = json.loads(tensors["rejected"].tobytes().decode())
        rejected = tuple(Rejected(index=i, key=key, reason=reason) for i, key, reason in listed)
        if len(tensors["rows"]) + len(rejected) <= len(clips):
            return ClipFeatures(rows=tensors["rows"], rejected=rejected)
    logger.warning("%s is damaged and is computed again", file)
    return None
