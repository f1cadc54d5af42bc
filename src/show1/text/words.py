"""A word-level tokenizer for small vocabularies."""

from collections.abc import Sequence
from typing import Any


def word_tokenizer(words: Sequence[str], max_length: int) -> Any:
    """Makes a word-level tokenizer in lower case whose texts end with `</s>`.

    Args:
        words: The words, in the order of their ids, which follow those of `<pad>`, `</s>` and `<unk>`.
        max_length: Tokens of a text at most, the end included.

    Returns:
        A `PreTrainedTokenizerFast`.
    """
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "</s>", "<unk>"]
    vocabulary = {word: i for i, word in enumerate([*specials, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = _normalizer(), _splitter()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=max_length,
    )


def split_words(text: str) -> list[str]:
    """Splits a text into words as `word_tokenizer` does."""
    return [word for word, _ in _splitter().pre_tokenize_str(_normalizer().normalize_str(text))]


def _normalizer() -> Any:
    from tokenizers import normalizers

    return normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])


def _splitter() -> Any:
    from tokenizers import Regex, pre_tokenizers

    punctuation = pre_tokenizers.Split(pattern=Regex(r"[^\w]+"), behavior="removed")
    return pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), punctuation])
