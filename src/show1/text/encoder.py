"""Text encoders: from prompts to the text states that the networks are conditioned on."""

import functools
import gc
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from show1.checkpoints.loading import load_weights
from show1.checkpoints.network_configs import check_kinds, read_network_config
from show1.checkpoints.storage import TextStorage, fill_quantized
from show1.checkpoints.weight_files import check_ordinary, find_weights
from show1.errors import CheckpointError, reason_of
from show1.files import cached_sha256, sha256_of_text
from show1.limits import MAX_TOKENIZER_BYTES
from show1.text.embedding_cache import EmbeddingCache
from show1.text.unread import Unread, unknown_words, unread

NAMES_CODE = re.compile("auto_map|_implementation|quantization")
"""Keys of a config by which transformers would look for code to run elsewhere."""
_TIED = frozenset({"shared.weight", "encoder.embed_tokens.weight"})


class PromptEncoder:
    """A tokenizer and a text encoder: T5 (pixel stages) or CLIP's text model (the expert).

    Its network is read when the first prompt is not in the cache, so possibly never.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        variant: str | None = None,
        cache: EmbeddingCache | None = None,
        stored: TextStorage | None = None,
    ) -> None:
        """Reads `tokenizer/` now, and `text_encoder/` when it is needed.

        Args:
            folder: Folder that holds both.
            dtype: Precision of the text encoder.
            device: Device of the text encoder.
            variant: Weight files to prefer.
            cache: Embeddings on disk; None to keep none.
            stored: How the weights of linear layers are stored; None: as they are computed.

        Raises:
            CheckpointError: A file is missing or damaged.
        """
        self._folder = Path(folder)
        self.tokenizer = load_tokenizer(self._folder / "tokenizer")
        self._text_encoder: nn.Module | None = None
        self._cache = cache
        self._dtype = dtype
        self._device = torch.device(device)
        self._variant = variant
        self._stored = stored
        self.streamed: bool | None = False
        """Whether the network, when it is read next, leaves its weights in the files; None: it does not."""

    @property
    def text_encoder(self) -> nn.Module:
        """The network, which is read now unless it was already."""
        if self._text_encoder is None:
            self._text_encoder = load_text_encoder(
                self._folder / "text_encoder",
                dtype=self._dtype,
                device=self._device,
                variant=self._variant,
                streamed=bool(self.streamed),
                stored=self._stored,
            )
        return self._text_encoder

    @property
    def loaded(self) -> bool:
        """Whether the network is in memory."""
        return self._text_encoder is not None

    @functools.cached_property
    def identity(self) -> str:
        """Hash of the text encoder's and the tokenizer's files."""
        weights = find_weights(self._folder / "text_encoder", self._variant)
        small = sorted(p for p in (self._folder / "tokenizer").iterdir() if p.is_file())
        files = [self._folder / "text_encoder" / "config.json", *weights, *small]
        return sha256_of_text("\n".join(f"{f.parent.name}/{f.name} {cached_sha256(f)}" for f in files))

    def free(self) -> None:
        """Drops the text encoder from memory; it is read again when it is needed."""
        if self._text_encoder is not None:
            self._text_encoder = None
            gc.collect()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def encode(self, prompts: Sequence[str], max_tokens: int | None = None) -> Tensor:
        """Encodes prompts with padding, one at a time, so that the states of one do not depend on the others.

        Args:
            prompts: B cleaned texts; empty ones serve the unconditional half of guidance.
            max_tokens: L, the length to pad or cut to; None for the tokenizer's own limit.

        Returns:
            (B, L, D), in the text encoder's dtype, on its device.
        """
        length = max_tokens or self.max_tokens
        states = {prompt: self._encode_one(prompt, length) for prompt in dict.fromkeys(prompts)}
        return torch.stack([states[prompt] for prompt in prompts])

    @property
    def max_tokens(self) -> int:
        """The tokenizer's own limit, or 77 if it names none."""
        limit = int(self.tokenizer.model_max_length)
        return limit if limit <= 4096 else 77

    def truncated(self, prompt: str, max_tokens: int | None = None) -> str | None:
        """Returns the end of the prompt that does not fit in `max_tokens`, or None if everything fits."""
        length = max_tokens or self.max_tokens
        special = self.tokenizer.num_special_tokens_to_add()
        tokens = self._tokenize(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        kept = max(0, length - special)
        if len(tokens["input_ids"]) <= kept:
            return None
        start = tokens["offset_mapping"][kept][0]
        return prompt[prompt.rfind(" ", 0, start) + 1 :].strip()  # from the word that is cut

    def unknown_words(self, prompt: str) -> list[str]:
        """Lists the words that are not fully in the tokenizer's vocabulary."""
        return unknown_words(self._tokenize, self.tokenizer.unk_token_id, prompt)

    def unread(self, captions: Iterable[str], max_tokens: int | None = None) -> Unread:
        """Finds what of some captions is not read, where they are cut to `max_tokens`."""
        return unread(self._tokenize, self.tokenizer.unk_token_id, captions, max_tokens or self.max_tokens)

    def is_cached(self, prompts: Iterable[str], max_tokens: int | None = None) -> bool:
        """Whether `encode` would find prompts in the cache, so that it needs no network.

        Args:
            prompts: Cleaned texts.
            max_tokens: As for `encode`.
        """
        if self._cache is None or self._cache.is_empty:  # an empty one is no reason to hash large files
            return False
        length = max_tokens or self.max_tokens
        return all(self._known(self._cache, prompt, length)[1] is not None for prompt in dict.fromkeys(prompts))

    def _encode_one(self, prompt: str, length: int) -> Tensor:
        if self._cache is None:
            return self._compute(prompt, length)
        key, known = self._known(self._cache, prompt, length)
        if known is not None:
            return known.to(self._device)
        embeds = self._compute(prompt, length)
        self._cache.put(key, embeds)
        return embeds

    def _known(self, cache: EmbeddingCache, prompt: str, length: int) -> tuple[str, Tensor | None]:
        """The name of a prompt's entry in the cache, and its states (L, D), or None if they are not there."""
        smaller = f" {self._stored}" if self._stored is not None and not self.streamed else ""
        key = cache.key(
            encoder=f"{self.identity}{smaller}",
            prompt=prompt,
            max_tokens=length,
            dtype=self._dtype,
            device=self._device.type,
        )
        config = read_network_config(self._folder / "text_encoder" / "config.json")
        width = config.get("d_model", config.get("hidden_size"))
        known = cache.get(key)
        return key, known if known is not None and known.shape == (length, width) else None

    def _tokenize(self, text: str, **options: Any) -> Any:
        """Calls the tokenizer, whose files decide what can go wrong: a pattern in them may have no end, for instance.

        Raises:
            CheckpointError: It failed.
        """
        try:
            return self.tokenizer(text, **options)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # what tokenizers raises when it gives up is no Exception
            raise CheckpointError(
                f"{self._folder / 'tokenizer'} fails on {text[:50]!r} ({reason_of(error):.150}); it is damaged: "
                "download the model again, or correct the folder"
            ) from error

    @torch.no_grad()
    def _compute(self, prompt: str, length: int) -> Tensor:
        model = self.text_encoder
        tokens = self._tokenize(
            prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt", verbose=False
        )
        device = self._device
        config: Any = model.config
        if int(tokens["input_ids"].max()) >= config.vocab_size:
            raise CheckpointError(
                f"the tokenizer gave the token {int(tokens['input_ids'].max())}, but the text encoder knows only "
                f"{config.vocab_size} tokens: they do not belong to the same model; correct {self._folder}"
            )
        # the published expert attends to CLIP's padding (diffusers passes no mask either); T5's is masked
        mask = None if "CLIP" in type(model).__name__ else tokens["attention_mask"].to(device)
        try:
            states: Tensor = model(input_ids=tokens["input_ids"].to(device), attention_mask=mask)[0]
        except (ArithmeticError, ValueError, IndexError, TypeError) as error:
            file = self._folder / "text_encoder" / "config.json"
            raise CheckpointError(
                f"{file} describes an encoder that does not work ({reason_of(error)}); correct it"
            ) from error
        return states[0]


@contextmanager
def without_bars() -> Iterator[None]:
    """Hides the progress bars that transformers shows for every file that it reads or writes, however small."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def load_tokenizer(folder: Path) -> Any:
    """Reads a tokenizer: `tokenizer.json`, SentencePiece `spiece.model` (T5), or `vocab.json` and `merges.txt` (CLIP).

    Raises:
        CheckpointError: None of these files exists, or one is damaged.
    """
    from transformers import CLIPTokenizer, PreTrainedTokenizerFast, T5Tokenizer

    if not folder.is_dir():
        raise CheckpointError(f"{folder} is missing; download the model again (`show1 models download`)")
    choices = {"tokenizer.json": PreTrainedTokenizerFast, "spiece.model": T5Tokenizer, "vocab.json": CLIPTokenizer}
    file = next((name for name in choices if (folder / name).is_file()), None)
    if file is None:
        raise CheckpointError(
            f"{folder} holds no tokenizer (expected {', '.join(choices)}); download the model again "
            "(`show1 models download`)"
        )
    if file == "vocab.json" and not (folder / "merges.txt").is_file():
        raise CheckpointError(f"{folder / 'merges.txt'} is missing; download the model again (`show1 models download`)")
    for each in (each for each in folder.iterdir() if not each.is_dir()):
        check_ordinary(each, MAX_TOKENIZER_BYTES)
    try:
        tokenizer = choices[file].from_pretrained(folder, local_files_only=True)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # tokenizers raises bare exceptions, and what is no Exception at all
        raise CheckpointError(
            f"{folder / file} is not a readable tokenizer ({reason_of(error):.150}); delete it and download it "
            "again (`show1 models download`)"
        ) from error
    tokenizer.init_kwargs.pop("local_files_only", None)  # how it was read here is not written into exports
    limit = tokenizer.model_max_length
    if not isinstance(limit, int | float) or not limit >= 2:
        raise CheckpointError(
            f"{folder / 'tokenizer_config.json'}: model_max_length must be a number of 2 or more, got {limit!r}; "
            "correct it"
        )
    return tokenizer


def load_text_encoder(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    variant: str | None = None,
    streamed: bool = False,
    stored: TextStorage | None = None,
) -> nn.Module:
    """Loads a text encoder: `T5EncoderModel` or `CLIPTextModel`.

    Args:
        folder: Folder of `config.json` and the weights.
        dtype: Precision of the weights.
        device: Device of the weights.
        variant: Weight files to prefer.
        streamed: Whether weights stay in the files, and each layer reads its own whenever it runs.
        stored: How the weights of linear layers are stored that are not streamed; None: as they are computed.

    Raises:
        CheckpointError: A file is missing, partial, corrupt, or does not fit the config.
    """
    files = find_weights(folder, variant)
    model = build_empty_text_encoder(folder)
    float32 = float32_layers(model, dtype)
    quantized = None
    if stored is not None and not streamed:
        quantized = functools.partial(fill_quantized, kind=stored, device=device, kept=float32)
    set_positions(model, device)
    load_weights(
        model,
        files,
        dtype=dtype,
        device=device,
        rename=rename_text,
        optional=optional_text(model),
        float32_modules=float32,
        streamed=streamed,
        fill=quantized,
    )
    if not streamed:
        tie_embeddings(model)
    return model.eval()


def float32_layers(model: nn.Module, dtype: torch.dtype) -> tuple[str, ...]:
    """Layers that stay in float32: T5's feed-forward output overflows in half precision, as its authors found."""
    return ("wo",) if dtype == torch.float16 and "T5" in type(model).__name__ else ()


def build_empty_text_encoder(folder: Path) -> nn.Module:
    """Makes a text encoder from `config.json` on the meta device, without weights.

    Raises:
        CheckpointError: The config is missing, not JSON, or that of another kind of model.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel
    from transformers.initialization import no_init_weights

    file = folder / "config.json"
    kinds = {"t5": (T5Config, T5EncoderModel), "clip_text_model": (CLIPTextConfig, CLIPTextModel)}
    config = {key: value for key, value in read_network_config(file).items() if not NAMES_CODE.search(key)}
    kind = str(config.get("model_type"))
    if kind not in kinds:
        raise CheckpointError(
            f"{file} describes a {kind!r}; show1 reads the text encoders {', '.join(kinds)}: correct the folder"
        )
    config_class, model_class = kinds[kind]
    check_kinds(file, config, config_class)
    if isinstance(config.get("eos_token_id"), list):
        raise CheckpointError(f"{file}: eos_token_id must be one number; correct it")
    try:
        with torch.device("meta"), no_init_weights():  # random numbers on this device would import torch's compiler
            model: Any = model_class(config_class.from_dict(config))
            model.tie_weights()
    except Exception as error:  # whatever goes wrong here, the config asked for
        raise CheckpointError(f"{file} does not describe a {model_class.__name__}: {reason_of(error)}") from error
    encoder: nn.Module = model
    return encoder


def rename_text(name: str) -> str | None:
    """Returns the name that a tensor of a published file has in today's transformers; None to leave the tensor out."""
    if name.endswith("position_ids") or name.startswith("decoder."):
        return None
    return name.removeprefix("text_model.")


def optional_text(model: nn.Module) -> frozenset[str]:
    """Returns the names that a file may lack: T5's word embedding is one tensor under two names."""
    return _TIED if "T5" in type(model).__name__ else frozenset()


def tie_embeddings(model: nn.Module) -> None:
    """Gives T5's word embedding, which is one tensor under two names, to both of its modules.

    Raises:
        CheckpointError: No file held it.
    """
    if "T5" in type(model).__name__:
        embedding: Any = model
        named = (embedding.shared, embedding.encoder.embed_tokens)
        weight = next((m.weight for m in named if not m.weight.is_meta), None)
        if weight is None:
            raise CheckpointError("the text encoder's weights lack shared.weight; download the model again")
        for module in named:
            module.weight = weight


def set_positions(model: nn.Module, device: torch.device | str) -> None:
    """Sets CLIP's position numbers, which no file holds."""
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta and name.endswith("position_ids"):
            owner = model.get_submodule(name.rpartition(".")[0])
            positions = torch.arange(buffer.shape[-1], device=device)[None]
            owner.register_buffer("position_ids", positions, persistent=False)
