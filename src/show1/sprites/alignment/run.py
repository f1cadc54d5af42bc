"""`show1 evaluate alignment`: generates videos for the fixed prompts, scores them after each stage, and reports.

::

    OUT/
      evaluation.json            what is evaluated; a folder takes one evaluation, which goes on where it stopped
      videos/held_out-007-s1/    keyframes.mkv, super_resolution.mkv, translation.mkv (lossless), scores.json, features
      report.json report.md index.html sheets/
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from show1.config import STAGES, StageName
from show1.errors import InputError
from show1.evaluation.identity import claim, identify
from show1.files import read_json_object, write_atomically, write_json
from show1.sprites.alignment.group_judge import GroupJudge
from show1.sprites.alignment.judge import (
    Features,
    Judge,
    Measured,
    Row,
    SceneJudge,
    summarise,
    true_features,
    validate,
)
from show1.sprites.alignment.prompts import (
    GROUP_SETS,
    PROMPT_SETS,
    SCENE_SETS,
    Prompt,
    PromptSet,
    group_prompts_sha256,
    prompts_of,
    prompts_sha256,
)
from show1.video import Video

if TYPE_CHECKING:
    from show1.generation.pipeline import Show1Pipeline

JUDGED: tuple[StageName, ...] = ("keyframes", "super_resolution", "translation")
"""Stages whose output is scored, where the model has them."""

MAX_VALIDATION = 64
"""Prompts for which ground truth is scored."""


Item = tuple[Prompt, int]
"""A prompt and a seed."""

Judges = Mapping[PromptSet, Judge]
"""What measures each set's videos."""


@dataclass(frozen=True, kw_only=True)
class AlignmentPlan:
    """Which videos are made and judged."""

    sets: tuple[PromptSet, ...] = SCENE_SETS
    """Prompt sets."""

    videos: int = 256
    """Videos of each set at most: its prompts in order with the first seed, then with the second."""

    seeds: tuple[int, ...] = (1, 2)
    """Seeds of each prompt."""

    until: StageName | None = None
    """Last stage to run; None: the model's last."""

    batch_size: int = 4
    """Videos generated together: always the same ones, so that a killed evaluation ends with equal figures."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.sets if name not in PROMPT_SETS]
        if unknown or not self.sets:
            raise InputError(f"sets must be some of {', '.join(PROMPT_SETS)}, got {', '.join(self.sets) or 'none'}")
        for name in ("videos", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be 1 or more, got {getattr(self, name)}")

    def items(self) -> list[Item]:
        """Prompts and seeds, in order."""
        chosen: list[Item] = []
        for name in self.sets:
            chosen += [(prompt, seed) for seed in self.seeds for prompt in prompts_of(name)][: self.videos]
        return chosen

    def judges(self) -> dict[PromptSet, Judge]:
        """What measures each set's videos."""
        kinds: dict[Any, Judge] = {}
        if set(self.sets) & set(SCENE_SETS):
            kinds |= dict.fromkeys(SCENE_SETS, SceneJudge())
        if set(self.sets) & set(GROUP_SETS):
            kinds |= dict.fromkeys(GROUP_SETS, GroupJudge())
        return {name: kinds[name] for name in self.sets}


def evaluate_alignment(
    pipe: "Show1Pipeline",
    out: str | Path,
    plan: AlignmentPlan,
    *,
    on_video: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Generates what is missing, scores it, and writes the report.

    Args:
        pipe: The model.
        out: Folder of the evaluation, new or begun.
        plan: Which videos.
        on_video: Called with videos done and videos in all.

    Returns:
        What `report.json` holds.

    Raises:
        RunError: The folder holds another evaluation.
    """
    from show1.sprites.alignment.report import write_report

    out = Path(out)
    last = plan.until or pipe.stages[-1]
    stages = tuple(s for s in JUDGED if s in pipe.stages and STAGES.index(s) <= STAGES.index(last))
    if not stages:
        raise InputError(f"until: no stage up to {last!r} is scored; the stages are {', '.join(JUDGED)}")
    judges = plan.judges()
    identity = _identity(pipe, plan, stages, judges)
    claim(out / "evaluation.json", identity, "an evaluation")
    items = plan.items()
    for first in range(0, len(items), plan.batch_size):
        batch = items[first : first + plan.batch_size]
        if all((_folder(out, *item) / "scores.json").is_file() for item in batch):
            continue
        if on_video is not None:
            on_video(first, len(items))
        _generate(pipe, out, batch, stages, judges)
    if on_video is not None:
        on_video(len(items), len(items))
    rows, sizes = _table(out, items, stages, judges)
    checks = []
    for judge in dict.fromkeys(judges.values()):
        own = dict.fromkeys(prompt for prompt, _ in items if judges[prompt.set] is judge)
        checks += validate(_spread(list(own), MAX_VALIDATION), judge, **sizes[stages[-1]])
    report = {
        **identity,
        "videos": len(items),
        "sizes": sizes,
        "validation": [row.to_dict() for row in checks],
        "rows": [row.to_dict() for row in rows],
    }
    write_json(out / "report.json", report)
    write_report(out, report, [(stage, _measured(out, items, stage, judges)) for stage in stages], items)
    return report


def _identity(
    pipe: "Show1Pipeline", plan: AlignmentPlan, stages: Sequence[StageName], judges: Judges
) -> dict[str, Any]:
    """What the figures depend on, and its hash."""
    model = pipe.model_record
    groups = any(name in GROUP_SETS for name in plan.sets)
    parts = {
        "protocol": "sprite alignment 3",
        "prompts_sha256": [prompts_sha256(), *([group_prompts_sha256()] if groups else [])],
        "reader_sha256": sorted({sha256 for judge in judges.values() for sha256 in judge.readers}),
        "model": {key: model[key] for key in ("name", "sha256")},
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "settings": pipe.settings.to_dict(),
        "plan": dataclasses.asdict(plan),
        "stages": list(stages),
    }
    return identify(parts)


def _folder(out: Path, prompt: Prompt, seed: int) -> Path:
    return out / "videos" / f"{prompt.set}-{prompt.index:03d}-s{seed}"


def _generate(
    pipe: "Show1Pipeline",
    out: Path,
    items: Sequence[Item],
    stages: Sequence[StageName],
    judges: Judges,
) -> None:
    """Generates a batch; `scores.json` is a video's last file: a batch that was killed is made again as a whole."""
    folders = [_folder(out, *item) for item in items]
    kept: dict[StageName, list[Video]] = {}

    def keep(stage: StageName, videos: list[Video]) -> None:
        if stage in stages:
            kept[stage] = videos

    pipe(
        [prompt.prompt for prompt, _ in items],
        seed=[seed for _, seed in items],
        until=stages[-1],
        callback_on_stage_end=keep,
    )
    for i, folder in enumerate(folders):
        folder.mkdir(parents=True, exist_ok=True)
        scores: dict[str, Any] = {}
        features: dict[str, Features] = {}
        for stage in stages:
            video = kept[stage][i]
            video.save(folder / f"{stage}.mkv", overwrite=True)
            score, seen = judges[items[i][0].set].score(video.to_tensor())
            scores[stage] = dataclasses.asdict(score)
            if seen is not None:
                features[stage] = seen
        write_atomically(folder / "features.safetensors", functools.partial(save_file, features))
        write_json(folder / "scores.json", scores)


def _measured(out: Path, items: Sequence[Item], stage: StageName, judges: Judges) -> list[Measured]:
    """Scores and features from the disk."""
    measured: list[Measured] = []
    for prompt, seed in items:
        folder = _folder(out, prompt, seed)
        score = judges[prompt.set].restore(read_json_object(folder / "scores.json")[stage])
        measured.append((prompt, score, load_file(folder / "features.safetensors").get(stage)))
    return measured


def _table(
    out: Path, items: Sequence[Item], stages: Sequence[StageName], judges: Judges
) -> tuple[list[Row], dict[StageName, dict[str, int]]]:
    """A row for each set and stage; and frames, height, width of each stage's videos."""
    rows, sizes = [], {}
    for stage in stages:
        frames, height, width, _ = Video.load(_folder(out, *items[0]) / f"{stage}.mkv").frames.shape
        sizes[stage] = {"num_frames": frames, "height": height, "width": width}
        measured = _measured(out, items, stage, judges)
        for name, judge in judges.items():
            group = [m for m in measured if m[0].set == name]
            asked = [prompt for prompt, _, _ in group]
            real = true_features(judge, asked, range(2, 2 + len(asked)), **sizes[stage])
            rows.append(summarise(f"{name}, {stage}", group, real))
    return rows, sizes


def _spread(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    picked = np.linspace(0, len(prompts) - 1, min(count, len(prompts))).round().astype(int)
    return [prompts[i] for i in picked]
