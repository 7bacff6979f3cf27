"""What a model thinks is counted apart from its answer, and ends where its budget does."""

from collections.abc import Callable
from typing import Any

import pytest

from codejoule.config.schema import EngineConfig, GenerationConfig, Thinking
from codejoule.domain import FinishReason, Prompt
from codejoule.domain.engines import EngineName
from codejoule.generation import Decoding, make_engine
from codejoule.generation.sequence import DecodedSequence, Pieces
from codejoule.generation.text_stop import TextStop

PROMPT = Prompt(task_id="tiny/0", sample=0, text="?", add_special_tokens=True)
ON = GenerationConfig(name="on", thinking=Thinking.on)


def answered(tokenizer: Any, text: str, *, stop: tuple[str, ...] = ()) -> DecodedSequence:
    """A sequence that was fed `text`, one byte at a time, until it ended."""
    decoding = Decoding(generation=ON, max_new_tokens=1000, stop=stop)
    sequence = DecodedSequence(
        PROMPT,
        Pieces(tokenizer),
        end_tokens=(tokenizer.eos_token_id,),
        stop=TextStop(prompt=PROMPT.text, strings=stop),
        thinking=decoding.thinking(tokenizer),
    )
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    any(sequence.feed(token) for token in ids)
    return sequence


def test_the_answer_is_what_comes_after_the_thinking(tokenizer: Any) -> None:
    thought = "<think>\nüber def f(): wrong\n</think>"
    done = answered(tokenizer, thought + "\n\nreturn 1").completion(prompt_tokens=1)
    assert done.text == "\n\nreturn 1"
    assert done.thinking_tokens == len(thought.encode())
    assert done.output_tokens == done.thinking_tokens + 10


def test_stop_strings_in_the_thinking_end_nothing(tokenizer: Any) -> None:
    sequence = answered(tokenizer, "a STOP</think>b STOP and more", stop=("STOP",))
    done = sequence.completion(prompt_tokens=1)
    assert (done.text, done.finish_reason) == ("b ", FinishReason.stop)
    assert done.thinking_tokens == len("a STOP</think>")


def test_thinking_that_never_ends_is_no_answer(tokenizer: Any) -> None:
    done = answered(tokenizer, "def f(): return 1").completion(prompt_tokens=1)
    assert (done.text, done.finish_reason) == ("", FinishReason.length)
    assert done.thinking_tokens == done.output_tokens == 17


def test_without_thinking_nothing_is_counted(tokenizer: Any) -> None:
    decoding = Decoding(generation=GenerationConfig(name="greedy"), max_new_tokens=9)
    assert decoding.thinking(tokenizer) is None
    stop = TextStop(prompt="?", strings=())
    sequence = DecodedSequence(PROMPT, Pieces(tokenizer), end_tokens=(), stop=stop)
    sequence.feed(tokenizer("a", add_special_tokens=False)["input_ids"][0])
    assert sequence.completion(prompt_tokens=1).thinking_tokens is None


@pytest.mark.parametrize("engine", [EngineName.generate, EngineName.static])
@pytest.mark.parametrize("sampled", [False, True])
def test_a_budget_ends_the_thinking_of_each_sequence(
    engine: EngineName,
    sampled: bool,
    model: Any,
    tokenizer: Any,
    prompts: Callable[..., list[Prompt]],
) -> None:
    generation = GenerationConfig(
        name="budget", thinking=Thinking.budget, thinking_tokens=7, do_sample=sampled,
        temperature=1.5 if sampled else None,
    )  # fmt: skip
    decoding = Decoding(generation=generation, max_new_tokens=160)
    thinking = decoding.thinking(tokenizer)
    assert thinking is not None
    asked = prompts("a prompt", "another, longer")
    made = make_engine(EngineConfig(name=engine), model, tokenizer, decoding)
    made.prepare([asked], at_once=2)
    done = made.generate(asked, at_once=2, seed=3).completions
    for each in done:
        assert each.thinking_tokens == 7 + len(thinking.last_words)
        assert each.thinking_tokens < each.output_tokens <= 160
        assert "Considering" not in each.text and "</think>" not in each.text
    assert done[0].text != done[1].text
