"""Captions to text states with a small T5."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from show1.data.clips import Vocabulary
from show1.errors import InputError
from show1.text.encoder import load_text_encoder, load_tokenizer, without_bars
from show1.text.words import word_tokenizer
from show1.training.networks import fresh_text_encoder
from show1.training.objective import moved
from show1.training.presets import Preset

MAX_TEXT_TOKENS = 77
"""Tokens of a caption at most, as for the published networks."""


class TextConditioner(nn.Module):
    """A tokenizer and a text encoder.

    Args:
        tokenizer: A tokenizer of transformers.
        text_encoder: A `T5EncoderModel`.
    """

    def __init__(self, tokenizer: Any, text_encoder: nn.Module) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder

    @classmethod
    def fresh(cls, preset: Preset, vocabulary: Vocabulary) -> "TextConditioner":
        """Makes an encoder with random weights for the words of a source's captions.

        Raises:
            InputError: The preset has no text encoder.
        """
        tokenizer = word_tokenizer(vocabulary.words, preset.text_tokens)
        return cls(tokenizer, fresh_text_encoder(preset.network("text"), len(tokenizer)))

    @classmethod
    def from_folder(cls, folder: str | Path) -> "TextConditioner":
        """Loads the text encoder of a stage folder.

        Raises:
            InputError: The folder holds none.
            CheckpointError: A file is missing or damaged.
        """
        folder = Path(folder)
        if not (folder / "text_encoder").is_dir():
            raise InputError(
                f"text: {folder} holds no text_encoder/; name the export of a keyframe_images training by --text DIR"
            )
        tokenizer = load_tokenizer(folder / "tokenizer")
        text_encoder = load_text_encoder(folder / "text_encoder", dtype=torch.float32, device="cpu")
        if "T5" not in type(text_encoder).__name__:
            raise InputError(f"text: {folder} holds a {type(text_encoder).__name__}; trainings read prompts with a T5")
        return cls(tokenizer, text_encoder)

    def forward(self, captions: list[str]) -> Tensor:
        """Encodes captions: (B, L, D)."""
        tokens = self.tokenize(captions)
        device = next(self.text_encoder.parameters()).device
        out = self.text_encoder(
            input_ids=moved(tokens.input_ids, device), attention_mask=moved(tokens.attention_mask, device)
        ).last_hidden_state
        return out  # type: ignore[no-any-return]

    @property
    def width(self) -> int:
        """Number of channels of the states."""
        return int(self.text_encoder.config.d_model)  # type: ignore[union-attr, arg-type]

    def tokenize(self, captions: list[str]) -> Any:
        """Gives token ids and attention mask, both (B, L)."""
        return self.tokenizer(
            captions, padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        )

    @property
    def length(self) -> int:
        """Number of tokens to which captions are cut or padded."""
        return min(int(self.tokenizer.model_max_length), MAX_TEXT_TOKENS)

    @property
    def knows_only_words(self) -> bool:
        """Whether the tokenizer knows only whole words; others can spell any word."""
        from tokenizers.models import WordLevel

        return isinstance(self.tokenizer.backend_tokenizer.model, WordLevel)

    def add_words(self, vocabulary: Vocabulary) -> None:
        """Gives each word that a word-level tokenizer does not know a token of its own, with random weights.

        A form of a known word, such as its plural, starts near that word. The states of texts without new words stay
        as they are.
        """
        from tokenizers import AddedToken

        known = self.tokenizer.get_vocab()
        new = [word for word in vocabulary.words if word not in known]
        if not new:
            return
        self.tokenizer.add_tokens([AddedToken(word, single_word=True) for word in new])
        self.text_encoder.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)  # type: ignore[operator]
        rows = self.text_encoder.get_input_embeddings().weight  # type: ignore[operator]
        for word in new:
            generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(word.encode()).digest()[:8]) >> 1)
            with torch.no_grad():
                row = torch.randn(rows.shape[1], generator=generator)
                row = row * rows[: len(known)].std()
                if vocabulary.forms.get(word) in known:
                    row = rows[known[vocabulary.forms[word]]] + row / 2
                rows[self.tokenizer.convert_tokens_to_ids(word)] = row

    def save(self, folder: Path) -> None:
        """Writes the tokenizer and the encoder into a stage folder."""
        self.tokenizer.model_max_length = self.length  # stages whose tokenizer decides must not read more
        self.tokenizer.save_pretrained(folder / "tokenizer")
        with without_bars():
            self.text_encoder.save_pretrained(folder / "text_encoder")  # type: ignore[operator]
