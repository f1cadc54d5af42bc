"""Text states that are computed ahead, so that a large text encoder is gone before a training begins."""

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from show1.checkpoints.network_configs import read_network_config
from show1.errors import InputError
from show1.runtime import choose_device
from show1.text.embedding_cache import EmbeddingCache
from show1.text.encoder import PromptEncoder
from show1.training.objective import moved
from show1.training.tasks.text_conditioner import TextConditioner

logger = logging.getLogger(__name__)

STATES = "text_states"
"""Folder of the states in a run's folder."""


class CachedText(TextConditioner):
    """A frozen text encoder whose states of all captions are on the disk.

    Args:
        folder: Stage folder with `tokenizer/` and `text_encoder/`.

    Raises:
        InputError: It holds no text encoder, or none that trainings read prompts with.
        CheckpointError: A file is missing or damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if not (self._folder / "text_encoder").is_dir():
            raise InputError(f"text: {folder} holds no text_encoder/; name the export of a keyframes training")
        config = read_network_config(self._folder / "text_encoder" / "config.json")
        if (kind := config.get("model_type")) != "t5":
            raise InputError(f"text: {folder} holds an encoder of the kind {kind!r}; trainings read prompts with a T5")
        self._encoder = PromptEncoder(self._folder, device=choose_device())
        super().__init__(self._encoder.tokenizer, torch.nn.Identity())
        self._width = int(config["d_model"])
        self._place: Tensor
        self.register_buffer("_place", torch.empty(0), persistent=False)

    def compute(self, captions: Iterable[str], folder: Path) -> None:
        """Computes the states of captions and of the empty one, unless they are there, and drops the encoder.

        Args:
            captions: Texts, any of them several times.
            folder: Where the states are kept.
        """
        self._encoder = PromptEncoder(self._folder, device=choose_device(), cache=EmbeddingCache(folder, limit=1 << 40))
        distinct = ["", *dict.fromkeys(captions)]
        for number, caption in enumerate(distinct):
            if number % 100 == 0:
                logger.info("computing text states, %d of %d captions", number, len(distinct))
            self._encoder.encode([caption], self.length)
        self._encoder.free()

    def forward(self, captions: list[str]) -> Tensor:
        """Gives the states of captions: (B, L, D)."""
        return moved(self._encoder.encode(captions, self.length).cpu(), self._place.device)

    @property
    def width(self) -> int:
        """Number of channels of the states."""
        return self._width

    def save(self, folder: Path) -> None:
        """Puts the tokenizer and the encoder into a stage folder, by links to the same files if the disk has them."""
        for part in ("tokenizer", "text_encoder"):
            shutil.copytree(self._folder / part, folder / part, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)
