"""`show1 evaluate alignment`: generates videos for the fixed prompts, scores them after each stage, and reports.

::

    OUT/
      evaluation.json            what is evaluated; a folder takes one evaluation, which resumes if interrupted
      videos/held_out-007-s1/    keyframes.mkv, super_resolution.mkv, translation.mkv (lossless), scores.json, features
                                 (with levels: translation-0.4.mkv, translation-0.6.mkv, ...)
      report.json report.md index.html sheets/
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from show1.config import STAGES, CascadeSettings, StageName
from show1.errors import InputError
from show1.evaluation.report import Report, spread
from show1.evaluation.suite import Suite, identify
from show1.files import read_json_object, write_atomically, write_json
from show1.generation.arguments import SettingsLike, make_request, resolve_settings
from show1.generation.pipeline import Show1Pipeline
from show1.generation.progress import Callbacks
from show1.options import Options
from show1.sprites.alignment.group_judge import GroupJudge
from show1.sprites.alignment.judge import Features, Judge, SceneJudge
from show1.sprites.alignment.motion_judge import MotionJudge
from show1.sprites.alignment.prompts import (
    GROUP_SETS,
    MOTION_SETS,
    PROMPT_SETS,
    SCENE_SETS,
    Prompt,
    PromptSet,
    prompts_of,
    prompts_sha256,
)
from show1.sprites.alignment.report import alignment_report
from show1.sprites.alignment.summary import Measurement, summarise, true_features, validate
from show1.video import Video

JUDGED: tuple[StageName, ...] = ("keyframes", "super_resolution", "translation")
"""Stages whose output is scored, where the model has them."""

REDRAWN: StageName = "translation"
"""The stage that begins at a noise level."""

MAX_VALIDATION = 64
"""Number of prompts for which ground truth is scored."""

Item = tuple[Prompt, int]
"""A prompt and a seed."""


@dataclass(frozen=True, kw_only=True)
class AlignmentPlan(Options):
    """Which videos are made and judged."""

    options_of: ClassVar[str] = "alignment"

    sets: tuple[PromptSet, ...] = SCENE_SETS
    """Prompt sets."""

    videos: int = 256
    """Videos of each set at most: its prompts in order with the first seed, then with the second."""

    seeds: tuple[int, ...] = (1, 2)
    """Seeds of each prompt."""

    until: StageName | None = None
    """Last stage to run; None: the model's last."""

    levels: tuple[float, ...] = ()
    """Noise levels from which the translation redraws each video, which is judged at each; none: its usual one."""

    batch_size: int = 4
    """Videos generated together: always the same ones, so that a resumed evaluation ends with equal figures."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.sets if name not in PROMPT_SETS]
        if unknown or not self.sets:
            raise InputError(f"sets must be some of {', '.join(PROMPT_SETS)}, got {', '.join(self.sets) or 'none'}")
        self.check_range("videos", "batch_size", least=1)
        self.check("levels", all(0 < level <= 1 for level in self.levels), "numbers above 0 and at most 1")

    def items(self) -> list[Item]:
        """Lists prompts and seeds, in order."""
        chosen: list[Item] = []
        for name in self.sets:
            chosen += [(prompt, seed) for seed in self.seeds for prompt in prompts_of(name)][: self.videos]
        return chosen

    def judges(self) -> dict[PromptSet, Judge]:
        """Loads the judge of each set."""
        kinds: dict[Any, Judge] = {}
        if set(self.sets) & set(SCENE_SETS):
            kinds |= dict.fromkeys(SCENE_SETS, SceneJudge())
        if set(self.sets) & set(GROUP_SETS):
            kinds |= dict.fromkeys(GROUP_SETS, GroupJudge())
        if set(self.sets) & set(MOTION_SETS):
            kinds |= dict.fromkeys(MOTION_SETS, MotionJudge())
        return {name: kinds[name] for name in self.sets}


def evaluate_alignment(
    pipe: Show1Pipeline,
    out: str | Path,
    plan: AlignmentPlan,
    *,
    settings: SettingsLike = None,
    on_video: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Generates what is missing, scores it, and writes the report.

    Args:
        pipe: The model.
        out: Folder of the evaluation, new or begun.
        plan: Which videos are made.
        settings: Changes of the model's settings, or all of them, as for `make_request`.
        on_video: Called with videos done and videos in all.

    Returns:
        What `report.json` holds.

    Raises:
        InputError: No stage that the plan runs is scored.
        RunError: The folder holds another evaluation.
    """
    last = plan.until or pipe.stages[-1]
    stages = tuple(s for s in JUDGED if s in pipe.stages and STAGES.index(s) <= STAGES.index(last))
    if not stages:
        raise InputError(f"until: no stage up to {last!r} is scored; the stages are {', '.join(JUDGED)}")
    if plan.levels and stages[-1] != REDRAWN:
        raise InputError(f"levels are those of the translation, and {stages[-1]!r} is the last stage; leave them out")
    chosen = resolve_settings(pipe.settings, settings)
    run = _Alignment(pipe, Path(out), plan, stages, plan.judges(), plan.items(), chosen)
    for level in plan.levels or (None,):  # before anything is computed
        pipe.check(make_request("a panda", model=pipe, settings=run.settings_at(level), until=last))
    return Suite(
        out=run.out,
        kind="an evaluation",
        record="evaluation.json",
        identity=run.identity(),
        items=run.items,
        is_made=lambda item: (run.folder(item) / "scores.json").is_file(),
        make=run.make,
        measure=run.measure,
        write=run.write,
        batch_size=plan.batch_size,
    ).run(on_progress=on_video)


@dataclass(frozen=True)
class _Alignment:
    """What an alignment evaluation makes and measures."""

    pipe: Show1Pipeline
    out: Path
    plan: AlignmentPlan
    stages: tuple[StageName, ...]
    judges: Mapping[PromptSet, Judge]
    items: Sequence[Item]
    settings: CascadeSettings

    def settings_at(self, level: float | None) -> CascadeSettings:
        """The settings with another noise level of the translation; None: as they are."""
        return self.settings if level is None else self.settings.replace(**{REDRAWN: {"level": level}})

    def identity(self) -> dict[str, Any]:
        """What the figures depend on, and its hash."""
        model = self.pipe.model_record
        others: tuple[tuple[PromptSet, ...], ...] = (GROUP_SETS, MOTION_SETS)
        kinds = [SCENE_SETS, *(sets for sets in others if set(sets) & set(self.plan.sets))]
        parts = {
            "protocol": "sprite alignment 3",
            **({"group_judge": 2} if set(GROUP_SETS) & set(self.plan.sets) else {}),
            "prompts_sha256": [prompts_sha256(sets) for sets in kinds],
            "reader_sha256": sorted({sha256 for judge in self.judges.values() for sha256 in judge.readers}),
            "model": {"name": model.name, "sha256": model.sha256},
            "dtype": str(self.pipe.dtype).removeprefix("torch."),
            "settings": self.settings.to_dict(),
            "plan": {key: value for key, value in self.plan.to_dict().items() if key != "levels" or value},
            "stages": list(self.stages),
        }
        return identify(parts)

    def folder(self, item: Item) -> Path:
        prompt, seed = item
        return self.out / "videos" / f"{prompt.set}-{prompt.index:03d}-s{seed}"

    @property
    def judged(self) -> tuple[str, ...]:
        """What is judged of each video, by the name of its file: its stages, the last of them at each level."""
        levels = tuple(f"{REDRAWN}-{level:g}" for level in self.plan.levels)
        return (*self.stages[:-1], *levels) if levels else self.stages

    def make(self, batch: Sequence[Item]) -> None:
        """Generates and scores a batch; `scores.json` is the last file of a video."""
        kept: dict[str, list[Video]] = {}
        prompts, seeds = [prompt.prompt for prompt, _ in batch], [seed for _, seed in batch]

        def keep(stage: StageName, videos: list[Video]) -> None:
            if stage in self.stages:
                kept[stage] = videos

        levels = self.plan.levels
        until = self.pipe.stages[self.pipe.stages.index(REDRAWN) - 1] if levels else self.stages[-1]
        made: list[Tensor] = self.pipe(
            prompts,
            seed=seeds,
            until=until,
            settings=self.settings,
            callbacks=Callbacks(on_stage_end=keep),
            output_type="pt",
        )
        for level in levels:
            kept[f"{REDRAWN}-{level:g}"] = self.pipe(
                prompts,
                seed=seeds,
                start_from=REDRAWN,
                video=torch.stack(made),
                settings=self.settings_at(level),
            )
        for i, item in enumerate(batch):
            self._score(item, {name: kept[name][i] for name in self.judged})

    def _score(self, item: Item, videos: Mapping[str, Video]) -> None:
        folder, judge = self.folder(item), self.judges[item[0].set]
        folder.mkdir(parents=True, exist_ok=True)
        scores: dict[str, Any] = {}
        features: dict[str, Features] = {}
        for stage, video in videos.items():
            video.save(folder / f"{stage}.mkv", overwrite=True)
            score, seen = judge.score(video.to_tensor())
            scores[stage] = dataclasses.asdict(score)
            if seen is not None:
                features[stage] = seen
        write_atomically(folder / "features.safetensors", functools.partial(save_file, features))
        write_json(folder / "scores.json", scores)

    def measurements(self, stage: str) -> list[Measurement]:
        """Scores and features of a stage's videos, from the disk."""
        found = []
        for item in self.items:
            folder, (prompt, _) = self.folder(item), item
            score = self.judges[prompt.set].restore(read_json_object(folder / "scores.json")[stage])
            found.append(Measurement(prompt, score, load_file(folder / "features.safetensors").get(stage)))
        return found

    def measure(self) -> dict[str, Any]:
        """The fields of the report."""
        rows, sizes = [], {}
        for stage in self.judged:
            frames, height, width, _ = Video.load(self.folder(self.items[0]) / f"{stage}.mkv").frames.shape
            sizes[stage] = {"num_frames": frames, "height": height, "width": width}
            measured = self.measurements(stage)
            for name, judge in self.judges.items():
                group = [m for m in measured if m.prompt.set == name]
                prompts = [m.prompt for m in group]
                real = true_features(judge, prompts, range(2, 2 + len(prompts)), **sizes[stage])
                rows.append(summarise(f"{name}, {stage.replace('-', ' at level ')}", group, real))
        checks = []
        for judge in dict.fromkeys(self.judges.values()):
            own = list(dict.fromkeys(prompt for prompt, _ in self.items if self.judges[prompt.set] is judge))
            checks += validate(spread(own, MAX_VALIDATION), judge, **sizes[self.judged[-1]])
        return {
            "videos": len(self.items),
            "sizes": sizes,
            "validation": checks,
            "rows": rows,
        }

    def write(self, report: dict[str, Any]) -> Report:
        """The readable report."""
        folders = [self.folder(item) for item in self.items]
        seeds = [seed for _, seed in self.items]
        measured = {name: self.measurements(name) for name in self.judged}
        changed = sorted(set(self.settings.assignments()) - set(self.pipe.settings.assignments()))
        return alignment_report(self.out, report, measured, folders, seeds, changed)
