"""Generates and scores the videos of a cell."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.customization.plan import CHOSEN_BY, ENOUGH, NONE, TRIED, WEIGHTS, Cell, Plan, settings_of
from benchmarks.customization.scores import (
    ContentPrompt,
    MotionScore,
    StyleScore,
    motion_prompts,
    score_motion,
    score_style,
    style_prompts,
    summarise_motion,
    summarise_style,
)
from benchmarks.customization.style_reader import StyleReader
from benchmarks.customization.teach import configure
from benchmarks.kept import kept_json
from show1 import Show1Pipeline
from show1.evaluation.report import save_contact_sheet
from show1.files import read_json_object, write_tensors
from show1.sprites.readers.subject import SpriteReader
from show1.training.customization import CustomizationConfig
from show1.video import Video

Customize = Callable[[CustomizationConfig], Any]
"""Runs a customization and writes its adapter."""


class CellRun:
    """Teaches, generates and scores one cell; nothing that the folder holds is made again."""

    def __init__(
        self, pipe: Show1Pipeline, out: Path, plan: Plan, cell: Cell, readers: tuple[SpriteReader, StyleReader]
    ) -> None:
        self.pipe, self.out, self.plan, self.cell, self.readers = pipe, out, plan, cell, readers
        self.folder = cell.folder(out)
        self.adapter = self.folder / "adapter.safetensors"

    def measure(self, customize: Customize) -> dict[str, Any]:
        """Measures the cell, or reads what was measured; `cell.json` is its last file."""
        return kept_json(self.folder / "cell.json", lambda: self._measure(customize))

    def _measure(self, customize: Customize) -> dict[str, Any]:
        result: dict[str, Any] = dataclasses.asdict(self.cell)
        if self.cell.method != NONE:
            if not self.adapter.exists():
                customize(configure(self.out, self.plan, self.cell))
            report = self.folder / "run" / "report.json"
            result["cost"] = read_json_object(report) if report.exists() else {}
            result["adapter_bytes"] = self.adapter.stat().st_size
            result["settings"] = settings_of(self.plan, self.cell)
            if self.plan.weight is None and self.plan.detail_weight is None:
                result["settings"] |= self._choose_weights()
        prompts, settings = prompts_of(self.cell, self.plan.videos), result.get("settings", {})
        with self._loaded(settings):
            files = self._videos(prompts, settings)
        result["summary"], scores = self._score(prompts, [Video.load(file) for file in files])
        result["scores"] = [dataclasses.asdict(each) for each in scores]
        save_contact_sheet(self.folder / "sheet.png", files[:8], [prompt.prompt for prompt in prompts[:8]])
        return result

    def _choose_weights(self) -> dict[str, float | None]:
        """The least weights of `TRIED` that are enough, or those by which the motion or style is seen best."""
        tried = kept_json(self.folder / "weights.json", lambda: {"tried": list(self._tried_weights())})["tried"]
        best: dict[str, Any] = max(tried, key=lambda each: each["seen"])
        return {name: best[name] for name in ("weight", "detail_weight")}

    def _tried_weights(self) -> Iterator[dict[str, Any]]:
        kind, settings = self.cell.kind, settings_of(self.plan, self.cell)
        others = prompts_of(self.cell, 2 * self.plan.videos)[self.plan.videos :]
        prompts = others[:: max(1, len(others) // CHOSEN_BY[kind])][: CHOSEN_BY[kind]]  # spread over subjects
        for weight, detail_weight in TRIED[kind]:
            weights = {"weight": weight, "detail_weight": detail_weight}
            with self._loaded(settings | weights):
                batches = self._batches(prompts, self.plan.seed + self.plan.videos)
                videos = [video for _, texts, seeds in batches for video in self._make(texts, seeds, settings)]
            summary, _ = self._score(prompts, videos)
            if kind == "motion":
                seen = summary["correlation"]["median"]
            else:
                seen = min(summary[key]["share"] for key in ("style", "content"))
            yield {**weights, "seen": seen}
            if seen >= ENOUGH[kind]:
                return

    def _videos(self, prompts: Sequence[ContentPrompt], settings: dict[str, Any]) -> list[Path]:
        """The files of the cell's videos, of which those of an earlier run are kept."""
        folder = self.folder / "videos"
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{number:03d}.mkv" for number in range(len(prompts))]
        for first, texts, seeds in self._batches(prompts, self.plan.seed):
            batch = files[first : first + len(texts)]
            if not all(file.exists() for file in batch):
                for video, file in zip(self._make(texts, seeds, settings), batch, strict=True):
                    video.save(file, overwrite=True)
        return files

    def _batches(self, prompts: Sequence[ContentPrompt], seed: int) -> Iterator[tuple[int, list[str], list[int]]]:
        """What is generated together: the number of the first, texts, and seeds from `seed` on."""
        size = self.plan.batch_size
        for first in range(0, len(prompts), size):
            texts = [prompt.prompt for prompt in prompts[first : first + size]]
            yield first, texts, [seed + first + i for i in range(len(texts))]

    def _make(self, texts: list[str], seeds: list[int], settings: dict[str, Any]) -> list[Video]:
        until = "keyframes" if self.cell.kind == "motion" else "super_resolution"
        options: dict[str, Any] = {"seed": seeds, "until": until}
        if settings.get("guidance_scale") is not None:
            options["settings"] = {"keyframes": {"guidance_scale": settings["guidance_scale"]}}
        if self.cell.stage == "super_resolution":
            options |= {"start_from": self.cell.stage, "video": self._small_videos(texts, seeds)}
        videos: list[Video] = self.pipe(texts, **options)
        return videos

    def _small_videos(self, texts: list[str], seeds: list[int]) -> Tensor:
        """The videos that super-resolution starts from, (N, 3, F, h, w), from disk if another cell has made them."""
        file = self.out / "small" / f"{self.cell.name}-{seeds[0]:03d}.safetensors".replace(" ", "_")
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            made = self.pipe(texts, seed=seeds, until="interpolation", output_type="pt")
            write_tensors(file, {"video": torch.stack(made)}, {})
        return load_file(file)["video"]

    @contextlib.contextmanager
    def _loaded(self, settings: dict[str, Any]) -> Iterator[None]:
        """The pipeline has the cell's adapter, if there is one, with the weights of the settings."""
        if self.cell.method != NONE:
            self.pipe.adapters.load(self.adapter, self.cell.method, **{name: settings[name] for name in WEIGHTS})
        try:
            yield
        finally:
            self.pipe.adapters.unload()

    def _score(
        self, prompts: Sequence[ContentPrompt], videos: Sequence[Video]
    ) -> tuple[dict[str, Any], list[MotionScore] | list[StyleScore]]:
        """What videos amount to, and the scores of each."""
        tensors = [video.to_tensor() for video in videos]
        if self.cell.kind == "motion":
            motions = [score_motion(tensor, self.cell.name, self.readers[0]) for tensor in tensors]
            return summarise_motion(self.cell.name, prompts, motions), motions
        styles = [score_style(tensor, self.readers[1]) for tensor in tensors]
        return summarise_style(self.cell.name, prompts, styles), styles


def prompts_of(cell: Cell, count: int) -> list[ContentPrompt]:
    """Lists what the videos of a cell should show."""
    if cell.kind == "motion":
        return motion_prompts(cell.name, count)
    return style_prompts(None if cell.method == NONE else cell.name, count)
