"""NaN and infinite logits end a run, whichever engine meets them and whenever they come."""

from collections.abc import Callable
from typing import Any

import pytest

from codejoule.config import UserError
from codejoule.config.schema import EngineConfig, GenerationConfig
from codejoule.domain import Prompt
from codejoule.domain.engines import EngineName
from codejoule.generation import Decoding, check_logits, make_engine
from tests.generation.conftest import tiny_model

ENGINES = ["generate", "static", "graph", "continuous"]
DECODING = {
    "greedy": GenerationConfig(name="greedy"),
    "sample": GenerationConfig(name="sample", do_sample=True, temperature=0.1, top_p=0.9),
}
MakePrompts = Callable[..., list[Prompt]]


def _spoil(model: Any, weight: str, value: float) -> Any:
    import torch

    with torch.no_grad():
        model.get_parameter(weight).view(-1)[0] = value
    return model


def _embedding(model: Any, tokenizer: Any, letter: str) -> Any:
    """One number of what the model knows of a letter, which it writes late."""
    (token,) = tokenizer(letter)["input_ids"]
    return model.model.embed_tokens.weight[token, :1]


def _overflowing() -> Any:
    """Finite weights, whose products are more than float16 holds."""
    import torch

    model = tiny_model(0)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.up_proj.weight.mul_(100)
            layer.mlp.gate_proj.weight.mul_(100)
    return model.half()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "weight",
    ["lm_head.weight", "model.norm.weight", "model.layers.1.mlp.down_proj.weight"],
)
def test_one_spoiled_weight_is_found_before_anything_is_measured(
    weight: str, value: float, tokenizer: Any, prompts: MakePrompts
) -> None:
    model = _spoil(tiny_model(0), weight, value)
    with pytest.raises(UserError, match=r"NaN or infinite behind the prompt of tiny/0.*bfloat16"):
        check_logits(model, tokenizer, prompts("def f(x):")[0], max_new_tokens=8)


def test_an_overflow_of_float16_is_found_and_its_dtype_is_named(
    tokenizer: Any, prompts: MakePrompts
) -> None:
    with pytest.raises(UserError, match="Its dtype is float16; float16 overflows"):
        check_logits(_overflowing(), tokenizer, prompts("def f(x):")[0], max_new_tokens=8)


@pytest.mark.parametrize("model_type", ["qwen2", "gpt2"])
def test_finite_logits_pass(model_type: str, tokenizer: Any, prompts: MakePrompts) -> None:
    check_logits(
        tiny_model(0, model_type=model_type), tokenizer, prompts("def f(x):")[0], max_new_tokens=8
    )


def test_a_prompt_beyond_the_context_is_not_read(tokenizer: Any, prompts: MakePrompts) -> None:
    model = tiny_model(0, model_type="gpt2")
    with pytest.raises(UserError, match=r"tiny/0: .* exceed the model's context"):
        check_logits(model, tokenizer, prompts("x" * 2000)[0], max_new_tokens=8)


@pytest.mark.parametrize("decoding", DECODING)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_spoiled_late_fail_the_window(
    engine: str,
    decoding: str,
    value: float,
    scribe: Callable[[str], Any],
    tokenizer: Any,
    prompts: MakePrompts,
) -> None:
    import torch

    model = scribe("abcdefgh")
    asked = prompts(">", ">", ">")
    with torch.no_grad():
        _embedding(model, tokenizer, "f").fill_(value)
    check_logits(model, tokenizer, asked[0], max_new_tokens=20)
    made = make_engine(
        EngineConfig(name=EngineName[engine]),
        model,
        tokenizer,
        Decoding(generation=DECODING[decoding], max_new_tokens=20),
    )
    try:
        made.prepare([asked], at_once=3)
        made.warm_up(asked, tokens=3)
        with pytest.raises(UserError, match=r"logits are NaN or infinite in .*Try model\.dtype="):
            made.generate(asked, at_once=3, seed=0, mark=lambda name: None)
    finally:
        made.close()
