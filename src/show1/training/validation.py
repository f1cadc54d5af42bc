"""Is it learning? Losses and similarities on clips that a training does not see, always of the same noise."""

import importlib.util
import logging
import random
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import default_collate

from show1.data.clips import ClipDataset, ClipSource, ClipView, Vocabulary
from show1.data.options import DataOptions
from show1.errors import InputError, MissingDependencyError
from show1.training.objective import to_device
from show1.training.options import LoopOptions
from show1.training.tasks.base import Batch, Task

logger = logging.getLogger(__name__)

SEED = 1_000_003
"""Of everything that is drawn here, and of the clips of endless sources: the same for every run."""

RESTORED = 8
"""Number of clips that are restored and compared with the true ones, which takes a whole sampling run each."""

SHOWN = 4
"""Number of clips whose captions the sample sheets show."""


class Part(ClipSource):
    """Some of the clips of another source.

    Args:
        source: The source, of a number of clips.
        places: Which of its clips, from 0.
    """

    def __init__(self, source: ClipSource, places: Sequence[int]) -> None:
        assert source.num_clips is not None, "only a number of clips has parts"
        self._source, self._places, self._turn = source, tuple(places), source.num_clips

    @property
    def spec(self) -> str:
        """See `ClipSource.spec`."""
        return self._source.spec

    @property
    def options(self) -> DataOptions:
        """See `ClipSource.options`."""
        return self._source.options

    @property
    def num_clips(self) -> int:
        """See `ClipSource.num_clips`."""
        return len(self._places)

    def clip(self, index: int, *, num_frames: int, height: int, width: int, frames: slice = slice(None)) -> Tensor:
        """See `ClipSource.clip`: (3, F, height, width)."""
        return self._source.clip(self._index(index), num_frames=num_frames, height=height, width=width, frames=frames)

    def caption(self, index: int, kind: Literal["clip", "image"] = "clip") -> str:
        """See `ClipSource.caption`."""
        return self._source.caption(self._index(index), kind)

    def vocabulary(self) -> Vocabulary:
        """See `ClipSource.vocabulary`: that of the whole source."""
        return self._source.vocabulary()

    def prepare(self, view: ClipView, *, captions: bool) -> None:
        """See `ClipSource.prepare`: the whole source is prepared before it is split."""
        return None

    def _index(self, index: int) -> int:
        turn, place = divmod(index, len(self._places))
        return turn * self._turn + self._places[place]


def held_out(source: ClipSource, share: float) -> tuple[ClipSource, ClipSource]:
    """Splits clips into those to learn from and those to validate on, always in the same way.

    Args:
        source: The clips.
        share: Share of the clips to validate on, 0 to 1.

    Raises:
        InputError: The clips are endless, or too few.
    """
    count = source.num_clips
    if count is None or source.clips_per_scene > 1:
        raise InputError(f"val_share: {source.spec} has no end to hold clips out of; name other clips (--val-data)")
    places = list(range(count))
    random.Random(f"held out {SEED}").shuffle(places)
    taken = max(1, round(share * count))
    if taken >= count:
        raise InputError(f"val_share: {share:g} of {count} clips leaves none to learn from; name others (--val-data)")
    return Part(source, sorted(places[taken:])), Part(source, sorted(places[:taken]))


class Validation:
    """Measures a task on clips that it does not learn from.

    Args:
        source: The clips.
        view: What to see of each.
        loop: How many of them, and how often.
    """

    def __init__(self, source: ClipSource, view: ClipView, loop: LoopOptions) -> None:
        count = loop.val_clips if source.num_clips is None else min(loop.val_clips, source.num_clips)
        self._clips = ClipDataset(source, view, length=count, seed=SEED)
        self._every, self._steps = loop.val_every, loop.steps
        self._scores: ImageScores | None = None

    def is_due(self, step: int) -> bool:
        """Whether a step is followed by a measurement."""
        return step % self._every == 0 or step == self._steps

    def shown(self) -> Batch:
        """Gives the batch whose captions the sample sheets show, (B, 3, F, H, W)."""
        batch: Batch = default_collate([self._clips[i] for i in range(min(SHOWN, len(self._clips)))])
        return batch

    @torch.no_grad()
    def measure(self, task: Task, device: torch.device) -> dict[str, float]:
        """Measures a task with its weights as they are now.

        Each clip has its own noise, so that the result depends neither on the sizes of batches nor on the training.

        Returns:
            Means over the clips: "val_loss", its parts by noise level, and "val_psnr" (decibels), "val_ssim" and
            "val_lpips" of tasks that restore what is known.
        """
        logger.info("validating on %d clips", len(self._clips))
        task.eval()
        found: dict[str, list[float]] = {}
        for number, batch in enumerate(self._batches(device)):
            torch.manual_seed(SEED + number)
            values = dict(task.validate(batch))
            pair = task.restore(batch) if number < RESTORED else None
            if pair is not None:
                self._scores = self._scores or ImageScores(device)
                values |= self._scores(*pair)
            for name, value in values.items():
                found.setdefault(f"val_{name}", []).append(float(value))
        task.train()
        return {name: sum(values) / len(values) for name, values in found.items()}

    def _batches(self, device: torch.device) -> Iterator[Batch]:
        for index in range(len(self._clips)):
            yield to_device(default_collate([self._clips[index]]), device)


class ImageScores:
    """How close restored frames are to the true ones, by torchmetrics.

    Args:
        device: Of the frames.

    Raises:
        MissingDependencyError: torchmetrics is not installed.
    """

    def __init__(self, device: torch.device) -> None:
        try:
            from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
        except ImportError as error:
            raise MissingDependencyError(f"{error}; install the training extra: pip install 'show1[train]'") from error
        self._psnr, self._ssim = peak_signal_noise_ratio, structural_similarity_index_measure
        self._lpips = _lpips(device)

    def __call__(self, made: Tensor, true: Tensor) -> dict[str, Tensor]:
        """Compares frames (B, 3, F, H, W) in [-1, 1]; gives "psnr", "ssim" and, where it can be had, "lpips"."""
        made, true = (video.clamp(-1, 1).transpose(1, 2).flatten(0, 1).float() for video in (made, true))
        scores: dict[str, Any] = {"psnr": self._psnr(made, true, data_range=2.0)}
        if min(true.shape[-2:]) > 11:  # the window of the similarity
            scores["ssim"] = self._ssim(made, true, data_range=2.0)
        if self._lpips is not None:
            scores["lpips"] = self._lpips(made, true)
        return scores


def _lpips(device: torch.device) -> Any:
    """LPIPS (arXiv:1801.03924) with AlexNet; None, and a note, where its network cannot be had."""
    if importlib.util.find_spec("torchvision") is None:
        logger.warning("LPIPS is left out of the validation: it needs torchvision, which is not installed")
        return None
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    try:
        return LearnedPerceptualImagePatchSimilarity(net_type="alex").to(device)
    except (OSError, RuntimeError) as error:
        logger.warning("LPIPS is left out of the validation: its network cannot be downloaded (%s)", error)
        return None
