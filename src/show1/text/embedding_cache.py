"""Text states on disk by content hash, so that no text encoder computes the same prompt twice."""

import contextlib
import hashlib
import json
import logging
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from show1.files import cache_dir, check_regular, write_tensors

MAX_ENTRY_BYTES = 1 << 28
"""Size of an entry; the states of 4096 tokens in 4096 channels take a quarter of it."""
logger = logging.getLogger(__name__)


class EmbeddingCache:
    """Embeddings of single prompts in a folder.

    An entry that is damaged in any bit counts as absent, and a folder that cannot be written is not an error.
    """

    def __init__(self, folder: Path | None = None, *, limit: int = 2000) -> None:
        """Opens a cache.

        Args:
            folder: Folder of the entries; None for one in show1's cache folder (`SHOW1_CACHE`).
            limit: Most entries that are kept from one process to the next (0.6 MB each for T5-XXL in half precision).
        """
        self.limit = limit
        self._pruned = False
        self.folder = folder if folder is not None else cache_dir() / "embeddings"

    @property
    def is_empty(self) -> bool:
        """Whether it has no entries."""
        return next(self.folder.glob("*/*.safetensors"), None) is None

    def key(self, *, encoder: str, prompt: str, max_tokens: int, dtype: torch.dtype, device: str) -> str:
        """Hashes everything that an entry depends on.

        Args:
            encoder: Identity of text encoder and tokenizer.
            prompt: The prompt as the tokenizer gets it.
            max_tokens: Length to pad to.
            dtype: Precision of the computation.
            device: Kind of device, because results of different kinds differ in the last digits.

        Returns:
            The name of the entry.
        """
        parts = [encoder, prompt, max_tokens, str(dtype), device]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def get(self, key: str) -> Tensor | None:
        """Returns the embeddings of an entry, (L, D), as they were put there, or None if there is none."""
        file = self._file(key)
        try:
            check_regular(file, MAX_ENTRY_BYTES)
            with safe_open(file, framework="pt") as opened:
                embeds: Tensor = opened.get_tensor("embeds")
                if (opened.metadata() or {}).get("sha256") != _sha256(key, embeds):
                    raise ValueError("its numbers are not those that were written")
            return embeds
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            logger.debug("cache entry %s is damaged and will be computed again: %s", file, error)
            return None

    def put(self, key: str, embeds: Tensor) -> None:
        """Writes the embeddings of a prompt, (L, D), to the cache."""
        embeds = embeds.detach().cpu().contiguous()
        with contextlib.suppress(OSError):
            if not self._pruned:
                self._pruned = True
                self._prune()
            for path in ((file := self._file(key)).parent, file):
                if path.is_symlink():  # in a stranger's folder; what it leads to is not written
                    path.unlink()
            write_tensors(file, {"embeds": embeds}, {"sha256": _sha256(key, embeds)})

    def _prune(self) -> None:
        """Deletes the oldest entries beyond the limit."""
        entries = sorted(self.folder.glob("*/*.safetensors"), key=lambda file: file.stat().st_mtime)
        for entry in entries[: max(0, len(entries) - self.limit)]:
            entry.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"


def _sha256(key: str, embeds: Tensor) -> str:
    """The hash of an entry: of its key and of the bytes of its embeddings, (L, D)."""
    content = embeds.flatten().view(torch.uint8).numpy()
    return hashlib.sha256(f"{key} {embeds.dtype} {tuple(embeds.shape)}".encode() + content.tobytes()).hexdigest()
