"""Rows of the alignment table: what a group of videos scores, and what the scores give where the answer is known."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from show1.evaluation.intervals import Share
from show1.evaluation.scores import Gaussian, frechet_distance
from show1.sprites.alignment.judge import Features, Judge, Score, clip_moments
from show1.sprites.alignment.prompts import swapped


class Measurement(NamedTuple):
    """What was measured on one video."""

    prompt: Any
    """The prompt that the video should show."""

    score: Score
    """The scores."""

    features: Features | None
    """Features of the frames, (F, 160), where the judge has some."""

    @classmethod
    def of(cls, prompt: Any, video: torch.Tensor, judge: Judge) -> "Measurement":
        """Measures a video (3, F, H, W) in [-1, 1]."""
        return cls(prompt, *judge.score(video))


def summarise(name: str, videos: Sequence[Measurement], real: Sequence[Features] | None = None) -> dict[str, Any]:
    """Makes a row of the table.

    Args:
        name: Name of the row.
        videos: At least one.
        real: Features of ground truth, (F, 160) per clip, for the Fréchet distances, which need at least two clips on
            either side; None leaves them out.

    Returns:
        JSON types: the name; for each criterion of the judge, the share of the videos for which it holds; the means of
        `sharpness` and `flicker` over the videos that have one; `frame_distance` and `clip_distance`, the Fréchet
        distances of the features of frames, and of clips (mean and deviation over frames), to those of ground truth.
    """
    verdicts = [video.score.verdicts(video.prompt) for video in videos]
    distances: list[float | None] = [None, None]
    if real is not None and min(len(videos), len(real)) > 1:
        made = [video.features for video in videos if video.features is not None]
        frames = [Gaussian.of(np.concatenate(clips)) for clips in (made, real)]
        moments = [Gaussian.of([clip_moments(features) for features in clips]) for clips in (made, real)]
        distances = [round(frechet_distance(*pair), 4) for pair in (frames, moments)]
    return {
        "name": name,
        **{key: Share.of(verdict[key] for verdict in verdicts).to_dict() for key in verdicts[0]},
        "sharpness": _mean(video.score.sharpness for video in videos),
        "flicker": _mean(video.score.flicker for video in videos),
        "frame_distance": distances[0],
        "clip_distance": distances[1],
    }


def validate(prompts: Sequence[Any], judge: Judge, **size: int) -> list[dict[str, Any]]:
    """Scores what is known: ground truth, ground truth under other prompts and under swapped ones, and noise.

    Args:
        prompts: Prompts of the judge's sets.
        judge: The judge.
        size: `num_frames`, `height` and `width` of the clips.

    Returns:
        Rows of `summarise`.
    """
    real = [Measurement.of(prompt, judge.truth(prompt, seed=0, **size), judge) for prompt in prompts]
    half = max(len(prompts) // 2, 1)
    others = [*real[half:], *real[:half]]
    shuffled = [other._replace(prompt=own.prompt) for own, other in zip(real, others, strict=True)]
    exchanged = [each._replace(prompt=swapped(each.prompt)) for each in real]
    generator, shape = torch.Generator().manual_seed(0), (3, size["num_frames"], size["height"], size["width"])
    noise = [Measurement.of(prompt, torch.rand(shape, generator=generator) * 2 - 1, judge) for prompt in prompts]
    reference = true_features(judge, prompts, [1] * len(prompts), **size)
    return [
        summarise("ground truth", real, reference),
        summarise("ground truth, other prompts", shuffled, reference),
        summarise("ground truth, swapped prompts", exchanged, reference),
        summarise("noise", noise, reference),
    ]


def true_features(judge: Judge, prompts: Sequence[Any], seeds: Sequence[int], **size: int) -> list[Features] | None:
    """Returns the features, (F, 160) per clip, of renders of what prompts ask for; None where the judge has none."""
    found = []
    for prompt, seed in zip(prompts, seeds, strict=True):
        _, features = judge.score(judge.truth(prompt, seed=seed, **size))
        if features is None:
            return None
        found.append(features)
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None
