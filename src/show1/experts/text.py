"""The text states of an expert, by its own text encoders."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from show1.checkpoints.cascade import Part
from show1.checkpoints.storage import TextStorage
from show1.experts.family import Texts
from show1.experts.loading import names_of
from show1.experts.packing import pack
from show1.experts.placing import load_placed
from show1.files import cached_sha256, sha256_of_text
from show1.runtime import empty_cache
from show1.stages import PromptEmbeddings
from show1.text.embedding_cache import EmbeddingCache
from show1.text.encoder import PromptEncoder


class ExpertText:
    """The text encoders and tokenizers of an expert. They are read when the first prompt is not in the cache."""

    def __init__(
        self,
        part: Part,
        *,
        dtype: torch.dtype,
        device: torch.device,
        variant: str | None = None,
        cache: EmbeddingCache | None = None,
        stored: TextStorage | None = None,
    ) -> None:
        """Takes the files of an expert.

        Args:
            part: The files.
            dtype: Precision of the text encoders.
            device: Where they compute.
            variant: Weight files to prefer.
            cache: Text states on disk; None to keep none.
            stored: How the weights of linear layers are stored that are not streamed; None: as they are computed.
        """
        assert part.expert is not None
        self._part, self._expert = part, part.expert
        self._family = part.expert.row.family()()
        self._place: dict[str, Any] = {"dtype": dtype, "device": device, "variant": variant}
        self._cache = cache
        self._stored = stored
        self._pipe: Any = None
        self.streamed: bool | None = None
        """Whether layers get their weights when they run; see `load_placed`."""

    @property
    def loaded(self) -> bool:
        """Whether the text encoders are in memory."""
        return self._pipe is not None

    @property
    def max_tokens(self) -> int:
        """Tokens to which a text is padded or cut."""
        length: int = self._family.text_length
        return length

    def truncated(self, prompt: str, max_tokens: int) -> str | None:
        """Returns the end of the prompt that its first tokenizer cuts, or None; reads no text encoder."""
        return None if self._reader is None else self._reader.truncated(prompt, max_tokens)

    @functools.cached_property
    def _reader(self) -> PromptEncoder | None:
        return PromptEncoder(self._part.path) if "tokenizer" in self._expert.classes else None

    def free(self) -> None:
        """Drops the text encoders from memory; they are read again when they are needed."""
        if self._pipe is not None:
            self._pipe = None
            empty_cache(self._place["device"])

    def embed(self, prompts: Sequence[str], negative_prompts: Sequence[str]) -> PromptEmbeddings:
        """Encodes B prompts and what to avoid in each, one text at a time; see `PromptEmbeddings` for the shapes."""
        states = {text: self._encode_one(text) for text in dict.fromkeys((*prompts, *negative_prompts))}
        found = {
            f"{prefix}{name}": torch.cat([states[text][name] for text in texts])
            for prefix, texts in (("", prompts), ("negative_", negative_prompts))
            for name in states[prompts[0]]
        }
        return PromptEmbeddings(
            prompt_embeds=found.pop("prompt_embeds"),
            negative_prompt_embeds=found.pop("negative_prompt_embeds"),
            extra=found,
        )

    @functools.cached_property
    def _identity(self) -> str:
        """Hash of all files of the text encoders and tokenizers."""
        folders = [self._part.path / name for name in self._names]
        files = sorted(file for folder in folders for file in folder.iterdir() if file.is_file())
        return sha256_of_text("\n".join(f"{f.parent.name}/{f.name} {cached_sha256(f)}" for f in files))

    @property
    def _names(self) -> list[str]:
        return names_of(self._expert, text=True)

    def _loaded(self) -> Any:
        """A pipeline of the text encoders."""
        place: dict[str, Any] = {**self._place, "streamed": self.streamed}
        if (bits := self._stored) is not None and not self.streamed:

            def prepare(pipe: Any) -> None:
                for name in self._names:
                    if isinstance(encoder := getattr(pipe, name), nn.Module):
                        pack(encoder, bits)

            place |= {"prepare": prepare, "whole_first": True, "streamed": False}
        return load_placed(self._part, self._family, self._names, **place)

    def is_cached(self, texts: Iterable[str]) -> bool:
        """Whether `embed` would find texts in the cache, so that it needs no text encoder."""
        if self._cache is None or self._cache.is_empty:  # an empty one is no reason to hash large files
            return False
        return all(self._known(self._cache, text)[1] is not None for text in dict.fromkeys(texts))

    def _encode_one(self, text: str) -> Texts:
        """The states of one text, (1, ...) each; all or none of them are in the cache."""
        device, cache = self._place["device"], self._cache
        keys: dict[str, str] = {}
        if cache is not None:
            keys, known = self._known(cache, text)
            if known is not None:
                return {name: states.to(device) for name, states in known.items()}
        if self._pipe is None:
            self._pipe = self._loaded()
        with torch.no_grad():
            states: Texts = self._family.text_of(self._pipe, text)
        if cache is not None:
            for name, key in keys.items():
                cache.put(key, states[name])
        return states

    def _known(self, cache: EmbeddingCache, text: str) -> tuple[dict[str, str], Texts | None]:
        """The names of a text's entries in the cache, and its states, or None if one is not there."""
        smaller = f" {self._stored}" if self._stored is not None and not self.streamed else ""
        place = {
            "dtype": self._place["dtype"],
            "device": self._place["device"].type,
            "max_tokens": self._family.text_length,
        }
        keys = {
            n: cache.key(encoder=f"{self._identity} {n}{smaller}", prompt=text, **place)
            for n in self._family.text_states
        }
        known: Texts = {}
        for name, key in keys.items():
            if (states := cache.get(key)) is None:
                return keys, None
            known[name] = states
        return keys, known
