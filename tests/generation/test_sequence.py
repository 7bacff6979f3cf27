from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codejoule.domain import Completion, FinishReason, Prompt
from codejoule.generation.sequence import DecodedSequence, Pieces
from codejoule.generation.text_stop import EndFinder, TextStop

END = 256
PROMPT = Prompt(task_id="t/0", sample=3, text="f(", add_special_tokens=True)


@pytest.fixture(scope="session")
def pieces(tokenizer: Any) -> Pieces:
    return Pieces(tokenizer)


def decode(
    pieces: Pieces, tokens: list[int], *strings: str, program_end: EndFinder | None = None
) -> Completion:
    stop = TextStop(prompt=PROMPT.text, strings=strings, program_end=program_end)
    sequence = DecodedSequence(PROMPT, pieces, end_tokens=[END], stop=stop)
    for token in tokens:
        sequence.feed(token)
    return sequence.completion(prompt_tokens=2)


def outcome(completion: Completion) -> tuple[str, int, FinishReason]:
    return completion.text, completion.output_tokens, completion.finish_reason


def ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text)["input_ids"])


def test_an_end_token_counts_and_padding_after_it_does_not(pieces: Pieces, tokenizer: Any) -> None:
    tokens = [*ids(tokenizer, "ab"), END, END, END]
    assert outcome(decode(pieces, tokens)) == ("ab", 3, FinishReason.eos)
    assert outcome(decode(pieces, tokens, "zz")) == ("ab", 3, FinishReason.eos)


def test_padding_made_of_end_tokens_after_a_stop_is_no_end_token(
    pieces: Pieces, tokenizer: Any
) -> None:
    tokens = [*ids(tokenizer, "ab!c"), END]
    assert outcome(decode(pieces, tokens, "!")) == ("ab", 3, FinishReason.stop)


def test_without_an_end_the_limit_ended_it(pieces: Pieces, tokenizer: Any) -> None:
    tokens = ids(tokenizer, "ab!")
    assert outcome(decode(pieces, tokens)) == ("ab!", 3, FinishReason.length)


def test_a_complete_program_is_cut_out_and_every_token_counted(
    pieces: Pieces, tokenizer: Any
) -> None:
    def after_the_newline(piece: str) -> int | None:
        return 2 if "\n" in piece else None

    completion = decode(pieces, ids(tokenizer, "abcd\nef"), program_end=after_the_newline)
    assert outcome(completion) == ("ab", 5, FinishReason.complete)
    assert (completion.task_id, completion.sample, completion.prompt_tokens) == ("t/0", 3, 2)


def test_characters_of_several_tokens_are_read_whole(pieces: Pieces, tokenizer: Any) -> None:
    seen: list[str] = []

    def listen(piece: str) -> None:
        seen.append(piece)

    text = "é → 🙂!"
    completion = decode(pieces, ids(tokenizer, text), program_end=listen)
    assert (completion.text, seen) == (text, list(text))


def test_an_unfinished_character_at_the_end_is_shown_as_such(
    pieces: Pieces, tokenizer: Any
) -> None:
    assert decode(pieces, ids(tokenizer, "a🙂")[:-1], "zz").text == "a\ufffd"


BYTES = st.lists(st.integers(0, 255), max_size=40)


@given(tokens=BYTES)
def test_the_text_is_that_of_the_tokens_together(tokens: list[int]) -> None:
    from codejoule.models.tokenizer import byte_tokenizer

    tokenizer = byte_tokenizer(320)
    together = tokenizer.decode(tokens, skip_special_tokens=True)
    watched = decode(Pieces(tokenizer), tokens, "this stands nowhere in them")
    # Where bytes make no character, for long, pieces may show one mark more.
    assert watched.text.replace("\ufffd", "") == together.replace("\ufffd", "")
    assert decode(Pieces(tokenizer), tokens).text == together


def test_indentation_at_the_start_of_an_answer_is_kept() -> None:
    """Tokenizers that mark words with a leading space swallow it where a text begins."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["▁", "▁▁▁▁", "return", "▁x", "a"]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="▁"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    assert tokenizer.decode([1, 2, 3]) == "   return x"
    for strings in ((), ("zz",)):
        assert decode(Pieces(tokenizer), [1, 2, 3], *strings).text == "    return x"
