"""What a model thinks is counted apart from its answer, and ends where its budget does."""

import copy
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


HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}"
    "<|channel|>final<|message|>{% else %}<|message|>{% endif %}{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
"""As gpt-oss' template, in short."""


def answered(tokenizer: Any, text: str, *, stop: tuple[str, ...] = ()) -> DecodedSequence:
    """A sequence that was fed `text`, one token at a time, until it ended."""
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


@pytest.fixture
def harmony(tokenizer: Any) -> Any:
    """A tokenizer with the special tokens of gpt-oss' chats."""
    made = copy.deepcopy(tokenizer)
    marks = [f"<|{mark}|>" for mark in ("start", "end", "message", "channel", "return")]
    made.add_special_tokens({"additional_special_tokens": marks, "eos_token": "<|return|>"})
    made.chat_template = HARMONY
    return made


def test_the_answer_of_gpt_oss_is_its_message_in_the_final_channel(harmony: Any) -> None:
    thought = (
        "<|channel|>analysis<|message|>We need the final answer.<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>final STOP<|end|>"
        "<|start|>assistant<|channel|>final<|message|>"
    )
    text = f"{thought}def f(): STOP<|return|>"
    done = answered(harmony, text, stop=("STOP",)).completion(prompt_tokens=1)
    assert (done.text, done.finish_reason) == ("def f(): ", FinishReason.stop)
    assert done.thinking_tokens == len(harmony(thought, add_special_tokens=False)["input_ids"])

    whole = answered(harmony, f"{thought}return 1<|return|>").completion(prompt_tokens=1)
    assert (whole.text, whole.finish_reason) == ("return 1", FinishReason.eos)
    never = answered(harmony, "<|channel|>analysis<|message|>the final message")
    assert never.completion(prompt_tokens=1).text == ""
    budget = GenerationConfig(name="b", thinking=Thinking.budget, thinking_tokens=7)
    thinking = Decoding(generation=budget, max_new_tokens=99).thinking(harmony)
    assert thinking is not None
    words = harmony.decode(thinking.last_words)
    assert words.endswith("now.<|end|><|start|>assistant<|channel|>final<|message|>")


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
