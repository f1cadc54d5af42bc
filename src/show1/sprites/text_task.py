"""Training of a small text encoder on what captions of the sprite world ask for."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from show1.data.clips import ClipSource
from show1.errors import InputError
from show1.sprites.caption_reader import CaptionFacts, mentions, read_caption
from show1.sprites.captions import DIRECTIONS, TURNED
from show1.sprites.clips import SpriteClips
from show1.sprites.groups import ARRANGEMENTS
from show1.sprites.options import TextOptions
from show1.sprites.world import BACKGROUNDS, MOTIONS, RELATIONS, SUBJECTS
from show1.training.presets import preset
from show1.training.tasks.base import Batch, Sample, Task
from show1.training.tasks.text_conditioner import TextConditioner

_CLASSES = {
    "subject": len(SUBJECTS),
    "motion": len(MOTIONS),
    "background": len(BACKGROUNDS),
    "other": len(SUBJECTS) + 1,
    "arrangement": len(ARRANGEMENTS) + 1,
    "turned": len(TURNED) + 2,
    "direction": len(DIRECTIONS) + 1,
}
"""Number of classes of each head; from "other" on the last class means "not mentioned"."""

_SECOND_MOTION = {"then": len(MOTIONS) + 1}
"""The same for one more head, where captions have two motions."""

_OF_A_SUBJECT = {"place": len(RELATIONS) + 1, "does": len(MOTIONS) + 1}
"""Number of classes of each head that reads the state of one subject's name; the last class means "not said"."""


def _labels(said: CaptionFacts, classes: Mapping[str, int]) -> dict[str, int]:
    """The class for each head; -100, which losses ignore, where no motion, subject or background is mentioned."""
    unsaid = {name: -100 if name in ("subject", "motion", "background") else classes[name] - 1 for name in classes}
    values = {name: getattr(said, name) for name in classes}
    return {name: unsaid[name] if value is None else int(value) for name, value in values.items()}


class TextTask(Task):
    """A text encoder whose states say what captions of the sprite world ask for.

    Linear heads read it off the mean of the states: subjects, motions, background, and whatever else is mentioned.
    Others read off the state of each subject's name where this subject is and what it does; attention to the text can
    then find the right one of two subjects. With such states from the beginning, networks need fewer clips to learn
    what the words look like, and all stages can share one frozen encoder. An encoder that continues learning (`init`)
    keeps the states of ordinary captions for the networks that know them.
    """

    KEEPING = 30.0
    """Weight of the squared difference from the states that an encoder had before it continued learning."""

    def __init__(self, options: TextOptions, source: ClipSource) -> None:
        super().__init__()
        if not isinstance(source, SpriteClips):
            raise InputError(f"data: the task 'text' reads captions of the sprite world, got {source.spec!r}")
        self.before: TextConditioner | None = None
        if options.init:
            self.text = TextConditioner.from_folder(options.init)
            self.text.add_words(source.vocabulary())
            self.before = copy.deepcopy(self.text).requires_grad_(False).eval()
        else:
            self.text = TextConditioner.fresh(preset(options.network), source.vocabulary())
        self.classes = _CLASSES | (_SECOND_MOTION if source.shown.two_motions else {})
        heads = self.classes | _OF_A_SUBJECT
        self.heads = nn.ModuleDict({name: nn.Linear(self.text.width, count) for name, count in heads.items()})

    def logits(self, states: Tensor, captions: list[str]) -> dict[str, Tensor]:
        """Scores the classes of each head that reads captions, (B, classes), from their states (B, L, D)."""
        mask = self.text.tokenize(captions).attention_mask.to(states.device)[..., None]
        mean = (states * mask).sum(1) / mask.sum(1)
        return {name: self.heads[name](mean) for name in self.classes}

    def subject_loss(self, states: Tensor, captions: list[str]) -> Tensor:
        """Cross-entropy, per caption, of the heads that read the states (B, L, D) of the subjects' names."""
        tokens = self.text.tokenize(captions)
        rows, columns, labels = [], [], []
        for row, text in enumerate(captions):
            for each in mentions(text):
                token = tokens.char_to_token(row, each.end - 1)
                if token is None:
                    continue  # the caption was cut before it
                rows.append(row)
                columns.append(token)
                said = {"place": each.place, "does": each.motion}
                labels.append([_OF_A_SUBJECT[n] - 1 if (value := said[n]) is None else value for n in _OF_A_SUBJECT])
        if not rows:
            return states.new_zeros(())
        names, wanted = states[rows, columns], torch.tensor(labels, device=states.device)
        losses = [
            F.cross_entropy(self.heads[head](names), wanted[:, i], reduction="sum")
            for i, head in enumerate(_OF_A_SUBJECT)
        ]
        return torch.stack(losses).sum() / len(captions)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """See `Task.forward`: scalars; "accuracy" is the share of captions that all heads read right."""
        captions: list[str] = batch["caption"]
        states = self.text(captions)
        read = [read_caption(caption) for caption in captions]
        classes = [_labels(each, self.classes) for each in read]
        labels = {name: torch.tensor([c[name] for c in classes]).to(states.device) for name in self.classes}
        scores = self.logits(states, captions)
        losses = [F.cross_entropy(scores[name], labels[name], reduction="sum") for name in self.classes]
        subject_loss = self.subject_loss(states, captions)
        loss = torch.stack(losses).sum() / len(captions) + subject_loss
        known = torch.stack([labels[name] < 0 for name in self.classes])
        right = torch.stack([scores[name].argmax(1) == labels[name] for name in self.classes])
        values = {
            "loss": loss,
            "accuracy": (right | known).all(0).float().mean(),
            "subject_loss": subject_loss.detach(),
        }
        if self.before is not None:
            ordinary = torch.tensor([each.ordinary for each in read]).to(states.device)
            with torch.no_grad():
                wanted = self.before(captions)
            moved = (states - wanted).square().mean((1, 2))
            values["moved"] = (moved * ordinary).sum() / ordinary.sum().clamp(min=1)
            values["loss"] = loss + self.KEEPING * values["moved"]
        return values

    def export(self, folder: Path) -> None:
        """See `Task.export`: tokenizer and text encoder."""
        self.text.save(folder)

    def preview(self, batch: Batch) -> list[Sample]:
        """See `Task.preview`: a text encoder makes no samples, so there are no (3, F, H, W)."""
        return []
