"""Makes and scores the videos of each way."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.claim.plans import ALONE, EARLIER, LOW, LOW_SIZE, NETWORKS, SAME_SHARE, SIZE, TRUTHS, Options
from benchmarks.kept import kept_json
from show1 import Show1Pipeline
from show1.config import STAGES, StageName
from show1.diffusion import fold_frames, unfold_frames
from show1.files import read_json_object
from show1.runtime import measure
from show1.sprites.alignment.prompts import Prompt
from show1.sprites.alignment.run import AlignmentPlan
from show1.sprites.alignment.summary import Measurement
from show1.video import Video

CORRUPTIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "none": lambda video, _: video,
    "noise": lambda video, g: video + 0.2 * torch.randn(video.shape, generator=g),
    "blocks": lambda video, _: _blocks(video, 4),
    "colour shift": lambda video, g: video * (1 + 0.3 * torch.randn(3, 1, 1, 1, generator=g).clamp(-1, 1)),
}
"""How a clean low-resolution video, (3, F, H, W) in [-1, 1], is corrupted."""

EXPERTS = {"expert": "hybrid", "expert of all noise levels": "all noise levels"}
"""The experts that repair, and the ways that have them."""


def pipelines(options: Options, networks: dict[str, Path]) -> dict[str, Show1Pipeline]:
    """Loads a pipeline for each way that has a network of its own."""
    load = Show1Pipeline.from_pretrained
    pipes = {"hybrid": load(options.model)}
    for arm, name in NETWORKS.items():
        if arm in options.arms and arm != SAME_SHARE:
            stage: StageName = "super_resolution" if name == "pixel" else "translation"
            pipes[arm] = load({"keyframes": options.model, stage: networks[name]})  # the keyframes for their text
    trained_less = {EARLIER: options.earlier, SAME_SHARE: networks.get(NETWORKS[SAME_SHARE])}
    for arm in trained_less.keys() & set(options.arms):
        pipes[arm] = load({**dict.fromkeys(STAGES, options.model), "keyframes": trained_less[arm]})
    return pipes


def make(
    arm: str, pipe: Show1Pipeline, low: Tensor | None, prompt: str, seed: int, settings: Any, *, guidance: float
) -> Tensor:
    """Makes the video (3, F, H, W) of a way from the low-resolution one (3, F, h, w), which is a way as well.

    Args:
        arm: The way.
        pipe: Its pipeline.
        low: The low-resolution video; None for ways that need none.
        prompt: The text.
        seed: Seed of the noise.
        settings: Those of the hybrid.
        guidance: Guidance of latent only.
    """
    if arm == LOW:
        first: Tensor = pipe(prompt, seed=seed, until="super_resolution", output_type="pt")
        return first
    if arm in (EARLIER, SAME_SHARE):
        whole: Tensor = pipe(prompt, seed=seed, settings=settings, output_type="pt")
        return whole
    assert low is not None
    if arm == "plain upscaling":
        return _resized(low, *SIZE)
    stage: StageName = "super_resolution" if arm == "pixel only" else "translation"
    if arm == "pixel only":
        settings = settings.replace(super_resolution={"height": SIZE[0], "width": SIZE[1]})
    if arm == "latent only":
        low = torch.zeros_like(low)
        sampling = {"strength": 1.0, "max_timestep": 1000, "num_inference_steps": 25, "guidance_scale": guidance}
        settings = settings.replace(translation=sampling)
    out: Tensor = pipe(prompt, seed=seed, start_from=stage, until=stage, video=low, settings=settings, output_type="pt")
    return out


class Comparison:
    """Makes and scores the videos of a prompt by all ways; nothing that the folder holds is made again."""

    def __init__(self, options: Options, pipes: dict[str, Show1Pipeline]) -> None:
        self.options, self.pipes = options, pipes
        self.base = pipes["hybrid"]
        self.judges = AlignmentPlan(sets=options.sets).judges()
        self.arms = (*options.rows, *TRUTHS)

    def is_made(self, number: int) -> bool:
        """Whether the folder holds everything of a prompt."""
        scored = all(self._score_file(number, arm).is_file() for arm in self.arms)
        return scored and (number >= self.options.repaired or self._repair_file(number).is_file())

    def make(self, number: int) -> None:
        """Makes and scores the videos of all ways, and renders of the same scene; repairs corrupted videos."""
        low = None
        for arm in self.arms:
            file = self.options.video(number, arm)
            if not file.is_file():
                Video.from_tensor(self._video(number, arm, low), fps=8.0).save(file)
            if arm == LOW:
                low = Video.load(file).to_tensor()
            if not self._score_file(number, arm).is_file():
                self._score(number, arm, Video.load(file).to_tensor())
        if number < self.options.repaired:
            self.repair(number)

    def measured(self, number: int, arm: str) -> Measurement:
        """Reads what was measured on a way's video."""
        found = read_json_object(self._score_file(number, arm))
        features = None if found["features"] is None else np.array(found["features"], dtype=np.float32)
        prompt = self.options.prompts[number]
        return Measurement(prompt, self.judges[prompt.set].restore(found["score"]), features)

    def repair(self, number: int) -> dict[str, dict[str, float]]:
        """Measures what the experts do to corrupted low-resolution videos: errors against a render, in 8-bit levels."""
        return kept_json(self._repair_file(number), lambda: self._repair(number))

    def _repair(self, number: int) -> dict[str, dict[str, float]]:
        prompt, errors = self.options.prompts[number], {}
        clean, wanted = (self._truth(prompt, number, *size) for size in (LOW_SIZE, SIZE))
        for name, corrupt in CORRUPTIONS.items():
            low = corrupt(clean, torch.Generator().manual_seed(number)).clamp(-1, 1)
            errors[name] = {"before": _error(_resized(low, *SIZE), wanted)}
            for expert, arm in EXPERTS.items():
                video = self._made(arm, low, prompt, number)
                errors[name][expert] = _error(video, wanted)
        return errors

    def _video(self, number: int, arm: str, low: Tensor | None) -> Tensor:
        prompt = self.options.prompts[number]
        if arm in TRUTHS:
            return self._truth(prompt, 5000 + number, *TRUTHS[arm])
        return self._made(arm, low, prompt, 1000 + number)

    def _truth(self, prompt: Prompt, seed: int, height: int, width: int) -> Tensor:
        return self.judges[prompt.set].truth(prompt, seed=seed, num_frames=29, height=height, width=width)

    def _made(self, arm: str, low: Tensor | None, prompt: Prompt, seed: int) -> Tensor:
        pipe, guidance = self.pipes.get(arm, self.base), self.options.guidance
        return make(arm, pipe, low, prompt.prompt, seed, self.base.settings, guidance=guidance)

    def _score(self, number: int, arm: str, video: Tensor) -> None:
        score, features = self.judges[self.options.prompts[number].set].score(video)
        fields = {"score": dataclasses.asdict(score), "features": None if features is None else features.tolist()}
        kept_json(self._score_file(number, arm), lambda: fields)

    def _score_file(self, number: int, arm: str) -> Path:
        return self.options.video(number, arm).with_suffix(".json")

    def _repair_file(self, number: int) -> Path:
        return self.options.videos_folder / f"{number:03d}-repair-{self.options.network('all-levels').name}.json"


def cost_of(options: Options, arm: str, pipes: dict[str, Show1Pipeline]) -> dict[str, float]:
    """Measures seconds and bytes of a whole video by a way: of the second one, as the first also loads weights."""
    base, prompt, guidance = pipes["hybrid"], options.prompts[0].prompt, options.guidance
    for seed in (1, 2):
        with measure(base.device) as cost:
            low = torch.zeros(3, 29, *LOW_SIZE)
            if arm not in ALONE:
                low = make(LOW, base, None, prompt, seed, base.settings, guidance=guidance)
            if arm != LOW:
                make(arm, pipes.get(arm, base), low, prompt, seed, base.settings, guidance=guidance)
    return {"seconds": round(cost.seconds, 2), "bytes": float(cost.peak_memory)}


def _resized(video: Tensor, height: int, width: int) -> Tensor:
    frames = F.interpolate(fold_frames(video[None]), size=(height, width), mode="bicubic")
    return unfold_frames(frames, 1)[0].clamp(-1, 1)


def _blocks(video: Tensor, size: int) -> Tensor:
    """Half way to the mean of blocks, as strong compression leaves them."""
    coarse = F.avg_pool2d(video, size)
    return 0.5 * video + 0.5 * F.interpolate(coarse, scale_factor=size, mode="nearest")


def _error(video: Tensor, wanted: Tensor) -> float:
    return float((video - wanted).abs().mean() * 127.5)
