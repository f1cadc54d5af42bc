"""`show1 evaluate score`: figures of videos that were made elsewhere."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from show1.data.captions import read_captions
from show1.errors import InputError, MediaError
from show1.evaluation.benchmark_protocol import NEEDS_PROMPTS, NEEDS_REAL, Metric
from show1.evaluation.catalogue import STANDARD, Catalogue
from show1.evaluation.clips import ClipRule, Entry, file_clips
from show1.evaluation.datasets import read_video_folder
from show1.evaluation.feature_networks import FeatureOptions
from show1.evaluation.metrics import Progress, count_used, figures_of, read_features, warnings_of
from show1.evaluation.probes import load_probes
from show1.files import cache_dir
from show1.media import read_metadata


def score_folders(
    real: str | Path | None,
    fake: str | Path,
    metrics: Sequence[Metric],
    *,
    rule: ClipRule | None = None,
    options: FeatureOptions | None = None,
    resamples: int = 200,
    on_progress: Progress | None = None,
    catalogue: Catalogue = STANDARD,
) -> dict[str, Any]:
    """Scores videos that were made elsewhere.

    Args:
        real: Folder of real videos; None where no metric compares with any.
        fake: Folder of generated videos; for CLIPSIM and alignment with prompts in `captions.jsonl`, or in the files.
        metrics: What is computed.
        rule: How clips are cut, on both sides.
        options: Where feature networks come from.
        resamples: Number of resamples for the bootstrap intervals; 0: no intervals.
        on_progress: Called as the work advances.
        catalogue: Networks by the names that the metrics use.

    Returns:
        Figures, and which files were left out.

    Raises:
        InputError: A folder is empty, nothing in it can be read, a metric lacks what it needs, or a prompt cannot be
            judged.
    """
    rule, options, fake = rule or ClipRule(), options or FeatureOptions(), Path(fake)
    compared = [m for m in metrics if m.name in NEEDS_REAL]
    if compared and real is None:
        raise InputError(f"{compared[0].label} compares with real videos: give their folder (--real)")
    entries = read_video_folder(fake)
    prompts = _prompts_of(fake, entries) if any(m.name in NEEDS_PROMPTS for m in metrics) else []
    catalogue.check_prompts(metrics, [prompt for prompt in prompts if prompt is not None])
    sets = {"generated": file_clips(entries, rule, prompts=[prompt or "" for prompt in prompts], with_times=True)}
    if compared and real is not None:
        sets["real"] = file_clips(read_video_folder(Path(real)), rule, with_times=True)
    probes = load_probes(metrics, options, catalogue.networks)
    rule_id = hashlib.sha256(json.dumps(dataclasses.asdict(rule), sort_keys=True).encode()).hexdigest()[:16]
    features = {}
    for side, clips in sets.items():
        wanted = metrics if side == "generated" else compared
        features[side] = read_features(side, clips, wanted, probes, cache_dir() / "references", rule_id, on_progress)
    figures = figures_of(metrics, probes, features["generated"], features.get("real", {}), resamples=resamples)
    return {
        "clips": dataclasses.asdict(rule),
        **{side: count_used(clips, features[side]) for side, clips in sets.items()},
        "figures": figures,
        "warnings": warnings_of(figures),
    }


def _prompts_of(folder: Path, entries: Sequence[Entry]) -> list[str | None]:
    """Prompts from the list of captions or the texts beside the videos, or else from the videos' own metadata.

    None for a video that cannot be read, which is left out later.
    """
    listed = {entry.file.resolve(): entry.caption for entry in read_captions(folder, frame_folders=True)}
    prompts = [listed.get(entry.file.resolve()) or _prompt_in(entry.file) for entry in entries]
    if "" in prompts:
        missing = entries[prompts.index("")].key
        raise InputError(
            f"CLIPSIM and alignment need prompts, and {missing} has none: write captions.jsonl into {folder}, with a "
            f'line such as {{"file": "{missing}", "caption": "a dog runs"}} for each video'
        )
    return prompts


def _prompt_in(file: Path) -> str | None:
    """The prompt in a video's metadata, which may be empty; None for a video that cannot be read."""
    try:
        return str(read_metadata(file).get("prompt", ""))
    except MediaError:
        return None
