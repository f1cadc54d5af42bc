"""Prompts to text states: agreement with transformers, the cache, truncation, unknown words."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast, T5EncoderModel, T5Tokenizer

from show1.errors import CheckpointError
from show1.text import encoder as text
from show1.text.embedding_cache import EmbeddingCache
from show1.text.encoder import PromptEncoder, load_text_encoder, load_tokenizer
from show1.text.words import word_tokenizer
from tests.published_layout import T5_WIDTH


@pytest.fixture
def base(published: Path) -> Path:
    return published / "show-1-base"


def test_t5_is_encoded_as_by_transformers(base: Path) -> None:
    prompts = ["a burning lamborghini driving on rainbow.", ""]
    tokens = T5Tokenizer.from_pretrained(base / "tokenizer")(
        prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    )
    model = T5EncoderModel.from_pretrained(base / "text_encoder").eval()
    with torch.no_grad():
        expected = model(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
    got = PromptEncoder(base).encode(prompts, 77)
    assert got.shape == (2, 77, 32)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_clip_is_encoded_as_by_transformers(published: Path) -> None:
    folder = published / "show-1-sr2"
    tokens = CLIPTokenizer.from_pretrained(folder / "tokenizer")(
        ["A Panda", "low resolution, blur"], padding="max_length", max_length=77, return_tensors="pt"
    )
    model = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    with torch.no_grad():
        expected = model(tokens.input_ids)[0]
    encoder = PromptEncoder(folder)
    got = encoder.encode(["A Panda", "low resolution, blur"])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert encoder.max_tokens == 77


def test_states_do_not_depend_on_the_batch(base: Path) -> None:
    encoder = PromptEncoder(base)
    prompts = ["a panda", "a cat jumps over the lazy river", "a panda"]
    batch = encoder.encode(prompts, 20)
    for row, prompt in zip(batch, prompts, strict=True):
        assert torch.equal(row, encoder.encode([prompt], 20)[0])


def test_half_precision_keeps_what_overflows_in_float32(base: Path) -> None:
    model = load_text_encoder(base / "text_encoder", dtype=torch.float16, device="cpu")
    dtypes = {name.split(".")[-2]: p.dtype for name, p in model.named_parameters()}
    assert dtypes.pop("wo") == torch.float32
    assert set(dtypes.values()) == {torch.float16}
    assert PromptEncoder(base, dtype=torch.float16).encode(["a panda"], 8).isfinite().all()


def test_a_cached_prompt_needs_no_text_encoder(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = PromptEncoder(base, cache=EmbeddingCache(tmp_path))
    expected = first.encode(["a panda", ""], 12)
    monkeypatch.setattr(text, "load_text_encoder", lambda *_, **__: pytest.fail("the text encoder was read"))
    again = PromptEncoder(base, cache=EmbeddingCache(tmp_path))
    assert torch.equal(again.encode(["", "a panda"], 12), expected.flip(0))
    assert not again.loaded


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100])
def test_a_damaged_entry_is_made_again(base: Path, tmp_path: Path, damage: bytes) -> None:
    expected = PromptEncoder(base, cache=EmbeddingCache(tmp_path)).encode(["a panda"], 12)
    (entry,) = tmp_path.rglob("*.safetensors")
    sound = entry.read_bytes()
    entry.write_bytes(damage)
    assert torch.equal(PromptEncoder(base, cache=EmbeddingCache(tmp_path)).encode(["a panda"], 12), expected)
    assert entry.read_bytes() == sound


@pytest.mark.parametrize(
    "false",
    [
        torch.ones(3, 7),
        torch.full((12, T5_WIDTH), float("nan")),
        torch.ones(12, T5_WIDTH).long(),
        torch.tensor(1.0),
        None,
    ],
)
def test_a_false_entry_is_made_again(base: Path, tmp_path: Path, false: Tensor | None) -> None:
    expected = PromptEncoder(base, cache=EmbeddingCache(tmp_path)).encode(["a panda"], 12)
    (entry,) = tmp_path.rglob("*.safetensors")
    sound = entry.read_bytes()
    if false is None:
        entry.write_bytes(sound[:-2] + bytes([sound[-2] ^ 1]) + sound[-1:])  # one bit
    else:
        save_file({"embeds": false}, entry)
    assert torch.equal(PromptEncoder(base, cache=EmbeddingCache(tmp_path)).encode(["a panda"], 12), expected)
    assert entry.read_bytes() == sound
    entry.unlink()
    (tmp_path / "mine").write_text("mine")
    entry.symlink_to(tmp_path / "mine")
    assert torch.equal(PromptEncoder(base, cache=EmbeddingCache(tmp_path)).encode(["a panda"], 12), expected)
    assert (tmp_path / "mine").read_text() == "mine" and entry.read_bytes() == sound and not entry.is_symlink()
    entry.unlink()
    os.mkfifo(entry)
    assert torch.equal(PromptEncoder(base, cache=EmbeddingCache(tmp_path)).encode(["a panda"], 12), expected)


def test_a_pattern_of_a_tokenizer_that_has_no_end(base: Path, tmp_path: Path) -> None:
    stage = Path(shutil.copytree(base, tmp_path / "stage"))
    shutil.rmtree(stage / "tokenizer")
    tokenizer = word_tokenizer(["a"], 24)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+b"), "removed")
    tokenizer.save_pretrained(stage / "tokenizer")
    encoder = PromptEncoder(stage)
    for read in (encoder.unknown_words, encoder.truncated, lambda prompt: encoder.encode([prompt])):
        with pytest.raises(CheckpointError, match="tokenizer fails on 'aaaa"):
            read("a" * 60)


def test_entries_belong_to_one_text_encoder_prompt_and_length(base: Path, published: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(base, tmp_path / "other"))
    config = other / "text_encoder" / "config.json"
    config.write_text(
        config.read_text().replace('"relative_attention_max_distance": 128', '"relative_attention_max_distance": 99')
    )
    cache = EmbeddingCache(tmp_path / "cache")
    for folder, prompt, length in ((base, "a", 8), (base, "b", 8), (base, "a", 9), (other, "a", 8), (base, "a", 8)):
        PromptEncoder(folder, cache=cache).encode([prompt], length)
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 4


def test_the_oldest_entries_go(tmp_path: Path) -> None:
    keys = [f"{i:064x}" for i in range(4)]
    for age, key in enumerate(keys):
        EmbeddingCache(tmp_path).put(key, torch.zeros(1, 1))
        (entry,) = tmp_path.rglob(f"{key}.safetensors")
        os.utime(entry, (age, age))
    EmbeddingCache(tmp_path, limit=2).put("f" * 64, torch.zeros(1, 1))
    assert sorted(f.stem for f in tmp_path.rglob("*.safetensors")) == [keys[2], keys[3], "f" * 64]


def test_a_cache_that_cannot_be_written_is_no_error(base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    encoder = PromptEncoder(base, cache=EmbeddingCache(tmp_path / "file"))
    assert encoder.encode(["a panda"], 8).shape == (1, 8, 32)


def test_free_drops_the_network_and_reads_it_again(base: Path) -> None:
    encoder = PromptEncoder(base)
    before = encoder.encode(["a panda"], 8)
    assert encoder.loaded
    encoder.free()
    assert not encoder.loaded
    assert torch.equal(encoder.encode(["a panda"], 8), before)


def test_the_part_that_does_not_fit_is_named(base: Path) -> None:
    encoder = PromptEncoder(base)
    prompt = "a panda " * 40 + "over the snow"
    cut = encoder.truncated(prompt, 77)
    assert cut is not None
    assert cut.endswith("over the snow")
    assert prompt.endswith(cut)
    assert cut.split()[0] in ("a", "panda")
    assert encoder.truncated("a panda", 77) is None


def word_level(folder: Path) -> None:
    """A tokenizer of whole words, as the embedded model has."""
    words = ["<pad>", "</s>", "<unk>", "a", "panda", "spins", "over", "the", "snow", ",", "."]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="</s>", model_max_length=16
    )
    fast.save_pretrained(folder / "tokenizer")


def test_unknown_words_are_named(tmp_path: Path) -> None:
    word_level(tmp_path)
    encoder = PromptEncoder(tmp_path)
    assert encoder.unknown_words("a panda, a zeppelin and the snow. zeppelin!") == ["zeppelin", "and"]
    assert encoder.unknown_words("a panda spins over the snow") == []
    assert encoder.unknown_words("\U0001f43c over the snow\U0001f43c \u718a\u732b") == [
        "\U0001f43c",
        "snow\U0001f43c",
        "\u718a\u732b",
    ]
    assert encoder.max_tokens == 16
    assert encoder.truncated("a panda " * 9, 16) == "panda a panda"


def test_a_tokenizer_of_another_model_is_found_out(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "m"))
    config = folder / "tokenizer" / "tokenizer_config.json"
    config.write_text(config.read_text().replace("100", "500"))
    encoder = PromptEncoder(folder)
    with pytest.raises(CheckpointError, match="do not belong to the same model"):
        encoder.encode(["<extra_id_0>"], 8)


@pytest.mark.parametrize("name", ["tokenizer.json", "spiece.model", "vocab.json"])
def test_a_damaged_tokenizer_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(CheckpointError, match=f"{name} is not a readable tokenizer"):
        load_tokenizer(tmp_path)


def test_a_text_encoder_of_another_kind(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base / "text_encoder", tmp_path / "text_encoder"))
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"model_type": "t5"', '"model_type": "bert"'))
    with pytest.raises(CheckpointError, match=r"'bert'.*t5, clip_text_model"):
        load_text_encoder(folder, dtype=torch.float32, device="cpu")
