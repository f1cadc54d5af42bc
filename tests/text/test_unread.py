from show1.text.unread import unread
from show1.text.words import word_tokenizer


def test_what_of_captions_is_not_read() -> None:
    tokenizer = word_tokenizer(("a", "dog", "runs"), 5)
    found = unread(tokenizer, tokenizer.unk_token_id, ["a dog", "A cat runs, a cat", "a dog runs a dog", ""], 5)
    assert (found.captions, found.with_unknown, found.unknown) == (4, 1, {"cat": 1})
    assert found.cut == ("A cat runs, a cat", "a dog runs a dog")
    assert found.sentences() == [
        "1 of 4 captions have words that the text encoder does not know: cat (1)",
        "2 of 4 captions are longer than the 5 tokens that the text encoder reads, and are cut off, such as "
        "'A cat runs, a cat'",
    ]
    assert unread(tokenizer, tokenizer.unk_token_id, ["a dog"], 5).sentences() == []
