from collections.abc import Callable
from typing import Any

import pytest

from codejoule.config import UserError
from codejoule.config.schema import GenerationConfig
from codejoule.domain import FIRST_TOKEN, Completion, FinishReason, Prompt
from codejoule.generation import Decoding, EndFinder, Engine
from codejoule.generation.generate import GenerateEngine

GREEDY = GenerationConfig(name="greedy")
SAMPLE = GenerationConfig(name="sample", do_sample=True, temperature=1.0)
MIXED = ("def f(x):", "a", "import os\n\n\ndef longer_name(value, other):\n    return", "\t", "z=1")

MakePrompts = Callable[..., list[Prompt]]


def make_engine(model: Any, tokenizer: Any, **changes: Any) -> GenerateEngine:
    options: dict[str, Any] = {"generation": GREEDY, "max_new_tokens": 24}
    return GenerateEngine(model, tokenizer, Decoding(**(options | changes)))


def run(engine: Engine, prompts: list[Prompt], seed: int = 0) -> list[Completion]:
    decoded = engine.generate(prompts, at_once=len(prompts), seed=seed, mark=lambda name: None)
    return list(decoded.completions)


def test_greedy_tokens_are_those_of_a_loop_without_padding(
    model: Any, tokenizer: Any, prompts: MakePrompts
) -> None:
    import torch

    completions = run(make_engine(model, tokenizer), prompts(*MIXED))
    for text, completion in zip(MIXED, completions, strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        begin = ids.shape[1]
        with torch.inference_mode():
            for _ in range(24):
                ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
        assert completion.text == tokenizer.decode(ids[0, begin:], skip_special_tokens=True)
        assert completion.prompt_tokens == begin


def test_a_completion_does_not_depend_on_its_batch_mates(
    model: Any, tokenizer: Any, prompts: MakePrompts
) -> None:
    engine = make_engine(model, tokenizer)
    together = run(engine, prompts(*MIXED))
    assert len({completion.text for completion in together}) == len(MIXED)
    assert [run(engine, [prompt])[0] for prompt in prompts(*MIXED)] == together


def test_the_models_own_sampling_defaults_change_nothing(
    model: Any, tokenizer: Any, prompts: MakePrompts
) -> None:
    from transformers import GenerationConfig as Settings

    engine = make_engine(model, tokenizer)
    before = run(engine, prompts(*MIXED))
    own = Settings(
        do_sample=True, temperature=0.7, top_k=20, top_p=0.8, repetition_penalty=5.0, num_beams=3
    )
    model.generation_config = own
    assert run(engine, prompts(*MIXED)) == before
    assert model.generation_config is own


def test_end_tokens_end_and_count_once(
    scribe: Callable[[str], Any], tokenizer: Any, prompts: MakePrompts
) -> None:
    engine = make_engine(scribe("done."), tokenizer)
    (only,) = run(engine, prompts(">"))
    assert (only.text, only.output_tokens) == ("done.", 6)
    assert only.finish_reason is FinishReason.eos


def test_rows_that_end_early_count_no_padding(
    scribe: Callable[[str], Any], tokenizer: Any, prompts: MakePrompts
) -> None:
    engine = make_engine(scribe("abcdefgh"), tokenizer)
    long, short = run(engine, prompts(">", "xyz>abcdef"))
    assert (long.text, long.output_tokens) == ("abcdefgh", 9)
    assert (short.text, short.output_tokens) == ("gh", 3)
    assert {long.finish_reason, short.finish_reason} == {FinishReason.eos}


def test_every_end_token_of_the_generation_config_ends(
    scribe: Callable[[str], Any], tokenizer: Any, prompts: MakePrompts
) -> None:
    net = scribe("ab;c")
    semicolon = tokenizer(";")["input_ids"][0]
    net.generation_config.eos_token_id = [semicolon, tokenizer.eos_token_id]
    (only,) = run(make_engine(net, tokenizer), prompts(">"))
    assert (only.output_tokens, only.finish_reason) == (3, FinishReason.eos)


def test_stop_strings_stop_their_row_and_are_cut_off(
    scribe: Callable[[str], Any], tokenizer: Any, prompts: MakePrompts
) -> None:
    engine = make_engine(
        scribe("x=1\ndef g():"),
        tokenizer,
        stop=(
            "\ndef ",
            "zz",
        ),
    )
    first, second = run(engine, prompts(">", ">x=1\ndef g"))
    assert (first.text, first.finish_reason) == ("x=1", FinishReason.stop)
    assert first.output_tokens == 8
    assert second.finish_reason is FinishReason.eos
    assert second.text == "():"


def test_a_row_ends_when_its_own_program_is_complete(
    scribe: Callable[[str], Any], tokenizer: Any, prompts: MakePrompts
) -> None:
    def program_end(prompt: Prompt) -> EndFinder:
        seen: list[str] = []

        def feed(piece: str) -> int | None:
            seen.append(piece)
            whole = "".join(seen)
            return whole.find(" ") if prompt.text == ">" and "\n" in whole else None

        return feed

    engine = make_engine(scribe("x=1 y\ndef():"), tokenizer, stop=("zz",), program_end=program_end)
    first, second = run(engine, prompts(">", ">x"))
    assert (first.text, first.output_tokens) == ("x=1", 6)
    assert first.finish_reason is FinishReason.complete
    assert (second.text, second.output_tokens) == ("=1 y\ndef():", 12)
    assert second.finish_reason is FinishReason.eos
    again, _ = run(engine, prompts(">", ">x"))
    assert again == first


def test_a_special_token_that_is_a_stop_string_ends(
    scribe: Callable[[str], Any], tokenizer: Any, prompts: MakePrompts
) -> None:
    net = scribe("ab")
    turn = tokenizer.convert_tokens_to_ids("<|im_start|>")
    net.lm_head.weight.data[[turn, tokenizer.eos_token_id]] = net.lm_head.weight.data[
        [tokenizer.eos_token_id, turn]
    ]
    engine = make_engine(net, tokenizer, stop=("<|im_start|>",))
    (only,) = run(engine, prompts(">"))
    assert (only.text, only.output_tokens) == ("ab", 3)
    assert run(make_engine(net, tokenizer), prompts(">"))[0].output_tokens == 24


def test_a_stop_string_in_the_prompt_alone_stops_nothing(
    scribe: Callable[[str], Any], tokenizer: Any, prompts: MakePrompts
) -> None:
    engine = make_engine(scribe("abc"), tokenizer, stop=("STOP",))
    (only,) = run(engine, prompts("STOP>"))
    assert only.text == "abc"


def test_tabs_are_kept(scribe: Callable[[str], Any], tokenizer: Any, prompts: MakePrompts) -> None:
    (only,) = run(make_engine(scribe("if x:\n\ty"), tokenizer), prompts(">"))
    assert only.text == "if x:\n\ty"


def test_the_limit_ends_what_nothing_else_does(
    scribe: Callable[[str], Any], tokenizer: Any, prompts: MakePrompts
) -> None:
    engine = make_engine(scribe("abcdef"), tokenizer, max_new_tokens=3)
    (only,) = run(engine, prompts(">"))
    assert (only.text, only.output_tokens) == ("abc", 3)
    assert only.finish_reason is FinishReason.length


def test_with_a_fixed_length_nothing_ends_early(
    scribe: Callable[[str], Any], tokenizer: Any, prompts: MakePrompts
) -> None:
    engine = make_engine(scribe("abc"), tokenizer, stop=("b",), max_new_tokens=9, fixed_length=True)
    completions = run(engine, prompts(">", ">ab"))
    assert [completion.output_tokens for completion in completions] == [9, 9]
    assert {completion.finish_reason for completion in completions} == {FinishReason.length}
    assert completions[0].text.startswith("abc")


def test_the_first_token_is_marked_once(model: Any, tokenizer: Any, prompts: MakePrompts) -> None:
    marks: list[str] = []
    make_engine(model, tokenizer).generate(
        prompts(*MIXED), at_once=len(MIXED), seed=0, mark=marks.append
    )
    assert marks == [FIRST_TOKEN]


def test_the_same_seed_draws_the_same_samples(
    model: Any, tokenizer: Any, prompts: MakePrompts
) -> None:
    import torch

    engine = make_engine(model, tokenizer, generation=SAMPLE)
    first = run(engine, prompts(*MIXED), seed=3)
    torch.rand(5)
    assert run(engine, prompts(*MIXED), seed=3) == first
    assert run(engine, prompts(*MIXED), seed=4) != first


def test_sampling_draws_from_the_whole_vocabulary(
    model: Any, tokenizer: Any, prompts: MakePrompts
) -> None:
    hot = GenerationConfig(name="sample", do_sample=True, temperature=1000.0)
    engine = make_engine(model, tokenizer, generation=hot, max_new_tokens=1)
    drawn = run(engine, prompts(*["a"] * 400))
    # transformers' own default would leave the 50 most probable tokens.
    assert len({completion.text for completion in drawn}) > 80


def test_a_low_top_p_leaves_the_most_probable_token(
    model: Any, tokenizer: Any, prompts: MakePrompts
) -> None:
    narrow = GenerationConfig(name="sample", do_sample=True, temperature=1.0, top_p=1e-6)
    sampled = run(make_engine(model, tokenizer, generation=narrow), prompts(*MIXED))
    assert sampled == run(make_engine(model, tokenizer), prompts(*MIXED))


def test_a_prompt_beyond_the_context_names_its_task(
    model: Any, tokenizer: Any, prompts: MakePrompts
) -> None:
    with pytest.raises(UserError) as caught:
        run(make_engine(model, tokenizer), prompts("short", "x" * 240))
    text = str(caught.value)
    assert text.startswith("tiny/1: its prompt of 240 tokens and up to 24 new ones")
    assert "context of 256 tokens" in text
    assert "generation.max_new_tokens" in text
    assert run(make_engine(model, tokenizer), prompts("x" * 232))


def test_a_prompt_without_tokens_names_its_task(
    model: Any, tokenizer: Any, prompts: MakePrompts
) -> None:
    with pytest.raises(UserError, match="tiny/1: its prompt has no tokens"):
        run(make_engine(model, tokenizer), prompts("a", ""))


def test_special_tokens_are_added_where_the_prompt_asks(model: Any, tokenizer: Any) -> None:
    import copy

    from tokenizers.processors import TemplateProcessing

    with_bos = copy.deepcopy(tokenizer)
    with_bos.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 257)]
    )
    prompts = [
        Prompt(task_id="t", sample=i, text="abc", add_special_tokens=add)
        for i, add in enumerate((True, False))
    ]
    completions = run(make_engine(model, with_bos), prompts)
    assert [completion.prompt_tokens for completion in completions] == [4, 3]
    assert [completion.sample for completion in completions] == [0, 1]


def test_warming_up_leaves_results_as_they_are(
    model: Any, tokenizer: Any, prompts: MakePrompts
) -> None:
    cold = run(make_engine(model, tokenizer), prompts(*MIXED))
    engine = make_engine(model, tokenizer)
    engine.warm_up(prompts(*MIXED), tokens=4)
    assert run(engine, prompts(*MIXED)) == cold
