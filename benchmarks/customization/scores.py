"""Customization in the sprite world: does a video follow a motion that was taught, in a style that was taught?

A motion is judged by the correlation of the subject's track with that of the teaching clip; what is read of subject and
background says whether the prompt is still followed, and how often the clip's own subject appears instead.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.customization.motions import TEACHING_MOTIONS, teaching_caption, teaching_scene
from benchmarks.customization.style_reader import StyleReader
from benchmarks.customization.styles import apply_style
from show1.data.clips import frame_times
from show1.errors import InputError
from show1.evaluation.intervals import Share
from show1.sprites.captions import caption
from show1.sprites.readers.subject import Reading, SpriteReader
from show1.sprites.readers.tracking import track
from show1.sprites.scenes import ASPECT, Scene, SpriteWorld, render, render_tensor
from show1.sprites.world import BACKGROUNDS, SUBJECTS, is_held_out
from show1.video import Video

Array = NDArray[np.float64]

FOLLOWS = 0.9
"""A video follows the teaching clip from this correlation on."""


@dataclass(frozen=True, kw_only=True)
class ContentPrompt:
    """A prompt and what it asks for."""

    prompt: str
    """The text."""

    subject: int
    """Index into `SUBJECTS`."""

    background: int
    """Index into `BACKGROUNDS`."""


@dataclass(frozen=True, kw_only=True)
class MotionScore:
    """What is measured on a video that should follow a teaching clip."""

    correlation: float
    """Correlation of the track with that of the teaching clip, -1 to 1; 0 if no subject is seen or it does not move."""

    extent: float
    """How far the subject moves, divided by how far that of the teaching clip does."""

    subject: int
    """The subject that the reader recognises."""

    background: int
    """The background that the reader recognises."""


@dataclass(frozen=True, kw_only=True)
class StyleScore:
    """What is measured on a video that should have a style."""

    style: str
    """The style that the reader recognises; "plain" for none."""

    subject: int
    """The subject that the reader recognises."""

    background: int
    """The background that the reader recognises."""


def teaching_track(name: str, num_frames: int) -> Array:
    """The track of a teaching clip, exactly.

    Args:
        name: One of `TEACHING_MOTIONS`.
        num_frames: Frames over the whole clip.

    Returns:
        (F, 2) centre in heights where the motion is one of position, (F, 1) logarithm of the scale otherwise.
    """
    scene = teaching_scene(name)
    poses: Array = np.array([scene.pose(float(time)) for time in frame_times(num_frames)])
    in_heights: Array = poses[:, :2] * np.array((ASPECT, 1.0))
    scales: Array = np.log(poses[:, 2:3])
    return scales if TEACHING_MOTIONS[name].measured == "scale" else in_heights


def seen_track(video: Tensor, reading: Reading, name: str) -> Array | None:
    """The track that a video shows, in the units of `teaching_track`.

    Args:
        video: (3, F, H, W) in [-1, 1].
        reading: Of that video.
        name: One of `TEACHING_MOTIONS`, which says what is measured.

    Returns:
        (F, 2) or (F, 1); None: some frame shows no subject.
    """
    if not reading.visible:
        return None
    path = track(video, reading.masks, reading.subject)
    if TEACHING_MOTIONS[name].measured == "scale":
        return np.log(np.maximum(path.size, 1e-3))[:, None]
    return np.stack([path.x * ASPECT, path.y], axis=1)


def track_correlation(seen: Array, taught: Array) -> float:
    """Correlation of two tracks, all their coordinates together: 1 for the same shape, wherever and however large.

    Args:
        seen: (F, D).
        taught: (F, D).

    Returns:
        -1 to 1; 0 where one of them stands still.

    Raises:
        InputError: The shapes differ.
    """
    if seen.shape != taught.shape:
        raise InputError(f"tracks of shape {seen.shape} and {taught.shape} cannot be compared; give equal numbers")
    a, b = seen - seen.mean(0), taught - taught.mean(0)
    norm = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / norm if norm > 1e-9 else 0.0


def score_motion(video: Tensor, name: str, reader: SpriteReader) -> MotionScore:
    """Compares a video with a teaching clip.

    Args:
        video: (3, F, H, W) in [-1, 1].
        name: One of `TEACHING_MOTIONS`.
        reader: See `SpriteReader.trained`.
    """
    reading = reader.read(video)
    taught, seen = teaching_track(name, video.shape[1]), seen_track(video, reading, name)
    return MotionScore(
        correlation=0.0 if seen is None else round(track_correlation(seen, taught), 4),
        extent=0.0 if seen is None else round(_spread(seen) / _spread(taught), 4),
        subject=reading.subject,
        background=reading.background,
    )


def score_style(video: Tensor, reader: StyleReader) -> StyleScore:
    """Reads the style and the content of a video.

    Args:
        video: (3, F, H, W) in [-1, 1].
        reader: See `StyleReader.trained`.
    """
    reading = reader.read(video)
    return StyleScore(style=reading.kind, subject=reading.subject, background=reading.background)


def motion_prompts(name: str, count: int = 64) -> list[ContentPrompt]:
    """Prompts for a taught motion with other subjects and backgrounds than its clip's, in pairs that `mini` has seen.

    Subjects take turns, and each comes over the backgrounds that have been rarest; the first prompts of more are those
    of fewer.

    Args:
        name: One of `TEACHING_MOTIONS`.
        count: Prompts.
    """
    motion = TEACHING_MOTIONS[name]
    subjects = [i for i, subject in enumerate(SUBJECTS) if subject != motion.subject]
    backgrounds = [i for i, background in enumerate(BACKGROUNDS) if background != motion.background]
    asked: list[ContentPrompt] = []
    uses = Counter[tuple[int, int] | int]()
    for number in range(count):
        subject = subjects[number % len(subjects)]
        seen = [background for background in backgrounds if not is_held_out(subject, None, background)]
        background = min(seen, key=lambda each: (uses[subject, each], uses[each]))
        uses.update([background, (subject, background)])
        text = teaching_caption(name, SUBJECTS[subject], BACKGROUNDS[background])
        asked.append(ContentPrompt(prompt=text, subject=subject, background=background))
    return asked


def style_prompts(style: str | None, count: int = 64) -> list[ContentPrompt]:
    """Captions of scenes that `mini` has seen, with a style's name behind them.

    Args:
        style: Its name; None: none, for comparison.
        count: Prompts.
    """
    ending = f", {style}" if style else ""
    return [_scene_prompt(scene, ending) for scene in _style_scenes(count)]


def summarise_motion(name: str, asked: Sequence[ContentPrompt], scores: Sequence[MotionScore]) -> dict[str, Any]:
    """A line of the table of motions.

    Args:
        name: One of `TEACHING_MOTIONS`.
        asked: What each video should show.
        scores: Of each video.

    Returns:
        JSON: the median correlation and its quartiles, and shares with their intervals.
    """
    clip_subject = SUBJECTS.index(TEACHING_MOTIONS[name].subject)
    clip_background = BACKGROUNDS.index(TEACHING_MOTIONS[name].background)
    pairs = list(zip(asked, scores, strict=True))
    correlations = [score.correlation for score in scores]
    lower, median, upper = (round(float(q), 4) for q in np.quantile(correlations, (0.25, 0.5, 0.75)))
    return {
        "videos": len(scores),
        "correlation": {"median": median, "quartiles": [lower, upper]},
        "extent": round(float(np.median([score.extent for score in scores])), 4),
        "follows": Share.of(c >= FOLLOWS for c in correlations).to_dict(),
        **_content(pairs),
        "subject_leak": Share.of(s.subject == clip_subject != a.subject for a, s in pairs).to_dict(),
        "background_leak": Share.of(s.background == clip_background != a.background for a, s in pairs).to_dict(),
    }


def summarise_style(style: str, asked: Sequence[ContentPrompt], scores: Sequence[StyleScore]) -> dict[str, Any]:
    """A line of the table of styles.

    Args:
        style: The one that was asked for; "plain": none.
        asked: What each video should show.
        scores: Of each video.

    Returns:
        JSON: shares with their intervals; `content` is subject and background both.
    """
    pairs = list(zip(asked, scores, strict=True))
    return {
        "videos": len(scores),
        "style": Share.of(s.style == style for s in scores).to_dict(),
        **_content(pairs),
        "content": Share.of(s.subject == a.subject and s.background == a.background for a, s in pairs).to_dict(),
    }


def true_motion(name: str, asked: ContentPrompt, number: int, **size: int) -> Tensor:
    """A render of a taught motion with what a prompt asks for, of a size that varies: (3, F, H, W) in [-1, 1].

    Args:
        name: One of `TEACHING_MOTIONS`.
        asked: Subject and background.
        number: Picks the size of the sprite and the paint.
        size: `num_frames`, `height` and `width` of the video.
    """
    scene = teaching_scene(
        name,
        SUBJECTS[asked.subject],
        BACKGROUNDS[asked.background],
        size=0.45 + 0.05 * (number % 4),
        paint_seed=number,
    )
    return _rendered(scene, **size)


def validate_motion(name: str, reader: SpriteReader, *, count: int, **size: int) -> dict[str, dict[str, Any]]:
    """What the scores give where the answer is known: renders of the motion, and of the world's own motions.

    Args:
        name: One of `TEACHING_MOTIONS`.
        reader: See `SpriteReader.trained`.
        count: Videos of each.
        size: `num_frames`, `height` and `width` of the videos.

    Returns:
        Lines of the table by name: see `summarise_motion`.
    """
    asked = motion_prompts(name, count)
    right = [score_motion(true_motion(name, a, i, **size), name, reader) for i, a in enumerate(asked)]
    world = SpriteWorld(seed=2001)
    scenes = [world.scene(index) for index in range(count)]
    wrong = [score_motion(_rendered(scene, **size), name, reader) for scene in scenes]
    return {
        "ground truth": summarise_motion(name, asked, right),
        "other motions": summarise_motion(name, [_scene_prompt(s) for s in scenes], wrong),
    }


def validate_style(style: str | None, reader: StyleReader, *, count: int, **size: int) -> dict[str, Any]:
    """What the scores give where the answer is known: renders of what the prompts ask for, drawn in the style.

    Args:
        style: One of `STYLES`; None: none.
        reader: See `StyleReader.trained`.
        count: Videos.
        size: `num_frames`, `height` and `width` of the videos.

    Returns:
        A line of the table: see `summarise_style`.
    """
    scores = []
    for scene in _style_scenes(count):
        frames = render(scene, **size)
        video = Video(frames=apply_style(style, frames) if style else frames, fps=1)
        scores.append(score_style(video.to_tensor(), reader))
    return summarise_style(style or "plain", style_prompts(style, count), scores)


def _rendered(scene: Scene, num_frames: int, height: int, width: int) -> Tensor:
    return render_tensor(scene, frame_times(num_frames), height, width)


def _scene_prompt(scene: Scene, ending: str = "") -> ContentPrompt:
    return ContentPrompt(prompt=caption(scene) + ending, subject=scene.subject, background=scene.background)


def _content(pairs: Sequence[tuple[ContentPrompt, MotionScore | StyleScore]]) -> dict[str, Any]:
    """How often the subject, and the background, is what the prompt asks for."""
    return {
        "subject": Share.of(score.subject == asked.subject for asked, score in pairs).to_dict(),
        "background": Share.of(score.background == asked.background for asked, score in pairs).to_dict(),
    }


def _style_scenes(count: int) -> list[Scene]:
    """What the prompts of styles describe."""
    world = SpriteWorld(seed=2000)
    return [world.scene(index) for index in range(count)]


def _spread(path: Array) -> float:
    """Root of the mean square distance from the middle."""
    return math.sqrt(float(((path - path.mean(0)) ** 2).sum(1).mean()))
